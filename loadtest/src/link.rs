//! One connection: its socket, what is not yet written, what is not yet a whole packet.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use rustls::ClientConnection;
use socket2::{Domain, Protocol, Socket, Type};

use crate::tls;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No socket.
    Down,
    /// CONNECT is on its way.
    Connecting,
    /// SUBSCRIBE is on its way.
    Subscribing,
    /// Everything is answered.
    Live,
    /// DISCONNECT is on its way.
    Leaving,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// This many bytes stand in the block, counting those held over; `more` may wait.
    Bytes { len: usize, more: bool },
    /// Nothing at the moment.
    Nothing,
    /// The broker closed.
    Closed,
}

/// One connection. A link without traffic owns no buffer.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Option<TcpStream>,
    tls: Option<Box<ClientConnection>>,
    pub(crate) stage: Stage,
    /// True while it waits for its write at the end of the turn.
    pub(crate) dirty: bool,
    /// Tick of the last write (keepalive) or of the dial (timeout).
    pub(crate) touched: u32,
    /// What this turn writes.
    pub(crate) out: Vec<u8>,
    held: Vec<u8>,
}

impl Link {
    /// Not connected.
    pub(crate) fn down() -> Self {
        let (out, held) = (Vec::new(), Vec::new());
        Self {
            socket: None,
            tls: None,
            stage: Stage::Down,
            dirty: false,
            touched: 0,
            out,
            held,
        }
    }

    /// From the next dial on everything is encrypted.
    pub(crate) fn seal(&mut self, tls: Option<ClientConnection>) {
        self.tls = tls.map(Box::new);
    }

    /// True while something waits for the socket.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        !self.out.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Starts to connect. Readiness is edge-triggered for both directions, once for all.
    pub(crate) fn dial(
        &mut self,
        to: SocketAddr,
        from: Option<SocketAddr>,
        registry: &mio::Registry,
        token: mio::Token,
    ) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            socket.bind(&from.into())?;
        }
        match socket.connect(&to.into()) {
            Err(error) if !under_way(&error) => return Err(error),
            _ => {}
        }
        let mut socket = TcpStream::from_std(socket.into());
        registry.register(
            &mut socket,
            token,
            mio::Interest::READABLE | mio::Interest::WRITABLE,
        )?;
        self.socket = Some(socket);
        self.stage = Stage::Connecting;
        Ok(())
    }

    /// Closes the socket and forgets what was under way.
    pub(crate) fn close(&mut self) {
        let touched = self.touched;
        *self = Self::down();
        self.touched = touched;
    }

    /// Reads once, behind the bytes held over from before, which come first in `block`.
    #[inline]
    pub(crate) fn fetch(&mut self, block: &mut Vec<u8>) -> io::Result<Fetched> {
        let Some(socket) = &mut self.socket else {
            return Ok(Fetched::Nothing);
        };
        let held = self.held.len();
        if held * 2 > block.len() {
            block.resize(held * 2, 0);
        }
        block[..held].copy_from_slice(&self.held);
        let read = match &mut self.tls {
            None => socket.read(&mut block[held..]),
            Some(tls) => tls::read(tls, socket, &mut block[held..]),
        };
        match read {
            Ok(0) => Ok(Fetched::Closed),
            Ok(len) => {
                self.held.clear();
                Ok(Fetched::Bytes {
                    len: held + len,
                    // Behind one TLS record the next may wait, already read from the socket.
                    more: held + len == block.len() || self.tls.is_some(),
                })
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => Ok(Fetched::Nothing),
                io::ErrorKind::Interrupted => self.fetch(block),
                _ => Err(error),
            },
        }
    }

    /// Keeps the start of a packet until the rest comes.
    #[inline]
    pub(crate) fn hold(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.held.extend_from_slice(rest);
        } else if self.held.capacity() > 4096 {
            self.held = Vec::new();
        }
    }

    /// Writes `out` as far as the socket takes it; true if it took everything.
    #[inline]
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(true);
        };
        if let Some(tls) = &mut self.tls {
            let written = tls::write(tls, socket, &self.out)?;
            self.out.drain(..written);
            return Ok(!self.has_unsent());
        }
        let mut written = 0;
        while written < self.out.len() {
            match socket.write(&self.out[written..]) {
                Ok(len) => written += len,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => break,
                    _ => return Err(error),
                },
            }
        }
        let all = written == self.out.len();
        if all {
            self.out.clear();
        } else {
            self.out.drain(..written);
        }
        Ok(all)
    }
}

fn under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        || error.kind() == io::ErrorKind::WouldBlock
}
