//! A device's socket, what it has not taken yet, and what is not yet a whole packet.
//!
//! Invariant: an idle channel owns its socket and, with TLS, what [`Tls`] keeps, but no buffer.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::source::Sources;
use super::tls::Tls;
use crate::limits::{READ_BLOCK_BYTES, SIM_RECORDS_BYTES_MAX, SIM_UNSENT_BYTES_MAX};

/// A connection, or none.
#[derive(Debug, Default)]
pub(super) struct Channel {
    socket: Option<TcpStream>,
    /// Exists while there is something in it.
    buffers: Option<Box<Buffers>>,
    tls: Option<Box<Tls>>,
}

#[derive(Debug, Default)]
struct Buffers {
    /// For the socket.
    unsent: Vec<u8>,
    /// The start of a packet.
    held: Vec<u8>,
}

/// What all channels of a worker share.
#[derive(Debug)]
pub(super) struct Blocks {
    /// What was read, in plain.
    pub(super) plain: Vec<u8>,
    /// TLS: what was read.
    records: Vec<u8>,
    /// TLS: what was opened.
    opened: Vec<u8>,
    /// TLS: for the socket.
    sealed: Vec<u8>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            plain: vec![0; READ_BLOCK_BYTES],
            records: Vec::new(),
            opened: Vec::new(),
            sealed: Vec::new(),
        }
    }
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
        tls: Option<Box<Tls>>,
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
        self.tls = tls;
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
    pub(super) fn write(&mut self, bytes: &[u8], blocks: &mut Blocks) -> io::Result<()> {
        let Some(tls) = self.tls.as_deref_mut().filter(|_| !bytes.is_empty()) else {
            return self.write_raw(bytes);
        };
        blocks.sealed.clear();
        // Nothing comes out of what was looked at before.
        blocks.opened.clear();
        tls.seal(bytes, &mut blocks.opened, &mut blocks.sealed)?;
        self.write_raw(&blocks.sealed)
    }

    fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        let waiting = self.buffers.as_deref_mut();
        if let Some(buffers) = waiting.filter(|buffers| !buffers.unsent.is_empty()) {
            let written = write(socket, &buffers.unsent)?;
            buffers.unsent.drain(..written);
            if !buffers.unsent.is_empty() {
                return buffers.keep(bytes);
            }
        }
        let written = write(socket, bytes)?;
        if written < bytes.len() {
            let buffers = self.buffers.get_or_insert_default();
            return buffers.keep(&bytes[written..]);
        }
        self.tidy();
        Ok(())
    }

    /// Reads once, behind the bytes held from before, which come first in the plain block.
    pub(super) fn fetch(&mut self, blocks: &mut Blocks) -> io::Result<Fetched> {
        let Some(socket) = &mut self.socket else {
            return Ok(Fetched::Nothing);
        };
        let held = self
            .buffers
            .as_deref()
            .map_or(&[][..], |buffers| &buffers.held);
        let start = held.len();
        if start * 2 > blocks.plain.len() {
            blocks.plain.resize(start * 2, 0);
        }
        blocks.plain[..start].copy_from_slice(held);
        let fetched = match &mut self.tls {
            None => read(socket, &mut blocks.plain, start)?,
            Some(tls) => read_sealed(socket, tls, blocks, start)?,
        };
        if matches!(fetched, Fetched::Bytes { .. }) {
            if let Some(buffers) = &mut self.buffers {
                buffers.held.clear();
            }
            let sealed = std::mem::take(&mut blocks.sealed);
            if self.tls.is_some() && !sealed.is_empty() {
                self.write_raw(&sealed)?;
            }
            blocks.sealed = sealed;
        }
        Ok(fetched)
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
        // Beyond the limit only answers are made; a broker that sends and never reads is not waited for. What is here
        // already may leave, however much it is.
        if !bytes.is_empty() && self.unsent.len() > 4 * SIM_UNSENT_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the broker does not read",
            ));
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads behind `start`.
fn read(socket: &mut TcpStream, block: &mut [u8], start: usize) -> io::Result<Fetched> {
    loop {
        return match socket.read(&mut block[start..]) {
            Ok(0) => Ok(Fetched::Closed),
            Ok(len) => Ok(Fetched::Bytes {
                len: start + len,
                more: start + len == block.len(),
            }),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => Ok(Fetched::Nothing),
                _ => Err(error),
            },
        };
    }
}

/// Reads records, and appends what they say to the plain block behind `start`; answers stand in `sealed`.
fn read_sealed(
    socket: &mut TcpStream,
    tls: &mut Tls,
    blocks: &mut Blocks,
    start: usize,
) -> io::Result<Fetched> {
    let Blocks {
        plain,
        records,
        opened,
        sealed,
    } = blocks;
    records.resize(SIM_RECORDS_BYTES_MAX, 0);
    sealed.clear();
    opened.clear();
    let kept = tls.partial().len();
    if kept == records.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a TLS record is too long",
        ));
    }
    records[..kept].copy_from_slice(tls.partial());
    let (len, more) = match read(socket, records, kept)? {
        Fetched::Bytes { len, more } => (len, more),
        nothing => return Ok(nothing),
    };
    tls.open(&mut records[..len], opened, sealed)?;
    if tls.has_ended() && opened.is_empty() {
        return Ok(Fetched::Closed);
    }
    if plain.len() < start + opened.len() {
        plain.resize(start + opened.len(), 0);
    }
    plain[start..start + opened.len()].copy_from_slice(opened);
    Ok(Fetched::Bytes {
        len: start + opened.len(),
        more: more || tls.has_ended(),
    })
}

fn write(socket: &mut impl io::Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(0) => break,
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use mio::Poll;

    use super::*;

    /// A connected channel and the broker's end, which blocks.
    fn connected() -> (Channel, std::net::TcpStream, Poll) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let target = listener.local_addr().expect("bound");
        let poll = Poll::new().expect("epoll");
        let (mut channel, mut sources) = (Channel::default(), Sources::new(77, 3));
        let dialed = channel.dial(target, &mut sources, poll.registry(), Token(0), None);
        dialed.expect("it listens");
        let (peer, from) = listener.accept().expect("dialed");
        assert_ne!(from.ip(), target.ip(), "an address of the worker's own");
        (channel, peer, poll)
    }

    #[test]
    fn what_a_socket_does_not_take_waits_and_is_bounded() {
        let (mut channel, mut peer, _poll) = connected();
        let mut blocks = Blocks::default();
        let piece: Vec<u8> = (0..10_000).map(|n: u32| n as u8).collect();
        let mut written = 0;
        while !channel.is_clogged() {
            channel.write(&piece, &mut blocks).expect("room");
            written += piece.len();
        }
        let mut more = 0;
        let error = loop {
            match channel.write(&piece, &mut blocks) {
                Ok(()) => more += piece.len(),
                Err(error) => break error,
            }
        };
        assert!((150_000..300_000).contains(&more), "{more}");
        assert_eq!(error.to_string(), "the broker does not read");
        let mut came = vec![0; written + more];
        let reader = std::thread::spawn(move || peer.read_exact(&mut came).map(|()| came));
        while channel.has_unsent() {
            channel.write(&[], &mut blocks).expect("open");
            std::thread::yield_now();
        }
        let came = reader.join().expect("no panic").expect("all of it");
        assert!(came.chunks(piece.len()).all(|chunk| chunk == piece));
        assert!(channel.buffers.is_none(), "nothing is kept");
    }

    #[test]
    fn a_socket_that_takes_nothing_is_not_asked_again_at_once() {
        let mut room = [0; 3];
        assert_eq!(write(&mut &mut room[..], b"abcde").expect("no error"), 3);
        assert_eq!(&room, b"abc");
    }

    #[test]
    fn a_packet_in_pieces_is_held_and_comes_first() {
        let (mut channel, mut peer, mut poll) = connected();
        let (mut blocks, mut events) = (Blocks::default(), mio::Events::with_capacity(4));
        let mut fetch = |channel: &mut Channel, blocks: &mut Blocks| loop {
            match channel.fetch(blocks).expect("open") {
                Fetched::Nothing => poll.poll(&mut events, None).expect("epoll"),
                fetched => return fetched,
            }
        };
        assert_eq!(channel.fetch(&mut blocks).expect("open"), Fetched::Nothing);
        peer.write_all(b"abc").expect("open");
        let (len, more) = (3, false);
        assert_eq!(
            fetch(&mut channel, &mut blocks),
            Fetched::Bytes { len, more }
        );
        channel.hold(b"bc");
        peer.write_all(b"def").expect("open");
        let len = 5;
        assert_eq!(
            fetch(&mut channel, &mut blocks),
            Fetched::Bytes { len, more }
        );
        assert_eq!(&blocks.plain[..5], b"bcdef");
        channel.hold(&[]);
        assert!(channel.buffers.is_none(), "nothing is kept");
        drop(peer);
        assert_eq!(fetch(&mut channel, &mut blocks), Fetched::Closed);
    }

    #[test]
    fn a_reset_is_no_good_bye() {
        let (mut channel, mut peer, _poll) = connected();
        channel.reset().expect("a socket");
        assert!(!channel.is_open());
        let error = peer.read(&mut [0]).expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
