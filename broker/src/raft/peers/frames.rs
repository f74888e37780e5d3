//! Numbered pieces of bytes over a connection, with or without TLS.
//!
//! ```text
//! frame: length 4 of what follows | number 8 | body
//! ```

use super::super::limits::{CALL_BYTES_MAX, READ_BYTES};
use bytes::{Buf, Bytes, BytesMut};
use cluster::link::LinkError;
use cluster::transport::{LinkTls, Transport};
use std::io::{self, Read, Write};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;

const NUMBER_BYTES: usize = 8;
/// Largest frame before both ends know each other: anybody may send one.
pub(super) const STRANGER_BYTES_MAX: usize = 256;

/// What is wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Link(LinkError),
    #[error("{0}")]
    Stranger(#[from] super::handshake::Stranger),
    #[error("the other end sent a frame of {len} bytes; {NUMBER_BYTES} to {max} are taken")]
    Length { len: usize, max: usize },
    #[error("{what} took longer than {limit:?}")]
    TooLong { what: &'static str, limit: Duration },
    #[error("the answer to a call did not come in time")]
    Silent,
    #[error("a call was given up before all of it was sent")]
    GivenUp,
    #[error("{0}")]
    Io(String),
}

impl From<LinkError> for Broken {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// A connection that frames go over.
#[derive(Debug)]
pub(super) struct Frames {
    transport: Transport<Socket>,
    input: BytesMut,
    output: BytesMut,
    body_max: usize,
}

/// A socket of tokio as the transport wants it: it says when it would wait.
#[derive(Debug)]
struct Socket(TcpStream);

impl Read for Socket {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(block)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Frames {
    /// Over a connection that was made to `host`.
    pub(super) fn connect(
        socket: TcpStream,
        tls: Option<&LinkTls>,
        host: &str,
    ) -> Result<Self, Broken> {
        socket.set_nodelay(true)?;
        let transport = Transport::connect(Socket(socket), tls, host)?;
        Ok(Self::over(transport))
    }

    /// Over a connection that was accepted.
    pub(super) fn accept(socket: TcpStream, tls: Option<&LinkTls>) -> Result<Self, Broken> {
        socket.set_nodelay(true)?;
        let transport = Transport::accept(Socket(socket), tls)?;
        Ok(Self::over(transport))
    }

    fn over(transport: Transport<Socket>) -> Self {
        Self {
            transport,
            input: BytesMut::new(),
            output: BytesMut::new(),
            body_max: STRANGER_BYTES_MAX,
        }
    }

    /// The other end is a member: frames may be as large as calls are.
    pub(super) fn trust(&mut self) {
        self.body_max = CALL_BYTES_MAX;
    }

    /// Takes a frame that leaves with the next turns.
    pub(super) fn push(&mut self, number: u64, body: &[u8]) {
        let len = (NUMBER_BYTES + body.len()) as u32;
        self.output.extend_from_slice(&len.to_le_bytes());
        self.output.extend_from_slice(&number.to_le_bytes());
        self.output.extend_from_slice(body);
    }

    /// Bytes that wait for the socket.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.output.len()
    }

    /// The next frame that has come.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Bytes)>, Broken> {
        let Some(len) = self.input.first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len < NUMBER_BYTES || len - NUMBER_BYTES > self.body_max {
            return Err(self.length(len));
        }
        if self.input.len() < 4 + len {
            return Ok(None);
        }
        self.input.advance(4);
        let mut frame = self.input.split_to(len).freeze();
        let number = frame.get_u64_le();
        Ok(Some((number, frame)))
    }

    fn length(&self, len: usize) -> Broken {
        let max = self.body_max + NUMBER_BYTES;
        Broken::Length { len, max }
    }

    /// Waits for the socket and moves what it takes and gives. May be dropped at any time.
    pub(super) async fn turn(&mut self) -> Result<(), Broken> {
        let has_output = !self.output.is_empty() || self.transport.has_more();
        let interest = if has_output {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        let ready = self.transport.socket().0.ready(interest).await?;
        if ready.is_readable() {
            self.read()?;
        }
        if ready.is_writable() || self.transport.has_more() {
            self.write()?;
        }
        Ok(())
    }

    /// Takes what is there, up to about a call: the rest comes with the next turn.
    fn read(&mut self) -> Result<(), Broken> {
        let mut block = [0; READ_BYTES];
        // To the end: TLS may hold bytes that the socket does not show.
        while let Some(read) = self.transport.read(&mut block)? {
            self.input.extend_from_slice(&block[..read]);
            // A frame that is too long is found before it is here.
            if let Some(len) = self.input.first_chunk::<4>() {
                let len = u32::from_le_bytes(*len) as usize;
                if len > self.body_max + NUMBER_BYTES {
                    return Err(self.length(len));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Broken> {
        loop {
            let written = self.transport.write(&self.output)?;
            self.output.advance(written.bytes);
            let is_done = self.output.is_empty() && !self.transport.has_more();
            if written.blocked || is_done || written.bytes == 0 {
                return Ok(());
            }
        }
    }

    /// The next frame; waits for it.
    pub(super) async fn receive(&mut self) -> Result<(u64, Bytes), Broken> {
        loop {
            if let Some(frame) = self.next()? {
                return Ok(frame);
            }
            if let Err(error) = self.turn().await {
                // The other end may have closed the connection behind its last word.
                return self.next()?.ok_or(error);
            }
        }
    }
}
