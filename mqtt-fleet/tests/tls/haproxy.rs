//! HAProxy, with the configuration in deploy/, in front of a broker: TLS passes through, addresses arrive.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::common::broker::{free_address, get};
use crate::common::tools::{self, Tool};
use crate::common::{Packet, Version, wire};
use crate::support::{Certs, TlsBroker, TlsClient, both, mosquitto};

const HOW: &str =
    "`cargo xtask test` installs the package haproxy; by hand: apt-get install haproxy";

fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy/haproxy.cfg")
}

/// HAProxy with `-f` the configuration, its places filled in.
fn haproxy(args: &[&str], environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(tools::haproxy());
    command.args(args).arg("-f").arg(configuration());
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    command
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("haproxy cannot be run ({error}): {HOW}"))
}

/// A running HAProxy in front of two servers.
pub(crate) struct InFront {
    pub(crate) address: SocketAddr,
    stats: SocketAddr,
    process: Tool,
}

impl InFront {
    /// In front of one broker; the second of its servers does not exist.
    fn of(broker: &TlsBroker) -> Self {
        let nobody = free_address();
        let mut haproxy = Self::of_proxies((broker.tls, broker.broker.admin), (nobody, nobody));
        // Its notices are the event: the server that is not there has been found out.
        haproxy
            .process
            .await_line("Server mqtts-proxies/proxy-2 is DOWN");
        haproxy
    }

    /// In front of two, each with its TLS and its admin port.
    pub(crate) fn of_proxies(one: (SocketAddr, SocketAddr), two: (SocketAddr, SocketAddr)) -> Self {
        let (address, stats) = (free_address(), free_address());
        let environment = [
            ("MQTTS_BIND", address.to_string()),
            ("STATS_BIND", stats.to_string()),
            ("PROXY_1", one.0.to_string()),
            ("PROXY_1_ADMIN_PORT", one.1.port().to_string()),
            ("PROXY_2", two.0.to_string()),
            ("PROXY_2_ADMIN_PORT", two.1.port().to_string()),
        ];
        let process = Tool::start(&mut haproxy(&["-db"], &environment), HOW);
        Self {
            address,
            stats,
            process,
        }
    }

    /// Waits until it listens, and has a proxy behind it.
    pub(crate) fn await_ready(&self) {
        let complaint = || "HAProxy does not listen, or has no proxy".to_owned();
        tools::await_that(|| self.health() == Some(200), complaint);
    }

    /// The status of its own health; `None` while it does not listen.
    fn health(&self) -> Option<u16> {
        TcpStream::connect(self.stats).ok()?;
        Some(get(self.stats, "/health/ready").0)
    }
}

fn behind_haproxy(certs: &Certs) -> (TlsBroker, InFront) {
    let lines = "proxy_protocol = true\n";
    let broker = TlsBroker::start_with(certs, lines, "[log]\nlevel = \"debug\"\n");
    let haproxy = InFront::of(&broker);
    (broker, haproxy)
}

#[test]
fn the_configuration_is_valid_as_it_is() {
    let output = run(&mut haproxy(&["-c"], &[]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.to_lowercase().contains("warning"), "{said}");
}

#[test]
fn mosquitto_speaks_tls_through_it() {
    let certs = Certs::make();
    let (broker, haproxy) = behind_haproxy(&certs);
    let port = haproxy.address.port();
    for qos in ["0", "1", "2"] {
        let args = ["-d", "-t", "t/+", "-q", qos, "-F", ">%t %q %p"];
        let mut sub = mosquitto("mosquitto_sub", port, &certs, &args);
        sub.await_line("Subscribed (mid");
        let args = ["-t", "t/a", "-m", "hello", "-q", qos];
        mosquitto("mosquitto_pub", port, &certs, &args).finish();
        assert_eq!(sub.await_line(">"), format!(">t/a {qos} hello"));
        sub.kill();
    }
    assert_eq!(broker.count("tls_handshakes_total"), 6);
    assert_eq!(broker.count("proxy_headers_refused_total"), 0);
}

#[test]
fn the_broker_sees_the_devices_address_and_tickets_work() {
    let certs = Certs::make();
    let (broker, haproxy) = behind_haproxy(&certs);
    let config = Arc::new(certs.client(&both()));
    for resumed in [false, true] {
        let mut client = TlsClient::open(&config, haproxy.address, "device").expect("gets in");
        client.ping();
        let own = client.stream.sock.local_addr().expect("bound").to_string();
        let kind = client.stream.conn.handshake_kind();
        assert_eq!(kind == Some(rustls::HandshakeKind::Resumed), resumed);
        let bye = wire::disconnect(Version::V5, 0, &crate::common::Props::new());
        client.send(&bye).expect("read");
        let line = broker.broker.await_line(&own);
        assert!(line.contains("connection ends"), "{line}");
    }
}

/// A megabyte each way is many buffers of HAProxy's.
#[test]
fn large_messages_pass() {
    let certs = Certs::make();
    let (_broker, haproxy) = behind_haproxy(&certs);
    let config = Arc::new(certs.client(&both()));
    let mut client = TlsClient::open(&config, haproxy.address, "device").expect("gets in");
    client.subscribe("t", 0);
    let payload: Vec<u8> = (0..1_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let publish = crate::common::Publish::new("t", 0, &payload);
    let bytes = wire::publish(Version::V5, &publish);
    client.send(&bytes).expect("read");
    match client.recv().expect("delivered") {
        Packet::Publish(got) => assert!(got.payload == payload),
        other => panic!("{other:?}"),
    }
}

#[test]
fn its_figures_are_on_loopback_and_show_the_health() {
    let certs = Certs::make();
    let (broker, mut haproxy) = behind_haproxy(&certs);
    assert!(haproxy.stats.ip().is_loopback());
    let mut stream = TcpStream::connect(haproxy.stats).expect("it listens");
    let request = "GET /;csv HTTP/1.0\r\n\r\n";
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("read");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).expect("answered");
    let status = |server: &str| {
        let row = text.lines().find(|line| line.starts_with(server));
        let row = row.unwrap_or_else(|| panic!("no {server} in\n{text}"));
        row.split(',').nth(17).expect("a status").to_owned()
    };
    assert!(status("mqtts-proxies,proxy-1,").starts_with("UP"));
    assert_eq!(status("mqtts-proxies,proxy-2,"), "DOWN");
    assert_eq!(haproxy.health(), Some(200));
    drop(broker);
    let nobody = "backend mqtts-proxies has no server available";
    haproxy.process.await_line(nobody);
    assert_eq!(haproxy.health(), Some(503));
}
