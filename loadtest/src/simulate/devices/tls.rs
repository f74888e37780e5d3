//! TLS of a device's connection, by rustls without buffers of its own: records are opened and sealed in blocks that all
//! connections of a worker share.
//!
//! Invariant: an idle connection keeps what rustls keeps, keys mostly, and nothing else.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, RootCertStore};

use crate::Error;
use crate::control::message::TlsTrust;

/// What the connections of a worker have in common.
#[derive(Debug)]
pub(super) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// From what the controller says.
    pub(super) fn new(trust: &TlsTrust) -> Result<Self, Error> {
        let refuse = |why: &dyn fmt::Display| {
            Error::Arguments(format!(
                "certificates that TLS targets are trusted by: {why}"
            ))
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trust.ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|error| refuse(&error))?;
            roots.add(certificate).map_err(|error| refuse(&error))?;
        }
        if roots.is_empty() {
            return Err(refuse(&"there is none"));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Sessions of many devices in one process would cost more memory than their connections.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(trust.name.clone());
        let wrong = |error| Error::Arguments(format!("TLS server name {}: {error}", trust.name));
        Ok(Self {
            config: Arc::new(config),
            name: name.map_err(wrong)?,
        })
    }
}

/// The client's end of one connection.
pub(super) struct Tls {
    connection: UnbufferedClientConnection,
    /// A record that has not come whole.
    partial: Vec<u8>,
    /// To be sealed when the handshake is done.
    early: Vec<u8>,
    /// The broker has said that nothing more comes.
    ended: bool,
}

impl Tls {
    /// Nothing was said yet.
    pub(super) fn new(trust: &Trust) -> io::Result<Self> {
        let connection =
            UnbufferedClientConnection::new(Arc::clone(&trust.config), trust.name.clone());
        Ok(Self {
            connection: connection.map_err(io::Error::other)?,
            partial: Vec::new(),
            early: Vec::new(),
            ended: false,
        })
    }

    /// The record that has not come whole; more of it is to be read behind.
    pub(super) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// The broker has said that nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Opens `records`, which begin with [`partial`](Self::partial): what they say is appended to `plain`, what has to be
    /// answered to `sealed`.
    pub(super) fn open(
        &mut self,
        records: &mut [u8],
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> io::Result<()> {
        let early = std::mem::take(&mut self.early);
        let done = self.drive(records, &early, plain, sealed)?;
        self.partial.clear();
        if done < records.len() {
            self.partial.extend_from_slice(&records[done..]);
        } else {
            self.partial = Vec::new();
        }
        Ok(())
    }

    /// Seals `bytes`, or keeps them until the handshake is done; records are appended to `sealed`. `plain` is only used
    /// for what had come before.
    pub(super) fn seal(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut early = std::mem::take(&mut self.early);
        let mut partial = std::mem::take(&mut self.partial);
        let bytes = if early.is_empty() {
            bytes
        } else {
            early.extend_from_slice(bytes);
            &early
        };
        let done = self.drive(&mut partial, bytes, plain, sealed)?;
        partial.drain(..done);
        self.partial = partial;
        Ok(())
    }

    /// Lets rustls have `records` until it wants more. Answers how many bytes are done with; the rest must come again, at
    /// the front, because rustls remembers places in it.
    fn drive(
        &mut self,
        records: &mut [u8],
        bytes: &[u8],
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let (mut done, mut unsent) = (0, bytes);
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut records[done..]);
            done += discard;
            match state.map_err(broken)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record.map_err(broken)?.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => append(sealed, |room| {
                    data.encode(room).map_err(|error| match error {
                        EncodeError::InsufficientSize(needed) => Short::Room(needed),
                        EncodeError::AlreadyEncoded => Short::Never,
                    })
                })?,
                // What was encoded is in our hands, and leaves in order.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) if !unsent.is_empty() => {
                    append(sealed, |room| {
                        traffic.encrypt(unsent, room).map_err(|error| match error {
                            EncryptError::InsufficientSize(needed) => Short::Room(needed),
                            EncryptError::EncryptExhausted => Short::Never,
                        })
                    })?;
                    unsent = &[];
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.ended = true;
                    return Ok(done);
                }
                _ => {
                    self.early.extend_from_slice(unsent);
                    return Ok(done);
                }
            }
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// Why something was not written.
enum Short {
    /// It needs this much room.
    Room(InsufficientSizeError),
    /// It cannot be.
    Never,
}

/// Appends what `write` writes, which says first how much room it needs.
fn append(
    sealed: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Short>,
) -> io::Result<()> {
    let start = sealed.len();
    let mut written = write(&mut []);
    if let Err(Short::Room(needed)) = &written {
        sealed.resize(start + needed.required_size, 0);
        written = write(&mut sealed[start..]);
    }
    match written {
        Ok(len) => {
            sealed.truncate(start + len);
            Ok(())
        }
        Err(_) => Err(io::Error::other("TLS cannot seal any more")),
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// A device's end and a server's, with what is on its way to each.
    struct Ends {
        device: Tls,
        server: ServerConnection,
        to_device: Vec<u8>,
        to_server: Vec<u8>,
        /// What the device has read, and the server.
        plain: Vec<u8>,
        heard: Vec<u8>,
    }

    impl Ends {
        fn new(trusted_name: &str) -> Self {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["broker.test".to_owned()]).expect("a certificate");
            let trust = Trust::new(&TlsTrust {
                ca_pem: cert.pem(),
                name: trusted_name.to_owned(),
            });
            let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .expect("its key");
            Self {
                device: Tls::new(&trust.expect("a certificate")).expect("a client"),
                server: ServerConnection::new(Arc::new(config)).expect("a server"),
                to_device: Vec::new(),
                to_server: Vec::new(),
                plain: Vec::new(),
                heard: Vec::new(),
            }
        }

        fn say(&mut self, bytes: &[u8]) {
            let sealed = self
                .device
                .seal(bytes, &mut self.plain, &mut self.to_server);
            sealed.expect("not broken");
        }

        fn hear(&mut self, mut sent: &[u8]) -> io::Result<()> {
            let mut read = [0; 4_096];
            while !sent.is_empty() {
                self.server.read_tls(&mut sent).expect("memory");
                let taken = self.server.process_new_packets();
                taken.map_err(broken)?;
                while let Ok(len @ 1..) = self.server.reader().read(&mut read) {
                    self.heard.extend_from_slice(&read[..len]);
                }
            }
            Ok(())
        }

        /// Carries bytes both ways until there are none, to the device so many at once.
        fn settle(&mut self, at_once: usize) -> io::Result<()> {
            while !self.to_server.is_empty() || self.server.wants_write() {
                let sent = std::mem::take(&mut self.to_server);
                self.hear(&sent)?;
                while self.server.wants_write() {
                    self.server.write_tls(&mut self.to_device).expect("memory");
                }
                for part in std::mem::take(&mut self.to_device).chunks(at_once) {
                    let mut records = self.device.partial().to_vec();
                    records.extend_from_slice(part);
                    self.device
                        .open(&mut records, &mut self.plain, &mut self.to_server)?;
                }
            }
            Ok(())
        }
    }

    #[test]
    fn both_ends_hear_each_other_however_the_bytes_come() {
        for at_once in [1, 7, 1_000, usize::MAX] {
            let mut ends = Ends::new("broker.test");
            ends.say(b"CONNECT, before the handshake");
            assert!(!ends.to_server.is_empty(), "it begins at once");
            ends.say(b" and more");
            ends.settle(at_once).expect("a handshake");
            assert_eq!(ends.heard, b"CONNECT, before the handshake and more");
            ends.heard.clear();
            let long = vec![b'x'; 40_000];
            ends.server.writer().write_all(&long).expect("room");
            ends.settle(at_once).expect("open");
            assert_eq!(ends.plain, long);
            ends.say(&long);
            ends.settle(at_once).expect("open");
            assert_eq!(ends.heard, long);
            assert!(ends.device.partial().is_empty() && ends.device.early.capacity() == 0);
            ends.server.send_close_notify();
            ends.settle(at_once).expect("an end");
            assert!(ends.device.has_ended());
        }
    }

    #[test]
    fn a_broker_of_another_name_is_not_believed() {
        let mut ends = Ends::new("other.test");
        ends.say(b"CONNECT");
        let error = ends.settle(1_000).expect_err("another name");
        assert!(error.to_string().contains("certificate"), "{error}");
        assert!(ends.heard.is_empty());
    }

    #[test]
    fn what_cannot_be_trusted_is_named() {
        let refused = |ca_pem: &str, name: &str| {
            let trust = Trust::new(&TlsTrust {
                ca_pem: ca_pem.to_owned(),
                name: name.to_owned(),
            });
            trust.expect_err("nothing to trust").to_string()
        };
        assert!(refused("", "broker.test").contains("there is none"));
        let certificate = generate_simple_self_signed(["x".to_owned()]).expect("a certificate");
        assert!(refused(&certificate.cert.pem(), "no name!").contains("no name!"));
    }
}
