//! Certificates for links on this machine.

use cluster::transport::{LinkTls, LinkTlsPem};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::sync::Arc;

pub(crate) struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// The texts of a node at 127.0.0.1.
    pub(crate) fn pem(&self) -> LinkTlsPem {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        LinkTlsPem {
            ca: self.pem.clone().into_bytes(),
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        }
    }

    /// A node with a certificate of its own.
    pub(crate) fn tls(&self) -> Arc<LinkTls> {
        Arc::new(LinkTls::new(&self.pem()).expect("good texts"))
    }
}
