//! A broker with a TLS port, the certificates for it, and a client that speaks MQTT through rustls.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::common::broker::free_address;
use crate::common::tools::{Tool, await_that};
use crate::common::{Broker, Connect, Options, PATIENCE, Packet, Version, wire};

pub(crate) const HOW: &str = "`cargo xtask test` installs the package mosquitto-clients";

/// Certificates of `mqtt-fleet dev-certs` in a folder of their own.
pub(crate) struct Certs {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Certs {
    pub(crate) fn make() -> Self {
        Self::make_in("")
    }

    /// In a folder of this name, which the folder has to itself.
    pub(crate) fn make_in(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(name);
        let output = dev_certs(&path, &[]);
        assert!(output.status.success(), "{output:?}");
        Self { folder, path }
    }

    /// The folder around it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The lines of `[tls]` that every listener with them needs.
    fn section(&self, listen: SocketAddr) -> String {
        format!(
            "[tls]\nlisten = \"{listen}\"\ncertificate = {:?}\nkey = {:?}\n",
            self.text("server.pem"),
            self.text("server.key"),
        )
    }

    /// A client that trusts the CA.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_with(versions, None)
    }

    /// The same with the client certificate of `of`.
    pub(crate) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        of: Option<&Self>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.path("ca.pem")).expect("a certificate");
        roots.add(ca).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions ring can do")
            .with_root_certificates(roots);
        let Some(of) = of else {
            return builder.with_no_client_auth();
        };
        let chain = CertificateDer::from_pem_file(of.path("client.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(of.path("client.key")).expect("a key");
        builder
            .with_client_auth_cert(vec![chain], key)
            .expect("they belong together")
    }
}

/// Runs `mqtt-fleet dev-certs`.
pub(crate) fn dev_certs(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    command.arg("dev-certs").arg(folder).args(args);
    command.output().expect("the binary runs")
}

/// A broker with a TLS port beside the plain one.
pub(crate) struct TlsBroker {
    pub(crate) broker: Broker,
    pub(crate) tls: SocketAddr,
}

impl TlsBroker {
    pub(crate) fn start(certs: &Certs) -> Self {
        Self::start_with(certs, "", "")
    }

    /// `tls`: further lines of `[tls]`; `sections`: further sections.
    pub(crate) fn start_with(certs: &Certs, tls: &str, sections: &str) -> Self {
        let address = free_address();
        let options = Options {
            durability: "memory",
            ..Options::config(&format!("{}{tls}\n{sections}", certs.section(address)))
        };
        Self {
            broker: Broker::start_with(options),
            tls: address,
        }
    }

    /// A figure of the shards.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let figure = self.broker.metric(&[&format!("mqtt_fleet_proxy_{name}")]);
        figure.to_string().parse().expect("a whole number")
    }

    /// Waits until a figure of the shards is reached; looks every few milliseconds.
    pub(crate) fn await_count(&self, name: &str, wanted: u64) {
        let complaint = || format!("{name} is {}, not {wanted}", self.count(name));
        await_that(|| self.count(name) == wanted, complaint);
    }
}

/// A mosquitto client on the TLS port.
pub(crate) fn mosquitto(program: &str, port: u16, certs: &Certs, args: &[&str]) -> Tool {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program, "-h", "localhost"]);
    command.args(["-p", &port.to_string(), "--cafile", &certs.text("ca.pem")]);
    Tool::start(command.args(args), HOW)
}

/// Whether a `mosquitto_pub` with these arguments got its message through.
pub(crate) fn publishes(port: u16, certs: &Certs, args: &[&str]) -> bool {
    let ca = certs.text("ca.pem");
    let common = ["-h", "localhost", "-p", &port.to_string(), "--cafile", &ca];
    let mut command = Command::new("mosquitto_pub");
    command.args([&common[..], &["-t", "t", "-m", "x", "-q", "1"], args].concat());
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("mosquitto_pub cannot be run ({e}): {HOW}"));
    output.status.success()
}

/// An MQTT client through rustls.
pub(crate) struct TlsClient {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    buf: Vec<u8>,
}

impl TlsClient {
    /// Completes the TLS handshake, as far as the client can tell.
    pub(crate) fn shake(config: &Arc<ClientConfig>, addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(addr)?;
        Self::shake_over(config, socket)
    }

    pub(crate) fn shake_over(
        config: &Arc<ClientConfig>,
        mut socket: TcpStream,
    ) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Self {
            stream: StreamOwned::new(tls, socket),
            buf: Vec::new(),
        })
    }

    /// TLS and MQTT, up to CONNACK.
    pub(crate) fn open(config: &Arc<ClientConfig>, addr: SocketAddr, id: &str) -> io::Result<Self> {
        let mut client = Self::shake(config, addr)?;
        client.connect(id)?;
        Ok(client)
    }

    pub(crate) fn connect(&mut self, id: &str) -> io::Result<()> {
        self.send(&Connect::v5(id).encode())?;
        match self.recv()? {
            Packet::ConnAck { code: 0, .. } => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next packet; an error at the end of the connection.
    pub(crate) fn recv(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(len) = wire::whole(&self.buf).map_err(io::Error::other)? {
                let packet =
                    wire::decode(Version::V5, &self.buf[..len]).map_err(io::Error::other)?;
                self.buf.drain(..len);
                return Ok(packet);
            }
            let mut block = [0; 16 * 1024];
            match self.stream.read(&mut block)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.buf.extend_from_slice(&block[..n]),
            }
        }
    }

    pub(crate) fn ping(&mut self) {
        self.send(&wire::frame(0xc0, &[]))
            .expect("the broker reads");
        assert_eq!(self.recv().expect("the broker answers"), Packet::PingResp);
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        let props = crate::common::Props::new();
        let packet = wire::subscribe(Version::V5, 1, &[(filter, qos)], &props);
        self.send(&packet).expect("the broker reads");
        let suback = self.recv().expect("the broker answers");
        assert!(matches!(suback, Packet::SubAck { .. }), "{suback:?}");
    }
}

/// TLS 1.2 and 1.3.
pub(crate) fn both() -> [&'static SupportedProtocolVersion; 2] {
    [&rustls::version::TLS12, &rustls::version::TLS13]
}
