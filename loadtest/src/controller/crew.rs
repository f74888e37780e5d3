//! The workers of a run, and how each is called.

use std::process::ExitStatus;

use super::workers::Worker;
use crate::Error;

/// All workers; worker n is member n.
#[derive(Debug)]
pub(crate) struct Crew(pub(crate) Vec<Member>);

/// One worker.
#[derive(Debug)]
pub(crate) struct Member {
    /// For errors.
    pub(crate) name: String,
    /// Its process, where this one has started it.
    pub(crate) process: Option<Worker>,
    /// True on another machine.
    pub(crate) remote: bool,
}

impl Crew {
    /// How a worker is called.
    pub(crate) fn name(&self, worker: u16) -> String {
        self.0[usize::from(worker)].name.clone()
    }

    /// Whether it is on another machine.
    pub(crate) fn is_remote(&self, worker: u16) -> bool {
        self.0[usize::from(worker)].remote
    }

    /// Which ones are, in order.
    pub(crate) fn remote(&self) -> Vec<bool> {
        self.0.iter().map(|member| member.remote).collect()
    }

    /// How a worker's process has ended, which it is about to; `None` where it is not this one's.
    pub(crate) fn end(&mut self, worker: u16) -> Result<Option<ExitStatus>, Error> {
        let process = &mut self.0[usize::from(worker)].process;
        process.as_mut().map(Worker::end).transpose()
    }

    /// Waits for all processes after their last words: each has to end well.
    pub(crate) fn end_all(&mut self) -> Result<(), Error> {
        for member in &mut self.0 {
            let Some(process) = &mut member.process else {
                continue;
            };
            let status = process.end()?;
            if !status.success() {
                return Err(Error::Control {
                    who: member.name.clone(),
                    what: format!("said its last word, but ended with {status}"),
                });
            }
        }
        Ok(())
    }
}
