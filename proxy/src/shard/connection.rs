//! One connection: its socket, its session, and the bytes between the two.

use super::pool::Pool;
use super::reading::Unread;
use crate::session::{Rules, Session};
use mio::net::TcpStream;
use std::io::{self, Write};

/// A slot of the connection table.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) session: Session,
    pub(crate) unread: Option<Box<Unread>>,
    /// Bytes for the socket; has no room of its own while there are none.
    pub(crate) out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    out_at: usize,
    /// When it was accepted, last heard of, or ended: what its patience counts from.
    pub(crate) heard_s: u32,
    /// The second its valid entry in the wheel is for.
    pub(crate) visit_s: u32,
    /// It is in the list of those to read from.
    pub(crate) ready: bool,
    /// It is in the list of those to write to.
    pub(crate) dirty: bool,
    /// The session wants no bytes now; what is unread has not been looked at.
    pub(crate) paused: bool,
    /// The kernel says that the peer has closed its side: there is an end to read.
    pub(crate) peer_closed: bool,
    /// The socket takes no bytes now; the kernel will say when.
    pub(crate) blocked: bool,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it.
    All,
    /// The socket is full.
    Blocked,
    /// The socket has failed.
    Failed,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream, session: Session, now_s: u32) -> Self {
        Self {
            socket,
            session,
            unread: None,
            out: Vec::new(),
            out_at: 0,
            heard_s: now_s,
            visit_s: u32::MAX,
            ready: false,
            dirty: false,
            paused: false,
            peer_closed: false,
            blocked: false,
        }
    }

    /// Whether bytes of the client are wanted now: by the session, and by the peer's taking what it is sent.
    pub(crate) fn reads(&self, rules: &Rules) -> bool {
        self.takes_answers(rules) && self.session.reads(rules)
    }

    /// Whether the peer takes what it is sent.
    pub(crate) fn takes_answers(&self, rules: &Rules) -> bool {
        self.out.len() < rules.limits.unread_answers_bytes_max()
    }

    /// Writes what waits; counts the bytes into `written`.
    pub(crate) fn write(&mut self, pool: &mut Pool, written: &mut u64) -> Written {
        while self.out_at < self.out.len() {
            match self.socket.write(&self.out[self.out_at..]) {
                Ok(0) => return Written::Failed,
                Ok(bytes) => {
                    self.out_at += bytes;
                    *written += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.forget_written();
                    self.blocked = true;
                    return Written::Blocked;
                }
                Err(_) => return Written::Failed,
            }
        }
        self.out_at = 0;
        pool.take_back(&mut self.out);
        Written::All
    }

    /// Moves the waiting bytes to the front, so that the buffer's size follows what waits. At most as many bytes
    /// are moved as were written.
    fn forget_written(&mut self) {
        if self.out_at >= self.out.len() / 2 {
            self.out.drain(..self.out_at);
            self.out_at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        let bytes = size_of::<Option<Connection>>();
        assert!(bytes <= 176, "{bytes} bytes");
    }
}
