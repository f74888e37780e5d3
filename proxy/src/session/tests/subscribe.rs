//! SUBSCRIBE, UNSUBSCRIBE and PINGREQ.

use super::*;
use protocol::{SubAck, Subscribe, SubscribeOptions, TopicFilter, UnsubAck, Unsubscribe};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).expect("valid")
}

fn subscribe(id: u16, filters: &[&str]) -> Packet {
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        ..SubscribeOptions::default()
    };
    Packet::Subscribe(Subscribe {
        packet_id: packet_id(id),
        subscription_id: None,
        filters: filters.iter().map(|text| (filter(text), options)).collect(),
    })
}

/// Promise P1, MQTT-3.8.4-1, MQTT-3.8.4-5 and -6.
#[test]
fn suback_leaves_when_the_group_has_stored_the_subscriptions() {
    let mut wire = Wire::connected(Version::V5);
    wire.send(&subscribe(6, &["a/#", "b"]));
    let frames = wire.frames();
    let [ToGroup::Subscribe(frame)] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    assert_eq!(
        (frame.actor, frame.packet_id.get(), frame.filters.len()),
        (ACTOR, 6, 2)
    );
    assert_eq!(wire.sent(), []);
    let reasons = [ReasonCode::GrantedQoS1, ReasonCode::QuotaExceeded];
    wire.subscribed(HOME, 6, &reasons);
    let expected = SubAck {
        packet_id: packet_id(6),
        reasons: reasons.to_vec(),
    };
    assert_eq!(wire.sent(), [Packet::SubAck(expected)]);
}

/// MQTT-3.10.4-4, MQTT-3.10.4-5.
#[test]
fn unsuback_leaves_when_the_group_has_removed_the_subscriptions() {
    let mut wire = Wire::connected(Version::V5);
    wire.send(&Packet::Unsubscribe(Unsubscribe {
        packet_id: packet_id(6),
        filters: vec![filter("a")],
    }));
    assert!(matches!(wire.frames()[..], [ToGroup::Unsubscribe(_)]));
    assert_eq!(wire.sent(), []);
    let reasons = [ReasonCode::NoSubscriptionExisted];
    wire.frame(FromGroup::Unsubscribed {
        handle: HANDLE,
        packet_id: packet_id(6),
        reasons: reasons.into(),
    });
    let expected = UnsubAck {
        packet_id: packet_id(6),
        reasons: reasons.to_vec(),
    };
    assert_eq!(wire.sent(), [Packet::UnsubAck(expected)]);
}

#[test]
fn a_filter_beyond_the_limits_is_refused_with_its_packet() {
    let mut wire = Wire::connected(Version::V5);
    wire.send(&subscribe(6, &["a", &"/".repeat(40)]));
    assert!(wire.frames().is_empty());
    let reasons = vec![ReasonCode::TopicFilterInvalid; 2];
    assert_eq!(
        wire.sent(),
        [Packet::SubAck(SubAck {
            packet_id: packet_id(6),
            reasons
        })]
    );
    assert!(wire.session.is_connected());
}

/// MQTT-3.12.4-1: at the proxy, without the group.
#[test]
fn a_ping_is_answered_at_once() {
    let mut wire = Wire::connected(Version::V311);
    wire.send(&Packet::PingReq);
    assert_eq!(wire.sent(), [Packet::PingResp]);
    assert!(wire.frames().is_empty());
}

/// Requests without an answer are bounded also where the standard knows no maximum.
#[test]
fn unanswered_requests_stop_reading() {
    let limits = ProxyLimits {
        receive_maximum: 3,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::connected_with(limits, Connect::new(Version::V311, "client"));
    for id in 1..=3 {
        assert!(wire.session.reads(&wire.rules));
        wire.send(&subscribe(id, &["a"]));
    }
    assert!(!wire.session.reads(&wire.rules));
    let reasons = [ReasonCode::Success];
    wire.subscribed(HOME, 1, &reasons);
    assert!(wire.session.reads(&wire.rules));
}
