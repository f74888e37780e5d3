//! The topology in the log: seeded once, changed by versions, kept in snapshots.

use super::world::World;
use crate::command::Command;
use crate::limits::MachineLimits;
use crate::machine::State;
use cluster::ring::GroupWeight;
use cluster::slots::{GroupNo, SlotTable};
use cluster::topology::{FixedHash, GroupMembers, Member, MemberChange, Topology};
use proptest::prelude::*;
use std::sync::Arc;

const GROUPS: u8 = 3;

fn member(group: u8, port: u16) -> Member {
    Member {
        name: format!("broker-{group}").parse().expect("a name"),
        link: format!("10.0.0.1:{port}").parse().expect("an address"),
        peer: None,
    }
}

fn moved(group: u8, port: u16) -> Command {
    let Member { name, link, peer } = member(group, port);
    Command::ChangeMembers(Box::new(MemberChange::Move {
        name,
        link: Some(link),
        peer,
    }))
}

/// As a cluster file says it whose brokers have the ports from this one on.
fn file(port: u16) -> Topology {
    let group = |number: u8| GroupMembers {
        weight: GroupWeight {
            group: GroupNo(number),
            weight: 1,
        },
        members: vec![member(number, port + u16::from(number))],
    };
    let groups: Vec<_> = (0..GROUPS).map(group).collect();
    let weights: Vec<_> = groups.iter().map(|group| group.weight).collect();
    Topology {
        cluster_id: "plant".to_owned(),
        fixed: FixedHash([3; 16]),
        table: SlotTable::from_ring(1, &weights).expect("some groups"),
        members_version: 1,
        groups,
    }
}

impl World {
    fn learn(&mut self, topology: Topology) -> &Topology {
        self.enter(vec![Command::Topology(Box::new(topology))]);
        self.held()
    }

    fn move_member(&mut self, group: u8, port: u16) -> &Topology {
        self.enter(vec![moved(group, port)]);
        self.held()
    }

    fn held(&self) -> &Topology {
        self.state.topology().expect("there is one")
    }

    /// What the last command was answered with, as it prints.
    fn answer(&self) -> &str {
        &self.history.last().expect("answered").1
    }
}

#[test]
fn a_group_is_seeded_once() {
    let mut world = World::new();
    assert_eq!(world.state.topology(), None);
    let seed = file(100);
    assert_eq!(world.learn(seed.clone()), &seed.clone().logged());
    assert_eq!(
        world.learn(file(200)),
        &seed.clone().logged(),
        "from then on the file seeds nothing"
    );
    assert!(
        world.answer().contains("10.0.0.1:100"),
        "{}",
        world.answer()
    );
    let other_slots = Topology {
        table: SlotTable::of_one_group(2, GroupNo(1)),
        ..file(100)
    };
    assert_eq!(world.learn(other_slots), &seed.logged());
    assert!(world.answer().contains("OtherSlots"), "{}", world.answer());
}

#[test]
fn a_member_moves_and_each_move_is_a_version() {
    let mut world = World::new();
    world.enter(vec![moved(1, 7)]);
    assert!(world.answer().contains("Nothing"), "{}", world.answer());
    world.learn(file(100));
    let moved = world.move_member(1, 7).clone();
    assert_eq!(moved.members(GroupNo(1)), [member(1, 7)]);
    assert_eq!(moved.members_version, 3);
    assert_eq!(world.move_member(1, 7), &moved, "it is there already");
    assert_eq!(world.move_member(9, 8), &moved);
    assert!(world.answer().contains("Unknown"), "{}", world.answer());
    assert_eq!(world.move_member(1, 100), &moved);
    assert!(world.answer().contains("Taken"), "{}", world.answer());
    assert_eq!(world.learn(file(100).logged()), &moved, "older");
}

/// A group that has lost its log hears from the others what it once said.
#[test]
fn a_newer_one_that_others_have_is_taken_and_counted_on() {
    let mut first = World::new();
    first.learn(file(100));
    let newest = (1..5)
        .map(|port| first.move_member(2, port).clone())
        .last()
        .expect("moved");
    let mut second = World::new();
    second.learn(file(100));
    assert_eq!(second.learn(newest.clone()), &newest);
    assert_eq!(
        second.move_member(2, 9).members_version,
        newest.members_version + 1
    );
}

#[test]
fn a_snapshot_holds_it() {
    let mut world = World::new();
    world.learn(file(100));
    world.move_member(0, 7);
    let bytes = world.state.snapshot();
    let mut restored =
        State::restore(&mut &bytes[..], MachineLimits::default()).expect("just written");
    assert_eq!(restored.topology(), world.state.topology());
    assert_eq!(bytes, restored.snapshot());
}

#[derive(Clone, Debug)]
enum Op {
    Learn { port: u16, moves: u16 },
    Move { group: u8, port: u16 },
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (100..110_u16, 0..6_u16).prop_map(|(port, moves)| Op::Learn { port, moves }),
        (0..=GROUPS, 100..110_u16).prop_map(|(group, port)| Op::Move { group, port }),
        Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is asked in whatever order: the version never goes back, what has a version never changes, and a
    /// second machine with the same log has the same.
    #[test]
    fn versions_only_go_forward(ops in prop::collection::vec(op(), 1..24)) {
        let mut world = World::new();
        let mut newest: Option<Arc<Topology>> = None;
        for op in ops {
            let command = match op {
                Op::Learn { port, moves } => {
                    let mut topology = file(port);
                    topology.members_version += u64::from(moves);
                    Command::Topology(Box::new(topology))
                }
                Op::Move { group, port } => moved(group, port),
                Op::Restart => Command::LeaderStart,
            };
            world.enter(vec![command]);
            let now = world.state.topology().cloned();
            if let (Some(before), Some(now)) = (&newest, &now) {
                prop_assert!(now.version() >= before.version());
                prop_assert_eq!(now.version() == before.version(), now == before);
            }
            prop_assert!(now.is_some() || newest.is_none());
            newest = now;
        }
        let mut replica = State::new(MachineLimits::default());
        let mut out = crate::machine::Effects::default();
        for entry in &world.entries {
            for command in entry.commands.clone() {
                replica.apply(entry.index, entry.time_ms, command, &mut out);
            }
        }
        prop_assert_eq!(replica.topology(), newest.as_ref());
    }
}
