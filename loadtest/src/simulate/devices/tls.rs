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
