//! One TLS connection: records of the socket become plaintext, plaintext becomes records.
//!
//! Its memory while idle is what rustls keeps (keys, mostly): records are opened in a block of the caller's, and what is
//! kept here is a record that has not come whole, plaintext that nobody had room for, and records the socket did not
//! take.

use super::names::CertificateNames;
use crate::limits::{TLS_BLOCK_BYTES, TLS_READ_BYTES_MIN};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
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
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.sealed),
                // What was encoded is in our hands, and leaves in order.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match std::mem::replace(&mut then, Then::Nothing) {
                        Then::Nothing => return Ok(done),
                        then => write(then, &mut traffic, &mut self.sealed)?,
                    }
                }
                Ok(_) => return Ok(done),
                Err(error) => {
                    self.take_alert(&mut records[done..]);
                    return Err(error);
                }
            }
        }
    }

    /// Takes what an error has left to be sent, its alert at the end. rustls must not see the records that follow: it
    /// would fail on them a second time, and takes that for an error of its own.
    fn take_alert(&mut self, records: &mut [u8]) {
        while self.tls.wants_write() {
            match self.tls.process_tls_records(records).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.sealed),
                // Nothing else comes while there is something to encode.
                other => return tracing::warn!(?other, "a TLS alert is lost"),
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

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, sealed: &mut Sealed) {
    sealed.append(&mut |into| match data.encode(into) {
        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
        written => Ok(written.unwrap_or(0)),
    });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{ClientCertificates, TlsAcceptor, TlsFiles};
    use proptest::prelude::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    struct Ends {
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
    }

    fn ends() -> Ends {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&certificate, cert.pem()).expect("writable");
        std::fs::write(&key, signing_key.serialize_pem()).expect("writable");
        let files = TlsFiles {
            certificate,
            key,
            client_ca: None,
            client_certificates: ClientCertificates::None,
            ticket_keys: None,
        };
        let server = TlsAcceptor::load(files).expect("good files").config();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        Ends {
            server,
            client: Arc::new(client),
        }
    }

    fn client(ends: &Ends) -> ClientConnection {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&ends.client), name).expect("a client");
        client.set_buffer_limit(None);
        client
    }

    /// A socket that has these bytes and then no more.
    struct Has<'a>(&'a [u8]);

    impl Read for Has<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.read(buf)
        }
    }

    /// Lets the server read `bytes` in pieces. Answers the plaintext; an error of TLS ends it.
    fn feed(
        server: &mut TlsStream,
        bytes: &[u8],
        piece: usize,
        room: usize,
    ) -> io::Result<Vec<u8>> {
        let mut block = vec![0; TLS_BLOCK_BYTES];
        let mut room = vec![0; room];
        let mut plain = Vec::new();
        for part in bytes.chunks(piece) {
            let mut socket = Has(part);
            loop {
                match server.read(&mut socket, &mut block, &mut room) {
                    Ok(0) => return Ok(plain),
                    Ok(len) => plain.extend_from_slice(&room[..len]),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    Err(_) => {}
                }
                if socket.0.is_empty() && !server.has_more(false) {
                    break;
                }
            }
        }
        Ok(plain)
    }

    fn flight(client: &mut ClientConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("to memory");
        }
        bytes
    }

    /// Lets the client have what the server has for it. Answers the plaintext.
    fn answer(server: &mut TlsStream, client: &mut ClientConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        server.flush(&mut bytes).expect("to memory");
        let mut rest = &bytes[..];
        let mut plain = Vec::new();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("from memory");
            let state = client.process_new_packets().expect("the server speaks TLS");
            let mut came = vec![0; state.plaintext_bytes_to_read()];
            client.reader().read_exact(&mut came).expect("counted");
            plain.extend_from_slice(&came);
        }
        plain
    }

    fn shaken(ends: &Ends, piece: usize) -> (TlsStream, ClientConnection) {
        let mut server = TlsStream::new(Arc::clone(&ends.server)).expect("for servers");
        let mut client = client(ends);
        while client.is_handshaking() || server.is_handshaking() {
            feed(&mut server, &flight(&mut client), piece, 1000).expect("good");
            answer(&mut server, &mut client);
        }
        (server, client)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn plaintext_arrives_whole_both_ways_in_any_pieces(
            lens in proptest::collection::vec(1..40_000_usize, 1..5),
            piece in 1..40_000_usize,
            room in 1..20_000_usize,
        ) {
            let ends = ends();
            let (mut server, mut client) = shaken(&ends, piece.max(7));
            let mut sent = Vec::new();
            for len in lens {
                let plain: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
                client.writer().write_all(&plain).expect("to memory");
                sent.extend_from_slice(&plain);
            }
            let bytes = flight(&mut client);
            prop_assert!(feed(&mut server, &bytes, piece, room).expect("good") == sent);
            prop_assert_eq!(server.partial.capacity() + server.plain.capacity(), 0, "idle");

            let mut got = Vec::new();
            for part in sent.chunks(piece) {
                server.seal(part).expect("open");
                got.extend(answer(&mut server, &mut client));
            }
            prop_assert!(got == sent);
        }

        /// Whatever is changed, cut or appended, at whichever stage: an error or silence, never more.
        #[test]
        fn changed_bytes_are_refused_without_a_panic(
            stage in 0..3_u8,
            changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6),
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            piece in 1..700_usize,
        ) {
            let ends = ends();
            let mut client = client(&ends);
            let mut server = TlsStream::new(Arc::clone(&ends.server)).expect("for servers");
            for _ in 0..stage {
                let sent = feed(&mut server, &flight(&mut client), 500, 1000);
                prop_assert!(sent.expect("good").is_empty());
                answer(&mut server, &mut client);
            }
            if stage == 2 {
                client.writer().write_all(&[7; 300]).expect("to memory");
            }
            let mut bytes = flight(&mut client);
            bytes.extend_from_slice(&tail);
            for (at, change) in changes {
                if let Some(len) = std::num::NonZeroUsize::new(bytes.len()) {
                    bytes[usize::from(at) % len] ^= change;
                }
            }
            let result = feed(&mut server, &bytes, piece, 100);
            if let Err(error) = &result {
                let inner = error.get_ref().expect("says why");
                prop_assert!(inner.is::<rustls::Error>());
                prop_assert!(server.has_failed());
            } else if server.is_open() {
                server.seal(b"answer").expect("open");
            }
            server.close();
            prop_assert!(server.partial.len() <= bytes.len() + 100);
        }

        /// Handshake messages in as many records as one likes, also of one byte each.
        #[test]
        fn a_first_flight_may_come_in_many_records(size in 1..300_usize, piece in 1..2_000_usize) {
            let ends = ends();
            let mut client = client(&ends);
            let whole = flight(&mut client);
            let mut records = Vec::new();
            for fragment in whole[5..].chunks(size) {
                records.extend_from_slice(&whole[..3]);
                records.extend((fragment.len() as u16).to_be_bytes());
                records.extend_from_slice(fragment);
            }
            let mut server = TlsStream::new(Arc::clone(&ends.server)).expect("for servers");
            feed(&mut server, &records, piece, 10).expect("good");
            answer(&mut server, &mut client);
            feed(&mut server, &flight(&mut client), piece, 10).expect("good");
            prop_assert!(!server.is_handshaking() && !client.is_handshaking());
        }
    }

    /// A handshake message that never ends is refused when the block is full, not when memory is.
    #[test]
    fn a_handshake_message_without_end_is_refused() {
        let ends = ends();
        let mut server = TlsStream::new(Arc::clone(&ends.server)).expect("for servers");
        // A first flight that says it has 60,000 bytes, in records of four.
        let mut bytes = vec![22, 3, 1, 0, 4, 1, 0, 0xea, 0x60];
        for _ in 0..20_000 {
            bytes.extend([22, 3, 1, 0, 4, 3, 3, 7, 7]);
        }
        let error = feed(&mut server, &bytes, 3_000, 10).expect_err("too much");
        assert!(error.to_string().contains("too large"), "{error}");
    }
}
