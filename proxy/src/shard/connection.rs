//! One connection: its socket, its session, and the bytes between the two.

use super::pool::Pool;
use super::reading::{Chunk, ReadBlock, Unread};
use crate::auth::Peer;
use crate::counters::ProxyCounters;
use crate::limits::TLS_SEAL_BYTES;
use crate::proxy_protocol::{HeaderReader, Origin};
use crate::session::{Rules, Session};
use crate::tls::TlsStream;
use mio::net::TcpStream;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};

/// A slot of the connection table.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// What stands between the socket and MQTT; `None`: nothing.
    pub(crate) layers: Option<Box<Layers>>,
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

/// What stands between a socket and MQTT, in the order in which it comes.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// The header of a load balancer that has not come whole.
    pub(crate) header: Option<HeaderReader>,
    /// The client's address by that header.
    pub(crate) client: Option<SocketAddr>,
    /// TLS.
    pub(crate) tls: Option<TlsStream>,
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
    pub(crate) fn new(
        socket: TcpStream,
        layers: Option<Box<Layers>>,
        session: Session,
        now_s: u32,
    ) -> Self {
        Self {
            socket,
            layers,
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

    /// Reads once, through the layers there are. `WouldBlock`: nothing for the session; [`Connection::has_more`] says
    /// whether to read again.
    pub(crate) fn read(
        &mut self,
        block: &mut ReadBlock,
        counters: &ProxyCounters,
    ) -> io::Result<Chunk> {
        let Some(layers) = &mut self.layers else {
            return block.read(&mut self.socket, &mut self.unread);
        };
        if let Some(header) = &mut layers.header {
            match header.read(&mut self.socket) {
                Ok(Origin::Client(address)) => layers.client = Some(address),
                Ok(Origin::Balancer) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Chunk::end());
                }
                Err(error) => return Err(error),
            }
            layers.header = None;
        }
        let Some(tls) = &mut layers.tls else {
            return block.read(&mut self.socket, &mut self.unread);
        };
        let was_handshaking = tls.is_handshaking();
        let result = block.read_tls(&mut self.socket, tls, &mut self.unread);
        if was_handshaking && !tls.is_handshaking() {
            counters.tls_handshakes.increment();
            if tls.is_resumed() {
                counters.tls_handshakes_resumed.increment();
            }
        }
        result
    }

    /// Whether a read may find something although the kernel announces nothing new.
    pub(crate) fn has_more(&self) -> bool {
        let tls = self.layers.as_ref().and_then(|layers| layers.tls.as_ref());
        tls.is_some_and(|tls| tls.has_more(self.peer_closed))
    }

    /// Whether bytes of a layer wait for the socket.
    pub(crate) fn has_sealed(&self) -> bool {
        let tls = self.layers.as_ref().and_then(|layers| layers.tls.as_ref());
        tls.is_some_and(TlsStream::has_sealed)
    }

    /// Whether a TLS handshake is under way, or never came to its end.
    pub(crate) fn is_opening_tls(&self) -> bool {
        let tls = self.layers.as_ref().and_then(|layers| layers.tls.as_ref());
        tls.is_some_and(TlsStream::is_handshaking)
    }

    /// The client's address for people: by the load balancer, else by the socket.
    pub(crate) fn shown_address(&self) -> String {
        let address = address_of(&self.socket, self.layers.as_deref());
        address.map_or_else(|| "gone".to_owned(), |address| address.to_string())
    }

    /// Says that no more bytes will come: as TLS does, and as TCP does.
    pub(crate) fn finish_writing(&mut self) -> io::Result<()> {
        self.say_goodbye();
        self.socket.shutdown(Shutdown::Write)
    }

    /// Ends TLS, as far as the socket takes it: the peer that does not see it sees the socket's end.
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(tls) = self.layers.as_mut().and_then(|layers| layers.tls.as_mut()) {
            tls.close();
            if let Err(error) = tls.flush(&mut self.socket) {
                tracing::trace!(%error, "the end of TLS did not leave");
            }
        }
    }

    /// Writes what waits; counts the session's bytes into `written`.
    pub(crate) fn write(&mut self, pool: &mut Pool, written: &mut u64) -> Written {
        match self.write_all(pool, written) {
            Ok(()) => {
                self.out_at = 0;
                pool.take_back(&mut self.out);
                Written::All
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.forget_written();
                self.blocked = true;
                Written::Blocked
            }
            Err(_) => Written::Failed,
        }
    }

    fn write_all(&mut self, pool: &mut Pool, written: &mut u64) -> io::Result<()> {
        if let Some(tls) = self.layers.as_mut().and_then(|layers| layers.tls.as_mut()) {
            return seal_all(
                tls,
                &mut self.socket,
                &self.out,
                &mut self.out_at,
                pool,
                written,
            );
        }
        while self.out_at < self.out.len() {
            match self.socket.write(&self.out[self.out_at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    self.out_at += bytes;
                    *written += bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

/// Seals and writes, a piece at a time: what the socket does not take of one stays sealed, the rest stays plain.
fn seal_all(
    tls: &mut TlsStream,
    socket: &mut TcpStream,
    out: &[u8],
    out_at: &mut usize,
    pool: &mut Pool,
    written: &mut u64,
) -> io::Result<()> {
    loop {
        tls.flush(socket)?;
        // After a failure of TLS nothing but its alert may leave.
        if *out_at == out.len() || tls.has_failed() {
            pool.take_back(tls.sealed_bytes());
            return Ok(());
        }
        if !tls.is_open() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        pool.lend(tls.sealed_bytes());
        let piece = &out[*out_at..out.len().min(*out_at + TLS_SEAL_BYTES)];
        tls.seal(piece).map_err(io::Error::other)?;
        *out_at += piece.len();
        *written += piece.len() as u64;
    }
}

/// The address behind a connection, and the names in the certificate it came with. `None`: the connection is gone.
pub(crate) fn peer_of(socket: &TcpStream, layers: Option<&Layers>) -> Option<Peer> {
    let tls = layers.and_then(|layers| layers.tls.as_ref());
    Some(Peer {
        address: address_of(socket, layers)?,
        certificate: tls.and_then(TlsStream::certificate_names),
    })
}

fn address_of(socket: &TcpStream, layers: Option<&Layers>) -> Option<SocketAddr> {
    let client = layers.and_then(|layers| layers.client);
    client.or_else(|| socket.peer_addr().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        let bytes = size_of::<Option<Connection>>();
        assert!(bytes <= 184, "{bytes} bytes");
    }
}
