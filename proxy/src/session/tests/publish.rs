//! PUBLISH from the client, and its answers.

use super::groups_away::wait;
use super::*;
use std::num::NonZeroU16;

fn one_publish(wire: &mut Wire) -> cluster::frame::Publish {
    let mut frames = wire.frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    match frames.pop() {
        Some(ToGroup::Publish(publish)) => publish,
        other => panic!("a publish expected, not {other:?}"),
    }
}

#[test]
fn a_publish_becomes_a_frame_with_the_owner_in_it() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut wire = Wire::connected(version);
        wire.send(&Packet::Publish(Publish {
            retain: true,
            ..publish_packet("a/b", QoS::AtLeastOnce, 3)
        }));
        let publish = one_publish(&mut wire);
        assert_eq!(publish.actor, ACTOR);
        assert_eq!(
            (publish.packet_id, publish.qos, publish.retain),
            (Some(packet_id(3)), QoS::AtLeastOnce, true)
        );
        assert_eq!(publish.message, message("a/b", b"payload"));
    }
}

/// Promise P1, MQTT-4.3.2-4 and MQTT-4.3.3-8.
#[test]
fn puback_and_pubrec_leave_only_when_the_group_says_so() {
    for (qos, answer) in [(QoS::AtLeastOnce, "PUBACK"), (QoS::ExactlyOnce, "PUBREC")] {
        let mut wire = Wire::connected(Version::V5);
        wire.publish("a", qos, 3);
        assert_eq!(wire.sent(), []);
        wire.published(3, qos, ReasonCode::NoMatchingSubscribers);
        assert_eq!(
            ack_of(&wire.sent()[0]),
            (answer, 3, ReasonCode::NoMatchingSubscribers)
        );
        wire.published(3, qos, ReasonCode::Success);
        assert_eq!(wire.sent(), [], "an answer leaves once");
        assert_eq!(wire.rules.counters.answers_stale.get(), 1);
    }
}

/// MQTT-4.6.0-2, MQTT-4.6.0-3.
#[test]
fn answers_leave_in_the_order_of_the_publishes() {
    let mut wire = Wire::connected(Version::V311);
    wire.publish("a", QoS::AtLeastOnce, 1);
    wire.publish("a", QoS::ExactlyOnce, 2);
    wire.publish("a", QoS::AtLeastOnce, 3);
    wire.published(3, QoS::AtLeastOnce, ReasonCode::Success);
    wire.published(2, QoS::ExactlyOnce, ReasonCode::Success);
    assert_eq!(wire.sent(), []);
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    let sent: Vec<_> = wire.sent().iter().map(|packet| ack_of(packet).1).collect();
    assert_eq!(sent, [1, 2, 3]);
}

/// MQTT-4.3.3-10, MQTT-4.3.3-11.
#[test]
fn pubcomp_leaves_when_the_group_has_forgotten_the_id() {
    let mut wire = Wire::connected(Version::V5);
    for (id, reason) in [
        (4, ReasonCode::Success),
        (5, ReasonCode::PacketIdentifierNotFound),
    ] {
        wire.ack(Packet::PubRel, id);
        assert!(
            matches!(wire.frames()[..], [ToGroup::Release { actor: ACTOR, packet_id }] if packet_id.get() == id)
        );
        assert_eq!(wire.sent(), []);
        wire.frame(FromGroup::Released {
            handle: HANDLE,
            packet_id: packet_id(id),
            reason,
        });
        assert_eq!(ack_of(&wire.sent()[0]), ("PUBCOMP", id, reason));
    }
}

/// MQTT-3.3.4-7, MQTT-3.3.4-8: what counts is what has no PUBACK, PUBCOMP or failed PUBREC.
#[test]
fn a_v5_client_beyond_its_receive_maximum_is_ended() {
    let limits = ProxyLimits {
        receive_maximum: 2,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V5, "client"));
    wire.publish("a", QoS::AtLeastOnce, 1);
    wire.publish("a", QoS::ExactlyOnce, 2);
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    wire.published(2, QoS::ExactlyOnce, ReasonCode::Success);
    wire.publish("a", QoS::AtMostOnce, 0);
    wire.publish("a", QoS::AtLeastOnce, 3);
    assert!(wire.session.is_connected(), "2 and 3 are open");
    wire.ack(Packet::PubRel, 2);
    wire.frame(FromGroup::Released {
        handle: HANDLE,
        packet_id: packet_id(2),
        reason: ReasonCode::Success,
    });
    wire.publish("a", QoS::ExactlyOnce, 4);
    assert!(wire.session.is_connected(), "3 and 4 are open");
    wire.publish("a", QoS::AtLeastOnce, 5);
    assert_eq!(wire.session.ended(), Some(End::Rule(Rule::ReceiveMaximum)));
    assert_eq!(wire.disconnect_reason(), ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn a_v3_client_beyond_the_receive_maximum_is_not_read_from() {
    let limits = ProxyLimits {
        receive_maximum: 2,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V311, "client"));
    wire.publish("a", QoS::AtLeastOnce, 1);
    assert!(wire.session.reads(&wire.rules));
    wire.publish("a", QoS::AtLeastOnce, 2);
    assert!(!wire.session.reads(&wire.rules));
    assert_eq!(
        wire.session.patience(&wire.rules),
        Patience::Endless,
        "its keep alive stands still"
    );
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    assert!(wire.session.reads(&wire.rules));
}

#[test]
fn unanswered_bytes_stop_reading_too() {
    let limits = ProxyLimits {
        unanswered_bytes_max: 10,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V5, "client"));
    wire.publish("a", QoS::AtLeastOnce, 1);
    assert!(!wire.session.reads(&wire.rules));
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    assert!(wire.session.reads(&wire.rules));
}

/// MQTT5 3.3.2.3.4.
#[test]
fn incoming_aliases_stand_for_their_topics() {
    let mut wire = Wire::connected(Version::V5);
    let aliased = |topic: &str, alias| {
        let mut publish = publish_packet("x", QoS::AtMostOnce, 0);
        publish.topic_alias = NonZeroU16::new(alias);
        let mut bytes = Vec::new();
        encode(&Packet::Publish(publish), Version::V5, &mut bytes).expect("valid");
        assert_eq!(bytes[4], b'x');
        bytes.splice(
            2..5,
            [0, topic.len() as u8].into_iter().chain(topic.bytes()),
        );
        bytes[1] = bytes.len() as u8 - 2;
        bytes
    };
    wire.send_bytes(&aliased("first", 1));
    wire.send_bytes(&aliased("", 1));
    wire.send_bytes(&aliased("second", 1));
    wire.send_bytes(&aliased("", 1));
    let topics: Vec<String> = wire
        .frames()
        .iter()
        .map(|frame| match frame {
            ToGroup::Publish(publish) => publish.message.topic().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, ["first", "first", "second", "second"]);
    wire.send_bytes(&aliased("", 2));
    assert_eq!(
        wire.session.ended(),
        Some(End::Rule(Rule::TopicAliasUnknown))
    );
    assert_eq!(wire.disconnect_reason(), ReasonCode::ProtocolError);
    assert!(
        matches!(wire.frames()[..], [ToGroup::Disconnect(_)]),
        "the publish goes nowhere"
    );
}

/// MQTT-3.3.2-9.
#[test]
fn an_alias_above_the_maximum_is_refused() {
    let limits = ProxyLimits {
        topic_alias_max: 2,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V5, "client"));
    let publish = Publish {
        topic_alias: NonZeroU16::new(3),
        ..publish_packet("a", QoS::AtMostOnce, 0)
    };
    wire.send(&Packet::Publish(publish));
    assert_eq!(wire.disconnect_reason(), ReasonCode::TopicAliasInvalid);
}

/// MQTT-3.3.4-6.
#[test]
fn a_client_may_not_send_subscription_identifiers() {
    let mut wire = Wire::connected(Version::V5);
    wire.send(&Packet::Publish(Publish {
        subscription_ids: vec![1],
        ..publish_packet("a", QoS::AtMostOnce, 0)
    }));
    assert_eq!(
        wire.session.ended(),
        Some(End::Rule(Rule::SubscriptionIdFromClient))
    );
    assert_eq!(wire.disconnect_reason(), ReasonCode::ProtocolError);
}

#[test]
fn a_topic_beyond_the_limits_is_answered_in_its_turn() {
    let deep = "/".repeat(ProxyLimits::default().topic_levels_max);
    let mut wire = Wire::connected(Version::V5);
    wire.publish("a", QoS::AtLeastOnce, 1);
    wire.publish(&deep, QoS::ExactlyOnce, 2);
    assert_eq!(wire.frames().len(), 1, "only the first reaches the group");
    assert_eq!(wire.sent(), []);
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    let sent = wire.sent();
    assert_eq!(
        ack_of(&sent[1]),
        ("PUBREC", 2, ReasonCode::TopicNameInvalid)
    );

    for (version, qos) in [
        (Version::V311, QoS::AtLeastOnce),
        (Version::V5, QoS::AtMostOnce),
    ] {
        let mut wire = Wire::connected(version);
        wire.publish(&deep, qos, u16::from(qos != QoS::AtMostOnce));
        assert_eq!(
            wire.session.ended(),
            Some(End::Rule(Rule::TopicBeyondLimits))
        );
    }
}

/// A 3.x client has no word for a refusal, and a PUBACK would be a lie.
#[test]
fn a_refused_publish_ends_a_v3_connection_and_is_told_in_v5() {
    let mut wire = Wire::connected(Version::V311);
    wire.publish("a", QoS::AtLeastOnce, 1);
    wire.published(1, QoS::AtLeastOnce, ReasonCode::QuotaExceeded);
    assert_eq!(
        wire.session.ended(),
        Some(End::PublishRefused(ReasonCode::QuotaExceeded))
    );
    assert!(wire.bytes.is_empty());

    let mut wire = Wire::connected(Version::V5);
    wire.publish("a", QoS::ExactlyOnce, 1);
    wire.published(1, QoS::ExactlyOnce, ReasonCode::QuotaExceeded);
    assert_eq!(
        ack_of(&wire.sent()[0]),
        ("PUBREC", 1, ReasonCode::QuotaExceeded)
    );
}

/// The client must not wait for ever: it sends the publish again on its next connection.
#[test]
fn a_publish_without_an_answer_for_five_minutes_ends_the_connection() {
    for version in [Version::V5, Version::V311] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut wire = Wire::connected(version);
            wire.publish("a", qos, 1);
            wait(&mut wire, 200);
            wire.publish("a", qos, 2);
            wire.published(1, qos, ReasonCode::Success);
            assert_eq!(wire.sent().len(), 1);
            wait(&mut wire, 300);
            assert_eq!(wire.session.ended(), None);
            wait(&mut wire, 1);
            assert_eq!(wire.session.ended(), Some(End::PublishUnanswered));
            assert_eq!(wire.rules.counters.ended_publish_unanswered.get(), 1);
            match version {
                Version::V5 => assert_eq!(wire.disconnect_reason(), ReasonCode::ServerBusy),
                _ => assert_eq!(wire.sent(), [], "3.1.1 has no word for it"),
            }
        }
    }
}

/// Nothing waits for a client that takes its time with PUBREL.
#[test]
fn a_publish_that_was_answered_grows_no_older() {
    let mut wire = Wire::connected(Version::V5);
    wire.publish("a", QoS::ExactlyOnce, 1);
    wire.published(1, QoS::ExactlyOnce, ReasonCode::Success);
    wait(&mut wire, 301);
    assert!(wire.session.is_connected());
    assert_eq!(wire.session.due_s(), u32::MAX);
}
