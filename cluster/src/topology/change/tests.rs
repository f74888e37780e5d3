use super::*;
use crate::ring::GroupWeight;
use crate::slots::SlotTable;
use crate::topology::{GroupMembers, MemberChange};
use proptest::prelude::*;

fn member(name: &str, link: &str) -> Member {
    Member {
        name: name.parse().expect("a name"),
        link: link.parse().expect("an address"),
        peer: None,
    }
}

/// As a cluster file with two groups says it.
fn from_file() -> Topology {
    let group = |number: u8| GroupMembers {
        weight: GroupWeight {
            group: GroupNo(number),
            weight: 1,
        },
        members: vec![member(
            &format!("b-{number}"),
            &format!("host:{}", 10 + number),
        )],
    };
    let groups = vec![group(0), group(1)];
    let weights: Vec<_> = groups.iter().map(|group| group.weight).collect();
    Topology {
        cluster_id: "plant".to_owned(),
        fixed: FixedHash([7; 16]),
        table: SlotTable::from_ring(FILE_VERSION, &weights).expect("two groups"),
        members_version: FILE_VERSION,
        groups,
    }
}

/// What a log makes of it, one version after the other.
fn versions(count: u16) -> Vec<Topology> {
    let mut topology = from_file().logged();
    let mut versions = vec![from_file(), topology.clone()];
    for port in 0..count {
        let moved = MemberChange::Move {
            name: "b-1".parse().expect("a name"),
            link: format!("host:{}", 100 + port).parse().ok(),
            peer: None,
        };
        assert_eq!(topology.change(&moved), Ok(true));
        versions.push(topology.clone());
    }
    versions
}

#[test]
fn the_first_of_a_log_is_newer_than_any_file_and_later_ones_stay() {
    let first = from_file().logged();
    assert!(first.version() > from_file().version());
    assert!(from_file().is_from_file() && !first.is_from_file());
    let later = versions(3).pop().expect("some");
    assert_eq!(later.clone().logged(), later);
}

#[test]
fn another_fleet_and_other_slots_are_not_taken() {
    let mut topology = from_file();
    let other = Topology {
        fixed: FixedHash([8; 16]),
        ..from_file().logged()
    };
    let error = topology.take_newer(&other).expect_err("another fixed part");
    assert!(matches!(error, NotTaken::OtherFleet { .. }), "{error}");
    let other = Topology {
        cluster_id: "other".to_owned(),
        ..from_file().logged()
    };
    assert!(topology.take_newer(&other).is_err());
    let other = Topology {
        table: SlotTable::of_one_group(9, GroupNo(0)),
        ..from_file().logged()
    };
    assert_eq!(topology.take_newer(&other), Err(NotTaken::OtherSlots));
    assert_eq!(topology, from_file());
}

proptest! {
    /// Nodes hear of versions in any order, some of them again, and from each other.
    #[test]
    fn whatever_the_order_all_nodes_end_with_the_newest(
        heard in prop::collection::vec((0..4_usize, 0..12_usize), 0..60),
        told in prop::collection::vec((0..4_usize, 0..4_usize), 0..60),
        newest_at in 0..4_usize,
    ) {
        let versions = versions(10);
        let mut nodes = vec![from_file(); 4];
        for (node, version) in heard {
            let before = nodes[node].version();
            let taken = nodes[node].take_newer(&versions[version]).expect("one fleet");
            prop_assert_eq!(taken, versions[version].version() > before);
            prop_assert!(nodes[node].version() >= before, "never back");
        }
        let newest = versions.last().expect("some");
        nodes[newest_at].take_newer(newest).expect("one fleet");
        for (from, to) in told {
            let said = nodes[from].clone();
            nodes[to].take_newer(&said).expect("one fleet");
        }
        // Each pair once more, as links come up.
        for from in (newest_at..4).chain(0..newest_at) {
            let said = nodes[from].clone();
            for to in &mut nodes {
                to.take_newer(&said).expect("one fleet");
            }
        }
        for node in &nodes {
            prop_assert_eq!(node, newest);
        }
    }
}
