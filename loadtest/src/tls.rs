//! TLS of a connection to a broker: rustls, driven by hand over a socket that never blocks.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Error;
use crate::limits::UNSENT_BYTES_MAX;

/// Makes the client's end of TLS connections. Tickets are kept, and used at every address that has
/// the same host name: a device resumes at another proxy.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    names: Vec<(SocketAddr, ServerName<'static>)>,
}

impl Tls {
    /// Trusts the certificates in `ca` only; `own` is a certificate chain and its key. `addrs` is
    /// each address as typed (`HOST:PORT`) and what it means.
    pub(crate) fn new(
        ca: &Path,
        own: Option<(&PathBuf, &PathBuf)>,
        addrs: impl Iterator<Item = (String, SocketAddr)>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca, "--tls-ca")? {
            let added = roots.add(certificate);
            added.map_err(|error| refuse("--tls-ca", ca, &error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse("--tls-ca", ca, &error))?
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| refuse("--tls-key", key, &error))?;
                builder
                    .with_client_auth_cert(certificates(chain, "--tls-cert")?, private)
                    .map_err(|error| refuse("--tls-cert", chain, &error))?
            }
        };
        let names = addrs.map(|(typed, addr)| Ok((addr, server_name(&typed)?)));
        Ok(Self {
            config: Arc::new(config),
            names: names.collect::<Result<_, Error>>()?,
        })
    }

    /// The client's end of a new connection to `addr`.
    pub(crate) fn client(&self, addr: SocketAddr) -> io::Result<ClientConnection> {
        let known = self.names.iter().find(|(named, _)| *named == addr);
        let (_, name) = known.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut client = ClientConnection::new(Arc::clone(&self.config), name.clone())
            .map_err(io::Error::other)?;
        client.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Ok(client)
    }
}

/// Reads what is there as plain text, as `Read::read` does: 0 is the end, `WouldBlock` is nothing
/// at the moment.
pub(crate) fn read(
    tls: &mut ClientConnection,
    socket: &mut TcpStream,
    plain: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.reader().read(plain) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The other side is gone without the goodbye of TLS: for MQTT an end like any other.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            other => return other,
        }
        if tls.read_tls(socket)? == 0 {
            return Ok(0);
        }
        if let Err(error) = tls.process_new_packets() {
            // The alert that says why; the error itself is what counts.
            drop(tls.write_tls(socket));
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

/// Encrypts and writes as much of `plain` as there is room for; gives how much was taken in.
pub(crate) fn write(
    tls: &mut ClientConnection,
    socket: &mut TcpStream,
    plain: &[u8],
) -> io::Result<usize> {
    let mut taken = 0;
    loop {
        let len = tls.writer().write(&plain[taken..])?;
        taken += len;
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => return Ok(taken),
                    _ => return Err(error),
                },
            }
        }
        if len == 0 {
            return Ok(taken);
        }
    }
}

fn certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found = found.map_err(|error| refuse(flag, path, &error))?;
    if found.is_empty() {
        return Err(refuse(flag, path, &"no certificate in it"));
    }
    Ok(found)
}

fn server_name(typed: &str) -> Result<ServerName<'static>, Error> {
    let host = typed.rsplit_once(':').map_or(typed, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .map_err(|error| Error::Arguments(format!("--addr {typed}: {error}")))
}

fn refuse(flag: &str, path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Arguments(format!("{flag} {}: {why}", path.display()))
}
