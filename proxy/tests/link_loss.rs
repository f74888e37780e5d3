//! Over real sockets that are cut, stopped and led to a restarted broker, nothing acknowledged is lost or repeated.

mod link_common;

use broker::group::LinkRefused;
use broker::log::Durability;
use cluster::slots::GroupNo;
use cluster::topology::SharedTopology;
use cluster::transport::LinkTls;
use link_common::certificates::Ca;
use link_common::node::Node;
use link_common::shard_end::config;
use link_common::traffic::Traffic;
use link_common::wire::Wire;
use link_common::{await_true, known};
use mqtt_fleet_proxy::link_client::{LinkClientConfig, LinkCounters};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct Fleet {
    wire: Wire,
    /// What the proxy knows of the fleet.
    topology: Arc<SharedTopology>,
    traffic: Traffic,
}

impl Fleet {
    fn start(node: &Node) -> Self {
        Self::start_tls(node, None)
    }

    fn start_tls(node: &Node, tls: Option<Arc<LinkTls>>) -> Self {
        let wire = Wire::to(node.address());
        let config = LinkClientConfig {
            tls,
            ..config(wire.address())
        };
        Self {
            wire,
            topology: Arc::clone(&config.topology),
            traffic: Traffic::start(config),
        }
    }

    fn publish_to(&mut self, count: u32) {
        self.traffic.publish_to(count);
    }

    fn run_to(&mut self, count: u32) {
        self.traffic.run_to(count);
    }

    fn counters(&self) -> Arc<LinkCounters> {
        self.traffic.counters()
    }

    /// The proxy knows from now on, in this version, that the broker is there.
    fn broker_is_at(&self, version: u64, address: String) {
        self.topology
            .publish(known(version, &[(GroupNo(0), address)]));
    }

    fn stop(self) -> u64 {
        self.traffic.stop()
    }
}

fn survives_cuts(data: &Path, durability: Durability, count: u32) {
    let node = Node::start(data, durability);
    let fleet = Fleet::start(&node);
    survives_cuts_every(3_001, node, fleet, count);
}

fn survives_cuts_every(bytes: usize, node: Node, mut fleet: Fleet, count: u32) {
    fleet.wire.cut_every(Some(bytes));
    fleet.run_to(count);
    let cuts = fleet.wire.cuts();
    fleet.wire.cut_every(None);
    fleet.run_to(count + 100);
    let resent = fleet.counters().frames_resent.get();
    assert!(
        cuts > 10 && resent > 0,
        "{cuts} cuts, {resent} frames sent again"
    );
    let sessions = fleet.stop();
    assert!(sessions > cuts / 2, "{sessions} sessions for {cuts} cuts");
    let counters = node.counters();
    assert_eq!(counters.protocol_errors.get(), 0);
    node.stop();
    assert_eq!(counters.links_up.get(), 0);
}

#[test]
fn cuts_lose_and_repeat_nothing_in_memory() {
    survives_cuts(Path::new("unused"), Durability::Memory, 3_000);
}

#[test]
fn cuts_lose_and_repeat_nothing_with_fsync() {
    let data = tempfile::tempdir().expect("a folder");
    survives_cuts(data.path(), Durability::Fsync, 1_500);
}

#[test]
fn cuts_lose_and_repeat_nothing_with_tls() {
    let ca = Ca::new();
    let node = Node::start_tls(Path::new("unused"), Durability::Memory, Some(ca.tls()));
    let fleet = Fleet::start_tls(&node, Some(ca.tls()));
    // Some cuts are in the handshake, which takes some 3 KB.
    survives_cuts_every(6_007, node, fleet, 3_000);
}

#[test]
fn new_certificates_are_for_new_links_and_the_sessions_go_on() {
    let (old, new) = (Ca::new(), Ca::new());
    let (at_broker, at_proxy) = (old.tls(), old.tls());
    let node = Node::start_tls(
        Path::new("unused"),
        Durability::Memory,
        Some(Arc::clone(&at_broker)),
    );
    let mut fleet = Fleet::start_tls(&node, Some(Arc::clone(&at_proxy)));
    fleet.run_to(100);
    at_broker.replace(&new.pem()).expect("good texts");
    fleet.run_to(200);
    assert_eq!(fleet.wire.connections(), 1);
    fleet.wire.cut();
    fleet.publish_to(250);
    let counters = (node.counters(), fleet.counters());
    await_true("both ends refuse", || {
        counters.0.tls_failed.get() > 0 && counters.1.tls_failed.get() > 0
    });
    at_proxy.replace(&new.pem()).expect("good texts");
    fleet.run_to(300);
    assert!(fleet.stop() >= 2);
    node.stop();
}

#[test]
fn a_restarted_broker_goes_on_with_the_same_connections() {
    let data = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(data.path(), Durability::Fsync);
    let mut fleet = Fleet::start(&node);
    for round in 1..=4 {
        fleet.run_to(round * 200);
        // Some are on their way.
        fleet.publish_to(round * 200 + 50);
        node.stop();
        node = Node::start(data.path(), Durability::Fsync);
        fleet.wire.lead_to(node.address());
        fleet.run_to(round * 200 + 50);
    }
    let sessions = fleet.stop();
    assert!(sessions >= 5, "{sessions}");
    node.stop();
}

#[test]
fn a_group_that_sends_its_proxies_away_loses_and_repeats_nothing() {
    let node = Node::start(Path::new("unused"), Durability::Memory);
    let mut fleet = Fleet::start(&node);
    for round in 1..=5 {
        fleet.run_to(round * 200);
        // Some are on their way.
        fleet.publish_to(round * 200 + 50);
        node.end_links(LinkRefused::NoQuorum);
        fleet.run_to(round * 200 + 50);
    }
    let refusals = fleet.counters().refusals.get();
    assert!(refusals > 0, "it was told so");
    assert_eq!(node.counters().sessions_refused.get(), 5);
    assert_eq!(fleet.stop(), 6);
    node.stop();
}

#[test]
fn a_wire_that_stands_still_is_given_up_and_another_is_made() {
    let node = Node::start(Path::new("unused"), Durability::Memory);
    let mut fleet = Fleet::start(&node);
    fleet.run_to(100);
    let begun = std::time::Instant::now();
    fleet.wire.pause(true);
    fleet.publish_to(150);
    let counters = fleet.counters();
    // The shard hears nothing; the figures tell. Both ends give up after the same silence.
    let server = node.counters();
    let lost = || counters.losses.get() > 0 && server.sessions_ended.get() > 0;
    while !lost() {
        assert!(begun.elapsed() < link_common::PATIENCE, "nobody gave up");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "heartbeats were owed"
    );
    fleet.wire.cut();
    fleet.wire.pause(false);
    fleet.run_to(300);
    assert!(fleet.stop() >= 2);
    node.stop();
}

#[test]
fn an_idle_link_stays_up() {
    let node = Node::start(Path::new("unused"), Durability::Memory);
    let mut fleet = Fleet::start(&node);
    fleet.run_to(10);
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        std::thread::park_timeout(Duration::from_secs(5));
    }
    fleet.run_to(20);
    assert_eq!(fleet.wire.connections(), 1);
    assert_eq!(fleet.stop(), 1);
    node.stop();
}

#[test]
fn links_follow_a_broker_to_another_address() {
    let data = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(data.path(), Durability::Fsync);
    let mut fleet = Fleet::start(&node);
    for round in 1..=3 {
        fleet.run_to(round * 200);
        // Some are on their way.
        fleet.publish_to(round * 200 + 50);
        node.stop();
        node = Node::start(data.path(), Durability::Fsync);
        fleet.broker_is_at(u64::from(round) + 1, node.address().to_string());
        fleet.run_to(round * 200 + 50);
    }
    assert!(fleet.stop() >= 4);
    node.stop();
}

#[test]
fn a_link_that_works_is_cut_only_where_the_broker_is_elsewhere() {
    let node = Node::start(Path::new("unused"), Durability::Memory);
    let mut fleet = Fleet::start(&node);
    fleet.run_to(100);
    fleet.broker_is_at(2, fleet.wire.address());
    fleet.run_to(200);
    // The broker was told of it over the link that was there.
    let heard = node.topology.next_heard().expect("told");
    assert_eq!(heard.members_version, 2);
    assert_eq!(fleet.counters().sessions.get(), 1);
    let other = Wire::to(node.address());
    fleet.publish_to(250);
    fleet.broker_is_at(3, other.address());
    // It hears of it before it is left.
    let heard = node.topology.next_heard().expect("told");
    assert_eq!(heard.members_version, 3);
    let counters = fleet.counters();
    await_true("the link is left", || counters.losses.get() >= 1);
    fleet.run_to(300);
    assert_eq!((fleet.wire.connections(), other.connections()), (1, 1));
    assert_eq!(fleet.stop(), 2);
    node.stop();
}

#[test]
fn each_end_hears_what_the_other_knows_better() {
    let node = Node::start(Path::new("unused"), Durability::Memory);
    node.topology.publish(known(5, &[]));
    let fleet = Fleet::start(&node);
    let heard = fleet.topology.next_heard().expect("told with the session");
    assert_eq!(heard, known(5, &[]));
    node.topology.publish(known(6, &[]));
    let heard = fleet.topology.next_heard().expect("told at once");
    assert_eq!(heard.members_version, 6);
    fleet.broker_is_at(7, fleet.wire.address());
    let heard = node.topology.next_heard().expect("told at once");
    assert_eq!(heard.members_version, 7);
    assert_eq!(fleet.stop(), 1);
    node.stop();
}
