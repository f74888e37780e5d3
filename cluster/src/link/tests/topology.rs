//! What the two ends tell each other of the fleet.

use super::world::{World, known};
use crate::link::LinkError;
use crate::topology::Topology;
use crate::wire::WireError;

impl World {
    /// The broker knows this version from now on.
    fn broker_knows(&mut self, version: u64) {
        self.known = known(version);
        if let Some(session) = &mut self.session {
            session.know(known(version));
        }
    }
}

fn versions(told: &[Topology]) -> Vec<u64> {
    told.iter()
        .map(|topology| topology.members_version)
        .collect()
}

#[test]
fn the_end_with_the_older_one_is_told_when_a_session_begins() {
    let mut world = World::new();
    world.broker_knows(3);
    world.settle(7);
    assert_eq!(versions(&world.told_proxy), [3]);
    assert_eq!(world.told_proxy[0], *known(3).topology());
    world.link.know(known(4));
    world.cut();
    world.reconnect();
    assert_eq!(
        (versions(&world.told_broker), versions(&world.told_proxy)),
        (vec![4], vec![3])
    );
}

#[test]
fn who_knows_as_much_is_told_nothing() {
    let mut world = World::new();
    world.broker_knows(5);
    world.link.know(known(5));
    world.settle(usize::MAX);
    assert_eq!((world.told_broker.len(), world.told_proxy.len()), (0, 0));
}

#[test]
fn a_change_is_told_at_once_and_not_back() {
    let mut world = World::connected();
    world.broker_knows(2);
    world.settle(usize::MAX);
    assert_eq!(versions(&world.told_proxy), [2]);
    // What the proxy has heard is what it knows then.
    world.link.know(known(2));
    world.link.know(known(7));
    world.settle(usize::MAX);
    assert_eq!(versions(&world.told_broker), [7]);
    world.broker_knows(7);
    world.settle(usize::MAX);
    assert_eq!(
        (versions(&world.told_broker), versions(&world.told_proxy)),
        (vec![7], vec![2])
    );
}

#[test]
fn frames_go_on_beside_it() {
    let mut world = World::connected();
    for version in 2..20 {
        world.offer();
        world.broker_knows(version);
        world.up(100);
        world.down(100);
    }
    world.settle(usize::MAX);
    let published = world.group.applied.len() as u32;
    world.check(published);
    assert_eq!(versions(&world.told_proxy).last(), Some(&19));
}

#[test]
fn one_that_is_cut_short_comes_again_with_the_next_session() {
    let mut world = World::connected();
    world.broker_knows(2);
    world.down(1_000);
    assert!(world.told_proxy.is_empty());
    world.cut();
    world.reconnect();
    assert_eq!(versions(&world.told_proxy), [2]);
}

#[test]
fn what_is_no_topology_ends_the_link() {
    let mut world = World::connected();
    let batch = b"\x05\0\0\0\x13what";
    let heard = world.link.received(world.now, batch, &mut Vec::new());
    assert_eq!(heard, Err(LinkError::Wire(WireError::Invalid("topology"))));
    let session = world.session.as_mut().expect("connected");
    let heard = session.receive(world.now, batch, &mut Vec::new());
    let error = heard.expect_err("no topology");
    assert_eq!(error, LinkError::Wire(WireError::Invalid("topology")));
}
