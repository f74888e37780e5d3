//! A shard over real sockets: what the session machine cannot show.

mod support;

use mqtt_fleet_proxy::limits::ProxyLimits;
use mqtt_fleet_proxy::records::EmbeddedRecords;
use protocol::{Connect, Packet, QoS, ReasonCode, Version, encode};
use session_store::{EmbeddedStore, EventKind};
use std::io::{Read, Write};
use std::sync::Arc;
use support::{PATIENCE, Server, publish};

#[test]
fn messages_go_from_client_to_client_at_every_qos_and_size() {
    let server = Server::start(ProxyLimits::default());
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut receiver = server.client(&format!("receiver-{qos:?}"));
        let topic = format!("t/{qos:?}");
        receiver.subscribe(&topic, qos);
        let mut sender = server.client(&format!("sender-{qos:?}"));
        for (id, len) in (1..).zip([0, 64, 5_000, 30_000, 33_000, 70_000, 500_000, 1_000_000]) {
            let payload: Vec<u8> = (0..len).map(|n: u32| (n * 7 % 251) as u8).collect();
            sender.publish(
                &topic,
                qos,
                if qos == QoS::AtMostOnce { 0 } else { id },
                &payload,
            );
            assert_eq!(receiver.receive_publish().message.payload(), payload);
        }
        let answers = if qos == QoS::AtMostOnce { 0 } else { 8 };
        for id in 1..=answers {
            let (Packet::PubAck(ack) | Packet::PubRec(ack)) = sender.receive() else {
                panic!("an answer")
            };
            assert_eq!(ack.packet_id.get(), id);
        }
        sender.ping();
    }
    server.stop();
}

#[test]
fn a_new_link_session_is_told_which_connections_go_on() {
    let server = Server::start(ProxyLimits::default());
    let mut receiver = server.client("receiver");
    receiver.subscribe("t", QoS::AtLeastOnce);
    let mut sender = server.client("sender");
    for id in 1..=3 {
        sender.publish("t", QoS::AtLeastOnce, id, b"x");
        assert!(matches!(sender.receive(), Packet::PubAck(_)));
        receiver.receive_publish();
    }
    let mut gone = server.client("gone");
    gone.send(&Packet::Disconnect(protocol::Disconnect::new(
        ReasonCode::Success,
    )));
    assert!(gone.receive_or_end().is_none());
    let resume = vec![cluster::frame::FromGroup::Resume];
    server.link.to_shard.send(&mut { resume }, 64);
    sender.ping();
    receiver.ping();
    let group = server.stop();
    let [resume] = &group.resumed[..] else {
        panic!("one answer, not {:?}", group.resumed)
    };
    let mut last: Vec<_> = resume.sessions.iter().map(|session| session.last).collect();
    last.sort_unstable();
    assert_eq!(last, [None, protocol::PacketId::new(3)]);
}

#[test]
fn packets_may_come_in_any_pieces() {
    let server = Server::start(ProxyLimits::default());
    let mut receiver = server.client("receiver");
    receiver.subscribe("t", QoS::AtMostOnce);
    let mut bytes = Vec::new();
    encode(
        &Packet::Connect(Box::new(Connect::new(Version::V311, "s"))),
        Version::V311,
        &mut bytes,
    )
    .expect("valid");
    for payload in [&b"one"[..], b"two", &[7; 300]] {
        encode(
            &publish("t", QoS::AtMostOnce, 0, payload),
            Version::V311,
            &mut bytes,
        )
        .expect("valid");
    }
    for piece in 1..6 {
        let mut sender = server.socket();
        for part in bytes.chunks(piece) {
            sender.socket.write_all(part).expect("the shard reads");
        }
        for payload in [&b"one"[..], b"two", &[7; 300]] {
            assert_eq!(receiver.receive_publish().message.payload(), payload);
        }
    }
    server.stop();
}

/// One connection that sends without end does not keep others from being served.
#[test]
fn a_flood_does_not_starve_others() {
    let server = Server::start(ProxyLimits::default());
    let mut flood = server.client("flood");
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        encode(
            &publish("nobody", QoS::AtMostOnce, 0, &[0; 100]),
            Version::V311,
            &mut bytes,
        )
        .expect("valid");
    }
    let flooding = std::thread::spawn(move || {
        for _ in 0..30 {
            flood.socket.write_all(&bytes).expect("the shard reads");
        }
        flood
    });
    let mut other = server.client("other");
    while !flooding.is_finished() {
        other.ping();
    }
    flooding.join().expect("the flood is taken").ping();
    assert_eq!(server.counters.publishes_in_qos0.get(), 300_000);
    server.stop();
}

/// Inbound backpressure: a group that takes nothing stops the reading, within the limit of bytes, and nothing is
/// lost when it goes on.
#[test]
fn a_group_that_stalls_stops_the_reading() {
    // No slow-consumer rule here: what the group had to take must arrive in full.
    let limits = ProxyLimits {
        out_bytes_max: usize::MAX,
        ..ProxyLimits::default()
    };
    let server = Server::start(limits);
    let mut receiver = server.client("receiver");
    receiver.subscribe("t", QoS::AtMostOnce);
    let mut sender = server.client("sender");
    server.hold_group(true);
    let writer = std::thread::spawn(move || {
        for n in 0..400_u32 {
            let mut payload = vec![0; 100_000];
            payload[..4].copy_from_slice(&n.to_be_bytes());
            sender.publish("t", QoS::AtMostOnce, 0, &payload);
        }
        sender.ping();
    });
    server.wait_for("the pause", |counters| counters.paused_shard.get() > 0);
    let limit = mqtt_fleet_proxy::link::TO_GROUP_BYTES_MAX;
    assert!(
        server.link.to_group.bytes() <= limit + limit / 4,
        "{}",
        server.link.to_group.bytes()
    );
    assert!(!writer.is_finished());
    server.hold_group(false);
    for n in 0..400_u32 {
        assert_eq!(
            receiver.receive_publish().message.payload()[..4],
            n.to_be_bytes()
        );
    }
    writer.join().expect("all was taken");
    server.stop();
}

/// A 3.x client with too many unanswered publishes is read on when answers have left.
#[test]
fn a_paused_connection_goes_on() {
    let limits = ProxyLimits {
        receive_maximum: 4,
        ..ProxyLimits::default()
    };
    let server = Server::start(limits);
    let mut sender = server.client("sender");
    let mut bytes = Vec::new();
    for id in 1..=2_000 {
        encode(
            &publish("t", QoS::AtLeastOnce, id, &[0; 50]),
            Version::V311,
            &mut bytes,
        )
        .expect("valid");
    }
    sender.socket.write_all(&bytes).expect("the shard reads");
    for id in 1..=2_000 {
        let Packet::PubAck(ack) = sender.receive() else {
            panic!("PUBACK")
        };
        assert_eq!(ack.packet_id.get(), id);
    }
    assert!(server.counters.paused_connection.get() > 100);
    server.stop();
}

#[test]
fn a_slow_consumer_loses_qos_0_only_and_hurts_nobody() {
    let server = Server::start(ProxyLimits::default());
    let mut slow = server.client("slow");
    slow.subscribe("t", QoS::AtLeastOnce);
    let mut sender = server.client("sender");
    for n in 0..300_u32 {
        let mut payload = vec![0; 100_000];
        payload[..4].copy_from_slice(&n.to_be_bytes());
        sender.publish("t", QoS::AtMostOnce, 0, &payload);
        sender.ping();
    }
    sender.publish("t", QoS::AtLeastOnce, 1, b"last");
    assert!(matches!(sender.receive(), Packet::PubAck(_)));
    let mut got = 0;
    while slow.receive_publish().message.payload() != b"last" {
        got += 1;
    }
    // The subscriber's bag is emptied at the shard's pace, so the sum is exact once the last message is here.
    let dropped = server.counters.dropped_slow_consumer.get();
    assert!(dropped > 0);
    assert_eq!(got + dropped, 300);
    slow.ping();
    server.stop();
}

#[test]
fn a_violation_is_answered_before_the_close() {
    let server = Server::start(ProxyLimits::default());
    let mut client = server.connect(Connect::new(Version::V5, "bad"));
    // Bytes behind the violation that nobody reads any more must not turn the answer into a reset.
    client
        .socket
        .write_all(&[&[0x36, 2, 0, 0][..], &vec![0; 100_000]].concat())
        .expect("the shard reads");
    let Some(Packet::Disconnect(disconnect)) = client.receive_or_end() else {
        panic!("DISCONNECT")
    };
    assert_eq!(disconnect.reason, ReasonCode::MalformedPacket);
    assert_eq!(client.receive_or_end(), None);
    drop(client);
    server.wait_for("the close", |counters| counters.connections_open.get() == 0);
    let group = server.stop();
    assert_eq!(group.gone.len(), 1);
}

#[test]
fn a_takeover_kicks_the_old_connection() {
    let server = Server::start(ProxyLimits::default());
    let mut old = server.connect(Connect::new(Version::V5, "same"));
    let mut new = server.connect(Connect::new(Version::V5, "same"));
    let Some(Packet::Disconnect(disconnect)) = old.receive_or_end() else {
        panic!("DISCONNECT")
    };
    assert_eq!(disconnect.reason, ReasonCode::SessionTakenOver);
    assert_eq!(old.receive_or_end(), None);
    new.ping();
    let group = server.stop();
    assert_eq!(group.kicked.len(), 1);
    assert_eq!(group.gone.len(), 1, "the new one, by the drain");
}

#[test]
fn silent_and_half_open_sockets_are_freed() {
    let limits = ProxyLimits {
        connect_timeout_s: 4,
        ..ProxyLimits::default()
    };
    let server = Server::start(limits);
    let mut silent: Vec<_> = (0..50).map(|_| server.socket()).collect();
    for client in &mut silent[..25] {
        client
            .socket
            .write_all(&[0x10, 200])
            .expect("the shard reads");
    }
    let mut kept = server.connect(Connect {
        keep_alive_s: 1,
        ..Connect::new(Version::V5, "ka")
    });
    for client in &mut silent {
        assert_eq!(client.socket.read(&mut [0; 10]).expect("closed in time"), 0);
    }
    let Some(Packet::Disconnect(disconnect)) = kept.receive_or_end() else {
        panic!("DISCONNECT")
    };
    assert_eq!(disconnect.reason, ReasonCode::KeepAliveTimeout);
    assert_eq!(server.counters.ended_connect_timeout.get(), 50);
    assert_eq!(server.counters.ended_keep_alive.get(), 1);
    server.stop();
}

#[test]
fn connections_beyond_the_maximum_are_refused_and_the_others_live_on() {
    let limits = ProxyLimits {
        connections_max: 3,
        ..ProxyLimits::default()
    };
    let server = Server::start(limits);
    let mut clients: Vec<_> = (0..3).map(|n| server.client(&format!("c{n}"))).collect();
    let mut refused = server.socket();
    assert_eq!(
        refused.socket.read(&mut [0; 10]).expect("closed in time"),
        0
    );
    assert_eq!(server.counters.refused_connections_max.get(), 1);
    clients.iter_mut().for_each(support::Client::ping);
    clients.pop();
    server.wait_for("the place", |counters| counters.connections_open.get() == 2);
    server.client("c4").ping();
    server.stop();
}

#[test]
fn a_drain_takes_leave_and_keeps_the_wills() {
    let server = Server::start(ProxyLimits::default());
    let mut v5 = server.connect(Connect::new(Version::V5, "five"));
    let mut v3 = server.client("three");
    let silent = server.socket();
    server.wait_for("the accept", |counters| {
        counters.connections_accepted.get() == 3
    });
    let start = std::time::Instant::now();
    let group = server.stop();
    assert!(
        start.elapsed() < PATIENCE / 4,
        "a drain waits for nobody who takes his bytes"
    );
    let Some(Packet::Disconnect(disconnect)) = v5.receive_or_end() else {
        panic!("DISCONNECT")
    };
    assert_eq!(disconnect.reason, ReasonCode::ServerShuttingDown);
    assert_eq!(v5.receive_or_end(), None);
    assert_eq!(v3.receive_or_end(), None);
    drop(silent);
    assert_eq!(group.gone.len(), 2);
    assert!(
        group
            .gone
            .iter()
            .all(|gone| gone.will == cluster::frame::WillFate::Kept)
    );
}

#[test]
fn fan_out_reaches_everyone_in_their_version() {
    let server = Server::start(ProxyLimits::default());
    let mut receivers: Vec<_> = (0..60)
        .map(|n| {
            let version = [Version::V31, Version::V311, Version::V5][n % 3];
            let mut client = server.connect(Connect::new(version, &format!("r{n}")));
            client.subscribe(
                "t",
                if n % 2 == 0 {
                    QoS::AtMostOnce
                } else {
                    QoS::AtLeastOnce
                },
            );
            client
        })
        .collect();
    let mut sender = server.client("sender");
    for n in 1..=10_u16 {
        sender.publish("t", QoS::AtLeastOnce, n, &n.to_be_bytes());
        for (index, receiver) in receivers.iter_mut().enumerate() {
            let publish = receiver.receive_publish();
            assert_eq!(publish.message.payload(), n.to_be_bytes());
            let expected = if index % 2 == 0 { None } else { Some(n) };
            assert_eq!(publish.packet_id.map(u16::from), expected);
        }
    }
    server.stop();
}

/// The store has the record a moment later, at the latest when the shard has stopped.
#[test]
fn session_records_reach_the_store() {
    let store = Arc::new(EmbeddedStore::new(()));
    let records = EmbeddedRecords::new(Arc::clone(&store), "node-1".to_owned());
    let server = Server::start_with_records(ProxyLimits::default(), Some(Box::new(records)));
    let mut client = server.connect(Connect {
        session_expiry_s: Some(60),
        ..Connect::new(Version::V5, "kept")
    });
    client.subscribe("a/#", QoS::AtLeastOnce);
    server.client("passing").ping();
    server.stop();
    let record = store
        .load_now("kept")
        .expect("it loads")
        .expect("it is there");
    assert_eq!(record.filters[0].filter, "a/#");
    assert_eq!(record.address, client.socket.local_addr().ok());
    let last = record.history.last().expect("its end").kind;
    assert_eq!(
        last,
        EventKind::ClosedFor(ReasonCode::ServerShuttingDown.as_u8())
    );
    assert!(
        store.load_now("passing").expect("it loads").is_none(),
        "its session is over"
    );
}

const PINGS: usize = 16 * 1024 * 1024;

/// A client that asks without end and never takes an answer is not read from any more, and goes on when it does.
#[test]
fn a_client_that_does_not_take_its_answers_is_bounded() {
    let limits = ProxyLimits {
        out_bytes_max: 20_000,
        packet_bytes_max: 10_000,
        ..ProxyLimits::default()
    };
    let server = Server::start(limits);
    let mut deaf = server.client("deaf");
    let mut socket = deaf.socket.try_clone().expect("a socket");
    let writer = std::thread::spawn(move || {
        socket
            .write_all(&[0xC0, 0].repeat(PINGS))
            .expect("read in the end");
    });
    server.wait_for("the pause", |counters| counters.paused_connection.get() > 0);
    server.client("other").ping();
    assert!(server.counters.packets_in.get() < PINGS as u64);
    let mut left = PINGS * 2;
    let mut buf = vec![0; 65536];
    while left > 0 {
        left -= deaf.socket.read(&mut buf).expect("the answers");
    }
    writer.join().expect("all were read");
    deaf.ping();
    server.stop();
}
