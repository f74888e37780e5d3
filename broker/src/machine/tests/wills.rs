//! When a will is published, and when not (MQTT5 3.1.2.5, 3.1.3.2.2).

use super::world::{Client, LINK, World, claim, will};
use crate::command::Command;
use cluster::frame::{Claim, WillFate};
use cluster::ids::LinkNo;
use protocol::{QoS, SubscribeOptions};

/// Somebody watches the topic of the will, and a client leaves one.
fn watched(delay_s: u32, expiry_s: u32) -> (World, Client, Client) {
    let mut world = World::new();
    let watcher = world.connect("watcher");
    world.subscribe(&watcher, "wills", QoS::AtLeastOnce);
    let will = Some(Box::new(will("wills", delay_s)));
    let a = world.connect_with(
        LINK,
        Claim {
            will,
            expiry_s,
            ..claim("a")
        },
    );
    (world, watcher, a)
}

#[test]
fn a_lost_connection_publishes_and_an_orderly_end_does_not() {
    for (fate, published) in [
        (WillFate::Published, 1),
        (WillFate::Dropped, 0),
        (WillFate::Kept, 0),
    ] {
        for expiry_s in [0, 100, u32::MAX] {
            let (mut world, watcher, a) = watched(0, expiry_s);
            world.disconnect_with(&a, fate);
            world.pass_s(1_000);
            assert_eq!(
                world.payloads(&watcher).len(),
                published,
                "{fate:?} {expiry_s}"
            );
            assert_eq!(world.state.counters().wills_published, published as u64);
        }
    }
}

/// Many connections end with a link, and what follows is left to a `Tick`; a claim may come before that.
#[test]
fn a_will_that_is_due_is_published_though_its_client_is_back_at_once() {
    for (delay_s, published) in [(0, 1), (10, 0)] {
        let (mut world, watcher, _) = watched(delay_s, u32::MAX);
        let other = LinkNo(LINK.0 + 1);
        world.link_up(other, 9);
        let claim = Claim {
            will: Some(Box::new(will("wills", delay_s))),
            ..claim("b")
        };
        world.connect_with(other, claim.clone());
        world.enter(vec![Command::LinkDown { link: other }]);
        world.connect_with(
            LINK,
            Claim {
                will: None,
                ..claim
            },
        );
        world.pass_s(1_000);
        assert_eq!(world.payloads(&watcher).len(), published, "{delay_s}");
    }
}

#[test]
fn the_delay_is_waited_for() {
    let (mut world, watcher, a) = watched(10, u32::MAX);
    world.disconnect(&a);
    world.pass_s(9);
    assert!(world.got(&watcher).is_empty());
    world.pass_s(1);
    assert_eq!(world.payloads(&watcher), ["will"]);
    world.pass_s(1_000);
    assert!(world.got(&watcher).is_empty(), "once");
}

#[test]
fn the_sessions_end_comes_before_the_delay() {
    let (mut world, watcher, a) = watched(100, 10);
    world.disconnect(&a);
    world.pass_s(10);
    assert_eq!(world.payloads(&watcher), ["will"]);
    assert_eq!(world.state.counters().sessions, 1);
}

#[test]
fn a_client_that_comes_back_in_time_leaves_no_will() {
    let (mut world, watcher, a) = watched(10, u32::MAX);
    world.disconnect(&a);
    world.pass_s(5);
    world.connect("a");
    world.pass_s(1_000);
    assert!(world.got(&watcher).is_empty());
    assert_eq!(world.state.next_deadline_ms(), None);
}

#[test]
fn a_clean_start_ends_the_session_and_so_publishes() {
    let (mut world, watcher, a) = watched(10, u32::MAX);
    world.disconnect(&a);
    world.connect_with(
        LINK,
        Claim {
            clean_start: true,
            ..claim("a")
        },
    );
    assert_eq!(world.payloads(&watcher), ["will"]);
}

#[test]
fn a_takeover_publishes_unless_the_session_goes_on_within_the_delay() {
    for (delay_s, clean_start, published) in
        [(0, false, 1), (10, false, 0), (10, true, 1), (0, true, 1)]
    {
        let (mut world, watcher, _) = watched(delay_s, u32::MAX);
        world.connect_with(
            LINK,
            Claim {
                clean_start,
                ..claim("a")
            },
        );
        world.pass_s(100);
        assert_eq!(
            world.payloads(&watcher).len(),
            published,
            "{delay_s} {clean_start}"
        );
    }
}

#[test]
fn a_kept_will_is_dropped_when_the_client_comes_back() {
    let (mut world, watcher, a) = watched(0, u32::MAX);
    world.disconnect_with(&a, WillFate::Kept);
    let a = world.connect("a");
    world.disconnect(&a);
    world.pass_s(100);
    assert!(world.got(&watcher).is_empty());
}

#[test]
fn a_later_life_of_a_node_ends_its_connections_and_a_due_will_is_asked_for_again() {
    let (mut world, _, _) = watched(0, u32::MAX);
    world.enter(vec![Command::LeaderStart]);
    world.link_up(LinkNo(0), 2);
    let watcher = world.connect("watcher");
    world.pass_s(0);
    assert_eq!(world.payloads(&watcher), ["will"]);

    // The leader that was asked goes before it has published.
    let (mut world, _, a) = watched(0, u32::MAX);
    let gone = cluster::frame::Disconnect {
        actor: a.actor,
        expiry_s: None,
        will: WillFate::Published,
    };
    let index = world.entries.len() as u64 + 1;
    let mut unheard = crate::machine::Effects::default();
    world.state.apply(
        index,
        world.now_ms,
        Command::From {
            link: LINK,
            first: 100,
        },
        &mut unheard,
    );
    world.state.apply(
        index,
        world.now_ms,
        Command::Disconnect(Box::new(gone)),
        &mut unheard,
    );
    assert_eq!(unheard.leader.len(), 1);
    world.enter(vec![Command::Tick]);
    world.enter(vec![Command::LeaderStart]);
    assert_eq!(world.state.counters().wills_published, 1);
    world.enter(vec![Command::LeaderStart]);
    assert_eq!(world.state.counters().wills_published, 1);
}

#[test]
fn a_claim_that_was_never_answered_leaves_no_will() {
    let mut world = World::new();
    let watcher = world.connect("watcher");
    world.subscribe(&watcher, "wills", QoS::AtLeastOnce);
    world.connect("a");
    world.claim(
        LINK,
        Claim {
            will: Some(Box::new(will("wills", 0))),
            ..claim("a")
        },
    );
    world.claim(LINK, claim("a"));
    world.pass_s(10);
    assert!(world.got(&watcher).is_empty());
}

#[test]
fn a_will_may_be_retained_and_is_not_for_its_own_client_with_no_local() {
    let mut world = World::new();
    let mut will = will("wills", 0);
    will.retain = true;
    let a = world.connect_with(
        LINK,
        Claim {
            will: Some(Box::new(will)),
            ..claim("a")
        },
    );
    let no_local = SubscribeOptions {
        no_local: true,
        qos: QoS::AtLeastOnce,
        ..Default::default()
    };
    world.subscribe_with(&a, "wills", no_local, 0);
    world.disconnect(&a);
    let a = world.connect("a");
    assert!(world.got(&a).is_empty());
    let b = world.connect("b");
    world.subscribe(&b, "wills", QoS::AtMostOnce);
    assert_eq!(world.payloads(&b), ["will"]);
}

#[test]
fn the_delay_of_an_old_will_says_nothing_of_a_new_one() {
    let (mut world, watcher, a) = watched(10, u32::MAX);
    world.disconnect(&a);
    world.pass_s(5);
    let will = Some(Box::new(will("wills", 10)));
    let a = world.connect_with(LINK, Claim { will, ..claim("a") });
    world.pass_s(100);
    assert!(world.got(&watcher).is_empty(), "its client is connected");
    world.disconnect(&a);
    world.pass_s(10);
    assert_eq!(world.payloads(&watcher), ["will"]);
}

#[test]
fn the_next_client_of_a_number_gets_the_will_of_the_one_before() {
    let mut world = World::new();
    let will = Some(Box::new(will("wills", 0)));
    let a = world.connect_with(
        LINK,
        Claim {
            will,
            expiry_s: 0,
            ..claim("a")
        },
    );
    // The session ends before its will is published, and its number goes to another client.
    let gone = cluster::frame::Disconnect {
        actor: a.actor,
        expiry_s: None,
        will: WillFate::Published,
    };
    let index = world.entries.len() as u64 + 1;
    let mut asked = crate::machine::Effects::default();
    world.state.apply(
        index,
        world.now_ms,
        Command::From {
            link: LINK,
            first: 100,
        },
        &mut asked,
    );
    world.state.apply(
        index,
        world.now_ms,
        Command::Disconnect(Box::new(gone)),
        &mut asked,
    );
    world.number(LINK, 100);
    let b = world.connect("b");
    assert_eq!(b.actor.client, a.actor.client);
    let no_local = SubscribeOptions {
        no_local: true,
        qos: QoS::AtLeastOnce,
        ..SubscribeOptions::default()
    };
    world.subscribe_with(&b, "wills", no_local, 0);
    world.enter(vec![Command::LeaderStart]);
    world.link_up(LINK, 2);
    let b = world.connect("b");
    assert_eq!(world.payloads(&b), ["will"]);
}
