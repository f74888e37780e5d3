//! What a node shows and asks of the other end of a link.

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt::{self, Display};
use std::sync::{Arc, PoisonError, RwLock};

/// What both ends say they want to speak: a link does not go to a port of another kind by mistake.
const PROTOCOL: &[u8] = b"mqtt-fleet-link";

/// PEM texts of a node.
pub struct LinkTlsPem {
    /// The CAs that sign the certificates of this fleet's nodes, and of nobody else.
    pub ca: Vec<u8>,
    /// The node's certificate first, then those between it and the CA. Brokers need one for servers, proxies one for
    /// clients.
    pub certificate: Vec<u8>,
    /// The certificate's private key.
    pub key: Vec<u8>,
}

/// A text that TLS cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct LinkTlsError {
    /// Which: the name of the field of [`LinkTlsPem`].
    pub part: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// The credentials of a node. New connections use what was put here last; open ones keep what they began with.
pub struct LinkTls(RwLock<Configs>);

#[derive(Clone)]
struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl LinkTls {
    /// Credentials of these texts.
    pub fn new(pem: &LinkTlsPem) -> Result<Self, LinkTlsError> {
        build(pem).map(|configs| Self(RwLock::new(configs)))
    }

    /// Uses these from now on. After an error everything is as before.
    pub fn replace(&self, pem: &LinkTlsPem) -> Result<(), LinkTlsError> {
        let configs = build(pem)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = configs;
        Ok(())
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        let configs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&configs.server)
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        let configs = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&configs.client)
    }
}

impl fmt::Debug for LinkTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkTls").finish_non_exhaustive()
    }
}

fn build(pem: &LinkTlsPem) -> Result<Configs, LinkTlsError> {
    let provider = Arc::new(provider::default_provider());
    let roots = Arc::new(roots(&pem.ca)?);
    let chain = certificates("certificate", &pem.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&pem.key)
        .map_err(|error| wrong("key", problem(&error, "private key")))?;
    let chain_and_key = (chain, key);
    Ok(Configs {
        server: Arc::new(server(&provider, &roots, &chain_and_key)?),
        client: Arc::new(client(&provider, &roots, chain_and_key)?),
    })
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    (chain, key): &ChainAndKey,
) -> Result<ServerConfig, LinkTlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| wrong("ca", error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| wrong("key", error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|error| not_a_pair(&error))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    (chain, key): ChainAndKey,
) -> Result<ClientConfig, LinkTlsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| wrong("key", error))?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)
        .map_err(|error| not_a_pair(&error))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, LinkTlsError> {
    let mut roots = RootCertStore::empty();
    for ca in certificates("ca", pem)? {
        roots.add(ca).map_err(|error| wrong("ca", error))?;
    }
    Ok(roots)
}

pub(super) fn certificates(
    part: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, LinkTlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong(part, "there is no PEM certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(part, problem(&error, "certificate"))),
    }
}

fn problem(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no PEM {what} in it"),
        error => error.to_string(),
    }
}

fn not_a_pair(error: &rustls::Error) -> LinkTlsError {
    wrong(
        "key",
        format_args!("{error}; is it the key of link_tls.certificate?"),
    )
}

fn wrong(part: &'static str, problem: impl Display) -> LinkTlsError {
    LinkTlsError {
        part,
        problem: problem.to_string(),
    }
}
