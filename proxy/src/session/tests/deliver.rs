//! Deliveries to the client, and its answers.

use super::*;
use cluster::frame::{AckKind, Receiver};
use std::num::NonZeroU32;

fn receiver(qos: QoS, id: u16) -> Receiver {
    Receiver {
        handle: HANDLE,
        packet_id: PacketId::new(id),
        qos,
        retain: false,
        dup: false,
        subscription_ids: None,
    }
}

fn published(wire: &mut Wire) -> Vec<Publish> {
    let publish = |packet| match packet {
        Packet::Publish(publish) => publish,
        other => panic!("PUBLISH expected, not {other:?}"),
    };
    wire.sent().into_iter().map(publish).collect()
}

fn acks(wire: &mut Wire) -> Vec<(u16, AckKind)> {
    let ack = |frame: &ToGroup| match frame {
        ToGroup::Ack(ack) => {
            assert_eq!(ack.actor, ACTOR);
            (ack.packet_id.get(), ack.kind)
        }
        other => panic!("an ack expected, not {other:?}"),
    };
    wire.frames().iter().map(ack).collect()
}

#[test]
fn a_new_link_session_is_told_the_newest_delivery() {
    let message = message("t", b"x");
    let mut wire = Wire::new(ProxyLimits::default());
    assert_eq!(wire.session.reattach(HOME), None, "no CONNECT yet");
    wire.send_connect(Connect::new(Version::V5, "client"));
    assert_eq!(wire.session.reattach(HOME), None, "not claimed yet");
    wire.claimed(false);
    let last = |wire: &Wire| {
        let reattach = wire.session.reattach(HOME).expect("it is connected");
        assert_eq!((reattach.actor, reattach.handle), (ACTOR, HANDLE));
        reattach.last.map(PacketId::get)
    };
    assert_eq!(last(&wire), None);
    wire.deliver(&message, None, &receiver(QoS::AtMostOnce, 0));
    assert_eq!(last(&wire), None, "QoS 0 does not come again");
    wire.deliver(&message, None, &receiver(QoS::AtLeastOnce, 1));
    wire.deliver(&message, None, &receiver(QoS::ExactlyOnce, 2));
    assert_eq!(last(&wire), Some(2));
    wire.send(&Packet::Disconnect(protocol::Disconnect::new(
        ReasonCode::Success,
    )));
    assert_eq!(wire.session.reattach(HOME), None, "it is over");
}

#[test]
fn a_delivery_that_comes_again_is_sent_once() {
    let message = message("t", b"x");
    let mut wire = Wire::connected(Version::V5);
    wire.deliver(&message, None, &receiver(QoS::AtLeastOnce, 1));
    let again = Receiver {
        dup: true,
        ..receiver(QoS::AtLeastOnce, 1)
    };
    wire.deliver(&message, None, &again);
    assert_eq!(published(&mut wire).len(), 1);
    assert_eq!(wire.rules.counters.deliveries_repeated.get(), 1);
}

#[test]
fn a_delivery_is_a_publish_with_the_receivers_options() {
    let message = message("a/b", b"payload");
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut wire = Wire::connected(version);
        let receiver = Receiver {
            retain: true,
            dup: true,
            subscription_ids: Some([3, 4].into()),
            ..receiver(QoS::AtLeastOnce, 7)
        };
        wire.deliver(&message, Some(30), &receiver);
        let publish = published(&mut wire).pop().expect("one");
        assert_eq!(
            (publish.packet_id, publish.qos),
            (Some(packet_id(7)), QoS::AtLeastOnce)
        );
        assert!(publish.retain && publish.dup);
        let v5 = version == Version::V5;
        assert_eq!(publish.message.expiry_s(), v5.then_some(30));
        assert_eq!(
            publish.subscription_ids,
            if v5 { vec![3, 4] } else { vec![] }
        );
        assert_eq!(publish.message.payload(), b"payload");
        assert_eq!(publish.message.topic(), "a/b");
    }
}

/// A delivery with many receivers is encoded once per shape, and each gets its own id and DUP.
#[test]
fn fan_out_writes_what_single_deliveries_write() {
    let message = message("a/b", b"payload");
    let mut fanout = Fanout::default();
    for round in 0..2 {
        fanout.begin();
        for (version, qos, id, dup) in [
            (Version::V311, QoS::AtLeastOnce, 1, false),
            (Version::V5, QoS::AtLeastOnce, 2, true),
            (Version::V311, QoS::AtMostOnce, 0, false),
            (Version::V311, QoS::AtLeastOnce, 3, true),
        ] {
            let receiver = Receiver {
                dup,
                ..receiver(qos, id)
            };
            let mut alone = Wire::connected(version);
            alone.deliver(&message, Some(round), &receiver);
            let mut wire = Wire::connected(version);
            let outgoing = Outgoing {
                message: &message,
                expiry_s: Some(round),
            };
            wire.with(|session, cx| session.deliver(outgoing, &receiver, Some(&mut fanout), cx));
            assert_eq!(wire.bytes, alone.bytes);
        }
    }
}

/// MQTT-4.3.2-3, MQTT-4.3.3-4: each answer goes to the group once.
#[test]
fn the_clients_answers_go_to_the_group() {
    let mut wire = Wire::connected(Version::V5);
    let message = message("a", b"");
    wire.deliver(&message, None, &receiver(QoS::AtLeastOnce, 1));
    wire.deliver(&message, None, &receiver(QoS::ExactlyOnce, 2));
    wire.deliver(&message, None, &receiver(QoS::ExactlyOnce, 3));
    wire.sent();
    wire.ack(Packet::PubAck, 1);
    wire.ack(Packet::PubRec, 2);
    wire.ack_with(Packet::PubRec, 3, ReasonCode::UnspecifiedError);
    assert_eq!(
        acks(&mut wire),
        [
            (1, AckKind::Ack),
            (2, AckKind::Received),
            (3, AckKind::Refused)
        ]
    );
    assert_eq!(wire.sent(), [], "PUBREL waits for the group");
    wire.frame(FromGroup::Release {
        handle: HANDLE,
        packet_id: packet_id(2),
        reason: ReasonCode::Success,
    });
    assert_eq!(ack_of(&wire.sent()[0]), ("PUBREL", 2, ReasonCode::Success));
    wire.ack(Packet::PubComp, 2);
    assert_eq!(acks(&mut wire), [(2, AckKind::Complete)]);
}

/// MQTT-3.3.4-9: never more than the client's receive maximum without PUBACK or PUBCOMP.
#[test]
fn the_clients_receive_maximum_holds_and_nothing_is_lost_or_reordered() {
    let connect = Connect {
        receive_maximum: std::num::NonZeroU16::new(2),
        ..Connect::new(Version::V5, "client")
    };
    let mut wire = Wire::connected_with(ProxyLimits::default(), connect);
    let message = message("a", b"");
    for id in 1..=5 {
        let qos = if id == 2 {
            QoS::ExactlyOnce
        } else {
            QoS::AtLeastOnce
        };
        wire.deliver(&message, None, &receiver(qos, id));
    }
    wire.deliver(&message, None, &receiver(QoS::AtMostOnce, 0));
    let ids = |wire: &mut Wire| -> Vec<Option<u16>> {
        published(wire)
            .iter()
            .map(|publish| publish.packet_id.map(PacketId::get))
            .collect()
    };
    assert_eq!(
        ids(&mut wire),
        [Some(1), Some(2), None],
        "QoS 0 does not count"
    );
    wire.ack(Packet::PubRec, 2);
    assert_eq!(wire.sent(), [], "PUBREC does not free a place");
    wire.ack(Packet::PubComp, 2);
    assert_eq!(ids(&mut wire), [Some(3)]);
    wire.ack(Packet::PubAck, 1);
    wire.ack(Packet::PubAck, 3);
    assert_eq!(ids(&mut wire), [Some(4), Some(5)]);
}

/// MQTT-3.3.2-5 and -6 for what waits at the proxy.
#[test]
fn what_waits_for_the_window_ages() {
    let connect = Connect {
        receive_maximum: std::num::NonZeroU16::new(1),
        ..Connect::new(Version::V5, "client")
    };
    let mut wire = Wire::connected_with(ProxyLimits::default(), connect);
    let message = message("a", b"");
    wire.deliver(&message, None, &receiver(QoS::AtLeastOnce, 1));
    wire.deliver(&message, Some(5), &receiver(QoS::AtLeastOnce, 2));
    wire.deliver(&message, Some(30), &receiver(QoS::ExactlyOnce, 3));
    wire.sent();
    wire.rules.now_s += 10;
    wire.ack(Packet::PubAck, 1);
    assert_eq!(
        acks(&mut wire),
        [(1, AckKind::Ack), (2, AckKind::Ack)],
        "2 is over, and the group knows"
    );
    let publish = published(&mut wire).pop().expect("3 is sent");
    assert_eq!(
        (publish.packet_id, publish.message.expiry_s()),
        (Some(packet_id(3)), Some(20))
    );
    assert_eq!(wire.rules.counters.dropped_expired.get(), 1);
}

/// MQTT-3.1.2-24, MQTT-3.1.2-25.
#[test]
fn what_is_too_large_for_the_client_counts_as_done() {
    let connect = Connect {
        maximum_packet_size: NonZeroU32::new(100),
        ..Connect::new(Version::V5, "client")
    };
    let mut wire = Wire::connected_with(ProxyLimits::default(), connect);
    let large = message("a", &[0; 100]);
    wire.deliver(&large, None, &receiver(QoS::AtMostOnce, 0));
    wire.deliver(&large, None, &receiver(QoS::AtLeastOnce, 1));
    wire.deliver(&large, None, &receiver(QoS::ExactlyOnce, 2));
    assert!(wire.bytes.is_empty());
    assert_eq!(acks(&mut wire), [(1, AckKind::Ack), (2, AckKind::Refused)]);
    assert_eq!(wire.rules.counters.dropped_packet_too_large.get(), 3);
    wire.deliver(&message("a", &[0; 80]), None, &receiver(QoS::AtMostOnce, 0));
    assert_eq!(published(&mut wire).len(), 1);
}

/// The slow-consumer rule: QoS 0 only.
#[test]
fn a_slow_consumer_loses_qos_0_and_nothing_else() {
    let limits = ProxyLimits {
        out_bytes_max: 50,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V311, "client"));
    let message = message("a", &[0; 20]);
    for _ in 0..5 {
        wire.deliver(&message, None, &receiver(QoS::AtMostOnce, 0));
    }
    wire.deliver(&message, None, &receiver(QoS::AtLeastOnce, 1));
    let levels: Vec<QoS> = published(&mut wire)
        .iter()
        .map(|publish| publish.qos)
        .collect();
    assert_eq!(
        levels,
        [
            QoS::AtMostOnce,
            QoS::AtMostOnce,
            QoS::AtMostOnce,
            QoS::AtLeastOnce
        ]
    );
    assert_eq!(wire.rules.counters.dropped_slow_consumer.get(), 2);
}

/// MQTT-3.3.2-9 towards the client: no more aliases than it allows, the first topics get them.
#[test]
fn outgoing_aliases_spare_the_topic() {
    let connect = Connect {
        topic_alias_maximum: 1,
        ..Connect::new(Version::V5, "client")
    };
    let mut wire = Wire::connected_with(ProxyLimits::default(), connect);
    for topic in ["one", "one", "two", "one"] {
        wire.deliver(&message(topic, b""), None, &receiver(QoS::AtMostOnce, 0));
    }
    let sent: Vec<_> = published(&mut wire)
        .iter()
        .map(|publish| {
            (
                publish.message.topic().to_owned(),
                publish.topic_alias.map(u16::from),
            )
        })
        .collect();
    let expected = [
        ("one", Some(1)),
        ("", Some(1)),
        ("two", None),
        ("", Some(1)),
    ];
    assert_eq!(
        sent,
        expected.map(|(topic, alias)| (topic.to_owned(), alias))
    );
}

#[test]
fn answers_for_nothing_stay_here() {
    let mut wire = Wire::connected(Version::V311);
    wire.ack(Packet::PubAck, 1);
    wire.ack(Packet::PubRec, 2);
    assert_eq!((wire.frames().len(), wire.sent().len()), (0, 0));
    assert_eq!(wire.rules.counters.acks_unknown.get(), 2);
    let mut wire = Wire::connected(Version::V5);
    wire.ack(Packet::PubRec, 2);
    assert_eq!(
        ack_of(&wire.sent()[0]),
        ("PUBREL", 2, ReasonCode::PacketIdentifierNotFound)
    );
}

/// After a reconnect PUBREL alone is sent again; its PUBCOMP frees no place that was not taken (MQTT5 4.9).
#[test]
fn pubcomp_of_an_earlier_connection_completes_and_frees_nothing() {
    let connect = Connect {
        receive_maximum: std::num::NonZeroU16::new(1),
        ..Connect::new(Version::V5, "client")
    };
    let mut wire = Wire::connected_with(ProxyLimits::default(), connect);
    wire.frame(FromGroup::Release {
        handle: HANDLE,
        packet_id: packet_id(9),
        reason: ReasonCode::Success,
    });
    wire.ack(Packet::PubComp, 9);
    assert_eq!(acks(&mut wire), [(9, AckKind::Complete)]);
    wire.sent();
    wire.deliver(&message("a", b""), None, &receiver(QoS::AtLeastOnce, 1));
    wire.deliver(&message("a", b""), None, &receiver(QoS::AtLeastOnce, 2));
    assert_eq!(published(&mut wire).len(), 1);
}
