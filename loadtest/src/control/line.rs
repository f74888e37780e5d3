//! The controller's end of the control connection of one worker.

use std::os::fd::OwnedFd;

use mio::{Registry, Token};

use crate::Error;
use crate::control::channel::Channel;
use crate::control::message::{FromWorker, ToWorker};
use crate::limits::CONTROL_BACKLOG_BYTES;

/// One worker, as the controller sees it.
#[derive(Debug)]
pub(crate) struct Line {
    channel: Channel<ToWorker, FromWorker>,
}

impl Line {
    /// Takes over a connected stream socket of any kind; `name` is the worker's in errors.
    pub(crate) fn open(name: String, socket: OwnedFd) -> Result<Self, Error> {
        let channel = Channel::new(name, socket);
        channel.open()?;
        Ok(Self { channel })
    }

    /// The worker's name.
    pub(crate) fn name(&self) -> &str {
        self.channel.peer()
    }

    /// The connection's readiness comes as `token`, on edges.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> Result<(), Error> {
        self.channel.register(registry, token)
    }

    /// What the worker says, if anything.
    pub(crate) fn take(&mut self) -> Result<Option<FromWorker>, Error> {
        self.channel.take()
    }

    /// Puts a message in the row and writes as much as the connection takes.
    pub(crate) fn send(&mut self, message: &ToWorker) -> Result<(), Error> {
        self.channel.send(message)?;
        self.channel.flush()
    }

    /// Writes as much as the connection takes.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.channel.flush()
    }

    /// True while so much waits for the worker that nothing of other workers may be added.
    pub(crate) fn is_crowded(&self) -> bool {
        self.channel.unsent_bytes() > CONTROL_BACKLOG_BYTES
    }
}
