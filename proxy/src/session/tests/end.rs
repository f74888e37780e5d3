//! How connections end.

use super::*;
use cluster::frame::{Disconnect, WillFate};

/// The one frame with which the group hears of the end.
fn gone(wire: &mut Wire) -> Disconnect {
    let mut frames = wire.frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    match frames.pop() {
        Some(ToGroup::Disconnect(gone)) => *gone,
        other => panic!("the end expected, not {other:?}"),
    }
}

fn disconnect(reason: ReasonCode, session_expiry_s: Option<u32>) -> Packet {
    Packet::Disconnect(protocol::Disconnect {
        session_expiry_s,
        ..protocol::Disconnect::new(reason)
    })
}

/// MQTT-3.14.4-3, MQTT-3.1.2-8, MQTT-3.1.2-10.
#[test]
fn the_will_is_dropped_by_a_normal_disconnect_only() {
    for (reason, will) in [
        (ReasonCode::Success, WillFate::Dropped),
        (ReasonCode::DisconnectWithWill, WillFate::Published),
        (ReasonCode::UnspecifiedError, WillFate::Published),
    ] {
        let mut wire = Wire::connected(Version::V5);
        wire.send(&disconnect(reason, None));
        assert_eq!(
            gone(&mut wire),
            Disconnect {
                actor: ACTOR,
                expiry_s: None,
                will
            }
        );
        assert!(wire.bytes.is_empty(), "who says goodbye is not answered");
    }
    for (end, will) in [
        (End::SocketClosed, WillFate::Published),
        (End::SocketError, WillFate::Published),
        (End::Drained, WillFate::Kept),
    ] {
        let mut wire = Wire::connected(Version::V311);
        wire.with(|session, cx| session.end(end, cx));
        assert_eq!(gone(&mut wire).will, will);
    }
}

/// MQTT5 3.14.2.2.2.
#[test]
fn disconnect_may_change_the_session_expiry_but_not_from_nothing() {
    let connect = Connect {
        session_expiry_s: Some(60),
        ..Connect::new(Version::V5, "client")
    };
    for expiry_s in [0, 30, 600] {
        let mut wire = Wire::connected_with(ProxyLimits::default(), connect.clone());
        wire.send(&disconnect(ReasonCode::Success, Some(expiry_s)));
        assert_eq!(gone(&mut wire).expiry_s, Some(expiry_s));
    }
    let mut wire = Wire::connected(Version::V5);
    wire.send(&disconnect(ReasonCode::Success, Some(30)));
    let gone = gone(&mut wire);
    assert_eq!((gone.expiry_s, gone.will), (None, WillFate::Published));
    assert_eq!(wire.disconnect_reason(), ReasonCode::ProtocolError);
    let mut wire = Wire::connected(Version::V5);
    wire.send(&disconnect(ReasonCode::Success, Some(0)));
    assert!(matches!(
        wire.session.ended(),
        Some(End::ByClient {
            reason: ReasonCode::Success
        })
    ));
}

/// MQTT-3.1.4-3: 0x8E, and nothing more of it reaches the group (promise P5).
#[test]
fn a_session_that_is_taken_over_confirms_and_is_silent() {
    let kick = FromGroup::Kick {
        handle: HANDLE,
        reason: ReasonCode::SessionTakenOver,
    };
    for (version, packets) in [(Version::V311, 0), (Version::V5, 1)] {
        let mut wire = Wire::connected(version);
        wire.frame(kick.clone());
        assert!(matches!(
            wire.frames()[..],
            [ToGroup::Kicked { handle: HANDLE }]
        ));
        assert_eq!(wire.sent().len(), packets);
        wire.publish("a", QoS::AtMostOnce, 0);
        wire.with(|session, cx| session.end(End::SocketClosed, cx));
        assert!(wire.frames().is_empty());
        wire.frame(kick.clone());
        assert!(
            matches!(wire.frames()[..], [ToGroup::Kicked { .. }]),
            "a repeat is confirmed again"
        );
    }
}

/// CONNACK has no 0x8E (MQTT5 3.2.2.2): who was overtaken by another connection of its client is told to come later.
#[test]
fn a_kick_while_the_claim_is_open_is_confirmed_too() {
    for (version, reason) in [
        (Version::V5, ReasonCode::ServerBusy),
        (Version::V311, ReasonCode::ServerUnavailable),
    ] {
        let mut wire = Wire::new(ProxyLimits::default());
        wire.send_connect(Connect::new(version, "client"));
        wire.frames();
        wire.frame(FromGroup::Kick {
            handle: HANDLE,
            reason: ReasonCode::SessionTakenOver,
        });
        assert!(matches!(
            wire.frames()[..],
            [ToGroup::Kicked { handle: HANDLE }]
        ));
        let sent = wire.sent();
        assert!(
            matches!(&sent[..], [Packet::ConnAck(ack)] if ack.reason == reason),
            "DISCONNECT may not come before CONNACK: {sent:?}"
        );
    }
}

/// MQTT-3.1.2-22: one and a half times the keep alive.
#[test]
fn silence_ends_a_connection() {
    let mut wire = Wire::new(ProxyLimits::default());
    let patience = |wire: &Wire| wire.session.patience(&wire.rules);
    assert_eq!(
        patience(&wire),
        Patience::Seconds(ProxyLimits::default().connect_timeout_s)
    );
    wire.send_connect(Connect {
        keep_alive_s: 10,
        ..Connect::new(Version::V5, "client")
    });
    assert_eq!(
        patience(&wire),
        Patience::Seconds(ProxyLimits::default().connect_timeout_s)
    );
    wire.claimed(false);
    assert_eq!(patience(&wire), Patience::Seconds(16));
    wire.frames();
    wire.with(Session::timed_out);
    assert_eq!(wire.disconnect_reason(), ReasonCode::KeepAliveTimeout);
    assert_eq!(gone(&mut wire).will, WillFate::Published);

    let wire = Wire::connected(Version::V311);
    assert_eq!(
        patience(&wire),
        Patience::Endless,
        "keep alive 0 turns it off"
    );
}

#[test]
fn silence_before_connect_closes_without_a_word() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.with(Session::timed_out);
    assert_eq!(wire.session.ended(), Some(End::ConnectTimeout));
    assert!(wire.bytes.is_empty() && wire.frames().is_empty());
}

/// MQTT-4.8.0-1, MQTT-4.13.1-1; 3.1.1 section 4.8.
#[test]
fn a_violation_is_told_in_v5_and_closes_in_v3() {
    for (version, packets) in [(Version::V311, 0), (Version::V5, 1)] {
        let mut wire = Wire::connected(version);
        wire.send_bytes(&[0x36, 2, 0, 0]);
        assert_eq!(wire.sent().len(), packets);
        assert_eq!(gone(&mut wire).will, WillFate::Published);
        assert_eq!(wire.rules.counters.ended_violation.get(), 1);
    }
}

#[test]
fn packets_of_servers_are_protocol_errors() {
    for packet in [
        Packet::PingResp,
        Packet::ConnAck(Box::new(protocol::ConnAck::new(ReasonCode::Success))),
    ] {
        let mut wire = Wire::connected(Version::V5);
        wire.send(&packet);
        assert_eq!(wire.session.ended(), Some(End::Rule(Rule::ServerPacket)));
        assert_eq!(wire.disconnect_reason(), ReasonCode::ProtocolError);
    }
}

/// MQTT-4.12.0-6.
#[test]
fn auth_without_a_method_is_a_protocol_error() {
    let mut wire = Wire::connected(Version::V5);
    wire.send_bytes(&[0xF0, 0]);
    assert_eq!(wire.session.ended(), Some(End::Rule(Rule::AuthNotInUse)));
    assert_eq!(wire.disconnect_reason(), ReasonCode::ProtocolError);
}

#[test]
fn a_drain_tells_v5_clients() {
    let mut wire = Wire::connected(Version::V5);
    wire.with(|session, cx| session.end(End::Drained, cx));
    assert_eq!(wire.disconnect_reason(), ReasonCode::ServerShuttingDown);

    let mut wire = Wire::new(ProxyLimits::default());
    wire.with(|session, cx| session.end(End::Drained, cx));
    assert!(wire.bytes.is_empty(), "no CONNACK before CONNECT");
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_connect(Connect::new(Version::V5, "client"));
    wire.with(|session, cx| session.end(End::Drained, cx));
    let [Packet::ConnAck(connack)] = &wire.sent()[..] else {
        panic!("CONNACK")
    };
    assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
}
