//! The worker's end of its control connection.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use mio::{Registry, Token};
use rustix::time::{ClockId, clock_gettime};

use crate::Error;
use crate::control::channel::Channel;
use crate::control::message::{Assignment, FromWorker, ToWorker};
use crate::limits::CONTROL_STALL_MAX;

/// Where a worker's orders come from and its reports go.
///
/// The worker calls [`take`](Self::take) until it gives `None` and [`flush`](Self::flush) whenever the connection is ready,
/// and `flush` at the end of each turn. An error ends the worker: nobody is there to tell.
#[derive(Debug)]
pub(crate) struct Desk {
    channel: Channel<FromWorker, ToWorker>,
    /// Own clock to run time, µs.
    offset_us: Option<i64>,
    /// The latest run time given out: a corrected offset does not turn it back.
    latest_us: Cell<u64>,
}

impl Desk {
    /// Takes over a connected stream socket of any kind, and waits for the assignment.
    pub(crate) fn attach(socket: impl Into<OwnedFd>) -> Result<(Self, Assignment), Error> {
        let socket = socket2::Socket::from(socket.into());
        socket
            .set_read_timeout(Some(CONTROL_STALL_MAX))
            .map_err(Error::system("cannot set up the control connection"))?;
        let mut channel = Channel::new("the controller".to_owned(), socket.into());
        let ToWorker::Begin(assignment) = channel.wait()? else {
            return Err(Error::Control {
                who: "the controller".to_owned(),
                what: "began without an assignment".to_owned(),
            });
        };
        channel.open()?;
        let desk = Self {
            channel,
            offset_us: None,
            latest_us: Cell::new(0),
        };
        Ok((desk, *assignment))
    }

    /// The connection's readiness comes as `token`, on edges.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> Result<(), Error> {
        self.channel.register(registry, token)
    }

    /// What the controller says, if anything. The clock exchange is done in here.
    pub(crate) fn take(&mut self) -> Result<Option<ToWorker>, Error> {
        loop {
            match self.channel.take()? {
                Some(ToWorker::Clock { sent_us }) => {
                    let own_us = own_clock_us();
                    self.channel.send(&FromWorker::Clock { sent_us, own_us })?;
                    self.channel.flush()?;
                }
                Some(ToWorker::Offset { us }) => self.offset_us = Some(us),
                other => return Ok(other),
            }
        }
    }

    /// Puts a message in the row. More than `CONTROL_UNSENT_BYTES_MAX` in it are an error: the controller does not read.
    pub(crate) fn send(&mut self, message: &FromWorker) -> Result<(), Error> {
        self.channel.send(message)
    }

    /// Writes as much as the connection takes. An error too when it has taken nothing for `CONTROL_STALL_MAX`.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.channel.flush()
    }

    /// Bytes that wait for the connection: 0 before a worker ends.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.channel.unsent_bytes()
    }

    /// Run time, µs; it never goes back. 0 until the controller has said the offset, which it does before the first phase.
    #[inline]
    pub(crate) fn now_us(&self) -> u64 {
        let Some(offset_us) = self.offset_us else {
            return 0;
        };
        let now = own_clock_us().saturating_add_signed(offset_us);
        self.latest_us.set(self.latest_us.get().max(now));
        self.latest_us.get()
    }
}

/// The machine's monotonic clock, µs: the same for all processes of one machine.
#[inline]
pub(crate) fn own_clock_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1_000
}
