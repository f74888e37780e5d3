//! A group behind a link server, a wire that can be cut, and scripted shards behind a link client.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod certificates;
#[path = "../../../broker/tests/group_common/frames.rs"]
pub(crate) mod frames;
pub(crate) mod member;
pub(crate) mod node;
pub(crate) mod shard_end;
pub(crate) mod traffic;
pub(crate) mod wire;

use cluster::ring::GroupWeight;
use cluster::slots::{GroupNo, SlotTable};
use cluster::topology::{FixedHash, GroupMembers, Member, Topology};
use std::time::{Duration, Instant};

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const SECRET: &[u8] = b"what this fleet knows and others do not";

/// What is known of a fleet whose groups have a broker each, at these addresses, in this version.
pub(crate) fn known(members_version: u64, brokers: &[(GroupNo, String)]) -> Topology {
    let group = |(group, link): &(GroupNo, String)| {
        let name = format!("broker-{}", group.0);
        group_of(*group, &[(&name, link.clone())])
    };
    known_groups(members_version, brokers.iter().map(group).collect())
}

/// What is known of a fleet of one group that has these members at these addresses.
pub(crate) fn known_members(members: &[(&str, String)]) -> Topology {
    known_groups(1, vec![group_of(GroupNo(0), members)])
}

fn group_of(group: GroupNo, members: &[(&str, String)]) -> GroupMembers {
    let member = |(name, link): &(&str, String)| Member {
        name: name.parse().expect("a name"),
        link: link.parse().expect("an address"),
        peer: (members.len() > 1).then(|| "127.0.0.1:9".parse().expect("nobody links to it")),
    };
    GroupMembers {
        weight: GroupWeight { group, weight: 1 },
        members: members.iter().map(member).collect(),
    }
}

fn known_groups(members_version: u64, groups: Vec<GroupMembers>) -> Topology {
    Topology {
        cluster_id: "fleet".to_owned(),
        fixed: FixedHash([0xF1; 16]),
        table: SlotTable::of_one_group(1, GroupNo(0)),
        members_version,
        groups,
    }
}

/// Waits for what only figures tell.
pub(crate) fn await_true(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
