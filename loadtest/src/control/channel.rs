//! One end of a control connection: a socket that is never waited for, what came through it and what is to leave.
//!
//! Rule: both ends read whatever the state of what they have to send, so what one end sends always finds a reader, and no
//! two ends can wait for each other. What cannot leave is kept up to a limit in bytes, and for no longer than
//! [`CONTROL_STALL_MAX`] without any progress; beyond either the run fails, and says who did not read.
//!
//! Rule: an end that is gone is noticed by reading. It may have said its last words before, and they count; what is sent
//! to it meanwhile is nobody's.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::Socket;

use crate::Error;
use crate::control::frame::{self, Inbox, LENGTH_BYTES};
use crate::limits::{CONTROL_STALL_MAX, CONTROL_UNSENT_BYTES_MAX};

/// One end; `Out` leaves, `In` comes.
#[derive(Debug)]
pub(crate) struct Channel<Out, In> {
    /// Who is at the other end, for errors.
    peer: String,
    socket: Socket,
    inbox: Inbox<In>,
    unsent: Vec<u8>,
    /// How much of `unsent` has left.
    sent: usize,
    /// Since when the other end has taken nothing of what waits.
    stalled: Option<Instant>,
    /// The other end does not read any more.
    deaf: bool,
    out: std::marker::PhantomData<Out>,
}

impl<Out: Serialize, In: DeserializeOwned> Channel<Out, In> {
    /// Takes over a connected stream socket of any kind.
    pub(crate) fn new(peer: String, socket: OwnedFd) -> Self {
        Self {
            peer,
            socket: Socket::from(socket),
            inbox: Inbox::new(),
            unsent: Vec::new(),
            sent: 0,
            stalled: None,
            deaf: false,
            out: std::marker::PhantomData,
        }
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Waits for exactly one message, for as long as the socket does. Before [`open`](Self::open) only.
    pub(crate) fn wait(&mut self) -> Result<In, Error> {
        let mut head = [0; LENGTH_BYTES];
        let read = self.socket.read_exact(&mut head);
        read.map_err(|error| self.broken(&error))?;
        let len = frame::length(head).map_err(|error| self.says(&error.to_string()))?;
        let mut body = vec![0; len];
        let read = self.socket.read_exact(&mut body);
        read.map_err(|error| self.broken(&error))?;
        frame::read(&body).map_err(|error| self.says(&format!("sent {error}")))
    }

    /// From now on nothing waits for the socket.
    pub(crate) fn open(&self) -> Result<(), Error> {
        let set = self.socket.set_nonblocking(true);
        set.map_err(Error::system("cannot set up a control connection"))
    }

    /// Readiness for both directions, as its edges.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> Result<(), Error> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry
            .register(&mut SourceFd(&self.socket.as_raw_fd()), token, interest)
            .map_err(Error::system("cannot wait for a control connection"))
    }

    /// Puts a message in the row; [`flush`](Self::flush) sends it.
    pub(crate) fn send(&mut self, message: &Out) -> Result<(), Error> {
        let framed = frame::append(message, &mut self.unsent);
        framed.map_err(|error| self.says(&format!("was to get {error}")))?;
        if self.unsent_bytes() > CONTROL_UNSENT_BYTES_MAX {
            let waiting = self.unsent_bytes();
            return Err(self.says(&format!("does not read: {waiting} bytes wait for it")));
        }
        Ok(())
    }

    /// Bytes that wait.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.len() - self.sent
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        while self.sent < self.unsent.len() && !self.deaf {
            match self.socket.write(&self.unsent[self.sent..]) {
                Ok(len) => {
                    self.sent += len;
                    self.stalled = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.stall(),
                Err(error) if is_gone(&error) => self.deaf = true,
                Err(error) => return Err(self.broken(&error)),
            }
        }
        // Most of the time nothing waits, and then nothing is kept.
        self.unsent = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// The next message that has come, if any. It reads until the socket has nothing more.
    pub(crate) fn take(&mut self) -> Result<Option<In>, Error> {
        loop {
            let next = self.inbox.next();
            match next.map_err(|error| self.says(&format!("sent {error}")))? {
                Some(message) => return Ok(Some(message)),
                None if self.fill()? => {}
                None => return Ok(None),
            }
        }
    }

    /// False where nothing waits at the moment.
    fn fill(&mut self) -> Result<bool, Error> {
        loop {
            match self.socket.read(self.inbox.room()) {
                Ok(0) => return Err(self.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(len) => {
                    self.inbox.filled(len);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// The socket takes nothing: remembers since when, and what has left need not be kept.
    fn stall(&mut self) -> Result<(), Error> {
        if self.sent * 2 > self.unsent.len() {
            self.unsent.drain(..self.sent);
            self.sent = 0;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        if since.elapsed() > CONTROL_STALL_MAX {
            let seconds = CONTROL_STALL_MAX.as_secs();
            return Err(self.says(&format!("has read nothing for {seconds} s")));
        }
        Ok(())
    }

    fn broken(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.says("is gone"),
            _ if is_gone(error) => self.says("is gone"),
            io::ErrorKind::WouldBlock => self.says("said nothing in time"),
            _ => self.says(&error.to_string()),
        }
    }

    fn says(&self, what: &str) -> Error {
        Error::Control {
            who: self.peer.clone(),
            what: what.to_owned(),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
