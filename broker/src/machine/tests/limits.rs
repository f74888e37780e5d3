//! The rule at each limit (promise P8).

use super::world::{LINK, World, claim, message};
use crate::limits::{MachineLimits, QueueFull};
use cluster::frame::Claim;
use protocol::{QoS, ReasonCode};

const Q1: QoS = QoS::AtLeastOnce;

/// A session that is not connected, whose queue takes three messages; what it gets of five in the end.
fn queue_of_three(
    queue_full: QueueFull,
    bytes: bool,
) -> (World, Vec<Option<ReasonCode>>, Vec<String>) {
    let mut limits = MachineLimits {
        queue_full,
        ..MachineLimits::default()
    };
    if bytes {
        let one = message("t", "0").encoded_len() as u64;
        limits.queue_bytes = 3 * one;
    } else {
        limits.queue_messages = 3;
    }
    let mut world = World::with(limits);
    let (p, a) = (world.connect("p"), world.connect("a"));
    world.subscribe(&a, "t", Q1);
    world.disconnect(&a);
    let answers = (0..5)
        .map(|n| world.publish(&p, "t", &n.to_string(), Q1))
        .collect();
    let a = world.connect("a");
    let got = world.payloads(&a);
    (world, answers, got)
}

#[test]
fn a_full_queue_drops_or_refuses_as_configured() {
    let (yes, no) = (Some(ReasonCode::Success), Some(ReasonCode::QuotaExceeded));
    for bytes in [false, true] {
        let (world, answers, got) = queue_of_three(QueueFull::DropOldest, bytes);
        assert_eq!(
            (answers, got),
            (vec![yes; 5], vec!["2".into(), "3".into(), "4".into()])
        );
        assert_eq!(world.state.counters().dropped_oldest, 2);
        let (world, answers, got) = queue_of_three(QueueFull::DropNewest, bytes);
        assert_eq!(
            (answers, got),
            (vec![yes; 5], vec!["0".into(), "1".into(), "2".into()])
        );
        assert_eq!(world.state.counters().dropped_newest, 2);
        let (world, answers, got) = queue_of_three(QueueFull::Refuse, bytes);
        assert_eq!(answers, [yes, yes, yes, no, no]);
        assert_eq!(got, ["0", "1", "2"]);
        assert_eq!(world.state.counters().refused_queue_full, 2);
    }
}

#[test]
fn a_refused_publish_reaches_nobody_so_that_trying_again_makes_no_duplicate() {
    let limits = MachineLimits {
        queue_full: QueueFull::Refuse,
        queue_messages: 1,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let (p, slow, fast) = (
        world.connect("p"),
        world.connect("slow"),
        world.connect("fast"),
    );
    world.subscribe(&slow, "t", Q1);
    world.subscribe(&fast, "t", Q1);
    world.disconnect(&slow);
    for qos in [Q1, QoS::ExactlyOnce] {
        world.publish_with(&p, message("t", "x"), qos, false, 3);
    }
    assert_eq!(world.payloads(&fast), ["x"]);
    assert_eq!(
        world.release(&p, 3),
        ReasonCode::PacketIdentifierNotFound,
        "0x97 ends the exchange"
    );
    let slow = world.connect("slow");
    assert_eq!(world.payloads(&slow), ["x"]);
    world.publish(&p, "t", "y", Q1);
    assert_eq!(world.payloads(&fast), ["y"]);
}

#[test]
fn what_was_sent_is_never_dropped() {
    let limits = MachineLimits {
        queue_messages: 2,
        window_entries: 3,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let (p, a) = (world.connect("p"), world.connect("a"));
    world.subscribe(&a, "t", Q1);
    for n in 0..9 {
        world.publish(&p, "t", &n.to_string(), Q1);
    }
    let first = world.got(&a);
    assert_eq!(
        first.iter().map(|got| &got.payload[..]).collect::<Vec<_>>(),
        ["0", "1", "2"]
    );
    for got in &first {
        world.complete(&a, got);
    }
    assert_eq!(world.payloads(&a), ["7", "8"]);
}

#[test]
fn the_window_is_bounded_in_bytes_and_takes_at_least_one() {
    let limits = MachineLimits {
        window_bytes: 50,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let (p, a) = (world.connect("p"), world.connect("a"));
    world.subscribe(&a, "t", Q1);
    world.publish(&p, "t", &"x".repeat(500), Q1);
    world.publish(&p, "t", "1", Q1);
    world.publish(&p, "t", "2", Q1);
    let got = world.got(&a);
    assert_eq!(got.len(), 1);
    world.complete(&a, &got[0]);
    assert_eq!(world.payloads(&a), ["1", "2"]);
}

#[test]
fn packet_ids_come_round_and_are_never_in_use_twice() {
    let mut world = World::new();
    let (p, a) = (world.connect("p"), world.connect("a"));
    world.subscribe(&a, "t", Q1);
    for n in 0..1_100 {
        world.publish(&p, "t", &n.to_string(), Q1);
    }
    let got = world.got(&a);
    assert_eq!(got.len(), 1_022, "one less than there are packet ids");
    // The newest may be acknowledged, but nothing moves past the oldest.
    for got in &got[1..] {
        world.complete(&a, got);
    }
    assert!(world.got(&a).is_empty());
    world.complete(&a, &got[0]);
    let next = world.got(&a);
    assert_eq!(next.len(), 78);
    assert_eq!(
        next[0].packet_id,
        Some(super::world::id(1_023)),
        "the one that was free"
    );
    assert_eq!(next[1].packet_id, got[0].packet_id);
    assert_eq!(next[1].payload, "1023");
}

#[test]
fn open_qos_2_ids_are_bounded() {
    let mut world = World::with(MachineLimits {
        qos2_ids: 2,
        ..MachineLimits::default()
    });
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    let mut publish = |n| {
        world
            .publish_with(&a, message("t", "x"), QoS::ExactlyOnce, false, n)
            .expect("answered")
    };
    assert_eq!(
        [1, 2, 3].map(&mut publish).map(ReasonCode::as_u8),
        [0, 0, 0x97]
    );
    assert_eq!(world.state.counters().refused_qos2_ids, 1);
    world.release(&a, 1);
    assert_eq!(
        world.publish_with(&a, message("t", "x"), QoS::ExactlyOnce, false, 3),
        Some(ReasonCode::Success)
    );
}

#[test]
fn filters_of_a_session_are_bounded_and_may_be_replaced() {
    let mut world = World::with(MachineLimits {
        filters_per_session: 2,
        ..MachineLimits::default()
    });
    let a = world.connect("a");
    assert_eq!(world.subscribe(&a, "a", Q1), ReasonCode::GrantedQoS1);
    assert_eq!(
        world.subscribe(&a, "$share/g/b", Q1),
        ReasonCode::GrantedQoS1
    );
    assert_eq!(world.subscribe(&a, "c", Q1), ReasonCode::QuotaExceeded);
    assert_eq!(
        world.subscribe(&a, "a", QoS::AtMostOnce),
        ReasonCode::Success
    );
    world.unsubscribe(&a, "a");
    assert_eq!(
        world.subscribe(&a, "c", QoS::ExactlyOnce),
        ReasonCode::GrantedQoS2
    );
    assert_eq!(world.state.counters().refused_filters, 1);
}

#[test]
fn sessions_are_bounded() {
    let mut world = World::with(MachineLimits {
        sessions: 1,
        ..MachineLimits::default()
    });
    let a = world.connect("a");
    let handle = world.claim(LINK, claim("b"));
    assert!(world.claimed(LINK, handle).is_none());
    assert_eq!(world.state.counters().refused_sessions, 1);
    world.connect_with(
        LINK,
        Claim {
            clean_start: true,
            ..claim("a")
        },
    );
    assert_eq!(world.state.owner("b"), None);
    assert_eq!(world.publish(&a, "t", "x", Q1), None);
}

#[test]
fn a_full_group_refuses_what_it_would_have_to_store() {
    for limits in [
        MachineLimits {
            group_messages: 2,
            ..MachineLimits::default()
        },
        MachineLimits {
            group_entries: 2,
            ..MachineLimits::default()
        },
        MachineLimits {
            group_bytes: 2 * message("t", "x").encoded_len() as u64,
            ..MachineLimits::default()
        },
    ] {
        let mut world = World::with(limits);
        let (p, a) = (world.connect("p"), world.connect("a"));
        world.subscribe(&a, "t", Q1);
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.extend(world.publish(&p, "t", "x", Q1));
        }
        assert_eq!(
            answers.iter().map(|r| r.as_u8()).collect::<Vec<_>>(),
            [0, 0, 0x97]
        );
        assert_eq!(world.state.counters().refused_group_full, 1);
        assert_eq!(
            world.publish(&p, "nobody", "x", Q1).map(ReasonCode::as_u8),
            Some(0x10)
        );
        let got = world.got(&a);
        for got in &got {
            world.complete(&a, got);
        }
        assert_eq!(world.publish(&p, "t", "x", Q1), Some(ReasonCode::Success));
    }
}

#[test]
fn a_tick_does_a_bounded_number_of_things() {
    let mut world = World::new();
    for n in 0..2_500 {
        let client = world.connect_with(
            LINK,
            Claim {
                expiry_s: 5,
                ..claim(&n.to_string())
            },
        );
        world.disconnect(&client);
    }
    world.now_ms += 5_000;
    for left in [1_476, 452, 0] {
        world.enter(vec![crate::command::Command::Tick]);
        assert_eq!(world.state.counters().sessions, left);
        assert_eq!(world.state.next_deadline_ms().is_some(), left > 0);
    }
}
