//! `[link_tls]`: mutual TLS on the links between proxies and brokers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::transport::{LinkTls, LinkTlsPem};

use super::error::ConfigError;
use super::typed::Typed;

/// The names of the keys; all three or none.
const NAMES: [&str; 3] = ["ca", "certificate", "key"];

/// What links are made with.
#[derive(Clone, Debug)]
pub(crate) struct LinkCertificates {
    /// The files, in the order of [`NAMES`].
    files: [PathBuf; 3],
    /// The files, loaded.
    pub(crate) tls: Arc<LinkTls>,
}

/// A file that TLS on links cannot work with.
#[derive(Debug, thiserror::Error)]
#[error("link_tls.{name} = \"{}\": {problem}", path.display())]
pub(crate) struct LinkTlsFileError {
    name: &'static str,
    path: PathBuf,
    problem: String,
}

impl LinkCertificates {
    /// Loads the files, if there are any.
    pub(super) fn from_typed(typed: &Typed) -> Result<Option<Self>, Vec<ConfigError>> {
        let typed_path = |name| typed.path_or_none("link_tls", name);
        let [Some(ca), Some(certificate), Some(key)] = NAMES.map(typed_path) else {
            let errors = lacking(typed);
            return if errors.is_empty() {
                Ok(None)
            } else {
                Err(errors)
            };
        };
        let files = [ca, certificate, key];
        let unusable = |error: LinkTlsFileError| {
            vec![ConfigError::Conflict {
                origin: typed.origin("link_tls", error.name).clone(),
                problem: error.to_string(),
            }]
        };
        let pem = read(&files).map_err(unusable)?;
        let tls = LinkTls::new(&pem).map_err(|error| unusable(named(&files, error)))?;
        Ok(Some(Self {
            files,
            tls: Arc::new(tls),
        }))
    }

    /// Reads the files again, for new links. After an error everything is as before.
    pub(crate) fn reload(&self) -> Result<(), LinkTlsFileError> {
        let pem = read(&self.files)?;
        let replaced = self.tls.replace(&pem);
        replaced.map_err(|error| named(&self.files, error))
    }
}

/// A sentence for each key that is there while another is not.
fn lacking(typed: &Typed) -> Vec<ConfigError> {
    let is_there = |name: &&str| typed.path_or_none("link_tls", name).is_some();
    let missing: Vec<_> = NAMES.into_iter().filter(|name| !is_there(name)).collect();
    let conflict = |name| ConfigError::Conflict {
        origin: typed.origin("link_tls", name).clone(),
        problem: format!(
            "link_tls.{name} needs link_tls.{} too, a PEM file",
            missing.join(" and link_tls.")
        ),
    };
    NAMES.into_iter().filter(is_there).map(conflict).collect()
}

fn read(files: &[PathBuf; 3]) -> Result<LinkTlsPem, LinkTlsFileError> {
    let text = |name: &'static str, path: &Path| {
        std::fs::read(path).map_err(|error| LinkTlsFileError {
            name,
            path: path.to_owned(),
            problem: error.to_string(),
        })
    };
    let [ca, certificate, key] = files;
    Ok(LinkTlsPem {
        ca: text("ca", ca)?,
        certificate: text("certificate", certificate)?,
        key: text("key", key)?,
    })
}

fn named(files: &[PathBuf; 3], error: cluster::transport::LinkTlsError) -> LinkTlsFileError {
    let place = NAMES.iter().position(|name| *name == error.part);
    LinkTlsFileError {
        name: error.part,
        path: files[place.expect("the parts have the names of the keys")].clone(),
        problem: error.problem,
    }
}
