//! The PROXY protocol, version 2, where a listener is configured for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use crate::common::{Broker, Packet};
use crate::common::{Client, Connect, Got, Options, PATIENCE, Version};
use crate::support::{Certs, TlsBroker, TlsClient, both};

const CLIENT: &str = "192.0.2.7:40000";

/// A header that says that the connection is [`CLIENT`]'s.
pub(crate) fn header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 192, 0, 2, 8, 0x9c, 0x40, 0x07, 0x5b]);
    header
}

/// What a load balancer's own health check sends.
fn local_header() -> Vec<u8> {
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec()
}

fn plain_broker() -> Broker {
    Broker::start_with(Options {
        durability: "memory",
        ..Options::config("[listen]\nproxy_protocol = true\n[log]\nlevel = \"debug\"\n")
    })
}

fn connack(client: &mut Client) {
    let got = client.recv();
    assert!(matches!(got, Packet::ConnAck { code: 0, .. }), "{got:?}");
}

#[test]
fn the_address_is_the_clients() {
    let broker = plain_broker();
    // In any pieces, and together with what follows.
    for piece in [1, 5, 16, 1000] {
        let bytes = [header(), Connect::v311("behind").encode()].concat();
        let mut client = Client::raw(broker.addr, Version::V311);
        for part in bytes.chunks(piece) {
            client.send(part);
        }
        connack(&mut client);
        client.disconnect();
    }
    let line = broker.await_line("connection ends");
    assert!(line.contains("behind") && line.contains(CLIENT), "{line}");
}

#[test]
fn a_health_check_is_the_balancers_own() {
    let broker = plain_broker();
    let mut client = Client::raw(broker.addr, Version::V311);
    client.send(&local_header());
    client.send(&Connect::v311("check").encode());
    connack(&mut client);
    let own = client.stream.local_addr().expect("bound").to_string();
    client.disconnect();
    let line = broker.await_line("connection ends");
    assert!(line.contains(&own), "{line} has not {own}");
}

#[test]
fn without_a_header_nobody_gets_in() {
    let broker = plain_broker();
    let version_1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 1883\r\n".to_vec();
    let mut too_long = header();
    (too_long[14], too_long[15]) = (0xff, 0xff);
    let mut datagram = header();
    datagram[13] = 0x12;
    let beginnings = [vec![], version_1, too_long, datagram];
    let refused = beginnings.len() as f64;
    for beginning in beginnings {
        let mut client = Client::raw(broker.addr, Version::V311);
        client.try_send(&[beginning, Connect::v311("c").encode()].concat());
        assert_eq!(client.next(PATIENCE), Got::Closed);
    }
    let count = |name: &str| broker.metric(&[&format!("mqtt_fleet_proxy_{name}_total")]);
    assert!((count("proxy_headers_refused") - refused).abs() < 0.5);
    assert!(count("connects_accepted") < 0.5);
    let line = broker.await_line("refused a connection");
    assert!(line.contains("PROXY protocol header"), "{line}");
}

/// The header comes before TLS, in plain.
#[test]
fn tls_begins_behind_the_header() {
    let certs = Certs::make();
    let broker = TlsBroker::start_with(
        &certs,
        "proxy_protocol = true\n",
        "[log]\nlevel = \"debug\"\n",
    );
    let config = Arc::new(certs.client(&both()));
    let open = |beginning: &[u8]| {
        let mut socket = TcpStream::connect(broker.tls)?;
        socket.write_all(beginning)?;
        let mut client = TlsClient::shake_over(&config, socket)?;
        client.connect("behind")?;
        std::io::Result::Ok(client)
    };
    open(&header()).expect("with a header").ping();
    let line = broker.broker.await_line("connection ends");
    assert!(line.contains(CLIENT), "{line}");
    open(&[]).map(drop).expect_err("without");
    assert_eq!(broker.count("proxy_headers_refused_total"), 1);
    assert_eq!(broker.count("tls_handshakes_failed_total"), 1);
}

/// The time-out runs from the accept, whether the header comes or not.
#[test]
fn half_a_header_ends_at_the_connect_timeout() {
    let broker = Broker::start_with(Options::config(
        "[listen]\nproxy_protocol = true\n[limits]\nconnect_timeout_s = 1\n",
    ));
    let mut half = socket(broker.addr);
    half.write_all(&header()[..20]).expect("read");
    assert_eq!(half.read(&mut [0]).expect("closed in time"), 0);
}

fn socket(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("the broker accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket
}
