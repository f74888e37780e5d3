//! The topology in a group's log, on real files: what was answered is there after a restart, with snapshots and without.

mod group_common;

use cluster::ring::GroupWeight;
use cluster::slots::{GroupNo, SlotTable};
use cluster::topology::{FixedHash, GroupMembers, Member, MemberChange, Topology};
use group_common::{Node, files, killed, message, number, options};
use mqtt_fleet_broker::group::ChangeError;
use mqtt_fleet_broker::log::Durability;
use std::path::Path;

fn member(port: u16) -> Member {
    Member {
        name: "broker-0".parse().expect("a name"),
        link: format!("10.0.0.1:{port}").parse().expect("an address"),
        peer: None,
    }
}

fn moved(port: u16) -> MemberChange {
    let Member { name, link, peer } = member(port);
    MemberChange::Move {
        name,
        link: Some(link),
        peer,
    }
}

fn first() -> Topology {
    let weight = GroupWeight {
        group: GroupNo(0),
        weight: 1,
    };
    Topology {
        cluster_id: "plant".to_owned(),
        fixed: FixedHash([3; 16]),
        table: SlotTable::of_one_group(1, GroupNo(0)),
        members_version: 1,
        groups: vec![GroupMembers {
            weight,
            members: vec![member(1)],
        }],
    }
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let mut data = tempfile::tempdir().expect("a folder");
    let mut newest = first().logged();
    for round in 0..4 {
        let mut node = Node::start(options(data.path(), Durability::Fsync));
        let topology = node.topology();
        let held = topology.learn(first()).expect("one fleet");
        assert_eq!(*held, newest, "round {round}");
        let change = moved(10 + round);
        let moved = topology.change_members(change).expect("free");
        assert_eq!(moved.members_version, newest.members_version + 1);
        newest = moved.as_ref().clone();
        if round == 1 {
            fill(&mut node, data.path());
        }
        let copy = killed(data.path());
        node.stop();
        data = copy;
    }
}

/// Until a snapshot has taken the place of the log's beginning.
fn fill(node: &mut Node, data: &Path) {
    let talker = node.connect("talker");
    node.subscribe(talker, "t");
    let first = node.log.segments()[0].id;
    for n in 0.. {
        if node.log.segments()[0].id > first && !files(&data.join("snapshots")).is_empty() {
            return;
        }
        node.publish(talker, false, vec![message("t", n, 64 << 10)]);
        assert_eq!(number(&node.receive(talker)), n);
    }
}

#[test]
fn a_group_that_has_ended_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(options(folder.path(), Durability::Fsync));
    let topology = node.topology();
    let error = topology.change_members(moved(1)).expect_err("no topology");
    assert!(matches!(error, ChangeError::Refused(_)), "{error}");
    node.stop();
    assert_eq!(topology.learn(first()), Err(ChangeError::Ended));
}
