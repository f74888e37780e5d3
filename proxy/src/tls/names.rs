//! The names in a client's certificate, for the authenticator.

use rustls::pki_types::CertificateDer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whom a certificate is for. The certificate itself has been verified when these are seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The subject's common name (the first, where there are several).
    pub common_name: Option<String>,
    /// The subject alternative names of these kinds, in the certificate's order.
    pub alternatives: Vec<AlternativeName>,
}

/// One subject alternative name (RFC 5280 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// A DNS name.
    Dns(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
    /// A mail address.
    Email(String),
    /// An IP address.
    Ip(IpAddr),
}

impl CertificateNames {
    /// The names in a certificate. `None`: it cannot be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut common_names = certificate.subject().iter_common_name();
        let common_name = common_names.find_map(|name| Some(name.as_str().ok()?.to_owned()));
        let extension = certificate.subject_alternative_name().ok()?;
        let names = extension.map(|extension| &extension.value.general_names);
        let alternatives = names.into_iter().flatten().filter_map(alternative);
        Some(Self {
            common_name,
            alternatives: alternatives.collect(),
        })
    }
}

fn alternative(name: &GeneralName<'_>) -> Option<AlternativeName> {
    match *name {
        GeneralName::DNSName(name) => Some(AlternativeName::Dns(name.to_owned())),
        GeneralName::URI(uri) => Some(AlternativeName::Uri(uri.to_owned())),
        GeneralName::RFC822Name(mail) => Some(AlternativeName::Email(mail.to_owned())),
        GeneralName::IPAddress(bytes) => address(bytes).map(AlternativeName::Ip),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into());
    v4().or_else(|_| v6()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn the_names_are_those_of_the_certificate() {
        let mut params =
            CertificateParams::new(["pump-7.example".to_owned(), "10.0.0.7".to_owned()])
                .expect("names");
        let uri = "urn:device:pump-7".try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
        params
            .distinguished_name
            .push(DnType::CommonName, "Pumpe 7 (süd)");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let names = CertificateNames::of(certificate.der()).expect("readable");
        assert_eq!(names.common_name.as_deref(), Some("Pumpe 7 (süd)"));
        assert_eq!(
            names.alternatives,
            [
                AlternativeName::Dns("pump-7.example".into()),
                AlternativeName::Ip([10, 0, 0, 7].into()),
                AlternativeName::Uri("urn:device:pump-7".into()),
            ]
        );
        assert_eq!(
            CertificateNames::of(&CertificateDer::from(vec![48, 3, 1])),
            None
        );
    }
}
