//! A device's socket, what it has not taken yet, and what is not yet a whole packet.
//!
//! Invariant: an idle channel without TLS owns its socket and nothing else.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::source::Sources;
use crate::limits::SIM_UNSENT_BYTES_MAX;

/// A connection, or none.
#[derive(Debug, Default)]
pub(super) struct Channel {
    socket: Option<TcpStream>,
    /// Exists while there is something in it.
    buffers: Option<Box<Buffers>>,
}

#[derive(Debug, Default)]
struct Buffers {
    /// For the socket.
    unsent: Vec<u8>,
    /// The start of a packet.
    held: Vec<u8>,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// This many bytes stand in the block, counting those held from before; `more` may wait.
    Bytes { len: usize, more: bool },
    /// Nothing at the moment.
    Nothing,
    /// The broker has closed.
    Closed,
}

impl Channel {
    /// Starts to connect. Readiness is edge-triggered for both directions, once for all.
    pub(super) fn dial(
        &mut self,
        target: SocketAddr,
        sources: &mut Sources,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let socket = Socket::new(
            Domain::for_address(target),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        sources.bind(&socket, target)?;
        match socket.connect(&target.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        self.socket = Some(socket);
        self.buffers = None;
        Ok(())
    }

    /// Whether there is a socket.
    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Closes the socket and forgets what was under way.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    /// The same, and the broker's end is reset rather than closed: as by a device that has lost its power.
    pub(super) fn reset(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let set = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        self.close();
        set
    }

    /// Whether so much waits for the socket that no more should be made.
    pub(super) fn is_clogged(&self) -> bool {
        let unsent = |buffers: &Buffers| buffers.unsent.len() >= SIM_UNSENT_BYTES_MAX;
        self.buffers.as_deref().is_some_and(unsent)
    }

    /// Whether anything waits for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.buffers
            .as_deref()
            .is_some_and(|buffers| !buffers.unsent.is_empty())
    }

    /// Writes what waits and then `bytes`; what the socket does not take waits.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        if let Some(buffers) = self.buffers.as_deref_mut().filter(|b| !b.unsent.is_empty()) {
            let written = write(socket, &buffers.unsent)?;
            buffers.unsent.drain(..written);
            if !buffers.unsent.is_empty() {
                return buffers.keep(bytes);
            }
            self.tidy();
        }
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        let written = write(socket, bytes)?;
        if written < bytes.len() {
            self.buffers
                .get_or_insert_default()
                .keep(&bytes[written..])?;
        }
        Ok(())
    }

    /// Reads once, behind the bytes held from before, which come first in `block`.
    pub(super) fn fetch(&mut self, block: &mut Vec<u8>) -> io::Result<Fetched> {
        let Some(socket) = &mut self.socket else {
            return Ok(Fetched::Nothing);
        };
        let held = self
            .buffers
            .as_deref()
            .map_or(&[][..], |buffers| &buffers.held);
        let start = held.len();
        if start * 2 > block.len() {
            block.resize(start * 2, 0);
        }
        block[..start].copy_from_slice(held);
        let len = match socket.read(&mut block[start..]) {
            Ok(0) => return Ok(Fetched::Closed),
            Ok(len) => start + len,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => {
                    return Ok(Fetched::Nothing);
                }
                io::ErrorKind::Interrupted => return self.fetch(block),
                _ => return Err(error),
            },
        };
        if let Some(buffers) = &mut self.buffers {
            buffers.held.clear();
        }
        let more = len == block.len();
        Ok(Fetched::Bytes { len, more })
    }

    /// Keeps the start of a packet until the rest comes.
    pub(super) fn hold(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.buffers
                .get_or_insert_default()
                .held
                .extend_from_slice(rest);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        let empty = |buffers: &Buffers| buffers.unsent.is_empty() && buffers.held.is_empty();
        if self.buffers.as_deref().is_some_and(empty) {
            self.buffers = None;
        }
    }
}

impl Buffers {
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Beyond the limit only answers are made; a broker that sends and never reads is not waited for.
        if self.unsent.len() + bytes.len() > 4 * SIM_UNSENT_BYTES_MAX + bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the broker does not read",
            ));
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }
}

fn write(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(len) => written += len,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => break,
                _ => return Err(error),
            },
        }
    }
    Ok(written)
}

fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        || error.kind() == io::ErrorKind::WouldBlock
}
