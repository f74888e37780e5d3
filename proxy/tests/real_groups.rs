//! Sessions at three real groups, through two shards: what only both sides together can show.

mod fleet_common;
mod support;

use broker::machine::Counters;
use fleet_common::{Fleet, client_id, topic};
use protocol::{
    Ack, Connect, Message, Packet, PacketId, QoS, ReasonCode, SubscribeOptions, TopicFilter,
    TopicName, Version, Will,
};
use std::collections::BTreeSet;
use std::time::Instant;
use support::{Client, PATIENCE, publish};

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn lasting(id: &str) -> Connect {
    Connect {
        clean_start: false,
        session_expiry_s: Some(3600),
        ..Connect::new(Version::V5, id)
    }
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("not 0")
}

fn ack(id: PacketId) -> Ack {
    Ack {
        packet_id: id,
        reason: ReasonCode::Success,
    }
}

/// Receives a PUBLISH and answers it to the end.
fn take(client: &mut Client) -> (String, QoS, Vec<u8>) {
    let publish = client.receive_publish();
    if let Some(packet_id) = publish.packet_id {
        if publish.qos == QoS::AtLeastOnce {
            client.send(&Packet::PubAck(ack(packet_id)));
        } else {
            client.send(&Packet::PubRec(ack(packet_id)));
            let pubrel = client.receive();
            assert!(
                matches!(&pubrel, Packet::PubRel(rel) if rel.packet_id == packet_id),
                "{pubrel:?}"
            );
            client.send(&Packet::PubComp(ack(packet_id)));
        }
    }
    let message = publish.message;
    (
        message.topic().to_owned(),
        publish.qos,
        message.payload().to_vec(),
    )
}

/// Publishes and sees it through to the end; says what the group said of it.
fn put(client: &mut Client, topic: &str, qos: QoS, id: u16, payload: &[u8]) -> ReasonCode {
    let id = if qos == QoS::AtMostOnce { 0 } else { id };
    client.publish(topic, qos, id, payload);
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => match client.receive() {
            Packet::PubAck(ack) => ack.reason,
            other => panic!("PUBACK expected, not {other:?}"),
        },
        QoS::ExactlyOnce => {
            let Packet::PubRec(rec) = client.receive() else {
                panic!("PUBREC expected")
            };
            client.send(&Packet::PubRel(ack(packet_id(id))));
            let complete = client.receive();
            assert!(
                matches!(&complete, Packet::PubComp(ack) if ack.reason == ReasonCode::Success),
                "{complete:?}"
            );
            rec.reason
        }
    }
}

fn subscribe(client: &mut Client, filters: &[&str]) {
    let options = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        ..SubscribeOptions::default()
    };
    client.send(&Packet::Subscribe(protocol::Subscribe {
        packet_id: packet_id(900),
        subscription_id: None,
        filters: filters
            .iter()
            .map(|text| (TopicFilter::new(text).expect("valid"), options))
            .collect(),
    }));
    let suback = client.receive();
    assert!(
        matches!(&suback, Packet::SubAck(ack) if ack.reasons.iter().all(|it| *it == ReasonCode::GrantedQoS2)),
        "{suback:?}"
    );
}

#[test]
fn messages_reach_subscribers_at_every_group_and_qos() {
    let fleet = Fleet::start();
    let (mut everything, _) = fleet.connect(0, Connect::new(Version::V5, &client_id("all", 1)));
    subscribe(&mut everything, &["#"]);
    let (mut exact, _) = fleet.connect(1, Connect::new(Version::V311, &client_id("exact", 2)));
    let topics: Vec<_> = (0..3).map(|group| topic("t", group)).collect();
    let filters: Vec<_> = topics.iter().map(String::as_str).collect();
    subscribe(&mut exact, &filters);
    let (mut sender, _) = fleet.connect(1, Connect::new(Version::V5, &client_id("sender", 0)));
    let mut id = 0;
    for topic in &topics {
        for qos in ALL_QOS {
            id += 1;
            let payload = id.to_string().into_bytes();
            assert_eq!(
                put(&mut sender, topic, qos, id, &payload),
                ReasonCode::Success
            );
            for receiver in [&mut everything, &mut exact] {
                assert_eq!(take(receiver), (topic.clone(), qos, payload.clone()));
            }
        }
    }
    fleet.stop();
}

#[test]
fn a_wildcard_gets_the_retained_messages_of_all_groups() {
    let fleet = Fleet::start();
    let (mut sender, _) = fleet.connect(0, Connect::new(Version::V5, &client_id("sender", 0)));
    let mut expected = BTreeSet::new();
    for group in 0..3 {
        let topic = topic("kept", group);
        let Packet::Publish(message) = publish(&topic, QoS::AtLeastOnce, 1, b"kept") else {
            panic!("a PUBLISH")
        };
        sender.send(&Packet::Publish(protocol::Publish {
            retain: true,
            ..message
        }));
        assert!(matches!(sender.receive(), Packet::PubAck(_)));
        expected.insert(topic);
    }
    let (mut receiver, _) = fleet.connect(1, Connect::new(Version::V5, &client_id("late", 2)));
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        ..SubscribeOptions::default()
    };
    receiver.send(&Packet::Subscribe(protocol::Subscribe {
        packet_id: packet_id(1),
        subscription_id: None,
        filters: vec![(TopicFilter::new("kept/#").expect("valid"), options)],
    }));
    let mut got = BTreeSet::new();
    let mut subacks = 0;
    while got.len() < 3 || subacks == 0 {
        match receiver.receive() {
            Packet::SubAck(_) => subacks += 1,
            Packet::Publish(publish) => {
                assert!(publish.retain);
                receiver.send(&Packet::PubAck(ack(publish.packet_id.expect("QoS 1"))));
                assert!(got.insert(publish.message.topic().to_owned()), "each once");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, expected);
    receiver.ping();
    fleet.stop();
}

/// What was published while the client was away waits at each group, and comes in order.
#[test]
fn a_session_is_resumed_at_every_group_that_has_something_for_it() {
    let fleet = Fleet::start();
    let id = client_id("sleeper", 1);
    let (mut sleeper, connack) = fleet.connect(0, lasting(&id));
    assert!(!connack.session_present);
    let topics: Vec<_> = (0..3).map(|group| topic("t", group)).collect();
    subscribe(&mut sleeper, &[&topics[0], "#"]);
    // One is delivered and not answered: it comes again, with DUP and its packet id.
    let (mut sender, _) = fleet.connect(1, Connect::new(Version::V5, &client_id("sender", 0)));
    put(&mut sender, &topics[2], QoS::AtLeastOnce, 1, b"first");
    let unanswered = sleeper.receive_publish();
    drop(sleeper);
    // The sender is left, at its home and at the third group.
    fleet.wait_for("the sleeper to be gone", |counters| {
        counters.iter().map(|it| it.attached).sum::<u64>() == 2
    });
    for round in 0..3_u8 {
        for topic in &topics {
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                put(&mut sender, topic, qos, 2, &[round]);
            }
        }
    }
    let (mut sleeper, connack) = fleet.connect(1, lasting(&id));
    assert!(connack.session_present);
    let mut got: Vec<(String, QoS, Vec<u8>)> = Vec::new();
    let mut open = BTreeSet::new();
    while got.len() < 3 * 3 * 2 + 1 || !open.is_empty() {
        match sleeper.receive() {
            Packet::Publish(publish) => {
                let id = publish.packet_id.expect("not QoS 0");
                let again = got.is_empty() || publish.packet_id == unanswered.packet_id;
                if publish.message.payload() == b"first" {
                    assert!(
                        publish.dup && publish.packet_id == unanswered.packet_id,
                        "{again}"
                    );
                }
                if publish.qos == QoS::ExactlyOnce {
                    sleeper.send(&Packet::PubRec(ack(id)));
                    open.insert(id);
                } else {
                    sleeper.send(&Packet::PubAck(ack(id)));
                }
                let message = publish.message;
                let payload = message.payload().to_vec();
                got.push((message.topic().to_owned(), publish.qos, payload));
            }
            Packet::PubRel(rel) => {
                assert!(open.remove(&rel.packet_id));
                sleeper.send(&Packet::PubComp(ack(rel.packet_id)));
            }
            other => panic!("{other:?}"),
        }
    }
    for topic in &topics {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let of_it = got
                .iter()
                .filter(|it| it.0 == *topic && it.1 == qos && it.2 != b"first");
            let order: Vec<_> = of_it.map(|it| it.2[0]).collect();
            assert_eq!(order, [0, 1, 2], "{topic} {qos:?}");
        }
    }
    sleeper.ping();
    fleet.stop();
}

/// Promise P5, at a group that is not the home.
#[test]
fn a_takeover_moves_the_session_at_every_group() {
    let fleet = Fleet::start();
    let id = client_id("same", 0);
    let (mut old, _) = fleet.connect(0, lasting(&id));
    subscribe(&mut old, &["#"]);
    let (mut new, connack) = fleet.connect(1, lasting(&id));
    assert!(connack.session_present);
    let (mut sender, _) = fleet.connect(1, Connect::new(Version::V5, &client_id("sender", 2)));
    for group in 0..3 {
        put(&mut sender, &topic("t", group), QoS::AtLeastOnce, 1, b"x");
        assert_eq!(take(&mut new).0, topic("t", group));
    }
    let end = old.receive_or_end();
    assert!(
        matches!(&end, Some(Packet::Disconnect(it)) if it.reason == ReasonCode::SessionTakenOver),
        "{end:?}"
    );
    assert_eq!(old.receive_or_end(), None);
    fleet.stop();
}

/// Promise P3, at a group that is not the home: PUBLISH on one connection, the rest on another.
#[test]
fn qos_2_goes_on_over_a_new_connection() {
    let fleet = Fleet::start();
    let (mut receiver, _) = fleet.connect(0, Connect::new(Version::V5, &client_id("receiver", 0)));
    let topic = topic("t", 2);
    subscribe(&mut receiver, &[&topic]);
    let id = client_id("sender", 1);
    let (mut sender, _) = fleet.connect(0, lasting(&id));
    sender.publish(&topic, QoS::ExactlyOnce, 7, b"once");
    assert!(matches!(sender.receive(), Packet::PubRec(_)));
    drop(sender);
    assert_eq!(take(&mut receiver).2, b"once");

    let (mut sender, connack) = fleet.connect(1, lasting(&id));
    assert!(connack.session_present);
    let Packet::Publish(message) = publish(&topic, QoS::ExactlyOnce, 7, b"once") else {
        panic!("a PUBLISH")
    };
    let again = protocol::Publish {
        dup: true,
        ..message
    };
    sender.send(&Packet::Publish(again));
    assert!(matches!(sender.receive(), Packet::PubRec(_)));
    drop(sender);
    let (mut sender, _) = fleet.connect(0, lasting(&id));
    for reason in [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound] {
        sender.send(&Packet::PubRel(ack(packet_id(7))));
        let complete = sender.receive();
        assert!(
            matches!(&complete, Packet::PubComp(it) if it.reason == reason),
            "{complete:?}"
        );
    }
    put(&mut sender, &topic, QoS::ExactlyOnce, 7, b"another");
    assert_eq!(take(&mut receiver).2, b"another", "and not the first again");
    fleet.stop();
}

#[test]
fn a_will_is_published_at_the_group_of_its_topic() {
    let fleet = Fleet::start();
    let (mut receiver, _) = fleet.connect(1, Connect::new(Version::V5, &client_id("receiver", 0)));
    let topic = topic("wills", 2);
    subscribe(&mut receiver, &[&topic]);
    for qos in ALL_QOS {
        let name = TopicName::new(&topic).expect("valid");
        let will = Will {
            message: Message::new(&name, &[], b"gone").expect("valid"),
            qos,
            retain: false,
            delay_s: 0,
        };
        let (client, _) = fleet.connect(
            0,
            Connect {
                will: Some(will),
                ..Connect::new(Version::V5, &client_id("leaver", 1))
            },
        );
        drop(client);
        assert_eq!(take(&mut receiver), (topic.clone(), qos, b"gone".to_vec()));
    }
    receiver.ping();
    fleet.stop();
}

/// However a session ends, nothing of it stays at any group.
#[test]
fn the_end_of_a_session_reaches_every_group() {
    let fleet = Fleet::start();
    let (mut sender, _) = fleet.connect(1, Connect::new(Version::V5, &client_id("sender", 0)));
    let id = client_id("ends", 1);
    let topics: Vec<_> = (0..3).map(|group| topic("t", group)).collect();
    let nobody = ReasonCode::NoMatchingSubscribers;
    for how in ["clean start", "expiry"] {
        let (mut client, _) = fleet.connect(0, lasting(&id));
        subscribe(&mut client, &["#"]);
        put(&mut client, &topics[0], QoS::AtMostOnce, 0, b"x");
        assert_eq!(take(&mut client).0, topics[0]);
        if how == "expiry" {
            client.send(&Packet::Disconnect(protocol::Disconnect {
                session_expiry_s: Some(0),
                ..protocol::Disconnect::new(ReasonCode::Success)
            }));
        }
        drop(client);
        if how == "clean start" {
            let (client, connack) = fleet.connect(1, Connect::new(Version::V5, &id));
            assert!(!connack.session_present);
            drop(client);
        }
        for topic in &topics {
            // Word of it is under way between the groups.
            let start = Instant::now();
            while put(&mut sender, topic, QoS::AtLeastOnce, 1, b"x") != nobody {
                assert!(start.elapsed() < PATIENCE, "{how} {topic}");
            }
        }
    }
    // The sender is one where its home is not.
    fleet.wait_for("the guests to go", |counters| {
        let left = |it: &Counters| it.guests + 10 * (it.ends_pending + it.subscriptions);
        counters.iter().map(left).sum::<u64>() == 2
    });
    fleet.stop();
}
