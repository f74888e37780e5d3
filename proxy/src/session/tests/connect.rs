//! CONNECT and CONNACK.

use super::*;
use crate::auth::Peer;
use protocol::{ConnAck, Will};
use std::num::{NonZeroU16, NonZeroU32};

fn connack(wire: &mut Wire) -> ConnAck {
    let mut packets = wire.sent();
    assert_eq!(packets.len(), 1, "{packets:?}");
    match packets.pop() {
        Some(Packet::ConnAck(connack)) => *connack,
        other => panic!("CONNACK expected, not {other:?}"),
    }
}

/// The answer to a CONNECT that is refused without asking the group.
fn refusal(limits: ProxyLimits, connect: Connect) -> ReasonCode {
    let mut wire = Wire::new(limits);
    wire.send_connect(connect);
    assert!(wire.frames().is_empty(), "the group is not asked");
    assert!(wire.session.ended().is_some());
    connack(&mut wire).reason
}

fn claim(wire: &mut Wire) -> cluster::frame::Claim {
    match wire.frames().pop() {
        Some(ToGroup::Claim(claim)) => *claim,
        other => panic!("a claim expected, not {other:?}"),
    }
}

#[test]
fn an_answer_that_comes_again_is_void() {
    let mut wire = Wire::connected(Version::V5);
    wire.claimed(true);
    wire.frame(FromGroup::Released {
        handle: HANDLE,
        packet_id: packet_id(1),
        reason: ReasonCode::Success,
    });
    let reasons = [ReasonCode::Success].into();
    wire.frame(FromGroup::Unsubscribed {
        handle: HANDLE,
        packet_id: packet_id(1),
        reasons,
    });
    wire.published(1, QoS::AtLeastOnce, ReasonCode::Success);
    assert_eq!(wire.sent(), []);
    assert!(wire.frames().is_empty());
    assert!(wire.session.is_connected());
    assert_eq!(wire.rules.counters.answers_stale.get(), 4);
}

/// Promise P6, MQTT-3.2.0-1.
#[test]
fn connack_waits_for_the_home_and_says_what_it_said() {
    for version in [Version::V31, Version::V311, Version::V5] {
        for session_present in [false, true] {
            let mut wire = Wire::new(ProxyLimits::default());
            wire.send_connect(Connect {
                clean_start: false,
                ..Connect::new(version, "c")
            });
            assert_eq!(wire.sent(), []);
            assert_eq!(claim(&mut wire).client_id.as_ref(), "c");
            wire.claimed(session_present);
            let connack = connack(&mut wire);
            assert_eq!(connack.reason, ReasonCode::Success);
            // The flag came with 3.1.1.
            assert_eq!(
                connack.session_present,
                session_present && version != Version::V31
            );
        }
    }
}

/// MQTT-3.1.4-5 lets clients send on before CONNACK: those packets wait unread.
#[test]
fn packets_after_connect_are_kept_back_until_connack() {
    let mut wire = Wire::new(ProxyLimits::default());
    let mut bytes = Vec::new();
    encode(
        &Packet::Connect(Box::new(Connect::new(Version::V311, "c"))),
        Version::V311,
        &mut bytes,
    )
    .expect("valid");
    let connect_len = bytes.len();
    encode(&Packet::PingReq, Version::V311, &mut bytes).expect("valid");
    let received = wire.send_bytes(&bytes);
    assert_eq!(
        received,
        Received {
            consumed: connect_len,
            need: None
        }
    );
    assert!(!wire.session.reads(&wire.rules));
    wire.claimed(false);
    assert!(wire.session.reads(&wire.rules));
    wire.send_bytes(&bytes[connect_len..]);
    assert_eq!(wire.sent().last(), Some(&Packet::PingResp));
}

#[test]
fn connack_tells_a_v5_client_the_limits() {
    let limits = ProxyLimits {
        receive_maximum: 7,
        packet_bytes_max: 5_000,
        topic_alias_max: 3,
        keep_alive_s_max: 60,
        session_expiry_s_max: 100,
        ..ProxyLimits::default()
    };
    let mut wire = Wire::new(limits);
    wire.send_connect(Connect {
        keep_alive_s: 0,
        session_expiry_s: Some(1_000),
        ..Connect::new(Version::V5, "c")
    });
    assert_eq!(claim(&mut wire).expiry_s, 100);
    wire.claimed(false);
    let connack = connack(&mut wire);
    assert_eq!(connack.receive_maximum, NonZeroU16::new(7));
    assert_eq!(connack.maximum_packet_size, NonZeroU32::new(5_000));
    assert_eq!(connack.topic_alias_maximum, 3);
    assert_eq!(connack.server_keep_alive_s, Some(60));
    assert_eq!(connack.session_expiry_s, Some(100));
    assert_eq!(connack.assigned_client_id, None);
    assert!(connack.retain_available && connack.wildcard_available);
    assert_eq!(wire.session.patience(&wire.rules), Patience::Seconds(91));
}

/// MQTT-3.1.3-6, MQTT-3.2.2-16.
#[test]
fn a_v5_client_without_an_id_is_told_the_assigned_one() {
    let mut ids = Vec::new();
    let mut wire = Wire::new(ProxyLimits::default());
    for _ in 0..2 {
        wire.session = Session::new(HANDLE);
        wire.send_connect(Connect::new(Version::V5, ""));
        let id = claim(&mut wire).client_id;
        wire.claimed(false);
        assert_eq!(connack(&mut wire).assigned_client_id.as_deref(), Some(&*id));
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}

/// 3.1.1 MQTT-3.1.3-7, MQTT-3.1.3-8; 3.1 has no empty ids.
#[test]
fn a_v3_client_without_an_id_needs_a_clean_session() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_connect(Connect::new(Version::V311, ""));
    assert!(!claim(&mut wire).client_id.is_empty());
    let kept = Connect {
        clean_start: false,
        ..Connect::new(Version::V311, "")
    };
    for connect in [kept, Connect::new(Version::V31, "")] {
        assert_eq!(
            refusal(ProxyLimits::default(), connect),
            ReasonCode::ClientIdentifierNotValid
        );
    }
}

#[test]
fn what_is_beyond_the_limits_is_refused() {
    let limits = ProxyLimits {
        client_id_bytes_max: 3,
        ..ProxyLimits::default()
    };
    for version in [Version::V311, Version::V5] {
        let long_id = Connect::new(version, "four");
        assert_eq!(
            refusal(limits.clone(), long_id),
            ReasonCode::ClientIdentifierNotValid
        );
    }
    let will = Will {
        message: message(&"/".repeat(40), b""),
        qos: QoS::AtMostOnce,
        retain: false,
        delay_s: 0,
    };
    let deep = Connect {
        will: Some(will),
        ..Connect::new(Version::V5, "c")
    };
    assert_eq!(refusal(limits, deep), ReasonCode::TopicNameInvalid);
}

/// MQTT-4.12.0-1.
#[test]
fn enhanced_authentication_is_refused() {
    let connect = Connect {
        auth_method: Some("SCRAM".into()),
        ..Connect::new(Version::V5, "c")
    };
    assert_eq!(
        refusal(ProxyLimits::default(), connect),
        ReasonCode::BadAuthenticationMethod
    );
}

struct Nobody;

impl Authenticator for Nobody {
    fn authenticate(&self, _: &Connect, _: &Peer) -> Result<(), ReasonCode> {
        Err(ReasonCode::NotAuthorized)
    }
}

/// MQTT-3.1.4-2.
#[test]
fn the_authenticator_decides() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut wire = Wire::with_authenticator(ProxyLimits::default(), Arc::new(Nobody));
        wire.send_connect(Connect::new(version, "c"));
        assert_eq!(connack(&mut wire).reason, ReasonCode::NotAuthorized);
        assert!(wire.frames().is_empty());
    }
}

/// MQTT-3.1.2-2: the answer is one the peer can read.
#[test]
fn unknown_protocol_levels_are_answered_in_the_nearest_version() {
    let level = |level: u8| {
        [
            0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0, 1, b'c',
        ]
    };
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_bytes(&level(3));
    assert_eq!(wire.bytes, [0x20, 2, 0, 1]);
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_bytes(&level(6));
    wire.version = Version::V5;
    assert_eq!(
        connack(&mut wire).reason,
        ReasonCode::UnsupportedProtocolVersion
    );
}

/// 3.1.1 section 4.8: broken bytes close the connection, without CONNACK; MQTT 5 has a word for it.
#[test]
fn a_malformed_connect_is_answered_in_v5_only() {
    for (level, answers) in [(4, 0), (5, 1)] {
        let mut wire = Wire::new(ProxyLimits::default());
        let reserved_flag = [
            0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', level, 3, 0, 0, 0, 0, 1, b'c',
        ];
        let len = if level == 5 { 16 } else { 15 };
        let mut bytes = reserved_flag[..len].to_vec();
        bytes[1] = len as u8 - 2;
        wire.send_bytes(&bytes);
        assert!(matches!(wire.session.ended(), Some(End::Violation(_))));
        wire.version = Version::V5;
        assert_eq!(wire.sent().len(), answers);
    }
}

/// MQTT-3.1.0-1.
#[test]
fn anything_before_connect_closes_the_connection() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send(&Packet::PingReq);
    assert_eq!(
        wire.session.ended(),
        Some(End::Violation(protocol::Violation::ConnectExpected))
    );
    assert!(wire.bytes.is_empty() && wire.frames().is_empty());
}

/// MQTT-3.1.0-2.
#[test]
fn a_second_connect_is_a_protocol_error() {
    let mut wire = Wire::connected(Version::V5);
    wire.send_connect(Connect::new(Version::V5, "client"));
    assert_eq!(wire.session.ended(), Some(End::Rule(Rule::SecondConnect)));
    assert_eq!(wire.disconnect_reason(), ReasonCode::ProtocolError);
}

#[test]
fn v3_sessions_get_their_expiry_from_the_limits() {
    for (clean_start, expiry_s) in [
        (true, 0),
        (false, ProxyLimits::default().v3_session_expiry_s),
    ] {
        let mut wire = Wire::new(ProxyLimits::default());
        wire.send_connect(Connect {
            clean_start,
            ..Connect::new(Version::V311, "c")
        });
        assert_eq!(claim(&mut wire).expiry_s, expiry_s);
    }
}

#[test]
fn a_refused_claim_is_told() {
    for version in [Version::V311, Version::V5] {
        let mut wire = Wire::new(ProxyLimits::default());
        wire.send_connect(Connect::new(version, "c"));
        wire.frames();
        wire.frame(FromGroup::ClaimRefused {
            handle: HANDLE,
            reason: ReasonCode::ServerUnavailable,
        });
        assert_eq!(connack(&mut wire).reason, ReasonCode::ServerUnavailable);
        assert!(wire.frames().is_empty());
    }
}

/// A connection that ended during its claim owns nothing afterwards.
#[test]
fn a_claim_that_comes_too_late_is_given_back() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_connect(Connect::new(Version::V311, "c"));
    wire.frames();
    wire.with(|session, cx| session.end(End::SocketClosed, cx));
    assert!(wire.frames().is_empty());
    wire.claimed(false);
    let frames = wire.frames();
    let [ToGroup::Disconnect(gone)] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    assert_eq!(gone.actor, ACTOR);
    assert!(wire.bytes.is_empty());
}

/// MQTT-3.1.2-24: not even CONNACK may be larger than the client's maximum.
#[test]
fn a_client_that_takes_no_connack_is_left() {
    let mut wire = Wire::new(ProxyLimits::default());
    wire.send_connect(Connect {
        maximum_packet_size: NonZeroU32::new(2),
        ..Connect::new(Version::V5, "c")
    });
    wire.claimed(false);
    assert_eq!(wire.session.ended(), Some(End::AnswerTooLarge));
    assert!(wire.bytes.is_empty());
}
