//! `[tls]`: the port for devices that speak TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use proxy::tls::{ClientCertificates, TlsAcceptor, TlsFileError, TlsFiles};

use super::error::ConfigError;
use super::typed::Typed;

/// The TLS port.
#[derive(Clone, Debug)]
pub(crate) struct TlsPort {
    /// Its address. Beyond loopback only with leave, or for clients with certificates.
    pub(crate) address: SocketAddr,
    /// Connections come from a load balancer that says whose they are.
    pub(crate) proxy_protocol: bool,
    /// What connections are accepted with: the files, loaded.
    pub(crate) acceptor: Arc<TlsAcceptor>,
}

impl TlsPort {
    /// Loads the files, if there is a port for them.
    pub(super) fn from_typed(typed: &Typed) -> Result<Option<Self>, Vec<ConfigError>> {
        let Some(address) = typed.address_or_none("tls", "listen") else {
            return Ok(None);
        };
        let errors = conflicts(address, typed);
        let (Some(certificate), Some(key), true) = (
            typed.path_or_none("tls", "certificate"),
            typed.path_or_none("tls", "key"),
            errors.is_empty(),
        ) else {
            return Err(errors);
        };
        let files = TlsFiles {
            certificate,
            key,
            client_ca: typed.path_or_none("tls", "client_ca"),
            client_certificates: match typed.choice("tls", "client_certificates") {
                "optional" => ClientCertificates::Optional,
                "required" => ClientCertificates::Required,
                _ => ClientCertificates::None,
            },
            ticket_keys: typed.path_or_none("tls", "ticket_key_file"),
        };
        let acceptor = TlsAcceptor::load(files).map_err(|error| vec![unusable(typed, &error)])?;
        Ok(Some(Self {
            address,
            proxy_protocol: typed.switch("tls", "proxy_protocol"),
            acceptor: Arc::new(acceptor),
        }))
    }
}

fn unusable(typed: &Typed, error: &TlsFileError) -> ConfigError {
    ConfigError::Conflict {
        origin: typed.origin("tls", error.key).clone(),
        problem: error.to_string(),
    }
}

fn conflicts(address: SocketAddr, typed: &Typed) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut conflict = |name, problem| {
        let origin = typed.origin("tls", name).clone();
        errors.push(ConfigError::Conflict { origin, problem });
    };
    for name in ["certificate", "key"] {
        if typed.path_or_none("tls", name).is_none() {
            let problem = format!("tls.listen = \"{address}\" needs tls.{name}, a PEM file");
            conflict("listen", problem);
        }
    }
    let wanted = typed.choice("tls", "client_certificates");
    let has_ca = typed.path_or_none("tls", "client_ca").is_some();
    if wanted != "none" && !has_ca {
        let problem = format!(
            "tls.client_certificates = \"{wanted}\" needs tls.client_ca, the PEM file of the CA that signs them"
        );
        conflict("client_certificates", problem);
    }
    if wanted == "none" && has_ca {
        let problem = "tls.client_ca has no effect while tls.client_certificates is \"none\"; say \
             \"optional\" or \"required\" there";
        conflict("client_ca", problem.to_owned());
    }
    let known = wanted == "required" || typed.switch("listen", "allow_anonymous");
    if !address.ip().is_loopback() && !known {
        let problem = format!(
            "tls.listen = \"{address}\" can be reached from other machines, and clients are not authenticated; \
             demand certificates (tls.client_certificates = \"required\") or say --allow-anonymous \
             (listen.allow_anonymous = true)"
        );
        conflict("listen", problem);
    }
    for name in ["mqtt", "admin"] {
        if address.port() != 0 && address == typed.address("listen", name) {
            let problem = format!(
                "tls.listen and listen.{name} are both \"{address}\"; they need different ports"
            );
            conflict("listen", problem);
        }
    }
    errors
}
