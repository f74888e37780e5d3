//! What ends a running broker: a signal, a fault that another thread found, or the repair of a damaged member.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::{Exit, complain};
use crate::standalone::RunError;

/// Places in the queue of reasons. The first is acted on; more only wait for the end.
const REASONS_MAX: usize = 16;

/// Why the broker stops.
#[derive(Debug)]
pub(crate) enum Stop {
    /// SIGTERM or SIGINT: drain, then exit code 0.
    Signal,
    /// A part cannot go on, for instance the log after a failed write.
    Fault(RunError),
    /// Somebody has asked for the repair of this member, which is damaged: the process begins anew.
    Again,
}

/// Tells the main thread of a fault. Cloned into the threads that can have one.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(SyncSender<Stop>);

impl Stopper {
    /// Reports a fault. Never blocks: if the queue is full, the process is on its way out for an
    /// earlier reason.
    pub(crate) fn fault(&self, fault: RunError) {
        self.tell(Stop::Fault(fault));
    }

    /// Has the process begin anew, if it is one of a damaged member. Never blocks.
    pub(crate) fn again(&self) {
        self.tell(Stop::Again);
    }

    fn tell(&self, reason: Stop) {
        if let Err(error) = self.0.try_send(reason) {
            tracing::warn!(%error, "a further reason to stop while stopping");
        }
    }
}

/// Starts the signal thread. The first SIGTERM or SIGINT arrives on the receiver; the second ends
/// the process at once, whatever it is doing.
pub(crate) fn watch() -> io::Result<(Stopper, Receiver<Stop>)> {
    let (sender, receiver) = sync_channel(REASONS_MAX);
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let stopper = Stopper(sender.clone());
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut stopping = false;
            for _ in signals.forever() {
                if stopping {
                    let exit = complain(Exit::Failed, "second signal, stopping without the drain");
                    std::process::exit(exit as i32);
                }
                stopping = true;
                if sender.try_send(Stop::Signal).is_err() {
                    tracing::warn!("signal while already stopping");
                }
            }
        })?;
    Ok((stopper, receiver))
}
