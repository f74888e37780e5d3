//! Links with TLS at one end only, with certificates of somebody else, and with strangers on the port.

mod link_common;

use broker::link_server::LinkServerCounters;
use broker::log::Durability;
use cluster::transport::LinkTls;
use link_common::await_true;
use link_common::certificates::Ca;
use link_common::node::Node;
use link_common::shard_end::{ShardEnd, config};
use mqtt_fleet_proxy::link_client::{
    LinkClient, LinkClientConfig, LinkCounters, RunningLinkClient,
};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn node(tls: Option<Arc<LinkTls>>) -> Node {
    Node::start_tls(Path::new("unused"), Durability::Memory, tls)
}

fn client(node: &Node, tls: Option<Arc<LinkTls>>) -> (RunningLinkClient, ShardEnd) {
    let config = LinkClientConfig {
        tls,
        ..config(node.address().to_string())
    };
    let mut client = LinkClient::new(config).expect("descriptors are left");
    let shard = ShardEnd::new(&mut client);
    (client.start().expect("a thread is free"), shard)
}

/// Both ends refuse, count it, and wait before the next time.
fn refused(
    broker: Option<Arc<LinkTls>>,
    proxy: Option<Arc<LinkTls>>,
) -> (Arc<LinkServerCounters>, Arc<LinkCounters>) {
    let node = node(broker);
    let begun = Instant::now();
    let (client, _shard) = client(&node, proxy);
    let (at_broker, at_proxy) = (node.counters(), Arc::clone(&client.counters()[0]));
    await_true("both ends refuse", || {
        at_broker.tls_failed.get() > 0 && at_proxy.tls_failed.get() > 0
    });
    await_true("another try", || at_proxy.losses.get() > 1);
    assert!(
        begun.elapsed() > Duration::from_millis(800),
        "no person is as quick"
    );
    assert_eq!(client.up(), 0);
    client.stop(Duration::ZERO).expect("the poll works");
    node.stop();
    assert_eq!(at_broker.sessions_begun.get(), 0);
    assert_eq!(
        at_broker.handshakes_failed.get(),
        at_broker.tls_failed.get()
    );
    (at_broker, at_proxy)
}

#[test]
fn a_proxy_without_tls_is_refused_in_words_it_understands() {
    let (_, at_proxy) = refused(Some(Ca::new().tls()), None);
    assert_eq!(at_proxy.refusals.get(), at_proxy.tls_failed.get());
}

#[test]
fn a_broker_without_tls_is_no_broker_for_a_proxy_with_it() {
    refused(None, Some(Ca::new().tls()));
}

#[test]
fn certificates_of_another_ca_are_refused() {
    refused(Some(Ca::new().tls()), Some(Ca::new().tls()));
}

#[test]
fn a_large_message_passes_both_ways() {
    let ca = Ca::new();
    let node = node(Some(ca.tls()));
    let (client, mut shard) = client(&node, Some(ca.tls()));
    let reader = shard.connect("reader");
    shard.subscribe(reader, "a/#", protocol::QoS::AtLeastOnce);
    let topic = protocol::TopicName::new("a/b").expect("a topic");
    let payload: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    let sent = protocol::Message::new(&topic, &[], &payload).expect("a message");
    shard.send(vec![cluster::frame::ToGroup::Publish(
        cluster::frame::Publish {
            actor: reader.actor,
            packet_id: protocol::PacketId::new(7),
            qos: protocol::QoS::AtLeastOnce,
            retain: false,
            message: sent.clone(),
        },
    )]);
    let delivery = shard.expect("the message", |frame| match frame {
        cluster::frame::FromGroup::Deliver(delivery) => Some(delivery.clone()),
        _ => None,
    });
    let got = shard.take(&delivery);
    assert!(got[0].message == sent);
    client
        .stop(Duration::from_secs(20))
        .expect("the poll works");
    node.stop();
}

/// What a stranger on the port of links with TLS gets, and how long it takes.
fn stranger(says: &[u8]) -> (Vec<u8>, Duration, Arc<LinkServerCounters>) {
    let node = node(Some(Ca::new().tls()));
    let counters = node.counters();
    let begun = Instant::now();
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket
        .set_read_timeout(Some(link_common::PATIENCE))
        .expect("a time");
    socket.write_all(says).expect("it listens");
    let mut answer = Vec::new();
    if let Err(error) = socket.read_to_end(&mut answer) {
        // It was closed before everything was read.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let took = begun.elapsed();
    await_true("it is counted", || counters.handshakes_failed.get() == 1);
    node.stop();
    (answer, took, counters)
}

#[test]
fn who_begins_with_tls_and_stops_is_closed_in_time() {
    let (answer, took, counters) = stranger(b"\x16\x03\x01");
    // A TLS alert: a warning, the connection is being closed.
    assert_eq!(answer, b"\x15\x03\x03\x00\x02\x01\x00");
    let limit = cluster::limits::LINK_HANDSHAKE;
    assert!(took >= limit && took < 3 * limit, "{took:?}");
    assert_eq!(counters.tls_failed.get(), 0);
}

#[test]
fn noise_that_begins_as_tls_is_refused_at_once() {
    let mut noise = b"\x16\x03\x03\x40\x00".to_vec();
    noise.resize(20_000, 0xA5);
    let (_, took, counters) = stranger(&noise);
    assert!(took < cluster::limits::LINK_HANDSHAKE, "{took:?}");
    assert_eq!(counters.tls_failed.get(), 1);
    assert!(counters.bytes_in.get() == 0, "nothing came through");
}
