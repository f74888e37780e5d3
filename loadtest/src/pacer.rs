//! The clock of an open loop: a timer that a poll can wait for, exact to less than a millisecond.

use std::io;
use std::time::Duration;

use mio::{Interest, Registry, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::Error;

/// A timer that expires again and again.
#[derive(Debug)]
pub(crate) struct Pacer(OwnedFd);

impl Pacer {
    /// A timer that expires every `step` from now, as readiness of `token`.
    pub(crate) fn new(step: Duration, registry: &Registry, token: Token) -> Result<Self, Error> {
        let pacer = timer(step).map_err(Error::system("cannot set a timer"))?;
        registry
            .register(
                &mut mio::unix::SourceFd(&pacer.as_raw_fd()),
                token,
                Interest::READABLE,
            )
            .map_err(Error::system("cannot wait for a timer"))?;
        Ok(Self(pacer))
    }

    /// A periodic timer runs on only once its expirations have been read.
    pub(crate) fn rearm(&self) -> Result<(), Error> {
        match rustix::io::read(&self.0, &mut [0; 8]) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(Error::system("cannot read a timer")(error.into())),
        }
    }
}

fn timer(step: Duration) -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let step =
        Timespec::try_from(step).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let every = Itimerspec {
        it_interval: step,
        it_value: step,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(timer)
}
