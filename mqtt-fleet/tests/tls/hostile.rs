//! What does not speak TLS where it should, or stops in the middle, gets nowhere and hurts nobody.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::common::{Client, Connect, Dice, Got, PATIENCE, Version};
use crate::support::{Certs, TlsBroker, TlsClient, both};

/// First byte of an alert record.
const ALERT: u8 = 0x15;

fn socket(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).expect("the broker accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket.set_nodelay(true).expect("a socket option");
    socket
}

/// What comes until the broker closes.
fn read_to_close(socket: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    match socket.read_to_end(&mut got) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the broker does not close: {error}"),
    }
    got
}

/// The first flight of a client.
fn client_hello(certs: &Certs) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let config = Arc::new(certs.client(&both()));
    let mut tls = ClientConnection::new(config, name).expect("a client");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("to memory");
    hello
}

#[test]
fn a_plain_client_on_the_tls_port_gets_an_alert() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let mut other = TlsClient::open(&Arc::new(certs.client(&both())), broker.tls, "other");
    let mut socket = socket(broker.tls);
    let connect = Connect::v311("plain").encode();
    socket.write_all(&connect).expect("read");
    let got = read_to_close(&mut socket);
    assert_eq!(got.first(), Some(&ALERT), "{got:02x?}");
    other.as_mut().expect("got in").ping();
    broker.await_count("tls_handshakes_failed_total", 1);
    assert_eq!(broker.count("tls_errors_total"), 1);
    let line = broker.broker.await_line("refused a connection");
    let from = socket.local_addr().expect("bound").to_string();
    assert!(line.contains(&from), "{line}");
}

#[test]
fn a_tls_client_on_the_plain_port_is_refused() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let mut other = Connect::v5("other").open(&broker.broker);
    let config = Arc::new(certs.client(&both()));
    let error = TlsClient::shake(&config, broker.broker.addr).map(drop);
    error.expect_err("no TLS there");
    other.ping();
    assert_eq!(broker.count("ended_violation_total"), 1);
}

/// From accept to CONNECT there is one time-out, whatever of TLS has come by then, and however slowly it comes.
#[test]
fn slow_and_silent_handshakes_end_at_the_connect_timeout() {
    let certs = Certs::make();
    let limits = "[limits]\nconnect_timeout_s = 2\n";
    let broker = TlsBroker::start_with(&certs, "", limits);
    let config = Arc::new(certs.client(&both()));
    let hello = client_hello(&certs);
    let start = Instant::now();
    let silent = socket(broker.tls);
    let mut half = socket(broker.tls);
    half.write_all(&hello[..hello.len() / 2]).expect("read");
    let mut unanswered = socket(broker.tls);
    unanswered.write_all(&hello).expect("read");
    let no_connect = TlsClient::shake(&config, broker.tls).expect("TLS is fine");

    let mut slow = socket(broker.tls);
    slow.set_read_timeout(Some(Duration::from_millis(20)))
        .expect("not zero");
    let ended = hello.repeat(20).into_iter().find(|byte| {
        // The wait for an answer is the pace.
        let sent = slow.write_all(std::slice::from_ref(byte));
        let mut answer = [0];
        let waits = matches!(slow.read(&mut answer), Err(e) if e.kind() == ErrorKind::WouldBlock);
        sent.is_err() || !waits
    });
    assert!(ended.is_some());
    for mut socket in [silent, half, unanswered, no_connect.stream.sock] {
        read_to_close(&mut socket);
    }
    let lasted = start.elapsed();
    assert!(lasted >= Duration::from_millis(1900), "{lasted:?}");
    assert!(lasted < Duration::from_secs(10), "{lasted:?}");
    broker.await_count("connections_open", 0);
    assert_eq!(broker.count("tls_handshakes_failed_total"), 4);
    assert_eq!(broker.count("ended_connect_timeout_total"), 5);
}

/// Sockets cut at every byte of the first flight, and at every step after it.
#[test]
fn cuts_anywhere_in_the_handshake_leave_nothing_behind() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let config = Arc::new(certs.client(&both()));
    let mut other = TlsClient::open(&config, broker.tls, "other").expect("gets in");
    let hello = client_hello(&certs);
    for cut in 0..hello.len() {
        let mut socket = socket(broker.tls);
        socket.write_all(&hello[..cut]).expect("read");
        if cut % 2 == 0 {
            // Half-open: our side ends, the other is still there.
            socket.shutdown(Shutdown::Write).expect("open");
            assert!(read_to_close(&mut socket).is_empty(), "at {cut}");
        }
    }
    for cut in 0..200 {
        // The client's second flight comes, and is cut somewhere.
        let mut socket = socket(broker.tls);
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        tls.write_tls(&mut socket).expect("read");
        while tls.is_handshaking() {
            tls.read_tls(&mut socket).expect("the broker answers");
            tls.process_new_packets().expect("a good answer");
        }
        let mut flight = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut flight).expect("to memory");
        }
        socket
            .write_all(&flight[..cut.min(flight.len() - 1)])
            .expect("read");
    }
    // Not the open connections first: some may not have been accepted yet.
    broker.await_count("tls_handshakes_failed_total", hello.len() as u64 + 200);
    broker.await_count("connections_open", 1);
    assert_eq!(broker.count("tls_handshakes_total"), 1);
    other.ping();
}

/// Bytes that are no records, in a connection that was fine until then; and first flights with bytes changed.
#[test]
fn garbage_ends_its_own_connection_only() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let config = Arc::new(certs.client(&both()));
    let mut other = TlsClient::open(&config, broker.tls, "other").expect("gets in");
    let mut dice = Dice::seeded(7);
    let hello = client_hello(&certs);
    for n in 0..300 {
        let mut bytes = if n % 3 == 0 {
            vec![0; 700]
        } else {
            hello.clone()
        };
        let changes = if n % 3 == 0 { bytes.len() } else { 1 + n % 8 };
        for _ in 0..changes {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] = dice.below(256) as u8;
        }
        let mut socket = socket(broker.tls);
        // The broker may be through with it before everything is sent.
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        read_to_close(&mut socket);
    }
    for n in 0..30 {
        let mut client = TlsClient::open(&config, broker.tls, "c").expect("gets in");
        client.ping();
        let mut garbage = vec![0x17, 3, 3, 0, 40];
        garbage.extend((0..40 + n).map(|_| dice.below(256) as u8));
        client.stream.sock.write_all(&garbage).expect("read");
        let got = read_to_close(&mut client.stream.sock);
        assert!(!got.is_empty(), "an alert");
    }
    other.ping();
    broker.await_count("connections_open", 1);
    assert!(broker.count("tls_errors_total") >= 30);
}

/// A record that does not come whole must not keep others waiting, nor the same client's answers.
#[test]
fn half_a_record_keeps_nobody_waiting() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    for version in both() {
        let config = Arc::new(certs.client(&[version]));
        let mut client = TlsClient::open(&config, broker.tls, "half").expect("gets in");
        client.subscribe("t", 0);
        let ping = [0xc0, 0];
        let mut records = Vec::new();
        client
            .stream
            .conn
            .writer()
            .write_all(&ping)
            .expect("to memory");
        client
            .stream
            .conn
            .write_tls(&mut records)
            .expect("to memory");
        let (head, tail) = records.split_at(records.len() / 2);
        client.stream.sock.write_all(head).expect("read");
        let mut plain = Connect::v5("plain").open(&broker.broker);
        plain.say("t", 1, "meanwhile");
        let got = client.recv().expect("it gets its message");
        assert!(format!("{got:?}").contains("topic: \"t\""), "{got:?}");
        client.stream.sock.write_all(tail).expect("read");
        let got = client.recv().expect("the rest came");
        assert_eq!(got, crate::common::Packet::PingResp);
    }
}

/// Nobody says whose connection it is where no load balancer is expected.
#[test]
fn a_proxy_header_is_no_mqtt_and_no_tls() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 192, 0, 2, 8, 0x9c, 0x40, 0x07, 0x5b]);
    let mut client = Client::raw(broker.broker.addr, Version::V311);
    client.send(&header);
    client.send(&Connect::v311("liar").encode());
    assert_eq!(client.next(PATIENCE), Got::Closed);
    let mut socket = socket(broker.tls);
    socket.write_all(&header).expect("read");
    assert_eq!(read_to_close(&mut socket).first(), Some(&ALERT));
    assert_eq!(broker.count("connects_accepted_total"), 0);
}
