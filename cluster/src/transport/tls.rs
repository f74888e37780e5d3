//! One connection's TLS.

use super::credentials::LinkTls;
use super::{Written, retried};
use crate::limits::TLS_OUT_BYTES_MAX;
use crate::link::LinkError;
use crate::wire::{TLS_HEAD_BYTES, is_tls};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConnection, Connection, ServerConnection};
use std::fmt::Display;
use std::io::{self, Read, Write};

/// An end of a connection with TLS.
pub(super) struct TlsEnd {
    connection: Connection,
    head: Head,
    /// Found behind bytes that were handed over first.
    failed: Option<LinkError>,
}

/// The first bytes of the other end, which tell whether it speaks TLS at all.
#[derive(Default)]
struct Head {
    bytes: [u8; TLS_HEAD_BYTES],
    have: usize,
}

impl TlsEnd {
    pub(super) fn accept(tls: &LinkTls) -> Result<Self, LinkError> {
        let connection = ServerConnection::new(tls.server());
        Ok(Self::new(connection.map_err(|e| trouble(&e))?.into()))
    }

    pub(super) fn connect(tls: &LinkTls, host: &str) -> Result<Self, LinkError> {
        let unusable = |_| {
            tls_error(format_args!(
                "a certificate cannot be for \"{host}\", the broker's address"
            ))
        };
        let name = ServerName::try_from(host.to_owned()).map_err(unusable)?;
        let connection = ClientConnection::new(tls.client(), name);
        Ok(Self::new(connection.map_err(|e| trouble(&e))?.into()))
    }

    fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(TLS_OUT_BYTES_MAX));
        Self {
            connection,
            head: Head::default(),
            failed: None,
        }
    }

    /// As [`super::Transport::read`]. Fills the block as far as it can, since a record is small.
    pub(super) fn read(
        &mut self,
        socket: &mut (impl Read + Write),
        block: &mut [u8],
    ) -> Result<Option<usize>, LinkError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut filled = 0;
        while filled < block.len() {
            let more = match self.connection.reader().read(&mut block[filled..]) {
                Ok(0) => Err(LinkError::Closed),
                Ok(read) => {
                    filled += read;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pull(socket),
                // It has closed without a word of TLS. What was cut off would have been the end of a batch.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(LinkError::Closed)
                }
                Err(error) => Err(LinkError::Io(error.kind())),
            };
            match more {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if filled == 0 => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(Some(filled).filter(|filled| *filled > 0))
    }

    /// As [`super::Transport::write`]. Before the TLS handshake is over it takes a little, too.
    pub(super) fn write(
        &mut self,
        socket: &mut impl Write,
        bytes: &[u8],
    ) -> Result<Written, LinkError> {
        let taken = self.connection.writer().write(bytes);
        let bytes = taken.map_err(|error| LinkError::Io(error.kind()))?;
        let blocked = !self.flush(socket)?;
        Ok(Written { bytes, blocked })
    }

    pub(super) fn has_more(&self) -> bool {
        self.connection.wants_write()
    }

    pub(super) fn finish(
        &mut self,
        socket: &mut impl Write,
        bytes: &[u8],
    ) -> Result<(), LinkError> {
        let taken = self.connection.writer().write(bytes);
        taken.map_err(|error| LinkError::Io(error.kind()))?;
        self.connection.send_close_notify();
        self.flush(socket).map(|_| ())
    }

    /// Takes records off the socket; `false`: it has none for now.
    fn pull(&mut self, socket: &mut (impl Read + Write)) -> Result<bool, LinkError> {
        if !self.head.is_complete() {
            if !self.head.pull(socket)? {
                return Ok(false);
            }
            let taken = self.connection.read_tls(&mut &self.head.bytes[..]);
            taken.map_err(|error| LinkError::Io(error.kind()))?;
        }
        match retried(|| self.connection.read_tls(socket))? {
            None => return Ok(false),
            Some(0) => return Err(LinkError::Closed),
            Some(_) => {}
        }
        match self.connection.process_new_packets() {
            Ok(_) => Ok(true),
            Err(error) => {
                // The alert that tells the other end; whatever becomes of it, the error is the one found first.
                let _sent = self.flush(socket);
                Err(trouble(&error))
            }
        }
    }

    /// Gives the socket what it takes; `false`: it does not take everything.
    fn flush(&mut self, socket: &mut impl Write) -> Result<bool, LinkError> {
        while self.connection.wants_write() {
            match retried(|| self.connection.write_tls(socket))? {
                None => return Ok(false),
                Some(0) => return Err(LinkError::Closed),
                Some(_) => {}
            }
        }
        Ok(true)
    }
}

impl std::fmt::Debug for TlsEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let handshaking = self.connection.is_handshaking();
        f.debug_struct("TlsEnd")
            .field("handshaking", &handshaking)
            .finish_non_exhaustive()
    }
}

impl Head {
    fn is_complete(&self) -> bool {
        self.have == TLS_HEAD_BYTES
    }

    /// `false`: not all of it is there yet.
    fn pull(&mut self, socket: &mut impl Read) -> Result<bool, LinkError> {
        while !self.is_complete() {
            match retried(|| socket.read(&mut self.bytes[self.have..]))? {
                None => return Ok(false),
                Some(0) => return Err(LinkError::Closed),
                Some(read) => self.have += read,
            }
        }
        if is_tls(self.bytes) {
            Ok(true)
        } else {
            Err(LinkError::NoTls)
        }
    }
}

/// What went wrong, and where to look.
fn trouble(error: &rustls::Error) -> LinkError {
    let hint = match error {
        rustls::Error::NoCertificatesPresented => {
            "the other end has no certificate; check its link_tls.certificate"
        }
        rustls::Error::InvalidCertificate(_) => {
            "the other end's certificate is not good here; check its link_tls.certificate and this end's link_tls.ca"
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::DecryptError,
        ) => {
            "the other end does not accept this end's certificate; check link_tls.certificate here and link_tls.ca there"
        }
        _ => return tls_error(error),
    };
    tls_error(format_args!("{error}; {hint}"))
}

fn tls_error(text: impl Display) -> LinkError {
    LinkError::Tls(text.to_string().into())
}
