//! MQTT packets and TLS records need not agree: one may be many of the other.

use std::sync::Arc;

use crate::common::{Packet, Publish, Version, wire};
use crate::support::{Certs, TlsBroker, TlsClient, both};

fn publish(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let publish = Publish {
        id,
        ..Publish::new(topic, qos, payload)
    };
    wire::publish(Version::V5, &publish)
}

fn next_publish(client: &mut TlsClient) -> Publish {
    match client.recv().expect("the broker sends") {
        Packet::Publish(publish) => publish,
        other => panic!("PUBLISH expected, not {other:?}"),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

#[test]
fn packets_of_any_size_cross_both_ways() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    for version in both() {
        let config = Arc::new(certs.client(&[version]));
        let mut receiver = TlsClient::open(&config, broker.tls, "receiver").expect("gets in");
        receiver.subscribe("t", 0);
        let mut sender = TlsClient::open(&config, broker.tls, "sender").expect("gets in");
        for len in [
            0, 1, 5_000, 16_383, 16_384, 16_400, 33_000, 70_000, 500_000, 1_000_000,
        ] {
            let payload = pattern(len);
            sender.send(&publish("t", 0, 0, &payload)).expect("read");
            assert!(
                next_publish(&mut receiver).payload == payload,
                "{len} bytes"
            );
        }
        sender.ping();
    }
}

#[test]
fn a_packet_may_come_in_many_records_and_many_in_one() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let config = Arc::new(certs.client(&both()));
    let mut receiver = TlsClient::open(&config, broker.tls, "receiver").expect("gets in");
    receiver.subscribe("t", 0);
    let mut sender = TlsClient::open(&config, broker.tls, "sender").expect("gets in");
    for piece in [1, 2, 7] {
        for part in publish("t", 0, 0, &pattern(300)).chunks(piece) {
            sender.send(part).expect("read");
        }
        assert_eq!(next_publish(&mut receiver).payload, pattern(300));
    }
    let many: Vec<u8> = (0..500_u16)
        .flat_map(|n| publish("t", 0, 0, &n.to_be_bytes()))
        .collect();
    sender.send(&many).expect("read");
    for n in 0..500_u16 {
        assert_eq!(next_publish(&mut receiver).payload, n.to_be_bytes());
    }
}

/// What waits for a socket that takes nothing is sent when it takes again, all of it and in order.
#[test]
fn a_reader_that_pauses_gets_everything_afterwards() {
    const COUNT: u16 = 400;
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    let config = Arc::new(certs.client(&both()));
    let mut receiver = TlsClient::open(&config, broker.tls, "receiver").expect("gets in");
    receiver.subscribe("t", 1);
    let mut sender = TlsClient::open(&config, broker.tls, "sender").expect("gets in");
    let body = pattern(40_000);
    for n in 1..=COUNT {
        let payload = [&n.to_be_bytes()[..], &body].concat();
        sender.send(&publish("t", 1, n, &payload)).expect("read");
        let puback = sender.recv().expect("acknowledged");
        assert!(
            matches!(puback, Packet::PubAck { code: 0, .. }),
            "{puback:?}"
        );
    }
    for n in 1..=COUNT {
        let got = next_publish(&mut receiver);
        assert_eq!(got.payload[..2], n.to_be_bytes(), "in order");
        assert!(got.payload[2..] == body, "whole");
        let puback = wire::ack(wire::PUBACK, got.id);
        receiver.send(&puback).expect("read");
    }
    receiver.ping();
}

/// Both ends say goodbye as TLS does: a client can tell the end from a cut.
#[test]
fn the_broker_says_goodbye() {
    let certs = Certs::make();
    let broker = TlsBroker::start(&certs);
    for version in both() {
        let config = Arc::new(certs.client(&[version]));
        let mut client = TlsClient::open(&config, broker.tls, "c").expect("gets in");
        let disconnect = wire::disconnect(Version::V5, 0, &crate::common::Props::new());
        client.send(&disconnect).expect("read");
        let mut rest = Vec::new();
        // Without close_notify this is an error, not an end.
        let read = std::io::Read::read_to_end(&mut client.stream, &mut rest);
        assert_eq!((read.expect("close_notify"), rest), (0, vec![]));
    }
}
