//! What the authenticator is told of a client that comes through TLS and a load balancer.

mod support;

use mqtt_fleet_proxy::auth::{Authenticator, Peer};
use mqtt_fleet_proxy::limits::ProxyLimits;
use mqtt_fleet_proxy::shard::ListenerConfig;
use mqtt_fleet_proxy::tls::{
    AlternativeName, CertificateNames, ClientCertificates, TlsAcceptor, TlsFiles,
};
use protocol::{Connect, Packet, ReasonCode, Version, encode};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::{PATIENCE, Server};

/// Lets those in whose common name is their client id, and remembers everyone.
#[derive(Default)]
struct ByName(Mutex<Vec<Peer>>);

impl Authenticator for ByName {
    fn authenticate(&self, connect: &Connect, peer: &Peer) -> Result<(), ReasonCode> {
        self.0.lock().expect("no panic").push(peer.clone());
        let names = peer.certificate.as_ref();
        let name = names.and_then(|names| names.common_name.as_deref());
        if name == Some(&*connect.client_id) {
            Ok(())
        } else {
            Err(ReasonCode::NotAuthorized)
        }
    }
}

/// Writes a CA and the server's certificate; the client's side with a certificate for `pump-7`.
fn certificates(folder: &Path) -> (TlsFiles, Arc<ClientConfig>) {
    let key = || KeyPair::generate().expect("a key");
    let ca_key = key();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
    let issuer = Issuer::new(ca, &ca_key);

    let server_key = key();
    let server = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let server = server.signed_by(&server_key, &issuer).expect("signed");
    let mut client = CertificateParams::new(["pump-7.example".to_owned()]).expect("a name");
    client.distinguished_name.push(DnType::CommonName, "pump-7");
    let client_key = key();
    let client = client.signed_by(&client_key, &issuer).expect("signed");

    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("writable");
        path
    };
    let files = TlsFiles {
        certificate: write("server.pem", &server.pem()),
        key: write("server.key", &server_key.serialize_pem()),
        client_ca: Some(write("ca.pem", &ca_certificate.pem())),
        client_certificates: ClientCertificates::Optional,
        ticket_keys: None,
    };
    let mut roots = RootCertStore::empty();
    roots.add(ca_certificate.der().clone()).expect("a CA");
    let private = PrivateKeyDer::from_pem_slice(client_key.serialize_pem().as_bytes());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.der().clone()], private.expect("a key"))
        .expect("they belong together");
    (files, Arc::new(config))
}

/// The reason in CONNACK, and how the handshake went.
fn connect(server: &Server, config: &Arc<ClientConfig>, id: &str) -> (u8, Option<HandshakeKind>) {
    let mut socket = TcpStream::connect(server.addr).expect("the shard listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 192, 0, 2, 8, 0x9c, 0x40, 0x07, 0x5b]);
    socket.write_all(&header).expect("the shard reads");
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut stream = StreamOwned::new(tls, socket);
    let mut bytes = Vec::new();
    let packet = Packet::Connect(Box::new(Connect::new(Version::V5, id)));
    encode(&packet, Version::V5, &mut bytes).expect("valid");
    stream.write_all(&bytes).expect("the shard reads");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("the shard answers");
    assert_eq!(connack[0], 0x20, "CONNACK");
    (connack[3], stream.conn.handshake_kind())
}

#[test]
fn the_authenticator_sees_the_certificates_names_and_the_devices_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let (files, config) = certificates(folder.path());
    let acceptor = Arc::new(TlsAcceptor::load(files).expect("good files"));
    let by_name = Arc::new(ByName::default());
    let server = Server::start_as(
        ProxyLimits::default(),
        None,
        Arc::<ByName>::clone(&by_name),
        |socket| ListenerConfig {
            socket,
            tls: Some(acceptor),
            proxy_protocol: true,
        },
    );
    let success = ReasonCode::Success as u8;
    assert_eq!(
        connect(&server, &config, "pump-7"),
        (success, Some(HandshakeKind::Full))
    );
    // A resumed session has the certificate of the session it resumes.
    assert_eq!(
        connect(&server, &config, "pump-7"),
        (success, Some(HandshakeKind::Resumed))
    );
    let refused = ReasonCode::NotAuthorized as u8;
    assert_eq!(connect(&server, &config, "pump-8").0, refused);
    let expected = Peer {
        address: ([192, 0, 2, 7], 40_000).into(),
        certificate: Some(CertificateNames {
            common_name: Some("pump-7".into()),
            alternatives: vec![AlternativeName::Dns("pump-7.example".into())],
        }),
    };
    let seen = by_name.0.lock().expect("no panic");
    assert_eq!(*seen, [(); 3].map(|()| expected.clone()));
    drop(seen);
    server.stop();
}
