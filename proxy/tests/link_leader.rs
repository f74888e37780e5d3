//! A link follows its group's leader from member to member: nothing acknowledged is lost or repeated, and the sessions go on.
//!
//! The leader is a real group that moves with its folder from one member's place to another's, as a group does whose
//! members all have the same log; the other members are scripted and send everybody away.

mod link_common;

use broker::group::LinkRefused;
use broker::log::Durability;
use cluster::topology::{NodeName, SharedTopology};
use cluster::wire::{Refusal, Refused};
use link_common::member::Refuser;
use link_common::node::Node;
use link_common::shard_end::config;
use link_common::traffic::Traffic;
use link_common::wire::Wire;
use link_common::{await_true, known_members};
use mqtt_fleet_proxy::link_client::LinkClientConfig;
use std::path::Path;
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["broker-a", "broker-b", "broker-c"];

/// From a new leader's first moment to its first answer: waits of at most 0.2 s, and a busy machine with a slow disk.
const FOUND_WITHIN: Duration = Duration::from_secs(8);

/// The places of three members.
struct Group {
    wires: [Wire; 3],
    refusers: [Refuser; 3],
}

impl Group {
    /// None of them leads, or knows who does.
    fn start() -> Self {
        let refusers = NAMES.map(|name| Refuser::start(name, follows(None)));
        let wires = [0, 1, 2].map(|at: usize| Wire::to(refusers[at].address()));
        Self { wires, refusers }
    }

    fn config(&self) -> LinkClientConfig {
        let members = [0, 1, 2].map(|at: usize| (NAMES[at], self.wires[at].address()));
        LinkClientConfig {
            topology: SharedTopology::new(known_members(&members)),
            ..config(self.wires[0].address())
        }
    }

    /// This member leads, and the others know it.
    fn led_by(&self, at: usize, node: &Node) {
        for (member, refuser) in self.refusers.iter().enumerate() {
            self.wires[member].lead_to(refuser.address());
            refuser.says(follows(Some(at)));
        }
        self.wires[at].lead_to(node.address());
    }

    /// Nobody leads: this member is gone, the others take it for the leader still.
    fn lost(&self, at: usize) {
        self.wires[at].lead_nowhere();
        self.wires[at].cut();
    }

    /// The others hear nothing of the leader any more.
    fn elects(&self) {
        for refuser in &self.refusers {
            refuser.says(follows(None));
        }
    }
}

fn name(at: usize) -> NodeName {
    NAMES[at].parse().expect("a name")
}

fn follows(leader: Option<usize>) -> Refused {
    Refused::not_leader(leader.map(name), "it does not lead")
}

#[test]
fn links_go_where_a_follower_says_that_the_leader_is() {
    let group = Group::start();
    let node = Node::start(Path::new("unused"), Durability::Memory);
    group.led_by(2, &node);
    let mut traffic = Traffic::start(group.config());
    traffic.run_to(200);
    let counters = traffic.counters();
    assert_eq!(counters.redirects.get(), 1);
    assert_eq!(group.refusers[1].given(), 0, "nobody else was asked");
    // It is known from then on.
    group.wires[2].cut();
    traffic.run_to(300);
    assert_eq!(counters.leader_changes.get(), 0);
    assert_eq!(traffic.stop(), 2);
    node.stop();
}

#[test]
fn a_leader_that_steps_down_is_followed_by_the_next() {
    let data = tempfile::tempdir().expect("a folder");
    let group = Group::start();
    let mut node = Node::start(data.path(), Durability::Fsync);
    group.led_by(0, &node);
    let mut traffic = Traffic::start(group.config());
    for round in 1..=4 {
        traffic.run_to(round * 200);
        // Some are on their way.
        traffic.publish_to(round * 200 + 50);
        let next = round as usize % 3;
        let leader = Some(name(next));
        node.end_links(LinkRefused::NotLeader { leader });
        node.stop();
        node = Node::start(data.path(), Durability::Fsync);
        group.led_by(next, &node);
        traffic.run_to(round * 200 + 50);
    }
    assert_eq!(traffic.counters().leader_changes.get(), 4);
    assert!(traffic.stop() >= 5);
    node.stop();
}

#[test]
fn a_killed_leader_is_followed_by_the_next() {
    let data = tempfile::tempdir().expect("a folder");
    let group = Group::start();
    let mut node = Node::start(data.path(), Durability::Fsync);
    group.led_by(0, &node);
    let mut traffic = Traffic::start(group.config());
    for round in 1..=4 {
        traffic.run_to(round * 200);
        traffic.publish_to(round * 200 + 50);
        let (before, next) = ((round as usize - 1) % 3, round as usize % 3);
        group.lost(before);
        node.stop();
        let given = group.refusers[next].given();
        await_true("a follower has been asked", || {
            group.refusers[next].given() > given
        });
        group.elects();
        let given = group.refusers[next].given();
        await_true("it is asked again", || {
            group.refusers[next].given() > given + 2
        });
        node = Node::start(data.path(), Durability::Fsync);
        group.led_by(next, &node);
        let leads = Instant::now();
        traffic.run_to(round * 200 + 50);
        let gap = leads.elapsed();
        assert!(gap < FOUND_WITHIN, "round {round}: {gap:?}");
    }
    assert_eq!(traffic.counters().leader_changes.get(), 4);
    assert!(traffic.stop() >= 5);
    node.stop();
}

/// The leader's machine takes what comes and answers nothing; it leads no more.
#[test]
fn a_leader_behind_a_wire_that_stands_still_is_left() {
    let group = Group::start();
    let node = Node::start(Path::new("unused"), Durability::Memory);
    group.led_by(0, &node);
    let mut traffic = Traffic::start(group.config());
    traffic.run_to(200);
    group.wires[0].pause(true);
    traffic.publish_to(250);
    // The others have elected one of them long before its proxies notice.
    group.refusers[1].says(follows(Some(2)));
    group.wires[2].lead_to(node.address());
    let begun = Instant::now();
    traffic.run_to(250);
    let gap = begun.elapsed();
    assert!(gap < cluster::limits::LINK_DEAD + FOUND_WITHIN, "{gap:?}");
    assert_eq!(traffic.counters().leader_changes.get(), 1);
    assert_eq!(traffic.stop(), 2);
    node.stop();
}

/// A proxy reaches a leader that reaches nobody else; the majority has elected another.
#[test]
fn a_leader_without_a_majority_is_left() {
    let group = Group::start();
    let node = Node::start(Path::new("unused"), Durability::Memory);
    group.led_by(0, &node);
    let mut traffic = Traffic::start(group.config());
    for (round, next) in [(1, 1), (2, 2), (3, 0)] {
        traffic.run_to(round * 200);
        traffic.publish_to(round * 200 + 50);
        let before = (next + 2) % 3;
        group.led_by(next, &node);
        group.refusers[before].says(Refused::new(Refusal::NoQuorum, "it reaches nobody"));
        node.end_links(LinkRefused::NoQuorum);
        traffic.run_to(round * 200 + 50);
    }
    assert_eq!(traffic.counters().leader_changes.get(), 3);
    assert_eq!(traffic.stop(), 4);
    node.stop();
}

#[test]
fn a_group_without_a_leader_is_not_asked_without_end() {
    let group = Group::start();
    let node = Node::start(Path::new("unused"), Durability::Memory);
    group.led_by(0, &node);
    let mut traffic = Traffic::start(group.config());
    traffic.run_to(10);
    group.led_by(1, &node);
    // Each names another, and nobody leads.
    group.wires[1].lead_to(group.refusers[1].address());
    for at in 0..3 {
        group.refusers[at].says(follows(Some((at + 1) % 3)));
    }
    let begun = Instant::now();
    node.end_links(LinkRefused::NotLeader { leader: None });
    traffic.publish_to(20);
    await_true("all are asked, again and again", || {
        group.refusers.iter().all(|refuser| refuser.given() >= 10)
    });
    // A round each 0.1 to 0.2 s, after the first few.
    let least = Duration::from_millis(500);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    group.led_by(2, &node);
    traffic.run_to(20);
    assert_eq!(traffic.stop(), 2);
    node.stop();
}

/// Only the leader knows of it, and nobody else is asked. What was on its way is kept.
#[test]
fn a_group_that_is_full_is_waited_for() {
    let group = Group::start();
    let node = Node::start(Path::new("unused"), Durability::Memory);
    group.led_by(0, &node);
    let mut traffic = Traffic::start(group.config());
    let counters = traffic.counters();
    for round in 1..=3 {
        traffic.run_to(round * 200);
        traffic.publish_to(round * 200 + 50);
        let given = group.refusers[0].given();
        group.refusers[0].says(Refused::new(Refusal::Full, "no space"));
        group.wires[0].lead_to(group.refusers[0].address());
        node.end_links(LinkRefused::Full);
        await_true("it is asked again", || {
            group.refusers[0].given() >= given + 3
        });
        assert_eq!(counters.group_full.get(), 1);
        group.wires[0].lead_to(node.address());
        traffic.run_to(round * 200 + 50);
        assert_eq!(counters.group_full.get(), 0);
    }
    let others = group.refusers[1..].iter().map(Refuser::given);
    assert_eq!(others.sum::<u64>(), 0);
    assert_eq!(counters.leader_changes.get(), 0);
    assert_eq!(traffic.stop(), 4);
    node.stop();
}
