//! Retained messages (MQTT5 3.3.1.3).

use super::world::{Client, LINK, World, claim, message, options};
use crate::command::Command;
use crate::limits::MachineLimits;
use cluster::frame::{Claim, Subscribe};
use protocol::{QoS, ReasonCode, RetainHandling, SubscribeOptions, TopicFilter};
use std::collections::BTreeSet;

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;

fn retain(world: &mut World, client: &Client, topic: &str, payload: &str) {
    world.publish_with(client, message(topic, payload), Q1, true, 1);
}

#[test]
fn a_new_subscription_gets_what_is_retained() {
    for granted in [Q0, Q1, QoS::ExactlyOnce] {
        let mut world = World::new();
        let a = world.connect("a");
        retain(&mut world, &a, "t/1", "old");
        retain(&mut world, &a, "t/1", "new");
        retain(&mut world, &a, "u", "other");
        world.subscribe_with(&a, "t/+", options(granted), 4);
        let got = world.got(&a);
        assert_eq!(got.len(), 1);
        assert!(got[0].retain && !got[0].dup);
        assert_eq!(
            (&got[0].payload[..], got[0].qos, &got[0].ids[..]),
            ("new", granted.min(Q1), &[4][..])
        );
        assert_eq!(got[0].packet_id.is_some(), granted > Q0);
    }
}

#[test]
fn retain_handling_is_followed() {
    use RetainHandling::{DoNotSend, Send, SendIfNew};
    for (handling, counts) in [(Send, [1, 1]), (SendIfNew, [1, 0]), (DoNotSend, [0, 0])] {
        let mut world = World::new();
        let a = world.connect("a");
        retain(&mut world, &a, "t", "x");
        for count in counts {
            let options = SubscribeOptions {
                retain_handling: handling,
                ..options(Q1)
            };
            world.subscribe_with(&a, "t", options, 0);
            assert_eq!(world.got(&a).len(), count, "{handling:?}");
        }
    }
}

#[test]
fn an_empty_payload_removes_and_is_delivered() {
    let mut world = World::new();
    let a = world.connect("a");
    retain(&mut world, &a, "t", "x");
    world.subscribe_quiet(&a, "t", Q1);
    retain(&mut world, &a, "t", "");
    assert_eq!(world.payloads(&a), [""]);
    assert_eq!(world.state.counters().retained_messages, 0);
    assert_eq!(world.state.counters().retained_bytes, 0);
    world.subscribe(&a, "t", Q1);
    assert!(world.got(&a).is_empty());
}

#[test]
fn a_shared_subscription_gets_none() {
    let mut world = World::new();
    let a = world.connect("a");
    retain(&mut world, &a, "t", "x");
    world.subscribe(&a, "$share/g/t", Q1);
    assert!(world.got(&a).is_empty());
}

#[test]
fn a_retained_message_expires() {
    let mut world = World::new();
    let a = world.connect("a");
    world.publish_with(&a, message("t", "x").with_expiry_s(Some(10)), Q1, true, 1);
    world.pass_s(4);
    world.subscribe(&a, "t", Q0);
    assert_eq!(world.got(&a)[0].expiry_s, Some(6));
    world.pass_s(6);
    assert_eq!(world.state.counters().retained_messages, 0);
    assert_eq!(world.state.counters().messages, 0);
    assert_eq!(world.state.next_deadline_ms(), None);
    // Replaced by one that stays, the first one's time means nothing.
    world.publish_with(&a, message("t", "x").with_expiry_s(Some(10)), Q1, true, 1);
    retain(&mut world, &a, "t", "stays");
    world.pass_s(100);
    assert_eq!(world.state.counters().retained_messages, 1);
}

/// Nothing is cut: whatever the number of topics, at QoS 1 through a small window, at QoS 0 page by page.
#[test]
fn all_pages_come_each_topic_once() {
    let limits = MachineLimits {
        window_entries: 10,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let p = world.connect("p");
    for n in 0..500 {
        retain(&mut world, &p, &format!("t/{n}/x"), "x");
    }
    let a = world.connect("a");
    world.subscribe(&a, "t/+/x", Q0);
    let topics: BTreeSet<_> = world.got(&a).into_iter().map(|got| got.topic).collect();
    assert_eq!(topics.len(), 500);

    let b = world.connect("b");
    world.subscribe(&b, "t/#", Q1);
    let mut seen = Vec::new();
    loop {
        let got = world.got(&b);
        if got.is_empty() {
            break;
        }
        assert!(got.len() <= 10);
        assert!(
            world.state.counters().entries <= 10 + 128,
            "pages are read as room appears"
        );
        for got in &got {
            world.complete(&b, got);
        }
        seen.extend(got.into_iter().map(|got| got.topic));
    }
    assert_eq!(seen.len(), 500);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), topics);
}

#[test]
fn a_topic_published_to_meanwhile_is_not_sent_twice() {
    let limits = MachineLimits {
        window_entries: 1,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let p = world.connect("p");
    for n in 100..300 {
        retain(&mut world, &p, &format!("t/{n}"), "old");
    }
    let a = world.connect("a");
    world.subscribe(&a, "t/#", Q1);
    retain(&mut world, &p, "t/299", "live");
    world.publish_with(&p, message("t/298", ""), Q1, true, 1);
    let mut seen = Vec::new();
    while let [got] = &world.got(&a)[..] {
        seen.push((got.topic.clone(), got.payload.clone(), got.retain));
        world.complete(&a, got);
    }
    let of = |topic: &str| {
        seen.iter()
            .filter(|(t, ..)| t == topic)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("t/299"), [("t/299".into(), "live".into(), false)]);
    assert_eq!(of("t/298"), [("t/298".into(), String::new(), false)]);
    assert_eq!(of("t/297").len(), 1);
    assert_eq!(seen.len(), 200);
}

#[test]
fn the_cursor_outlives_the_connection_at_qos_1_only() {
    let limits = MachineLimits {
        window_entries: 1,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let p = world.connect("p");
    for n in 0..200 {
        retain(&mut world, &p, &format!("t/{n}"), "x");
    }
    let a = world.connect("a");
    world.subscribe(&a, "t/#", Q1);
    world.disconnect(&a);
    let a = world.connect("a");
    let mut seen = BTreeSet::new();
    while let [got] = &world.got(&a)[..] {
        seen.insert(got.topic.clone());
        world.complete(&a, got);
    }
    assert_eq!(seen.len(), 200);
    world.unsubscribe(&a, "t/#");
    world.subscribe(&a, "t/#", Q1);
    world.unsubscribe(&a, "t/#");
    let waiting = world.state.counters().entries;
    assert!(
        waiting < 200,
        "the rest of an ended subscription is not read"
    );
}

#[test]
fn a_full_store_refuses_new_topics_and_bytes_and_lets_old_ones_change() {
    let limits = MachineLimits {
        retained_messages: 2,
        retained_bytes: 100,
        ..MachineLimits::default()
    };
    let mut world = World::with(limits);
    let a = world.connect("a");
    world.subscribe_quiet(&a, "#", Q1);
    let mut publish = |topic, payload: &str| {
        world
            .publish_with(&a, message(topic, payload), Q1, true, 1)
            .expect("answered")
    };
    assert_eq!(publish("a", "x"), ReasonCode::Success);
    assert_eq!(publish("b", "x"), ReasonCode::Success);
    assert_eq!(publish("c", "x"), ReasonCode::QuotaExceeded);
    assert_eq!(publish("b", "y"), ReasonCode::Success);
    assert_eq!(publish("b", &"y".repeat(100)), ReasonCode::QuotaExceeded);
    assert_eq!(publish("b", ""), ReasonCode::Success);
    assert_eq!(publish("c", "x"), ReasonCode::Success);
    assert_eq!(world.state.counters().refused_retained, 2);
    assert_eq!(
        world.payloads(&a).len(),
        5,
        "a refused publish reaches nobody"
    );
}

#[test]
fn a_qos_0_message_is_retained_too() {
    let mut world = World::new();
    let a = world.connect_with(
        LINK,
        Claim {
            expiry_s: 0,
            ..claim("a")
        },
    );
    world.publish_with(&a, message("t", "x"), Q0, true, 1);
    world.disconnect(&a);
    let b = world.connect("b");
    world.subscribe(&b, "t", Q1);
    let got = world.got(&b);
    assert_eq!((got.len(), got[0].qos), (1, Q0));
}

/// However many subscriptions wait for pages, the leader is asked for one page at a time.
#[test]
fn pages_are_asked_for_one_by_one() {
    let mut world = World::new();
    let p = world.connect("p");
    for n in 0..640 {
        retain(&mut world, &p, &format!("t/{n}"), "x");
    }
    let a = world.connect("a");
    let filters = ["t/+", "t/#", "+/+", "#"];
    let filters = filters.map(|filter| (TopicFilter::new(filter).expect("a filter"), options(Q0)));
    let subscribe = |filter| {
        Command::Subscribe(Box::new(Subscribe {
            actor: a.actor,
            packet_id: super::world::id(1),
            subscription_id: 0,
            filters: vec![filter],
        }))
    };
    let before = world.entries.len();
    let mut commands = vec![Command::From {
        link: LINK,
        first: 10_000,
    }];
    commands.extend(filters.map(subscribe));
    world.enter(commands);
    assert_eq!(world.got(&a).len(), 4 * 640);
    let is_page = |command: &&Command| matches!(command, Command::Page { .. });
    for entry in &world.entries[before..] {
        assert!(entry.commands.iter().filter(is_page).count() <= 1);
    }
}
