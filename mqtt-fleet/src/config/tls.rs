//! `[tls]`: what connections of devices with TLS are accepted with.

use std::sync::Arc;

use proxy::tls::{ClientCertificates, TlsAcceptor, TlsFileError, TlsFiles};

use super::error::ConfigError;
use super::ports::DevicePort;
use super::typed::Typed;

/// Loads the files, if there is a port for them.
pub(super) fn acceptor(
    typed: &Typed,
    ports: &[DevicePort],
) -> Result<Option<Arc<TlsAcceptor>>, Vec<ConfigError>> {
    let Some(port) = ports.iter().find(|port| port.tls) else {
        return Ok(None);
    };
    let errors = conflicts(port, typed);
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
    Ok(Some(Arc::new(acceptor)))
}

fn unusable(typed: &Typed, error: &TlsFileError) -> ConfigError {
    ConfigError::Conflict {
        origin: typed.origin("tls", error.key).clone(),
        problem: error.to_string(),
    }
}

fn conflicts(port: &DevicePort, typed: &Typed) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for name in ["certificate", "key"] {
        if typed.path_or_none("tls", name).is_none() {
            let (key, address) = (port.key, port.address);
            let problem = format!("{key} = \"{address}\" needs tls.{name}, a PEM file");
            errors.push(port.conflict(typed, problem));
        }
    }
    let mut conflict = |name, problem| {
        let origin = typed.origin("tls", name).clone();
        errors.push(ConfigError::Conflict { origin, problem });
    };
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
    errors
}
