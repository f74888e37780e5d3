//! Any packets and any frames in any order: no panic, bounded memory, and silence after the end (promise P10).

use super::groups::{SECOND, THIRD, actor_at, three_groups};
use super::*;
use cluster::filters::FilterDigest;
use cluster::frame::{FilterOutcome, Joined, Listed, Receiver};
use cluster::ids::Rank;
use proptest::prelude::*;
use std::num::{NonZeroU16, NonZeroU32};

#[derive(Clone, Debug)]
enum Step {
    Connect {
        version: u8,
        keep_alive_s: u16,
        receive_maximum: u16,
        packet_max: u32,
        aliases: u16,
    },
    Publish {
        topic: u8,
        qos: u8,
        id: u16,
        alias: u16,
    },
    Ack {
        kind: u8,
        id: u16,
        failed: bool,
    },
    Subscribe {
        id: u16,
    },
    Unsubscribe {
        id: u16,
    },
    Disconnect {
        expiry_s: Option<u32>,
    },
    Bytes(Vec<u8>),
    Claimed,
    Published {
        id: u16,
        qos: u8,
        failed: bool,
    },
    Released {
        id: u16,
    },
    Release {
        id: u16,
    },
    Subscribed {
        id: u16,
        is_new: bool,
    },
    Deliver {
        topic: u8,
        qos: u8,
        id: u16,
        len: u16,
        expiry_s: Option<u32>,
    },
    Kick,
    Joined,
    Listed {
        rank: Option<u8>,
    },
    Rejoin,
    Full(bool),
    Time(u8),
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..6_u16;
    let small = proptest::option::of(0..5_u32);
    prop_oneof![
        2 => (0..3_u8, 0..3_u16, 1..4_u16, 20..80_u32, 0..3_u16).prop_map(
            |(version, keep_alive_s, receive_maximum, packet_max, aliases)| Step::Connect {
                version, keep_alive_s, receive_maximum, packet_max, aliases,
            }
        ),
        6 => (0..3_u8, 0..3_u8, id.clone(), 0..4_u16)
            .prop_map(|(topic, qos, id, alias)| Step::Publish { topic, qos, id, alias }),
        6 => (0..4_u8, id.clone(), any::<bool>()).prop_map(|(kind, id, failed)| Step::Ack { kind, id, failed }),
        1 => id.clone().prop_map(|id| Step::Subscribe { id }),
        1 => id.clone().prop_map(|id| Step::Unsubscribe { id }),
        1 => small.clone().prop_map(|expiry_s| Step::Disconnect { expiry_s }),
        1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Step::Bytes),
        3 => Just(Step::Claimed),
        4 => (id.clone(), 1..3_u8, any::<bool>()).prop_map(|(id, qos, failed)| Step::Published { id, qos, failed }),
        1 => id.clone().prop_map(|id| Step::Released { id }),
        1 => id.clone().prop_map(|id| Step::Release { id }),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, is_new)| Step::Subscribed { id, is_new }),
        8 => (0..3_u8, 0..3_u8, id, 0..60_u16, small)
            .prop_map(|(topic, qos, id, len, expiry_s)| Step::Deliver { topic, qos, id, len, expiry_s }),
        1 => Just(Step::Kick),
        3 => Just(Step::Joined),
        2 => proptest::option::weighted(0.8, 1..3_u8).prop_map(|rank| Step::Listed { rank }),
        1 => Just(Step::Rejoin),
        1 => any::<bool>().prop_map(Step::Full),
        1 => (0..4_u8).prop_map(Step::Time),
        1 => Just(Step::Rest),
    ]
}

fn topic(number: u8) -> &'static str {
    ["a", "b/c", "d/e/f/g"][usize::from(number)]
}

fn qos(level: u8) -> QoS {
    QoS::from_u8(level).expect("0 to 2")
}

fn packet_of(step: &Step) -> Option<Packet> {
    let ack = |id, failed| Ack {
        packet_id: packet_id(id),
        reason: if failed {
            ReasonCode::UnspecifiedError
        } else {
            ReasonCode::Success
        },
    };
    Some(match *step {
        Step::Connect {
            version,
            keep_alive_s,
            receive_maximum,
            packet_max,
            aliases,
        } => {
            let version = [Version::V31, Version::V311, Version::V5][usize::from(version)];
            Packet::Connect(Box::new(Connect {
                keep_alive_s,
                receive_maximum: NonZeroU16::new(receive_maximum),
                maximum_packet_size: NonZeroU32::new(packet_max),
                topic_alias_maximum: aliases,
                ..Connect::new(version, &super::groups::client_id())
            }))
        }
        Step::Publish {
            topic: number,
            qos: level,
            id,
            alias,
        } => Packet::Publish(Publish {
            topic_alias: NonZeroU16::new(alias),
            ..publish_packet(topic(number), qos(level), if level == 0 { 0 } else { id })
        }),
        Step::Ack {
            kind: 0,
            id,
            failed,
        } => Packet::PubAck(ack(id, failed)),
        Step::Ack {
            kind: 1,
            id,
            failed,
        } => Packet::PubRec(ack(id, failed)),
        Step::Ack { kind: 2, id, .. } => Packet::PubRel(ack(id, false)),
        Step::Ack { id, .. } => Packet::PubComp(ack(id, false)),
        Step::Subscribe { id } => Packet::Subscribe(protocol::Subscribe {
            packet_id: packet_id(id),
            subscription_id: None,
            filters: vec![(
                protocol::TopicFilter::new("a/#").expect("valid"),
                protocol::SubscribeOptions::default(),
            )],
        }),
        Step::Unsubscribe { id } => Packet::Unsubscribe(protocol::Unsubscribe {
            packet_id: packet_id(id),
            filters: vec![protocol::TopicFilter::new("a/#").expect("valid")],
        }),
        Step::Disconnect { expiry_s } => Packet::Disconnect(protocol::Disconnect {
            session_expiry_s: expiry_s,
            ..protocol::Disconnect::new(ReasonCode::Success)
        }),
        _ => return None,
    })
}

fn frame_of(step: &Step, from: GroupNo) -> Option<FromGroup> {
    let handle = HANDLE;
    let reason = ReasonCode::Success;
    Some(match step {
        &Step::Published {
            id,
            qos: level,
            failed,
        } => FromGroup::Published {
            handle,
            packet_id: packet_id(id),
            qos: qos(level),
            reason: if failed {
                ReasonCode::QuotaExceeded
            } else {
                reason
            },
        },
        &Step::Released { id } => FromGroup::Released {
            handle,
            packet_id: packet_id(id),
            reason,
        },
        &Step::Release { id } => FromGroup::Release {
            handle,
            packet_id: packet_id(id),
            reason,
        },
        &Step::Subscribed { id, is_new } => FromGroup::Subscribed {
            handle,
            packet_id: packet_id(id),
            outcomes: [FilterOutcome { reason, is_new }].into(),
        },
        Step::Joined => {
            let Actor { client, epoch } = actor_at(from);
            FromGroup::Joined(Box::new(Joined {
                handle,
                client,
                epoch,
                digest: FilterDigest::default(),
            }))
        }
        &Step::Listed { rank } => FromGroup::Listed {
            handle,
            group: from,
            rank: rank.map(Rank),
        },
        Step::Rejoin => FromGroup::Rejoin { handle },
        Step::Kick => FromGroup::Kick {
            handle,
            reason: ReasonCode::SessionTakenOver,
        },
        _ => return None,
    })
}

fn run(wire: &mut Wire, step: &Step, from: GroupNo) {
    if let Some(packet) = packet_of(step) {
        let mut bytes = Vec::new();
        if let Packet::Connect(connect) = &packet {
            // What was written before is of the version before.
            wire.sent();
            if wire.session.awaits_connect() {
                wire.version = connect.version;
            }
        }
        encode(&packet, wire.version, &mut bytes).expect("the test's packet can be written");
        wire.send_bytes(&bytes);
    }
    if let Some(frame) = frame_of(step, from) {
        wire.frame_from(from, frame);
    }
    match step {
        Step::Bytes(bytes) if !wire.session.awaits_connect() => {
            wire.send_bytes(bytes);
        }
        Step::Claimed if from == HOME => wire.claimed(false),
        Step::Claimed => claimed_with(wire, from),
        &Step::Deliver {
            topic: number,
            qos: level,
            id,
            len,
            expiry_s,
        } => {
            let receiver = Receiver {
                handle: HANDLE,
                packet_id: (level > 0).then(|| packet_id(id + first_id(from))),
                qos: qos(level),
                retain: false,
                dup: false,
                subscription_ids: None,
            };
            wire.deliver(
                &message(topic(number), &vec![0; len.into()]),
                expiry_s,
                &receiver,
            );
        }
        &Step::Time(seconds) => {
            wire.rules.now_s += u32::from(seconds);
            if wire.session.due_s() <= wire.rules.now_s {
                wire.with(Session::overdue);
            } else if seconds == 3 {
                wire.with(Session::timed_out);
            }
        }
        &Step::Full(full) if !wire.rules.routing.is_one_group() => {
            wire.frames.lane(from).full = full;
            if !full {
                wire.go_on(from);
            }
        }
        Step::Rest => wire.session.rest(),
        _ => {}
    }
}

/// The session is at another group besides.
fn claimed_with(wire: &mut Wire, group: GroupNo) {
    let rank = Some(Rank(1));
    wire.frame(FromGroup::Claimed(Box::new(Claimed {
        handle: HANDLE,
        client: ACTOR.client,
        epoch: ACTOR.epoch,
        session_present: true,
        start_epoch: Epoch(3),
        groups: [Listed { group, rank }].into(),
        digest: FilterDigest::default(),
    })));
}

/// The packet ids of the second rank are taken for those of one group, the first ones for those of another.
fn first_id(from: GroupNo) -> u16 {
    match from {
        SECOND => Rank::PACKET_IDS,
        THIRD => 2 * Rank::PACKET_IDS,
        _ => 0,
    }
}

fn size_of_packet(packet: &Packet) -> usize {
    let mut bytes = Vec::new();
    encode(packet, Version::V5, &mut bytes).expect("it was read");
    bytes.len()
}

fn check(wire: &mut Wire, was_over: bool) -> Result<(), TestCaseError> {
    let packets = wire.sent();
    if was_over {
        prop_assert!(packets.is_empty(), "{packets:?} after the end");
    }
    let session = &wire.session;
    prop_assert!(session.outstanding <= session.receive_maximum);
    if let Some(busy) = &session.busy {
        let requests = busy.answers.len() + session.requests as usize;
        // A SUBSCRIBE that was given up may be asked to be undone.
        prop_assert!(busy.answers.len() <= 3 + usize::from(OTHER_REQUESTS_MAX));
        prop_assert!(requests <= 3 * (3 + usize::from(OTHER_REQUESTS_MAX)));
        prop_assert!(
            session.due_s() <= busy.requests.due_s(),
            "nobody is forgotten"
        );
    }
    if wire.version == Version::V5 && session.packet_bytes_max != u32::MAX {
        for packet in &packets {
            prop_assert!(size_of_packet(packet) <= session.packet_bytes_max as usize);
        }
    }
    // Once the groups were told of the end they hear nothing else but repeats of that.
    for group in [HOME, SECOND, THIRD] {
        if !wire.frames.knows(group) {
            continue;
        }
        for frame in wire.frames_to(group) {
            let of_the_end = matches!(frame, ToGroup::Kicked { .. } | ToGroup::Disconnect(_));
            prop_assert!(!was_over || of_the_end, "{frame:?} after the end");
        }
        if was_over {
            wire.frames.lane(group).full = false;
            prop_assert!(
                wire.frames.waiting_bytes(group) == 0,
                "given back at the end"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_conversation_keeps_the_rules(steps in proptest::collection::vec(step(), 1..80)) {
        let limits = ProxyLimits { receive_maximum: 3, topic_alias_max: 2, ..ProxyLimits::default() };
        let mut wire = Wire::new(limits);
        for step in &steps {
            let was_over = wire.session.ended().is_some();
            run(&mut wire, step, HOME);
            check(&mut wire, was_over)?;
        }
    }

    #[test]
    fn so_does_any_conversation_with_several_groups(
        steps in proptest::collection::vec((step(), 0..3_usize), 1..120)
    ) {
        let limits = ProxyLimits { receive_maximum: 3, topic_alias_max: 2, ..ProxyLimits::default() };
        let mut wire = Wire::with_routing(limits, Arc::new(AcceptAll), three_groups());
        for (step, from) in &steps {
            let was_over = wire.session.ended().is_some();
            run(&mut wire, step, [HOME, SECOND, THIRD][*from]);
            check(&mut wire, was_over)?;
        }
    }
}
