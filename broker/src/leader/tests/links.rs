//! Link sessions: each rule alone, then random schedules of everything that can go wrong.

use super::fleet::{DEVICES, Fleet, PROXIES, TOPICS};
use super::*;
use crate::command::Command;
use cluster::frame::{ListFilters, Resume};
use proptest::prelude::*;

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

fn producer(node: u32, incarnation: u64) -> Producer {
    Producer {
        node,
        shard: 0,
        incarnation,
    }
}

fn resume() -> ToGroup {
    ToGroup::Resume(Box::default())
}

/// A device that has subscribed at proxy 0, and one that publishes at proxy 1.
fn subscribed(qos: QoS) -> Fleet {
    let mut fleet = Fleet::new(MachineLimits::default());
    fleet.connect(0, 0);
    fleet.connect(1, 1);
    fleet.flow();
    fleet.subscribe(0, 0, qos);
    fleet.flow();
    assert_eq!(fleet.devices[0].granted.get(&0), Some(&qos));
    fleet
}

#[test]
fn a_lost_link_leaves_its_sessions_and_what_they_missed_comes_with_the_next() {
    let mut fleet = subscribed(Q1);
    fleet.publish(1, 0, Q1);
    fleet.flow();
    fleet.cut(0);
    fleet.publish(1, 0, Q1);
    fleet.publish(1, 0, Q1);
    fleet.flow();
    assert_eq!(fleet.devices[0].got.len(), 1);
    assert_eq!(fleet.broker.leader.state().counters().attached, 2);
    fleet.up(0);
    fleet.flow();
    assert_eq!(fleet.devices[0].got.len(), 3);
    assert!(fleet.devices[0].at.is_some(), "it kept its socket");
    fleet.finish();
}

#[test]
fn a_restart_of_the_group_is_not_seen_by_connections() {
    let mut fleet = subscribed(Q2);
    fleet.publish(1, 0, Q2);
    fleet.flow_up(1, usize::MAX);
    fleet.crash();
    for proxy in 0..PROXIES {
        fleet.up(proxy);
    }
    fleet.flow();
    assert!(fleet.devices[0].at.is_some() && fleet.devices[1].at.is_some());
    assert_eq!(fleet.devices[0].got.len(), 1);
    let downs = |command: &Command| matches!(command, Command::LinkDown { .. });
    let ups = |command: &Command| matches!(command, Command::LinkUp { .. });
    assert_eq!(fleet.broker.logged(downs), 0);
    assert_eq!(
        fleet.broker.logged(ups),
        PROXIES,
        "known links are not logged again"
    );
    fleet.finish();
}

#[test]
fn a_link_without_a_session_ends_with_its_lease_and_not_before() {
    let mut fleet = subscribed(Q1);
    fleet.cut(0);
    fleet.broker.wait(LEASE_MS - 1);
    fleet.flow_up(1, 0);
    fleet.broker.store(usize::MAX);
    assert_eq!(fleet.broker.leader.state().counters().attached, 2);
    fleet.broker.wait(1);
    fleet.broker.store(usize::MAX);
    assert_eq!(fleet.broker.leader.state().counters().attached, 1);
    fleet.up(0);
    fleet.flow();
    assert_eq!(
        fleet.devices[0].at, None,
        "it is told that it owns nothing any more"
    );
    fleet.finish();
}

/// The group forgets a producer after ten minutes; that is on its way through the log when the producer comes back.
#[test]
fn a_link_that_comes_back_while_its_producer_is_forgotten_serves() {
    let mut fleet = subscribed(Q1);
    fleet.cut(0);
    fleet.broker.wait(LEASE_MS);
    fleet.broker.store(usize::MAX);
    fleet.broker.wait(crate::limits::PRODUCER_MEMORY_MS);
    fleet.up(0);
    fleet.flow();
    assert_eq!(fleet.devices[0].at, None, "it is told that it owns nothing");
    fleet.connect(0, 0);
    fleet.publish(1, 0, Q1);
    fleet.finish();
    assert_eq!(fleet.devices[0].got.len(), 1);
}

#[test]
fn the_lease_runs_from_the_reigns_start_too() {
    let mut fleet = subscribed(Q1);
    fleet.crash();
    fleet.broker.wait(LEASE_MS - 1);
    fleet.broker.store(usize::MAX);
    assert_eq!(fleet.broker.leader.state().counters().attached, 2);
    fleet.up(1);
    fleet.broker.wait(1);
    fleet.broker.store(usize::MAX);
    assert_eq!(fleet.broker.leader.state().counters().attached, 1);
    fleet.finish();
}

#[test]
fn a_later_life_of_a_node_ends_the_one_before_at_once() {
    let mut fleet = subscribed(Q1);
    fleet.kill_proxy(0);
    assert_eq!(fleet.broker.leader.state().counters().attached, 2);
    fleet.up(0);
    fleet.flow();
    assert_eq!(fleet.broker.leader.state().counters().attached, 1);
    let before = fleet.broker.leader.session_up(producer(1, 0));
    assert_eq!(before, Err(LinkRefused::Superseded));
    fleet.finish();
}

#[test]
fn a_second_session_of_a_producer_replaces_the_first() {
    let mut world = World::new();
    let (first, known) = world.leader.session_up(producer(9, 1)).expect("it serves");
    assert!(!known);
    world.settle();
    let (second, known) = world.leader.session_up(producer(9, 1)).expect("it serves");
    assert!(known);
    assert_eq!(first, second);
}

#[test]
fn links_are_refused_before_the_group_serves_and_when_there_are_too_many() {
    let mut leader = Leader::new(State::new(MachineLimits::default()), 0, clocks(0));
    let refused = leader.session_up(producer(1, 1));
    assert_eq!(refused, Err(LinkRefused::NotServing));
    let mut world = World::new();
    for node in 2..u32::from(LinkNo::MAX) {
        world
            .leader
            .session_up(producer(node, 1))
            .expect("numbers are left");
    }
    let refused = world.leader.session_up(producer(5_000, 1));
    assert_eq!(refused, Err(LinkRefused::TooManyLinks));
}

#[test]
fn frames_before_the_resume_or_the_first_number_are_not_taken() {
    let mut world = World::new();
    let (link, _) = world.leader.session_up(producer(9, 1)).expect("it serves");
    let frame = || ToGroup::Claim(Box::new(claim(1, "a")));
    world.leader.frame(link, frame());
    world.leader.frame(link, resume());
    world.leader.end_units(|_| false);
    world.leader.frame(link, frame());
    world.leader.frame(link, resume());
    assert_eq!(world.leader.frames_out_of_turn(), 3);
    world.settle();
    assert_eq!(world.leader.state().owner("a"), None);
    let (first, resent) = (1, false);
    world.leader.frame(link, ToGroup::Number { first, resent });
    world.leader.frame(link, frame());
    world.settle();
    assert!(world.leader.state().owner("a").is_some());
}

/// Frames for a link of another process, as a turn sends them.
fn unit(world: &mut World, link: LinkNo) -> Vec<FromGroup> {
    world.leader.end_units(|_| false);
    world.frames(link.0)
}

/// A session of a new producer with a connected client.
fn linked(world: &mut World) -> (LinkNo, Actor) {
    let (link, _) = world.leader.session_up(producer(9, 1)).expect("it serves");
    world.leader.frame(link, resume());
    world.leader.end_units(|_| false);
    let (first, resent) = (1, false);
    world.leader.frame(link, ToGroup::Number { first, resent });
    let frame = ToGroup::Claim(Box::new(claim(1, "a")));
    world.leader.frame(link, frame);
    world.settle();
    let frames = unit(world, link);
    assert!(matches!(frames.last(), Some(FromGroup::Done { number: 1 })));
    (link, claimed(&frames).expect("the client id is free"))
}

fn publish_frame(actor: Actor, topic: &str, id: u16, retain: bool) -> ToGroup {
    ToGroup::Publish(Publish {
        actor,
        packet_id: PacketId::new(id),
        qos: Q1,
        retain,
        message: message(topic, b"x"),
    })
}

fn answered(frames: &[FromGroup]) -> Vec<u16> {
    let ids = frames.iter().filter_map(|frame| match frame {
        FromGroup::Published { packet_id, .. } => Some(packet_id.get()),
        _ => None,
    });
    ids.collect()
}

fn done(frames: &[FromGroup]) -> Option<u64> {
    match frames.last() {
        Some(FromGroup::Done { number }) => Some(*number),
        Some(other) => panic!("{other:?} does not end a unit"),
        None => None,
    }
}

#[test]
fn an_answer_never_leaves_in_a_unit_that_does_not_cover_its_frame() {
    let mut world = World::new();
    let (link, actor) = linked(&mut world);
    // Stored; needs no storing; stored.
    for (id, retain) in [(1, true), (2, false), (3, true)] {
        world
            .leader
            .frame(link, publish_frame(actor, "t", id, retain));
    }
    // Of another topic, so that its order does not put it into the log.
    world
        .leader
        .frame(link, publish_frame(actor, "other", 4, false));
    assert_eq!(done(&unit(&mut world, link)), None, "nothing to say");
    world.settle();
    let frames = unit(&mut world, link);
    assert_eq!(done(&frames), Some(5));
    let mut ids = answered(&frames);
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4]);
    // With nothing under way the answer leaves at once.
    world
        .leader
        .frame(link, publish_frame(actor, "other", 5, false));
    let frames = unit(&mut world, link);
    assert_eq!((answered(&frames), done(&frames)), (vec![5], Some(6)));
}

#[test]
fn an_answer_that_waits_for_a_lazy_acknowledgement_makes_it_hurry() {
    let mut world = World::new();
    let (link, actor) = linked(&mut world);
    let unknown = PacketId::MIN;
    world.leader.frame(link, ack(actor, unknown));
    assert_eq!(world.append(), 0, "it waits for company");
    world
        .leader
        .frame(link, publish_frame(actor, "t", 7, false));
    assert!(answered(&unit(&mut world, link)).is_empty());
    assert_eq!(world.append(), 1);
    world.store();
    let frames = unit(&mut world, link);
    assert_eq!((answered(&frames), done(&frames)), (vec![7], Some(3)));
}

/// What is listed is in no entry, and says what is stored.
#[test]
fn a_page_of_filters_comes_behind_what_its_producer_sent_before() {
    let mut world = World::new();
    let (link, actor) = linked(&mut world);
    let ask = |number| {
        ToGroup::ListFilters(Box::new(ListFilters {
            actor,
            number,
            after: None,
        }))
    };
    let listed = |frames: &[FromGroup]| {
        let page = frames.iter().find_map(|frame| match frame {
            FromGroup::Filters(page) => Some(page),
            _ => None,
        });
        page.map(|page| (page.number, page.filters.len()))
    };
    world.leader.frame(link, ask(1));
    let frames = unit(&mut world, link);
    assert_eq!((listed(&frames), done(&frames)), (Some((1, 0)), Some(2)));
    world.leader.frame(link, subscribe_frame(actor, "a", Q1));
    world.leader.frame(link, ask(2));
    assert_eq!(listed(&unit(&mut world, link)), None);
    world.settle();
    let frames = unit(&mut world, link);
    assert_eq!((listed(&frames), done(&frames)), (Some((2, 0)), Some(4)));
    world.leader.frame(link, ask(3));
    let frames = unit(&mut world, link);
    assert_eq!((listed(&frames), done(&frames)), (Some((3, 1)), Some(5)));
}

#[test]
fn a_repeat_is_answered_from_the_state_and_not_logged() {
    let mut world = World::new();
    let (link, actor) = linked(&mut world);
    let frames = || {
        [
            publish_frame(actor, "t", 1, true),
            publish_frame(actor, "t", 2, false),
        ]
    };
    for frame in frames() {
        world.leader.frame(link, frame);
    }
    world.settle();
    assert_eq!(done(&unit(&mut world, link)), Some(3));
    let published = world.leader.state().counters().published_logged;
    world.leader.session_lost(link);
    world.leader.session_up(producer(9, 1)).expect("it serves");
    let reattach = cluster::frame::Reattach {
        actor,
        handle: handle(1),
        last: None,
    };
    let sessions = vec![reattach];
    world.leader.frame(
        link,
        ToGroup::Resume(Box::new(Resume {
            sessions,
            ..Resume::default()
        })),
    );
    assert_eq!(done(&unit(&mut world, link)), None, "nothing was missed");
    let (first, resent) = (2, true);
    world.leader.frame(link, ToGroup::Number { first, resent });
    for frame in frames() {
        world.leader.frame(link, frame);
    }
    let frames = unit(&mut world, link);
    assert_eq!((answered(&frames), done(&frames)), (vec![1, 2], Some(3)));
    world.settle();
    assert_eq!(world.leader.state().counters().published_logged, published);
}

#[test]
fn a_repeat_of_a_refused_publish_is_refused_again() {
    let mut world = World::with(MachineLimits {
        retained_messages: 1,
        ..MachineLimits::default()
    });
    let (link, actor) = linked(&mut world);
    let frames = || {
        [
            publish_frame(actor, "t", 1, true),
            publish_frame(actor, "u", 2, true),
        ]
    };
    let reasons = |frames: &[FromGroup]| -> Vec<bool> {
        let reasons = frames.iter().filter_map(|frame| match frame {
            FromGroup::Published { reason, .. } => Some(reason.is_error()),
            _ => None,
        });
        reasons.collect()
    };
    for frame in frames() {
        world.leader.frame(link, frame);
    }
    world.settle();
    assert_eq!(reasons(&unit(&mut world, link)), [false, true]);
    world.leader.session_up(producer(9, 1)).expect("it serves");
    world.leader.frame(link, resume());
    world.leader.end_units(|_| false);
    let (first, resent) = (2, true);
    world.leader.frame(link, ToGroup::Number { first, resent });
    for frame in frames() {
        world.leader.frame(link, frame);
    }
    assert_eq!(reasons(&unit(&mut world, link)), [false, true]);
}

#[test]
fn a_resume_waits_until_what_the_session_before_brought_is_applied() {
    let mut world = World::new();
    let (link, actor) = linked(&mut world);
    world.leader.frame(link, publish_frame(actor, "t", 1, true));
    world.append();
    world.leader.session_up(producer(9, 1)).expect("it serves");
    assert!(!world.leader.is_ready(link));
    world.store();
    assert!(world.leader.is_ready(link));
}

#[test]
fn much_that_was_missed_is_sent_slice_by_slice_and_nothing_new_overtakes_it() {
    let mut fleet = subscribed(Q1);
    fleet.connect(2, 0);
    fleet.flow();
    fleet.subscribe(2, 0, Q1);
    fleet.flow();
    fleet.cut(0);
    for _ in 0..20 {
        fleet.publish(1, 0, Q1);
    }
    fleet.flow();
    fleet.up(0);
    let link = fleet.proxies[0].link.expect("just brought up");
    // A full link gets nothing yet.
    fleet.broker.leader.end_units(|_| true);
    let frame = ToGroup::Resume(Box::default());
    fleet.broker.leader.frame(link, frame);
    fleet.broker.leader.end_units(|_| true);
    assert!(fleet.broker.leader.is_resuming());
    assert!(!fleet.broker.leader.is_ready(link));
    fleet.broker.leader.end_units(|_| false);
    assert!(!fleet.broker.leader.is_resuming());
    assert!(fleet.broker.leader.is_ready(link));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Connect {
        device: usize,
        proxy: usize,
    },
    Disconnect {
        device: usize,
    },
    Subscribe {
        device: usize,
        topic: usize,
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
        frames: usize,
    },
    FlowDown {
        proxy: usize,
        frames: usize,
    },
    Flow,
    Store {
        entries: usize,
    },
    Wait {
        ms: u64,
    },
    Cut {
        proxy: usize,
    },
    Up {
        proxy: usize,
    },
    Crash,
    KillProxy {
        proxy: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (device, proxy, topic) = (0..DEVICES, 0..PROXIES, 0..TOPICS.len());
    let qos = || prop::sample::select(vec![QoS::AtMostOnce, Q1, Q2]);
    let some_qos = || prop::sample::select(vec![Q1, Q2]);
    prop_oneof![
        3 => (device.clone(), proxy.clone()).prop_map(|(device, proxy)| Op::Connect { device, proxy }),
        1 => device.clone().prop_map(|device| Op::Disconnect { device }),
        3 => (device.clone(), topic.clone(), some_qos())
            .prop_map(|(device, topic, qos)| Op::Subscribe { device, topic, qos }),
        10 => (device.clone(), topic, qos())
            .prop_map(|(device, topic, qos)| Op::Publish { device, topic, qos }),
        8 => device.prop_map(|device| Op::Answer { device }),
        8 => (proxy.clone(), 1..6_usize).prop_map(|(proxy, frames)| Op::FlowUp { proxy, frames }),
        8 => (proxy.clone(), 1..6_usize).prop_map(|(proxy, frames)| Op::FlowDown { proxy, frames }),
        4 => Just(Op::Flow),
        6 => (0..3_usize).prop_map(|entries| Op::Store { entries }),
        2 => prop::sample::select(vec![1, 100, 2_000, 16_000]).prop_map(|ms| Op::Wait { ms }),
        4 => proxy.clone().prop_map(|proxy| Op::Cut { proxy }),
        6 => proxy.clone().prop_map(|proxy| Op::Up { proxy }),
        2 => Just(Op::Crash),
        1 => proxy.prop_map(|proxy| Op::KillProxy { proxy }),
    ]
}

/// What a connection published whose link was given up comes too late: its client sends all of it again, from the
/// first that was not acknowledged.
#[test]
fn what_comes_after_a_lease_is_left_to_the_client() {
    let mut fleet = Fleet::new(MachineLimits::default());
    fleet.connect(2, 0);
    fleet.flow();
    fleet.publish(2, 1, Q2);
    fleet.subscribe(2, 1, Q1);
    fleet.cut(0);
    fleet.broker.wait(16_000);
    fleet.publish(2, 1, Q2);
    fleet.up(0);
    fleet.finish();
    assert_eq!(fleet.devices[2].got, ["000001 2 1 2", "000002 2 1 2"]);
}

fn play(fleet: &mut Fleet, op: Op) {
    match op {
        Op::Connect { device, proxy } => fleet.connect(device, proxy),
        Op::Disconnect { device } => fleet.disconnect(device),
        Op::Subscribe { device, topic, qos } => fleet.subscribe(device, topic, qos),
        Op::Publish { device, topic, qos } => fleet.publish(device, topic, qos),
        Op::Answer { device } => drop(fleet.answer(device)),
        Op::FlowUp { proxy, frames } => drop(fleet.flow_up(proxy, frames)),
        Op::FlowDown { proxy, frames } => drop(fleet.flow_down(proxy, frames)),
        Op::Flow => fleet.flow(),
        Op::Store { entries } => {
            fleet.broker.store(entries);
            fleet.collect();
        }
        Op::Wait { ms } => {
            fleet.broker.wait(ms);
            fleet.collect();
        }
        Op::Cut { proxy } => fleet.cut(proxy),
        Op::Up { proxy } => fleet.up(proxy),
        Op::Crash => fleet.crash(),
        Op::KillProxy { proxy } => fleet.kill_proxy(proxy),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_000 } else { 10_000 }))]

    /// No acknowledged message is lost, QoS 2 is exactly once, order is kept, every answer comes exactly once.
    #[test]
    fn promises_hold_whatever_the_wires_and_the_group_do(
        window in 1..5_u16,
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let limits = MachineLimits { window_entries: window, ..MachineLimits::default() };
        let mut fleet = Fleet::new(limits);
        for op in ops {
            play(&mut fleet, op);
        }
        fleet.finish();
    }
}
