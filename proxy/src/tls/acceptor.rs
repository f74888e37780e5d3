//! What a listener accepts TLS with.

use super::shared_keys::{self, Keyring};
use super::tickets::{ScopedTickets, TicketKeyError, TicketKeys, Tickets};
use ring::digest;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use session_store::RedisStore;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that has none gets in, one with a certificate of somebody else's does not.
    Optional,
    /// They get in with a certificate only.
    Required,
}

/// The files of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's certificate first, then those between it and the CA.
    pub certificate: PathBuf,
    /// PEM: the certificate's private key.
    pub key: PathBuf,
    /// PEM: the CAs whose client certificates count. Needed unless [`ClientCertificates::None`].
    pub client_ca: Option<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
    /// Keys of session tickets, shared by several proxies; `None`: keys of this process alone.
    pub ticket_keys: Option<PathBuf>,
}

/// A file that TLS cannot work with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("tls.{key} = \"{}\": {problem}", path.display())]
pub struct TlsFileError {
    /// Which of the files: the name of its configuration key in section `tls`.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// What TLS listeners take connections with. New connections use what was loaded last; open ones keep what they began
/// with.
pub struct TlsAcceptor {
    files: TlsFiles,
    tickets: Arc<Tickets>,
    config: RwLock<Arc<ServerConfig>>,
}

impl TlsAcceptor {
    /// Loads the files.
    pub fn load(files: TlsFiles) -> Result<Self, TlsFileError> {
        let tickets = match &files.ticket_keys {
            Some(path) => Tickets::shared(read_ticket_keys(path)?),
            None => Tickets::random().map_err(|error| no_randomness(&files, &error))?,
        };
        let tickets = Arc::new(tickets);
        let config = build(&files, &tickets)?;
        Ok(Self {
            files,
            tickets,
            config: RwLock::new(config),
        })
    }

    /// Loads the files again. After an error everything is as before.
    pub fn reload(&self) -> Result<(), TlsFileError> {
        let keys = self.files.ticket_keys.as_deref();
        let keys = keys.map(read_ticket_keys).transpose()?;
        let config = build(&self.files, &self.tickets)?;
        if let Some(keys) = keys {
            self.tickets.replace(keys);
        }
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Has the ticket keys from the session store from now on, as all proxies on it do, so that a device resumes its
    /// TLS session on any of them. Until the store has answered, and when it is away, those at hand are in use. Where a
    /// file of ticket keys is configured, it stays the only source, and this does nothing.
    pub fn share_ticket_keys(&self, store: &RedisStore) {
        if self.files.ticket_keys.is_none() {
            let keyring = Keyring::new(Arc::clone(&self.tickets));
            store.share_ticket_keys(shared_keys::RULES, Box::new(keyring));
        }
    }

    /// What a new connection is accepted with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsAcceptor").field(&self.files).finish()
    }
}

fn no_randomness(files: &TlsFiles, error: &TicketKeyError) -> TlsFileError {
    TlsFileError {
        key: "key",
        path: files.key.clone(),
        problem: error.to_string(),
    }
}

fn build(files: &TlsFiles, tickets: &Arc<Tickets>) -> Result<Arc<ServerConfig>, TlsFileError> {
    let wrong = |key, path: &Path, problem: &dyn fmt::Display| TlsFileError {
        key,
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    let provider = Arc::new(provider::default_provider());
    let chain = certificates("certificate", &files.certificate)?;
    let private = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| wrong("key", &files.key, &pem_problem(&error, "private key")))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("key", &files.key, &error))?;
    let (builder, scope) = match (files.client_certificates, &files.client_ca) {
        (ClientCertificates::None, _) | (_, None) => (builder.with_no_client_auth(), Vec::new()),
        (mode, Some(path)) => {
            let cas = certificates("client_ca", path)?;
            let scope = scope(mode, &cas);
            let verifier = verifier(mode, cas, provider)
                .map_err(|problem| wrong("client_ca", path, &problem))?;
            (builder.with_client_cert_verifier(verifier), scope)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| {
        let problem = format!("{error}; is it the key of {}?", files.certificate.display());
        wrong("key", &files.key, &problem)
    })?;
    let tickets = Arc::clone(tickets);
    config.ticketer = Arc::new(ScopedTickets { tickets, scope });
    // Everything a resumption needs is in the ticket. One is enough: a device has one connection.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn verifier(
    mode: ClientCertificates,
    cas: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(ca).map_err(|error| error.to_string())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match mode {
        ClientCertificates::Required => builder,
        _ => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| error.to_string())
}

/// What tickets are tied to: a session that began while other client certificates were asked for begins anew.
fn scope(mode: ClientCertificates, cas: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    for ca in cas {
        hash.update(&(ca.len() as u64).to_be_bytes());
        hash.update(ca);
    }
    let mut scope = vec![mode as u8];
    scope.extend_from_slice(hash.finish().as_ref());
    scope
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let wrong = |problem| TlsFileError {
        key,
        path: path.to_owned(),
        problem,
    };
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(found) if found.is_empty() => Err(wrong("there is no PEM certificate in it".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(pem_problem(&error, "certificate"))),
    }
}

fn pem_problem(error: &rustls::pki_types::pem::Error, what: &str) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => format!("there is no PEM {what} in it"),
        error => error.to_string(),
    }
}

fn read_ticket_keys(path: &Path) -> Result<TicketKeys, TlsFileError> {
    let wrong = |problem: String| TlsFileError {
        key: "ticket_key_file",
        path: path.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    TicketKeys::parse(&text).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    fn files(folder: &Path) -> TlsFiles {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(folder.join("cert.pem"), cert.pem()).expect("writable");
        std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).expect("writable");
        TlsFiles {
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
            client_ca: None,
            client_certificates: ClientCertificates::None,
            ticket_keys: None,
        }
    }

    #[test]
    fn the_wrong_file_is_named_with_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = files(folder.path());
        let other = tempfile::tempdir().expect("a folder");
        let strange_key = files(other.path()).key;
        let text = folder.path().join("text");
        std::fs::write(&text, "hello\n").expect("writable");
        let error = |change: &dyn Fn(&mut TlsFiles)| {
            let mut files = good.clone();
            change(&mut files);
            TlsAcceptor::load(files).expect_err("wrong").to_string()
        };
        let sentence = error(&|files| files.certificate = "/nowhere".into());
        assert!(sentence.starts_with("tls.certificate = \"/nowhere\": No such file"));
        let sentence = error(&|files| files.certificate.clone_from(&text));
        assert!(
            sentence.contains("there is no PEM certificate in it"),
            "{sentence}"
        );
        let sentence = error(&|files| files.key.clone_from(&text));
        assert!(sentence.starts_with("tls.key") && sentence.contains("no PEM private key"));
        let sentence = error(&|files| files.key.clone_from(&strange_key));
        assert!(sentence.contains("is it the key of"), "{sentence}");
        let sentence = error(&|files| files.ticket_keys = Some(text.clone()));
        assert!(sentence.starts_with("tls.ticket_key_file") && sentence.contains("line 1"));
        let sentence = error(&|files| {
            files.client_certificates = ClientCertificates::Required;
            files.client_ca = Some(text.clone());
        });
        assert!(sentence.starts_with("tls.client_ca"), "{sentence}");
    }

    #[test]
    fn a_failed_reload_changes_nothing_and_a_good_one_is_for_new_connections() {
        let folder = tempfile::tempdir().expect("a folder");
        let acceptor = TlsAcceptor::load(files(folder.path())).expect("good files");
        let first = acceptor.config();
        std::fs::write(folder.path().join("key.pem"), "").expect("writable");
        acceptor.reload().expect_err("no key");
        assert!(Arc::ptr_eq(&first, &acceptor.config()));
        files(folder.path());
        acceptor.reload().expect("good files");
        assert!(!Arc::ptr_eq(&first, &acceptor.config()));
    }
}
