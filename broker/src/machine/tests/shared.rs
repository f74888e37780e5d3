//! Shared subscriptions (MQTT5 4.8.2).

use super::world::{Client, World, message};
use crate::command::Command;
use crate::limits::{MachineLimits, QueueFull, ShareStrategy};
use cluster::frame::AckKind;
use cluster::ids::LinkNo;
use protocol::{QoS, ReasonCode};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// A publisher and three members of one shared subscription.
fn three(limits: MachineLimits, filter: &str, qos: QoS) -> (World, Client, [Client; 3]) {
    let mut world = World::with(limits);
    let p = world.connect("p");
    let members = ["a", "b", "c"].map(|id| world.connect(id));
    for member in &members {
        world.subscribe(member, filter, qos);
    }
    (world, p, members)
}

fn publish_n(world: &mut World, p: &Client, count: usize, qos: QoS) {
    for n in 0..count {
        world.publish_with(p, message("t", &n.to_string()), qos, false, 1);
        if qos == Q2 {
            world.release(p, 1);
        }
    }
}

fn strategy(share_strategy: ShareStrategy) -> MachineLimits {
    MachineLimits {
        share_strategy,
        ..MachineLimits::default()
    }
}

#[test]
fn each_message_goes_to_one_member_in_turns() {
    for qos in [Q0, Q1, Q2] {
        for filter in ["$share/g/t", "$queue/t", "$share/g/#"] {
            let (mut world, p, members) = three(MachineLimits::default(), filter, qos);
            publish_n(&mut world, &p, 6, qos);
            let got = members.each_ref().map(|member| world.payloads(member));
            assert_eq!(
                got,
                [["0", "3"], ["1", "4"], ["2", "5"]],
                "{qos:?} {filter}"
            );
        }
    }
}

#[test]
fn two_groups_and_an_ordinary_subscription_each_get_their_own() {
    let (mut world, p, members) = three(MachineLimits::default(), "$share/g/t", Q1);
    world.subscribe(&members[0], "$share/h/t", Q1);
    world.subscribe(&members[0], "t", Q1);
    world.publish(&p, "t", "x", Q1);
    let counts = members.each_ref().map(|member| world.got(member).len());
    assert_eq!(counts.iter().sum::<usize>(), 3);
    assert!(counts[0] >= 2);
}

#[test]
fn the_queue_keeps_messages_while_no_member_is_there() {
    let (mut world, p, members) = three(MachineLimits::default(), "$share/g/t", Q1);
    for member in &members {
        world.disconnect(member);
    }
    publish_n(&mut world, &p, 4, Q1);
    publish_n(&mut world, &p, 4, Q0);
    assert_eq!(world.state.counters().dropped_shared_qos0, 4);
    let b = world.connect("b");
    assert_eq!(world.payloads(&b), ["0", "1", "2", "3"]);
}

#[test]
fn a_leaving_members_qos_1_goes_to_others_in_order_and_its_qos_2_stays() {
    for unsubscribes in [false, true] {
        let (mut world, p, [a, b, c]) = three(MachineLimits::default(), "$share/g/t", Q2);
        world.disconnect(&b);
        world.disconnect(&c);
        publish_n(&mut world, &p, 3, Q1);
        publish_n(&mut world, &p, 1, Q2);
        let got = world.got(&a);
        assert_eq!(got.len(), 4);
        world.complete(&a, &got[1]);
        if unsubscribes {
            world.unsubscribe(&a, "$share/g/t");
        }
        world.disconnect(&a);
        let b = world.connect("b");
        let moved = world.got(&b);
        let expected: &[&str] = if unsubscribes { &[] } else { &["0", "2"] };
        assert_eq!(
            moved.iter().map(|got| &got.payload[..]).collect::<Vec<_>>(),
            expected
        );
        assert!(moved.iter().all(|got| !got.dup));
        let a = world.connect("a");
        let again = world.got(&a);
        let kept: &[(&str, QoS)] = if unsubscribes {
            &[("0", Q1), ("2", Q1), ("0", Q2)]
        } else {
            &[("0", Q2)]
        };
        let seen: Vec<_> = again
            .iter()
            .map(|got| (&got.payload[..], got.qos))
            .collect();
        assert_eq!(seen, kept);
        assert_eq!(again.last().and_then(|got| got.packet_id), got[3].packet_id);
        assert!(again.iter().all(|got| got.dup));
        for (client, got) in [(&a, again), (&b, moved)] {
            for got in &got {
                world.complete(client, got);
            }
        }
        assert_eq!(world.state.counters().entries, 0);
        assert_eq!(world.state.counters().messages, 0);
    }
}

#[test]
fn a_received_qos_2_delivery_stays_with_its_member() {
    let (mut world, p, [a, ..]) = three(MachineLimits::default(), "$share/g/t", Q2);
    publish_n(&mut world, &p, 1, Q2);
    let got = world.got(&a);
    world.ack(&a, got[0].packet_id.expect("QoS 2"), AckKind::Received);
    world.disconnect(&a);
    let a = world.connect("a");
    assert!(world.got(&a).is_empty());
    world.ack(&a, got[0].packet_id.expect("QoS 2"), AckKind::Complete);
    assert_eq!(world.state.counters().entries, 0);
}

#[test]
fn members_on_one_lost_link_do_not_get_each_others_messages() {
    let mut world = World::new();
    world.link_up(LinkNo(1), 3);
    let p = world.connect("p");
    let lost = ["a", "b"].map(|id| world.connect_with(LinkNo(1), super::world::claim(id)));
    for member in &lost {
        world.subscribe(member, "$share/g/t", Q1);
    }
    publish_n(&mut world, &p, 4, Q1);
    for member in &lost {
        drop(world.got(member));
    }
    world.enter(vec![Command::LinkDown { link: LinkNo(1) }]);
    for member in &lost {
        assert!(world.got(member).is_empty());
    }
    let a = world.connect("a");
    assert_eq!(world.payloads(&a), ["0", "1", "2", "3"]);
}

#[test]
fn a_full_member_is_passed_over() {
    let limits = MachineLimits {
        window_entries: 1,
        ..MachineLimits::default()
    };
    let (mut world, p, [a, b, c]) = three(limits, "$share/g/t", Q1);
    publish_n(&mut world, &p, 5, Q1);
    assert_eq!(world.payloads(&a), ["0"]);
    let got = world.got(&b);
    assert_eq!(world.payloads(&c), ["2"]);
    world.complete(&b, &got[0]);
    let got = world.got(&b);
    assert_eq!(got[0].payload, "3");
    world.complete(&b, &got[0]);
    assert_eq!(world.payloads(&b), ["4"]);
}

#[test]
fn sticky_stays_with_one_until_it_leaves() {
    let (mut world, p, [a, b, c]) = three(strategy(ShareStrategy::Sticky), "$share/g/t", Q1);
    publish_n(&mut world, &p, 3, Q1);
    let got = world.got(&a);
    assert_eq!(got.len(), 3);
    for got in &got {
        world.complete(&a, got);
    }
    world.disconnect(&a);
    publish_n(&mut world, &p, 3, Q1);
    assert_eq!((world.got(&b).len(), world.got(&c).len()), (3, 0));
}

#[test]
fn least_in_flight_goes_to_the_least_loaded() {
    let (mut world, p, [a, b, c]) = three(strategy(ShareStrategy::LeastInFlight), "$share/g/t", Q1);
    publish_n(&mut world, &p, 6, Q1);
    let got = world.got(&b);
    for got in &got {
        world.complete(&b, got);
    }
    publish_n(&mut world, &p, 2, Q1);
    assert_eq!([&a, &c].map(|member| world.got(member).len()), [2, 2]);
    assert_eq!(world.got(&b).len(), 2);
}

#[test]
fn hash_by_client_keeps_a_publisher_with_one_member() {
    for qos in [Q0, Q1] {
        let (mut world, _, members) =
            three(strategy(ShareStrategy::HashByClient), "$share/g/t", qos);
        let mut used = [0; 3];
        for n in 0..24 {
            let p = world.connect(&format!("p{n}"));
            publish_n(&mut world, &p, 3, qos);
            let counts = members.each_ref().map(|member| world.got(member).len());
            assert_eq!(
                counts.iter().filter(|count| **count == 3).count(),
                1,
                "{counts:?}"
            );
            counts
                .iter()
                .zip(&mut used)
                .for_each(|(count, used)| *used += count);
        }
        assert!(used.iter().all(|used| *used > 0), "{used:?}");
    }
}

#[test]
fn ordered_keeps_publisher_and_topic_with_one_member_while_it_lives() {
    let limits = MachineLimits {
        window_entries: 2,
        ..MachineLimits::default()
    };
    let (mut world, p, members) = three(limits, "$oshare/g/#", Q1);
    let mut holder = std::collections::BTreeMap::new();
    let mut last = std::collections::BTreeMap::new();
    for n in 0..300 {
        let topic = format!("t/{}", n % 10);
        world.publish(&p, &topic, &n.to_string(), Q1);
        if n % 3 == 0 {
            drain(&mut world, &members, &mut holder, &mut last);
        }
    }
    while world.state.counters().entries > 0 {
        drain(&mut world, &members, &mut holder, &mut last);
    }
    assert_eq!(holder.len(), 10);
    let users: std::collections::BTreeSet<_> = holder.values().collect();
    assert_eq!(users.len(), 3);
    // One goes: its topics go to others, the others' stay.
    world.disconnect(&members[0]);
    for (topic, was) in holder {
        world.publish(&p, &topic, "x", Q1);
        for (n, member) in members.iter().enumerate().skip(1) {
            let got = world.got(member);
            for got in &got {
                world.complete(member, got);
            }
            assert!(got.is_empty() || was == 0 || was == n);
        }
    }
}

fn drain(
    world: &mut World,
    members: &[Client; 3],
    holder: &mut std::collections::BTreeMap<String, usize>,
    last: &mut std::collections::BTreeMap<String, u32>,
) {
    for (n, member) in members.iter().enumerate() {
        for got in world.got(member) {
            world.complete(member, &got);
            assert_eq!(
                *holder.entry(got.topic.clone()).or_insert(n),
                n,
                "{}",
                got.topic
            );
            let number: u32 = got.payload.parse().expect("a number");
            let before = last.insert(got.topic, number);
            assert!(before.is_none_or(|before| before < number));
        }
    }
}

#[test]
fn the_queue_lives_as_long_as_a_member_session() {
    let (mut world, p, [a, b, c]) = three(MachineLimits::default(), "$share/g/t", Q1);
    assert_eq!(world.state.counters().shared_queues, 1);
    for member in [&a, &b] {
        assert_eq!(world.unsubscribe(member, "$share/g/t"), ReasonCode::Success);
    }
    world.disconnect(&c);
    publish_n(&mut world, &p, 2, Q1);
    let c = world.connect_with(
        super::world::LINK,
        cluster::frame::Claim {
            clean_start: true,
            ..super::world::claim("c")
        },
    );
    assert!(world.got(&c).is_empty());
    let counters = world.state.counters();
    assert_eq!(
        (
            counters.shared_queues,
            counters.subscriptions,
            counters.entries
        ),
        (0, 0, 0)
    );
    assert_eq!(counters.dropped_shared_end, 2);
    assert_eq!(
        world.publish(&p, "t", "x", Q1),
        Some(ReasonCode::NoMatchingSubscribers)
    );
}

#[test]
fn a_full_shared_queue_follows_the_rule() {
    for (queue_full, left) in [
        (QueueFull::DropOldest, ["2", "3"]),
        (QueueFull::DropNewest, ["0", "1"]),
        (QueueFull::Refuse, ["0", "1"]),
    ] {
        let limits = MachineLimits {
            shared_messages: 2,
            queue_full,
            ..MachineLimits::default()
        };
        let (mut world, p, members) = three(limits, "$share/g/t", Q1);
        for member in &members {
            world.disconnect(member);
        }
        publish_n(&mut world, &p, 4, Q1);
        let a = world.connect("a");
        assert_eq!(world.payloads(&a), left, "{queue_full:?}");
        let counters = world.state.counters();
        assert_eq!(
            counters.dropped_shared_full + counters.refused_queue_full,
            2
        );
    }
}

#[test]
fn a_qos_0_member_beside_qos_1_members_gets_its_share_at_qos_0() {
    let mut world = World::new();
    let p = world.connect("p");
    let (a, b) = (world.connect("a"), world.connect("b"));
    world.subscribe(&a, "$share/g/t", Q0);
    world.subscribe(&b, "$share/g/t", Q1);
    publish_n(&mut world, &p, 4, Q1);
    assert_eq!(
        world.got(&a).iter().map(|got| got.qos).collect::<Vec<_>>(),
        [Q0, Q0]
    );
    assert_eq!(
        world.got(&b).iter().map(|got| got.qos).collect::<Vec<_>>(),
        [Q1, Q1]
    );
    assert_eq!(world.state.counters().messages, 2);
}

#[test]
fn a_small_message_does_not_overtake_a_large_one_of_its_topic() {
    let limits = MachineLimits {
        window_bytes: 120,
        ..MachineLimits::default()
    };
    let (mut world, p, [a, b, c]) = three(limits, "$oshare/g/t", Q1);
    world.disconnect(&b);
    world.disconnect(&c);
    for payload in ["1".repeat(80), "2".repeat(80), "3".into()] {
        world.publish(&p, "t", &payload, Q1);
    }
    let first = world.got(&a);
    assert_eq!(first.len(), 1);
    world.complete(&a, &first[0]);
    let rest: Vec<_> = world.payloads(&a).iter().map(String::len).collect();
    assert_eq!(rest, [80, 1]);
}

#[test]
fn a_full_member_holds_up_its_own_publishers_only() {
    let limits = MachineLimits {
        window_entries: 1,
        ..strategy(ShareStrategy::HashByClient)
    };
    let (mut world, _, members) = three(limits, "$share/g/t", Q1);
    let mut blocked = std::collections::BTreeSet::new();
    for n in 0..30 {
        let p = world.connect(&format!("p{n}"));
        world.publish(&p, "t", "x", Q1);
        world.publish(&p, "t", "x", Q1);
        for (n, member) in members.iter().enumerate() {
            if !world.got(member).is_empty() {
                assert!(blocked.insert(n), "the window is full");
            }
        }
    }
    assert_eq!(blocked.len(), 3, "nobody waits behind another's publishers");
}
