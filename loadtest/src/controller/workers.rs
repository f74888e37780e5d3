//! Worker processes on this machine.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};

use super::options::WorkerProgram;
use crate::Error;
use crate::limits::WORKER_END_MAX;

/// A worker process. Whatever happens, it is gone when this is.
#[derive(Debug)]
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts one; the socket is this end of its control connection. Ctrl-C on the terminal does not reach it: the controller
    /// says what is to happen then.
    pub(crate) fn start(program: &WorkerProgram) -> Result<(Self, OwnedFd), Error> {
        let (here, there) =
            UnixStream::pair().map_err(Error::system("cannot make a control connection"))?;
        let worker = Self::start_on(program, there.into())?;
        Ok((worker, here.into()))
    }

    /// Starts one whose control connection exists already.
    pub(crate) fn start_on(program: &WorkerProgram, control: OwnedFd) -> Result<Self, Error> {
        let started = Command::new(&program.program)
            .args(&program.args)
            .stdin(Stdio::from(control))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn();
        started
            .map(Self)
            .map_err(Error::system("cannot start a worker process"))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        let ended = self.0.try_wait();
        ended.map_err(Error::system("cannot wait for a worker's end"))
    }

    /// Waits for its end, which must be near; a worker that does not end is killed.
    pub(crate) fn end(&mut self) -> Result<ExitStatus, Error> {
        let failed = "cannot wait for a worker's end";
        if !self.ends_by(Instant::now() + WORKER_END_MAX)? {
            self.0.kill().map_err(Error::system(failed))?;
        }
        self.0.wait().map_err(Error::system(failed))
    }

    fn ends_by(&mut self, deadline: Instant) -> Result<bool, Error> {
        let failed = "cannot wait for a worker's end";
        if self.ended()?.is_some() {
            return Ok(true);
        }
        let id = Pid::from_child(&self.0);
        let watch = pidfd_open(id, PidfdFlags::empty())
            .map_err(|error| Error::system(failed)(error.into()))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("seconds fit");
            let mut fds = [PollFd::new(&watch, PollFlags::IN)];
            match poll(&mut fds, Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::system(failed)(error.into())),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that was waited for already makes both calls do nothing; a process of ours can be killed and waited for.
        let killed = self.0.kill().and_then(|()| self.0.wait());
        debug_assert!(killed.is_ok(), "{killed:?}");
    }
}

/// Raises this process's limit of open files as far as it may, for itself and the workers, and says how far that is.
pub(crate) fn raise_descriptors() -> Result<u64, Error> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| Error::system("cannot raise the limit of open files")(error.into()))?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
