//! The sessions of this crate with real groups behind links that can be cut anywhere, and devices that know what they
//! have been promised: each rule of several groups alone, then random schedules of everything that can go wrong.

mod broker;
mod device;
mod faults;
mod link;
mod proxy;
mod records;
mod verdict;
mod world;

use proptest::prelude::*;
use protocol::QoS;
use world::{DEVICES, EVERYTHING, Fleet, GROUPS, PROXIES};

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

/// Device 0, with its home at group 0, has subscribed to everything through proxy 0; device 1 is at proxy 1.
fn subscribed(qos: QoS) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.connect(0, 0, false, u32::MAX);
    fleet.connect(1, 1, false, u32::MAX);
    fleet.flow();
    fleet.subscribe(0, EVERYTHING, qos);
    fleet.flow();
    assert_eq!(fleet.devices[0].granted.get(&EVERYTHING), Some(&qos));
    fleet
}

#[test]
fn qos_2_crosses_groups_once() {
    let mut fleet = subscribed(Q2);
    for topic in 0..GROUPS {
        fleet.publish(1, topic, Q2);
    }
    fleet.flow();
    assert_eq!(fleet.devices[0].got.len(), GROUPS);
    fleet.finish();
}

/// Promise P3, at a group that is not the home: the publisher's connection is cut off in each phase.
#[test]
fn qos_2_goes_on_over_other_proxies() {
    for steps in 0..6 {
        let mut fleet = subscribed(Q2);
        fleet.publish(1, 2, Q2);
        for step in 0..steps {
            for group in [1, 2] {
                fleet.flow_up(1, group, usize::MAX);
                fleet.store(group, usize::MAX);
                if step % 2 == 1 {
                    fleet.flow_down(1, group, usize::MAX);
                }
            }
        }
        fleet.kill_proxy(1);
        fleet.connect(1, 0, false, u32::MAX);
        fleet.settle();
        assert_eq!(fleet.devices[0].got.len(), 1, "{steps}");
        fleet.finish();
    }
}

/// Promise P3, where another member leads in each phase: what the one before had not stored by a majority may be there
/// or not.
#[test]
fn qos_2_goes_on_with_another_leader() {
    for steps in 0..6 {
        for kept in 0..3 {
            let mut fleet = subscribed(Q2);
            fleet.publish(1, 2, Q2);
            for step in 0..steps {
                for group in [1, 2] {
                    fleet.flow_up(1, group, usize::MAX);
                    fleet.store(group, step % 2);
                    fleet.flow_down(1, group, usize::MAX);
                }
            }
            fleet.store(2, 0);
            fleet.fail_over(2, kept);
            fleet.settle();
            assert_eq!(fleet.devices[0].got.len(), 1, "{steps}, {kept}");
            assert!(fleet.devices[..2].iter().all(|device| device.connected));
            fleet.finish();
        }
    }
}

/// A publish that has left for its group is not refused, also where its publisher comes again while the group is full.
#[test]
fn what_has_left_is_not_refused() {
    for qos in [Q1, Q2] {
        let mut fleet = subscribed(qos);
        fleet.publish(1, 2, qos);
        fleet.flow_up(1, 2, usize::MAX);
        fleet.store(2, usize::MAX);
        for proxy in 0..2 {
            fleet.refuse(proxy, 2, true);
        }
        fleet.publish(1, 2, qos);
        fleet.kill_proxy(1);
        fleet.connect(1, 0, false, u32::MAX);
        // Nobody confirms that the old connection is closed.
        for _ in 0..2 {
            fleet.flow();
            fleet.wait(3_000);
        }
        fleet.flow();
        assert!(fleet.devices[1].connected, "its home has space");
        fleet.publish(1, 1, qos);
        fleet.flow();
        assert_eq!(fleet.devices[1].refused.len(), 0);
        fleet.settle();
        assert_eq!(fleet.devices[0].got.len(), 3);
        fleet.finish();
    }
}

/// Promise P2: what was acknowledged before stays through a SUBSCRIBE that fails, and what failed leaves nothing.
#[test]
fn a_subscribe_that_fails_changes_nothing() {
    let mut fleet = subscribed(Q1);
    fleet.cut(0, 2);
    fleet.subscribe(0, EVERYTHING, Q2);
    fleet.flow();
    fleet.wait(11_000);
    assert_eq!(fleet.devices[0].asked, None, "it is refused");
    fleet.settle();
    for topic in 0..GROUPS {
        fleet.publish(1, topic, Q1);
    }
    fleet.flow();
    assert_eq!(fleet.devices[0].got.len(), GROUPS);
    let subscriptions = |fleet: &Fleet| -> u64 {
        let counters = fleet.brokers.iter().map(|it| it.leader.state().counters());
        counters.map(|counters| counters.subscriptions).sum()
    };
    assert_eq!(subscriptions(&fleet), GROUPS as u64);
    // The other device had nothing before.
    fleet.publish(1, 2, Q1);
    fleet.flow();
    fleet.cut(1, 2);
    fleet.subscribe(1, EVERYTHING, Q2);
    fleet.flow();
    fleet.wait(11_000);
    assert_eq!(fleet.devices[1].asked, None, "it is refused");
    fleet.settle();
    assert_eq!(subscriptions(&fleet), GROUPS as u64);
    fleet.finish();
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
        filter: usize,
        qos: QoS,
    },
    Publish {
        device: usize,
        topic: usize,
        qos: QoS,
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
    Fill {
        proxy: usize,
        group: usize,
        full: bool,
    },
    Refuse {
        proxy: usize,
        group: usize,
        refuses: bool,
    },
    Crash {
        group: usize,
    },
    FailOver {
        group: usize,
        kept: usize,
    },
    KillProxy {
        proxy: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (device, proxy, group) = (0..DEVICES, 0..PROXIES, 0..GROUPS);
    let end = (proxy.clone(), group.clone());
    let qos = prop::sample::select(vec![Q1, Q2]);
    prop_oneof![
        4 => (device.clone(), proxy.clone(), prop::bool::weighted(0.2))
            .prop_map(|(device, proxy, clean)| Op::Connect { device, proxy, clean }),
        1 => device.clone().prop_map(|device| Op::Disconnect { device }),
        6 => (device.clone(), 0..=EVERYTHING, qos.clone())
            .prop_map(|(device, filter, qos)| Op::Subscribe { device, filter, qos }),
        10 => (device.clone(), group.clone(), qos)
            .prop_map(|(device, topic, qos)| Op::Publish { device, topic, qos }),
        6 => device.prop_map(|device| Op::Answer { device }),
        8 => (end.clone(), 1..4_usize).prop_map(|((proxy, group), frames)| Op::FlowUp { proxy, group, frames }),
        8 => (end.clone(), 1..4_usize).prop_map(|((proxy, group), frames)| Op::FlowDown { proxy, group, frames }),
        6 => Just(Op::Flow),
        6 => (group.clone(), 0..3_usize).prop_map(|(group, entries)| Op::Store { group, entries }),
        3 => prop::sample::select(vec![1, 100, 1_900, 5_000, 11_000, 11_000, 16_000, 301_000]).prop_map(|ms| Op::Wait { ms }),
        4 => end.clone().prop_map(|(proxy, group)| Op::Cut { proxy, group }),
        6 => end.clone().prop_map(|(proxy, group)| Op::Up { proxy, group }),
        2 => (end.clone(), any::<bool>()).prop_map(|((proxy, group), full)| Op::Fill { proxy, group, full }),
        2 => (end, any::<bool>()).prop_map(|((proxy, group), refuses)| Op::Refuse { proxy, group, refuses }),
        1 => group.clone().prop_map(|group| Op::Crash { group }),
        1 => (group, 0..3_usize).prop_map(|(group, kept)| Op::FailOver { group, kept }),
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
        Op::Subscribe {
            device,
            filter,
            qos,
        } => fleet.subscribe(device, filter, qos),
        Op::Publish { device, topic, qos } => fleet.publish(device, topic, qos),
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
        Op::Wait { ms } if fleet.is_remembered_for(ms) => fleet.wait(ms),
        Op::Wait { .. } => {}
        Op::Cut { proxy, group } => fleet.cut(proxy, group),
        Op::Up { proxy, group } => fleet.up(proxy, group),
        Op::Fill { proxy, group, full } => fleet.fill(proxy, group, full),
        Op::Refuse {
            proxy,
            group,
            refuses,
        } => fleet.refuse(proxy, group, refuses),
        Op::Crash { group } => fleet.crash(group),
        Op::FailOver { group, kept } => fleet.fail_over(group, kept),
        Op::KillProxy { proxy } => fleet.kill_proxy(proxy),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2_000 } else { 20_000 }))]

    /// No acknowledged message is lost, QoS 2 is exactly once, order is kept, a session is present exactly when it exists,
    /// nothing that was published after a connection's CONNACK reaches an older one, and nothing is left of a session
    /// that is over.
    #[test]
    fn promises_hold_across_groups(ops in prop::collection::vec(op(), 1..150)) {
        let mut fleet = Fleet::new();
        for op in ops {
            play(&mut fleet, op);
        }
        fleet.finish();
    }
}
