//! Who gets a publish, at which QoS, and what is answered.

use super::world::{LINK, World, claim, id, message, options};
use crate::command::Command;
use cluster::frame::{AckKind, Claim, FromGroup, Publish};
use protocol::{QoS, ReasonCode, SubscribeOptions};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

#[test]
fn the_effective_qos_is_the_lesser_of_publish_and_granted() {
    for (published, granted) in [(Q0, Q2), (Q1, Q0), (Q1, Q2), (Q2, Q1), (Q2, Q2), (Q0, Q0)] {
        let mut world = World::new();
        let a = world.connect("a");
        world.subscribe(&a, "t", granted);
        world.publish(&a, "t", "x", published);
        let got = world.got(&a);
        assert_eq!(got.len(), 1, "{published:?} {granted:?}");
        assert_eq!(got[0].qos, published.min(granted));
        assert_eq!(got[0].packet_id.is_some(), got[0].qos > Q0);
        assert!(!got[0].dup && !got[0].retain);
    }
}

#[test]
fn only_a_publish_that_somebody_needs_stored_is_logged() {
    let mut world = World::new();
    let a = world.connect("a");
    let publish = |qos: QoS, retain| Publish {
        actor: a.actor,
        packet_id: (qos > Q0).then(|| id(1)),
        qos,
        retain,
        message: message("t", "x"),
    };
    let logs = |world: &World| [Q0, Q1, Q2].map(|qos| world.state.must_log(&publish(qos, false)));
    assert_eq!(logs(&world), [false, false, false]);
    assert!(world.state.must_log(&publish(Q0, true)), "retained");
    world.subscribe(&a, "t", Q0);
    assert_eq!(
        logs(&world),
        [false, false, true],
        "QoS 2 with any subscription"
    );
    world.subscribe(&a, "+", Q1);
    assert_eq!(logs(&world), [false, true, true]);
    world.disconnect(&a);
    assert_eq!(
        logs(&world),
        [false, true, true],
        "also for who is not connected"
    );
    let a = world.connect("a");
    world.unsubscribe(&a, "+");
    world.subscribe(&a, "$share/g/t", Q1);
    assert_eq!(logs(&world), [false, true, true], "a shared queue stores");
}

#[test]
fn nobody_subscribes_is_said() {
    let mut world = World::new();
    let a = world.connect("a");
    assert_eq!(
        world.publish(&a, "t", "x", Q1),
        Some(ReasonCode::NoMatchingSubscribers)
    );
    assert_eq!(world.publish(&a, "t", "x", Q0), None);
    world.subscribe(&a, "t", Q0);
    assert_eq!(world.publish(&a, "t", "x", Q1), Some(ReasonCode::Success));
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_all_ids() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe_with(&a, "t/x", options(Q0), 7);
    world.subscribe_with(&a, "t/+", options(Q2), 3);
    world.subscribe_with(&a, "#", options(Q1), 0);
    for qos in [Q0, Q1, Q2] {
        world.publish(&a, "t/x", "p", qos);
        world.release(&a, 1);
        let got = world.got(&a);
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].qos, &got[0].ids[..]), (qos, &[3, 7][..]));
    }
}

#[test]
fn no_local_keeps_own_messages_away_and_only_those() {
    let mut world = World::new();
    let (a, b) = (world.connect("a"), world.connect("b"));
    let no_local = SubscribeOptions {
        no_local: true,
        ..options(Q1)
    };
    world.subscribe_with(&a, "t", no_local, 0);
    world.publish(&a, "t", "own", Q1);
    world.publish(&a, "t", "own", Q0);
    world.publish(&b, "t", "other", Q1);
    assert_eq!(world.payloads(&a), ["other"]);
    // Another subscription of its own still delivers.
    world.subscribe_with(&a, "#", options(Q0), 5);
    world.publish(&a, "t", "own", Q1);
    let got = world.got(&a);
    assert_eq!((got.len(), got[0].qos, &got[0].ids[..]), (1, Q0, &[5][..]));
}

#[test]
fn retain_is_kept_only_as_asked() {
    let mut world = World::new();
    let (a, b) = (world.connect("a"), world.connect("b"));
    world.subscribe_quiet(&a, "t", Q1);
    let rap = SubscribeOptions {
        retain_as_published: true,
        ..options(Q1)
    };
    world.subscribe_with(&b, "t", rap, 0);
    for qos in [Q0, Q1] {
        world.publish_with(&a, message("t", "x"), qos, true, 1);
        assert!(!world.got(&a)[0].retain);
        assert!(world.got(&b)[0].retain);
    }
}

#[test]
fn a_qos_2_publish_is_delivered_once_per_packet_id() {
    let mut world = World::new();
    let (a, p) = (world.connect("a"), world.connect("p"));
    world.subscribe(&a, "t", Q2);
    assert_eq!(
        world.publish_with(&p, message("t", "1"), Q2, false, 5),
        Some(ReasonCode::Success)
    );
    assert_eq!(
        world.publish_with(&p, message("t", "1"), Q2, false, 5),
        Some(ReasonCode::Success)
    );
    world.publish_with(&p, message("t", "2"), Q2, false, 6);
    assert_eq!(world.payloads(&a), ["1", "2"]);
    world.disconnect(&p);
    let p = world.connect("p");
    world.publish_with(&p, message("t", "1"), Q2, false, 5);
    assert!(world.got(&a).is_empty(), "a reconnect forgets nothing");
    assert_eq!(world.release(&p, 5), ReasonCode::Success);
    assert_eq!(world.release(&p, 5), ReasonCode::PacketIdentifierNotFound);
    world.publish_with(&p, message("t", "3"), Q2, false, 5);
    assert_eq!(world.payloads(&a), ["3"]);
    assert_eq!(world.state.counters().qos2_duplicates, 2);
}

#[test]
fn a_qos_2_publish_that_nobody_needs_is_released_like_any() {
    let mut world = World::new();
    let p = world.connect("p");
    assert_eq!(
        world.publish(&p, "t", "x", Q2),
        Some(ReasonCode::NoMatchingSubscribers)
    );
    assert_eq!(world.release(&p, 1), ReasonCode::Success);
    assert_eq!(world.release(&p, 1), ReasonCode::PacketIdentifierNotFound);
}

#[test]
fn qos_2_out_goes_through_its_steps() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q2);
    world.publish(&a, "t", "x", Q2);
    let packet_id = world.got(&a)[0].packet_id.expect("QoS 2");
    let mut reasons = |kind| {
        world.ack(&a, packet_id, kind);
        world
            .take(&a, |frame| matches!(frame, FromGroup::Release { .. }))
            .iter()
            .map(|frame| match frame {
                FromGroup::Release { reason, .. } => *reason,
                _ => unreachable!("taken by kind"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        reasons(AckKind::Complete),
        [],
        "PUBCOMP before PUBREC means nothing"
    );
    assert_eq!(reasons(AckKind::Ack), [], "nor does PUBACK");
    assert_eq!(reasons(AckKind::Received), [ReasonCode::Success]);
    assert_eq!(
        reasons(AckKind::Received),
        [ReasonCode::Success],
        "sent again by the client"
    );
    assert_eq!(reasons(AckKind::Complete), []);
    assert_eq!(
        reasons(AckKind::Received),
        [ReasonCode::PacketIdentifierNotFound]
    );
    assert_eq!(world.state.counters().acks_unknown, 3);
    assert_eq!(world.state.counters().entries, 0);
}

#[test]
fn a_refused_qos_2_delivery_is_complete() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q2);
    world.publish(&a, "t", "x", Q2);
    let packet_id = world.got(&a)[0].packet_id.expect("QoS 2");
    world.ack(&a, packet_id, AckKind::Refused);
    assert_eq!(world.state.counters().messages, 0);
    world.disconnect(&a);
    let a = world.connect("a");
    assert!(world.got(&a).is_empty());
}

#[test]
fn what_waits_expires_and_what_leaves_says_the_time_left() {
    let mut world = World::new();
    let p = world.connect("p");
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    world.publish_with(&p, message("t", "now").with_expiry_s(Some(9)), Q1, false, 1);
    world.publish_with(&p, message("t", "now").with_expiry_s(Some(9)), Q0, false, 1);
    assert_eq!(
        world
            .got(&a)
            .iter()
            .map(|got| got.expiry_s)
            .collect::<Vec<_>>(),
        [Some(9); 2]
    );
    world.disconnect(&a);
    for (payload, seconds) in [("short", Some(5)), ("long", Some(50)), ("for ever", None)] {
        world.publish_with(
            &p,
            message("t", payload).with_expiry_s(seconds),
            Q1,
            false,
            1,
        );
    }
    world.pass_s(20);
    let a = world.connect("a");
    let got = world.got(&a);
    let seen: Vec<_> = got
        .iter()
        .map(|got| (got.payload.as_str(), got.expiry_s))
        .collect();
    // The first was sent before and has to be completed, expired or not.
    assert_eq!(
        seen,
        [("now", Some(1)), ("long", Some(30)), ("for ever", None)]
    );
    assert_eq!(world.state.counters().dropped_expired, 1);
}

#[test]
fn a_message_of_many_receivers_is_kept_once_and_crosses_a_link_once() {
    let mut world = World::new();
    let clients: Vec<_> = (0..50).map(|n| world.connect(&format!("c{n}"))).collect();
    for client in &clients {
        world.subscribe(client, "t", Q1);
    }
    let before = world.history.len();
    world.publish(&clients[0], "t", "x", Q1);
    let delivers = world.history[before..]
        .iter()
        .filter(|(_, frame)| frame.starts_with("Deliver"))
        .count();
    assert_eq!(delivers, 1);
    assert_eq!(world.state.counters().messages, 1);
    assert_eq!(world.state.counters().entries, 50);
    for client in &clients {
        let got = world.got(client);
        assert_eq!(got.len(), 1);
        world.complete(client, &got[0]);
    }
    assert_eq!(world.state.counters().messages, 0);
}

#[test]
fn a_segment_is_free_when_its_last_message_goes_and_not_while_it_is_written() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    let mut got = Vec::new();
    for n in 0..40 {
        world.publish(&a, "t", &n.to_string(), Q1);
        got.extend(world.got(&a));
    }
    let held = world.state.live_segments();
    assert!(held.len() > 3);
    assert!(world.freed.iter().all(|segment| !held.contains(segment)));
    for got in &got {
        world.complete(&a, got);
    }
    let newest = *held.last().expect("some");
    assert!(
        held[..held.len() - 1]
            .iter()
            .all(|segment| world.freed.contains(segment))
    );
    assert!(!world.freed.contains(&newest), "more may be written there");
    for _ in 0..20 {
        world.publish(&a, "t", "more", Q1);
    }
    assert!(world.freed.contains(&newest));
    let mut sorted = world.freed.clone();
    sorted.dedup();
    assert_eq!(sorted, world.freed, "each once");
}

#[test]
fn a_relocated_message_is_read_from_its_new_place() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    world.disconnect(&a);
    let p = world.connect("p");
    world.publish(&p, "t", "stays", Q1);
    let old = world.state.live_segments();
    let (found, next) = world.state.messages_in_segment(old[0], 0, 1000);
    assert_eq!((found.len(), next), (1, None));
    for n in 0..10 {
        world.publish(&p, "other", &n.to_string(), Q0);
        world.enter(vec![Command::Tick]);
    }
    let (message, at) = found[0];
    let copy = world.read(at);
    let gone = crate::command::MessageRef {
        seq: message.seq + 1,
        ..message
    };
    for message in [gone, message] {
        world.enter(vec![Command::Relocate {
            message,
            copy: copy.clone(),
            at,
        }]);
    }
    assert_eq!(world.freed, old);
    let a = world.connect("a");
    assert_eq!(world.payloads(&a), ["stays"]);
}

#[test]
fn an_unsubscribed_client_still_gets_what_was_queued_before() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    world.publish(&a, "t", "before", Q1);
    assert_eq!(world.unsubscribe(&a, "t"), ReasonCode::Success);
    assert_eq!(
        world.unsubscribe(&a, "t"),
        ReasonCode::NoSubscriptionExisted
    );
    world.publish(&a, "t", "after", Q1);
    assert_eq!(world.payloads(&a), ["before"]);
}

#[test]
fn a_publish_of_a_clean_session_outlives_its_client() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    world.disconnect(&a);
    let p = world.connect_with(
        LINK,
        Claim {
            expiry_s: 0,
            ..claim("p")
        },
    );
    world.publish(&p, "t", "x", Q1);
    world.disconnect(&p);
    let a = world.connect("a");
    assert_eq!(world.payloads(&a), ["x"]);
}
