//! The bytes of a link through a socket, with or without TLS.
//!
//! | file          | what it holds                                                        |
//! |---------------|----------------------------------------------------------------------|
//! | `credentials` | the CA, certificate and key of a node; replaced while links are open  |
//! | `tls`         | one connection's TLS: records in, plaintext out, and back             |
//!
//! TLS is mutual and of version 1.3 only: both ends are of this program. Nothing is resumed, so that each connection is
//! made with the certificates of the day. The handshake of [`crate::wire`] goes on inside, unchanged.
//!
//! Invariant: the socket is the driver's; this crate opens none. A transport without TLS adds one branch to a read or
//! write.

mod credentials;
#[cfg(test)]
mod tests;
mod tls;

pub use credentials::{LinkTls, LinkTlsError, LinkTlsPem};

use crate::link::LinkError;
use std::io::{self, Read, Write};
use tls::TlsEnd;

/// A connected, non-blocking socket with what lies on it.
#[derive(Debug)]
pub struct Transport<S> {
    socket: S,
    tls: Option<Box<TlsEnd>>,
}

/// What became of bytes to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// So many were taken.
    pub bytes: usize,
    /// The socket takes no more until it says so.
    pub blocked: bool,
}

impl<S: Read + Write> Transport<S> {
    /// The broker's end of a connection. With `tls` the proxy must bring a certificate of its CA.
    pub fn accept(socket: S, tls: Option<&LinkTls>) -> Result<Self, LinkError> {
        let tls = tls.map(TlsEnd::accept).transpose()?.map(Box::new);
        Ok(Self { socket, tls })
    }

    /// The proxy's end. With `tls` the broker must have a certificate of its CA for `host`, a DNS name or an IP address.
    pub fn connect(socket: S, tls: Option<&LinkTls>, host: &str) -> Result<Self, LinkError> {
        let tls = tls.map(|tls| TlsEnd::connect(tls, host)).transpose()?;
        Ok(Self {
            socket,
            tls: tls.map(Box::new),
        })
    }

    /// The socket, to ask it things.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The socket, to register it. Its bytes are the transport's.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Bytes of the other end into `block`, at least one; `None`: there are none for now, the socket is read empty.
    ///
    /// [`LinkError::NoTls`]: the other end does not speak TLS. From then on the transport is one without TLS, so that
    /// it can be told.
    pub fn read(&mut self, block: &mut [u8]) -> Result<Option<usize>, LinkError> {
        let Some(tls) = &mut self.tls else {
            return read(&mut self.socket, block);
        };
        let result = tls.read(&mut self.socket, block);
        if result == Err(LinkError::NoTls) {
            self.tls = None;
            // A socket that is closed with bytes unread resets the connection, and our last word is lost.
            let _what_it_said = read(&mut self.socket, block);
        }
        result
    }

    /// Takes what it can of `bytes`, and gives the socket what it takes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Written, LinkError> {
        match &mut self.tls {
            Some(tls) => tls.write(&mut self.socket, bytes),
            None => write(&mut self.socket, bytes),
        }
    }

    /// Whether something waits for the socket that is not the caller's: records of TLS. A call of [`Transport::write`]
    /// without bytes sends them.
    pub fn has_more(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_more())
    }

    /// The last bytes, as far as the socket takes them at once.
    pub fn finish(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match &mut self.tls {
            Some(tls) => tls.finish(&mut self.socket, bytes),
            None if bytes.is_empty() => Ok(()),
            None => write(&mut self.socket, bytes).map(|_| ()),
        }
    }
}

fn read(socket: &mut impl Read, block: &mut [u8]) -> Result<Option<usize>, LinkError> {
    match retried(|| socket.read(block))? {
        Some(0) => Err(LinkError::Closed),
        read => Ok(read),
    }
}

fn write(socket: &mut impl Write, bytes: &[u8]) -> Result<Written, LinkError> {
    match retried(|| socket.write(bytes))? {
        Some(0) => Err(LinkError::Closed),
        Some(bytes) => Ok(Written {
            bytes,
            blocked: false,
        }),
        None => Ok(Written {
            bytes: 0,
            blocked: true,
        }),
    }
}

/// Repeats a call that a signal has interrupted; `None`: it would block.
fn retried(mut call: impl FnMut() -> io::Result<usize>) -> Result<Option<usize>, LinkError> {
    loop {
        match call() {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LinkError::Io(error.kind())),
        }
    }
}
