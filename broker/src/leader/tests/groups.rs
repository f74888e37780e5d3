//! Several groups: sessions at more than their home, errands, then random schedules of everything that can go wrong.

mod fleet;

use super::*;
use cluster::slots::GroupNo;
use fleet::{DEVICES, Fleet, GROUPS, PROXIES};
use proptest::prelude::*;

fn guests(fleet: &Fleet) -> u64 {
    let counters = fleet.brokers.iter().map(|b| b.leader.state().counters());
    counters.map(|counters| counters.guests).sum()
}

fn ends_pending(fleet: &Fleet) -> u64 {
    let counters = fleet.brokers.iter().map(|b| b.leader.state().counters());
    counters.map(|counters| counters.ends_pending).sum()
}

/// Device 0, with its home at group 0, has subscribed at all groups through proxy 0, device 1 is at proxy 1.
fn subscribed() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.connect(0, 0, false, u32::MAX);
    fleet.connect(1, 1, false, u32::MAX);
    fleet.flow();
    for topic in 0..GROUPS {
        fleet.subscribe(0, topic);
    }
    fleet.flow();
    fleet
}

#[test]
fn a_session_is_at_several_groups() {
    let mut fleet = subscribed();
    for topic in 0..GROUPS {
        fleet.publish(1, topic);
    }
    fleet.flow();
    assert_eq!(fleet.devices[0].got.len(), GROUPS);
    assert_eq!(
        guests(&fleet),
        4,
        "two of the subscriber, two of the publisher"
    );
    fleet.disconnect(1);
    fleet.flow();
    assert_eq!(guests(&fleet), 2, "who only published leaves nothing");
    fleet.finish();
}

#[test]
fn a_takeover_moves_the_session_at_every_group() {
    let mut fleet = subscribed();
    fleet.connect(0, 1, false, u32::MAX);
    fleet.settle();
    assert!(fleet.is_connected(0));
    for topic in 0..GROUPS {
        fleet.publish(1, topic);
    }
    fleet.flow();
    assert_eq!(fleet.devices[0].got.len(), GROUPS);
    fleet.finish();
}

#[test]
fn an_end_reaches_a_group_that_was_away() {
    let mut fleet = subscribed();
    for proxy in 0..PROXIES {
        fleet.cut(proxy, 1);
    }
    fleet.connect(0, 0, true, 0);
    fleet.flow();
    // CONNACK waits for group 1, which may still deliver to the connection before.
    assert!(!fleet.is_connected(0));
    fleet.disconnect(0);
    fleet.flow();
    assert_eq!((guests(&fleet), ends_pending(&fleet)), (1, 1));
    fleet.crash(0);
    fleet.settle();
    assert_eq!((guests(&fleet), ends_pending(&fleet)), (0, 0));
    fleet.finish();
}

#[test]
fn an_errand_that_is_lost_comes_again() {
    let mut fleet = subscribed();
    fleet.connect(0, 0, true, u32::MAX);
    fleet.settle();
    let counters = fleet.brokers[0].leader.state().counters();
    assert_eq!((counters.errands_sent, counters.errands_repeated), (2, 0));
    // The proxy that has the next errands in hand is killed.
    for topic in 1..GROUPS {
        fleet.subscribe(0, topic);
    }
    fleet.flow();
    fleet.cut(1, 0);
    fleet.connect(0, 0, true, 0);
    for _ in 0..2 {
        fleet.flow_up(0, 0, usize::MAX);
        fleet.store(0, usize::MAX);
    }
    fleet.kill_proxy(0);
    assert_eq!(ends_pending(&fleet), 2);
    fleet.settle();
    assert_eq!((guests(&fleet), ends_pending(&fleet)), (0, 0));
    let counters = fleet.brokers[0].leader.state().counters();
    assert!(counters.errands_repeated > 0);
    fleet.finish();
}

#[test]
fn a_will_goes_to_the_group_of_its_topic() {
    let mut fleet = subscribed();
    fleet.connect_with(1, 1, false, u32::MAX, Some(2));
    fleet.settle();
    assert!(fleet.is_connected(1));
    fleet.cut(0, 2);
    fleet.cut(1, 2);
    fleet.disconnect(1);
    fleet.flow();
    fleet.crash(1);
    fleet.settle();
    let wills = fleet.devices[0].got.iter().filter(|got| *got == "will");
    assert_eq!(wills.count(), 1);
    assert!(!fleet.brokers[1].leader.state().has_errands());
}

#[test]
fn a_guest_whose_lease_is_over_joins_again() {
    let mut fleet = subscribed();
    fleet.publish(1, 1);
    fleet.flow();
    fleet.cut(0, 1);
    fleet.wait(LEASE_MS + 1);
    fleet.flow();
    fleet.publish(1, 1);
    fleet.settle();
    assert!(fleet.is_connected(0), "its home never lost it");
    assert!(fleet.devices[0].got.len() >= 2);
    fleet.finish();
}

/// A group that is away does not make the proxies keep more and more for it, and nothing waits once it is back.
#[test]
fn errands_for_a_group_that_is_away_are_bounded() {
    let mut state = State::new(MachineLimits::default());
    let ends = crate::limits::ERRANDS_UNDER_WAY as u64 + 500;
    state.forge_ends(ends, GroupNo(1));
    let mut leader = Leader::new(state, 0, clocks(0));
    let routing = std::sync::Arc::new(fleet::routing());
    let own = GroupNo(0);
    leader.route(Routes { own, routing });
    let producer = Producer {
        node: 0,
        shard: 0,
        incarnation: 1,
    };
    leader.link_up(producer);
    // The rest follows when the first are taken for lost, then all of it anew.
    let (first, all) = (1_024, ends);
    for (now_ms, sent) in [
        (0, first),
        (4_999, first),
        (5_000, all),
        (9_999, all),
        (10_000, all + first),
    ] {
        leader.advance(clocks(now_ms));
        for _ in 0..10 {
            leader.end_units(|_| false);
        }
        assert_eq!(leader.state().counters().errands_sent, sent, "at {now_ms}");
        assert!(leader.wait_ms().is_some_and(|ms| ms > 0), "nothing spins");
    }
}

#[test]
fn frames_of_a_fleet_mean_nothing_to_a_lone_group() {
    let mut broker = super::fleet::broker::Broker::new(MachineLimits::default());
    let producer = Producer {
        node: 0,
        shard: 0,
        incarnation: 1,
    };
    let link = broker.leader.link_up(producer);
    let errand = cluster::frame::Errand {
        from: GroupNo(1),
        to: GroupNo(0),
        what: cluster::frame::ErrandKind::End {
            client_id: "a".into(),
            start_epoch: cluster::ids::Epoch(1),
        },
    };
    let done = ToGroup::ErrandDone(Box::new(errand.done()));
    broker.leader.frame(link, ToGroup::Errand(Box::new(errand)));
    broker.leader.frame(link, done);
    assert_eq!(broker.leader.frames_out_of_turn(), 2);
    broker.store(usize::MAX);
    assert_eq!(
        broker.logged(|command| matches!(command, Command::End { .. })),
        0
    );
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Connect {
        device: usize,
        proxy: usize,
        clean: bool,
    },
    Disconnect {
        device: usize,
    },
    Subscribe {
        device: usize,
        topic: usize,
    },
    Publish {
        device: usize,
        topic: usize,
    },
    Answer {
        device: usize,
    },
    FlowUp {
        proxy: usize,
        group: usize,
        frames: usize,
    },
    FlowDown {
        proxy: usize,
        group: usize,
        frames: usize,
    },
    Flow,
    Store {
        group: usize,
        entries: usize,
    },
    Wait {
        ms: u64,
    },
    Cut {
        proxy: usize,
        group: usize,
    },
    Up {
        proxy: usize,
        group: usize,
    },
    Crash {
        group: usize,
    },
    KillProxy {
        proxy: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (device, proxy, group) = (0..DEVICES, 0..PROXIES, 0..GROUPS);
    let end = (proxy.clone(), group.clone());
    let said = (device.clone(), group.clone());
    prop_oneof![
        4 => (device.clone(), proxy.clone(), prop::bool::weighted(0.2))
            .prop_map(|(device, proxy, clean)| Op::Connect { device, proxy, clean }),
        1 => device.clone().prop_map(|device| Op::Disconnect { device }),
        6 => said.clone().prop_map(|(device, topic)| Op::Subscribe { device, topic }),
        10 => said.prop_map(|(device, topic)| Op::Publish { device, topic }),
        4 => device.prop_map(|device| Op::Answer { device }),
        8 => (end.clone(), 1..4_usize).prop_map(|((proxy, group), frames)| Op::FlowUp { proxy, group, frames }),
        8 => (end.clone(), 1..4_usize).prop_map(|((proxy, group), frames)| Op::FlowDown { proxy, group, frames }),
        6 => Just(Op::Flow),
        6 => (group.clone(), 0..3_usize).prop_map(|(group, entries)| Op::Store { group, entries }),
        2 => prop::sample::select(vec![1, 100, 2_000, 16_000]).prop_map(|ms| Op::Wait { ms }),
        4 => end.clone().prop_map(|(proxy, group)| Op::Cut { proxy, group }),
        6 => end.prop_map(|(proxy, group)| Op::Up { proxy, group }),
        1 => group.prop_map(|group| Op::Crash { group }),
        1 => proxy.prop_map(|proxy| Op::KillProxy { proxy }),
    ]
}

fn play(fleet: &mut Fleet, op: Op) {
    match op {
        Op::Connect {
            device,
            proxy,
            clean,
        } => fleet.connect(device, proxy, clean, u32::MAX),
        Op::Disconnect { device } => fleet.disconnect(device),
        Op::Subscribe { device, topic } => fleet.subscribe(device, topic),
        Op::Publish { device, topic } => fleet.publish(device, topic),
        Op::Answer { device } => drop(fleet.answer(device)),
        Op::FlowUp {
            proxy,
            group,
            frames,
        } => drop(fleet.flow_up(proxy, group, frames)),
        Op::FlowDown {
            proxy,
            group,
            frames,
        } => drop(fleet.flow_down(proxy, group, frames)),
        Op::Flow => fleet.flow(),
        Op::Store { group, entries } => fleet.store(group, entries),
        Op::Wait { ms } => fleet.wait(ms),
        Op::Cut { proxy, group } => fleet.cut(proxy, group),
        Op::Up { proxy, group } => fleet.up(proxy, group),
        Op::Crash { group } => fleet.crash(group),
        Op::KillProxy { proxy } => fleet.kill_proxy(proxy),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 5_000 }))]

    /// No acknowledged message is lost, order is kept, nothing that was published after a connection's CONNACK reaches
    /// an older one, and no group keeps anything of a session that is over.
    #[test]
    fn promises_hold_across_groups(ops in prop::collection::vec(op(), 1..150)) {
        let mut fleet = Fleet::new();
        for op in ops {
            play(&mut fleet, op);
        }
        fleet.finish();
    }
}
