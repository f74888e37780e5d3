//! One TLS connection: records of the socket become plaintext, plaintext becomes records.
//!
//! Its memory while idle is what rustls keeps (keys, mostly): records are opened in a block of the caller's, and what is
//! kept here is a record that has not come whole, plaintext that nobody had room for, and records the socket did not
//! take.

use super::names::CertificateNames;
use crate::limits::{TLS_BLOCK_BYTES, TLS_READ_BYTES_MIN};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, ServerConfig};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// The server's side of one TLS connection.
pub(crate) struct TlsStream {
    tls: UnbufferedServerConnection,
    /// Records, or parts of one, that nothing could be made of yet.
    partial: Vec<u8>,
    /// Plaintext that the last reader had no room for, and how much of it has been read since.
    plain: Vec<u8>,
    plain_at: usize,
    /// Records for the socket.
    sealed: Sealed,
    /// The last read of the socket took all it had room for.
    full: bool,
    /// The last read of the socket found something.
    progressed: bool,
    /// Nothing more comes from the peer.
    peer_closed: bool,
    /// TLS is broken; nothing but its last alert leaves.
    failed: bool,
    /// Our last record is made.
    closing: bool,
}

/// Records on their way to a socket.
#[derive(Debug, Default)]
struct Sealed {
    /// Has no room of its own while there are none.
    bytes: Vec<u8>,
    at: usize,
}

/// What to do as soon as application data may be sent.
#[derive(Clone, Copy)]
enum Then<'a> {
    Nothing,
    Seal(&'a [u8]),
    CloseNotify,
}

/// Where plaintext goes: into the reader's room first.
struct Plain<'a> {
    room: &'a mut [u8],
    filled: usize,
    rest: &'a mut Vec<u8>,
}

impl TlsStream {
    /// A connection of which nothing has come. Fails if the configuration is not one for servers.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config)?,
            partial: Vec::new(),
            plain: Vec::new(),
            plain_at: 0,
            sealed: Sealed::default(),
            full: false,
            progressed: false,
            peer_closed: false,
            failed: false,
            closing: false,
        })
    }

    /// Reads plaintext into `room`, which is not empty: at most one read of the socket, into `block` of
    /// [`TLS_BLOCK_BYTES`]. 0: the peer has closed. `WouldBlock`: nothing for the reader yet; [`TlsStream::has_more`]
    /// says whether to read again. An error of TLS is a [`rustls::Error`] inside; its alert is waiting in
    /// [`TlsStream::flush`].
    pub(crate) fn read(
        &mut self,
        socket: &mut impl Read,
        block: &mut [u8],
        room: &mut [u8],
    ) -> io::Result<usize> {
        match self.take_plain(room) {
            0 if self.peer_closed => return Ok(0),
            0 => {}
            taken => return Ok(taken),
        }
        (self.full, self.progressed) = (false, false);
        let kept = self.partial.len();
        let upto = TLS_BLOCK_BYTES.min(kept + room.len().max(TLS_READ_BYTES_MIN));
        block[..kept].copy_from_slice(&self.partial);
        let fresh = socket.read(&mut block[kept..upto])?;
        if fresh == 0 {
            self.peer_closed = true;
            return Ok(0);
        }
        (self.full, self.progressed) = (kept + fresh == upto, true);
        let filled = self.open(&mut block[..kept + fresh], room)?;
        match filled {
            0 if self.peer_closed => Ok(0),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            filled => Ok(filled),
        }
    }

    /// Whether a read may find something although the socket announces nothing new: more of what it had, or, where it
    /// has announced its end, that end.
    pub(crate) fn has_more(&self, end_announced: bool) -> bool {
        let end = end_announced && self.progressed;
        self.full || end || self.plain_at < self.plain.len()
    }

    fn take_plain(&mut self, room: &mut [u8]) -> usize {
        let rest = &self.plain[self.plain_at..];
        let taken = rest.len().min(room.len());
        room[..taken].copy_from_slice(&rest[..taken]);
        self.plain_at += taken;
        if self.plain_at == self.plain.len() {
            self.plain = Vec::new();
            self.plain_at = 0;
        }
        taken
    }

    /// Opens what records are whole, answers what the handshake wants answered, and keeps the rest.
    fn open(&mut self, records: &mut [u8], room: &mut [u8]) -> io::Result<usize> {
        let mut rest = std::mem::take(&mut self.plain);
        let mut plain = Plain {
            room,
            filled: 0,
            rest: &mut rest,
        };
        let result = self.drive(records, Then::Nothing, &mut plain);
        let filled = plain.filled;
        self.plain = rest;
        let done = result.map_err(|error| self.fail(error))?;
        self.partial = records[done..].to_vec();
        if self.partial.len() == TLS_BLOCK_BYTES {
            let error = rustls::Error::General("a handshake message is too large".to_owned());
            return Err(self.fail(error));
        }
        Ok(filled)
    }

    fn fail(&mut self, error: rustls::Error) -> io::Error {
        self.failed = true;
        self.partial = Vec::new();
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Lets rustls have `records` until it wants more, then does what is to be done. Answers how many bytes are done
    /// with. The rest must come again, at the front of the next call's: rustls remembers places in it.
    fn drive(
        &mut self,
        records: &mut [u8],
        mut then: Then<'_>,
        plain: &mut Plain<'_>,
    ) -> Result<usize, rustls::Error> {
        let mut done = 0;
        let mut first_error = None;
        loop {
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut records[done..]);
            done += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.put(record?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    self.sealed.append(&mut |into| match data.encode(into) {
                        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                        written => Ok(written.unwrap_or(0)),
                    });
                }
                // What was encoded is in our hands, and leaves in order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) if first_error.is_none() => {
                    match std::mem::replace(&mut then, Then::Nothing) {
                        Then::Nothing => return Ok(done),
                        then => write(then, &mut traffic, &mut self.sealed)?,
                    }
                }
                // The alert that goes with an error comes out after it.
                Err(error) if first_error.is_none() => first_error = Some(error),
                _ => return first_error.map_or(Ok(done), Err),
            }
        }
    }

    /// Whether application data may be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.failed && !self.closing && !self.tls.is_handshaking()
    }

    /// Whether the handshake is still under way, or never came to its end.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the handshake continued an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// TLS is broken: nothing more can be read or sealed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The names in the client's certificate, if it gave one.
    pub(crate) fn certificate_names(&self) -> Option<CertificateNames> {
        CertificateNames::of(self.tls.peer_certificates()?.first()?)
    }

    /// Makes records of `plain`, to be flushed.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<(), rustls::Error> {
        debug_assert!(self.is_open());
        self.write(Then::Seal(plain))
    }

    /// Makes the record that says there is no more (RFC 8446 6.1), once and if there is a session to end.
    pub(crate) fn close(&mut self) {
        if self.is_open() {
            // Without it the peer sees the socket's end, which means the same for MQTT.
            let made = self.write(Then::CloseNotify);
            tracing::trace!(?made, "close_notify");
            self.closing = true;
        }
    }

    fn write(&mut self, then: Then<'_>) -> Result<(), rustls::Error> {
        let mut partial = std::mem::take(&mut self.partial);
        let mut rest = std::mem::take(&mut self.plain);
        let mut plain = Plain {
            room: &mut [],
            filled: 0,
            rest: &mut rest,
        };
        let result = self.drive(&mut partial, then, &mut plain);
        self.plain = rest;
        match result {
            Ok(done) => {
                partial.drain(..done);
                self.partial = partial;
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Whether records wait for the socket.
    pub(crate) fn has_sealed(&self) -> bool {
        !self.sealed.bytes.is_empty()
    }

    /// The room of records that wait: to be lent, and taken back, while there are none.
    pub(crate) fn sealed_bytes(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.sealed.bytes.is_empty());
        &mut self.sealed.bytes
    }

    /// Writes the records that wait. `WouldBlock`: the socket is full.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        self.sealed.flush(socket)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("partial", &self.partial.len())
            .field("plain", &self.plain.len())
            .field("sealed", &self.sealed.bytes.len())
            .finish_non_exhaustive()
    }
}

fn write<Data>(
    then: Then<'_>,
    traffic: &mut WriteTraffic<'_, Data>,
    sealed: &mut Sealed,
) -> Result<(), rustls::Error> {
    let mut exhausted = false;
    sealed.append(&mut |into| {
        let written = match then {
            Then::Nothing => Ok(0),
            Then::Seal(plain) => traffic.encrypt(plain, into),
            Then::CloseNotify => traffic.queue_close_notify(into),
        };
        match written {
            Err(EncryptError::InsufficientSize(size)) => Err(size.required_size),
            Err(EncryptError::EncryptExhausted) => {
                exhausted = true;
                Ok(0)
            }
            Ok(written) => Ok(written),
        }
    });
    if exhausted {
        return Err(rustls::Error::EncryptError);
    }
    Ok(())
}

impl Plain<'_> {
    fn put(&mut self, payload: &[u8]) {
        let fits = payload.len().min(self.room.len() - self.filled);
        self.room[self.filled..self.filled + fits].copy_from_slice(&payload[..fits]);
        self.filled += fits;
        self.rest.extend_from_slice(&payload[fits..]);
    }
}

impl Sealed {
    /// Appends what `write` makes. It says how much it wrote, or how much room it needs.
    fn append(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Result<usize, usize>) {
        let start = self.bytes.len();
        let mut room = 0;
        loop {
            self.bytes.resize(start + room, 0);
            match write(&mut self.bytes[start..]) {
                Ok(written) => return self.bytes.truncate(start + written),
                Err(needed) => {
                    assert!(needed > room, "room was made for what is needed");
                    room = needed;
                }
            }
        }
    }

    fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.at < self.bytes.len() {
            match socket.write(&self.bytes[self.at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.at += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.at = 0;
        Ok(())
    }
}
