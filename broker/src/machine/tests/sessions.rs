//! Who owns a client id, what a session keeps, and when it ends.

use super::world::{LINK, World, claim, id, options};
use crate::command::Command;
use crate::machine::effects::Effects;
use cluster::frame::{AckKind, Claim, Disconnect, FromGroup, Subscribe, ToGroup, WillFate};
use cluster::ids::{Epoch, LinkNo};
use protocol::{QoS, ReasonCode, TopicFilter};

const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

#[test]
fn session_present_exactly_when_there_is_a_session() {
    let mut world = World::new();
    let first = world.connect("a");
    assert!(!first.session_present);
    world.disconnect(&first);
    let again = world.connect("a");
    assert!(again.session_present);
    assert!(again.actor.epoch > first.actor.epoch);
    world.disconnect(&again);
    let clean = world.connect_with(
        LINK,
        Claim {
            clean_start: true,
            ..claim("a")
        },
    );
    assert!(!clean.session_present);
}

#[test]
fn a_session_of_expiry_0_ends_with_its_connection() {
    let mut world = World::new();
    let first = world.connect_with(
        LINK,
        Claim {
            expiry_s: 0,
            ..claim("a")
        },
    );
    world.subscribe(&first, "t", Q1);
    assert_eq!(world.state.counters().subscriptions, 1);
    world.disconnect(&first);
    assert_eq!(world.state.counters().subscriptions, 0);
    assert_eq!(world.state.counters().sessions, 0);
    // Taken over, it ends too.
    let second = world.connect_with(
        LINK,
        Claim {
            expiry_s: 0,
            ..claim("a")
        },
    );
    assert!(!second.session_present);
    let third = world.connect("a");
    assert!(!third.session_present);
}

#[test]
fn a_session_ends_when_its_expiry_is_over_and_not_before() {
    let mut world = World::new();
    let a = world.connect_with(
        LINK,
        Claim {
            expiry_s: 10,
            ..claim("a")
        },
    );
    world.disconnect(&a);
    assert_eq!(world.state.next_deadline_ms(), Some(world.now_ms + 10_000));
    world.pass_s(9);
    let a = world.connect_with(
        LINK,
        Claim {
            expiry_s: 10,
            ..claim("a")
        },
    );
    assert!(a.session_present);
    assert_eq!(world.state.next_deadline_ms(), None);
    world.disconnect(&a);
    world.pass_s(10);
    assert_eq!(world.state.counters().sessions, 0);
    assert_eq!(world.state.counters().sessions_expired, 1);
}

#[test]
fn an_expired_session_is_not_resumed_though_no_tick_came() {
    let mut world = World::new();
    let a = world.connect_with(
        LINK,
        Claim {
            expiry_s: 10,
            ..claim("a")
        },
    );
    world.subscribe(&a, "t", Q1);
    world.disconnect(&a);
    world.now_ms += 10_000;
    let a = world.connect("a");
    assert!(!a.session_present);
    assert_eq!(world.state.counters().subscriptions, 0);
    assert_eq!(world.state.next_deadline_ms(), None);
}

#[test]
fn disconnect_can_change_the_expiry() {
    let mut world = World::new();
    let a = world.connect("a");
    let gone = Disconnect {
        actor: a.actor,
        expiry_s: Some(5),
        will: WillFate::Dropped,
    };
    world.from(LINK, Command::Disconnect(Box::new(gone)));
    assert_eq!(world.state.next_deadline_ms(), Some(world.now_ms + 5_000));
}

#[test]
fn a_takeover_fences_the_old_owner_at_once_and_is_answered_after_the_kick() {
    let mut world = World::new();
    let publisher = world.connect("p");
    let old = world.connect("a");
    world.subscribe(&old, "t", Q1);
    let handle = world.claim(LINK, claim("a"));
    assert!(
        world.claimed(LINK, handle).is_none(),
        "the old owner is alive"
    );
    assert_eq!(world.state.owner("a"), Some((LINK, handle)));

    let fenced = world.state.counters().fenced;
    assert_eq!(world.publish(&old, "t", "late", Q1), None);
    world.from(
        LINK,
        Command::Ack(cluster::frame::Ack {
            actor: old.actor,
            packet_id: id(1),
            kind: AckKind::Ack,
        }),
    );
    assert_eq!(world.state.counters().fenced, fenced + 2);

    world.publish(&publisher, "t", "new", Q1);
    assert!(
        world.got(&old).is_empty(),
        "nothing after the new epoch reaches the old owner"
    );
    let [(actor, from)] = world.kicks[..] else {
        panic!("one kick")
    };
    assert_eq!(from, (old.link, old.handle));
    world.enter(vec![Command::Attach {
        actor: Some(actor),
        if_free: false,
    }]);
    let new = world.claimed(LINK, handle).expect("answered");
    assert!(new.session_present);
    assert_eq!(world.payloads(&new), ["new"]);
    // The old connection's end changes nothing any more.
    world.disconnect(&old);
    assert_eq!(world.state.counters().attached, 2);
}

#[test]
fn a_claim_over_a_claim_kicks_the_one_that_never_attached() {
    let mut world = World::new();
    world.connect("a");
    let second = world.claim(LINK, claim("a"));
    let third = world.claim(LINK, claim("a"));
    let [(stale, _), (newest, from)] = world.kicks[..] else {
        panic!("two kicks")
    };
    assert_eq!(from, (LINK, second));
    world.enter(vec![Command::Attach {
        actor: Some(stale),
        if_free: false,
    }]);
    assert!(
        world.claimed(LINK, second).is_none(),
        "fenced before it was attached"
    );
    world.enter(vec![Command::Attach {
        actor: Some(newest),
        if_free: false,
    }]);
    assert!(world.claimed(LINK, third).is_some());
}

#[test]
fn the_window_is_sent_again_in_order_with_the_same_packet_ids() {
    let mut world = World::new();
    let publisher = world.connect("p");
    let a = world.connect("a");
    world.subscribe(&a, "t", Q2);
    for (payload, qos) in [("1", Q1), ("2", Q2), ("3", Q1), ("4", Q2), ("5", Q0)] {
        world.publish_with(
            &publisher,
            super::world::message("t", payload),
            qos,
            false,
            1,
        );
        world.release(&publisher, 1);
    }
    let first = world.got(&a);
    assert_eq!(first.len(), 5);
    assert!(first.iter().all(|got| !got.dup));
    world.complete(&a, &first[2]);
    world.ack(&a, first[1].packet_id.expect("QoS 2"), AckKind::Received);
    world.disconnect(&a);

    let a = world.connect("a");
    let again = world.got(&a);
    let seen: Vec<_> = again
        .iter()
        .map(|got| (got.payload.as_str(), got.dup, got.packet_id))
        .collect();
    assert_eq!(
        seen,
        [
            ("1", true, first[0].packet_id),
            ("4", true, first[3].packet_id)
        ]
    );
    let releases = world.take(&a, |frame| matches!(frame, FromGroup::Release { .. }));
    let [
        FromGroup::Release {
            packet_id, reason, ..
        },
    ] = releases[..]
    else {
        panic!("one PUBREL")
    };
    assert_eq!(
        (Some(packet_id), reason),
        (first[1].packet_id, ReasonCode::Success)
    );
    world.ack(&a, packet_id, AckKind::Complete);
    for got in &again {
        world.complete(&a, got);
    }
    assert_eq!(world.state.counters().entries, 0);
    assert_eq!(world.state.counters().messages, 0);
}

#[test]
fn a_link_down_detaches_its_sessions_only() {
    let mut world = World::new();
    world.link_up(LinkNo(1), 7);
    let a = world.connect("a");
    let b = world.connect_with(LinkNo(1), claim("b"));
    let soft = world.connect_with(
        LinkNo(1),
        Claim {
            expiry_s: 0,
            ..claim("soft")
        },
    );
    for client in [&a, &b, &soft] {
        world.subscribe(client, "t", Q1);
    }
    world.enter(vec![Command::LinkDown { link: LinkNo(1) }]);
    world.pass_s(0);
    assert_eq!(world.state.counters().attached, 1);
    assert_eq!(world.state.counters().sessions, 2);
    assert_eq!(world.publish(&a, "t", "x", Q1), Some(ReasonCode::Success));
    assert_eq!(world.payloads(&a), ["x"]);
    assert!(world.got(&b).is_empty());
    let b = world.connect("b");
    assert_eq!(world.payloads(&b), ["x"]);
}

#[test]
fn a_new_reign_detaches_nobody_and_its_epochs_are_higher() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    world.enter(vec![Command::LeaderStart]);
    assert_eq!(world.state.counters().attached, 1);
    world.publish(&a, "t", "x", Q1);
    assert_eq!(world.payloads(&a), ["x"]);
    let again = world.connect("a");
    assert!(again.session_present);
    assert!(again.actor.epoch >= Epoch::first_of(2));
    assert_eq!(
        world.publish(&a, "t", "y", Q1),
        None,
        "the old epoch is fenced"
    );
    world.publish(&again, "t", "z", Q1);
    assert_eq!(world.payloads(&again), ["x", "z"]);
}

#[test]
fn a_link_that_is_given_to_a_later_life_detaches_the_sessions_of_the_one_before() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    world.enter(vec![Command::LeaderStart]);
    world.link_up(LINK, 2);
    assert_eq!(world.state.counters().attached, 0);
    assert!(world.connect("a").session_present);
}

#[test]
fn a_claim_that_waits_for_a_kick_is_attached_by_the_next_reign() {
    let mut world = World::new();
    world.connect("a");
    let handle = world.claim(LINK, claim("a"));
    assert!(world.claimed(LINK, handle).is_none());
    world.enter(vec![Command::LeaderStart]);
    assert!(world.claimed(LINK, handle).is_some());
}

#[test]
fn a_second_disconnect_of_a_connection_changes_nothing() {
    let mut world = World::new();
    let watcher = world.connect("watcher");
    world.subscribe(&watcher, "wills", Q1);
    let will = Some(Box::new(super::world::will("wills", 5)));
    let a = world.connect_with(LINK, Claim { will, ..claim("a") });
    world.disconnect(&a);
    world.disconnect_with(&a, cluster::frame::WillFate::Dropped);
    world.pass_s(5);
    assert_eq!(world.payloads(&watcher), ["will"]);
}

#[test]
fn a_repeated_command_is_skipped_by_its_number() {
    let mut world = World::new();
    let a = world.connect("a");
    world.subscribe(&a, "t", Q1);
    world.publish(&a, "t", "once", Q1);
    let last = world.entries.last().expect("the publish").commands.clone();
    world.enter(last);
    assert_eq!(world.payloads(&a), ["once"]);
    assert_eq!(world.state.counters().repeated, 1);
    // The same producer on another link: its numbers go on.
    let Some(Command::LinkUp { producer, .. }) = world.entries[1].commands.first().cloned() else {
        panic!("the second entry brings the link up");
    };
    world.enter(vec![Command::LinkDown { link: LINK }]);
    world.enter(vec![Command::LinkUp {
        link: LinkNo(4),
        producer,
    }]);
    let repeated = world.state.counters().repeated;
    world.enter(vec![
        Command::From {
            link: LinkNo(4),
            first: 1,
        },
        Command::Claim(Box::new(claim("b"))),
    ]);
    assert_eq!(world.state.counters().repeated, repeated + 1);
    assert_eq!(world.state.owner("b"), None);
}

#[test]
fn a_producer_is_forgotten_after_ten_minutes_or_with_its_next_life() {
    let mut world = World::new();
    world.enter(vec![Command::LinkDown { link: LINK }]);
    assert_eq!(world.state.next_deadline_ms(), Some(world.now_ms + 600_000));
    world.pass_s(600);
    assert_eq!(world.state.next_deadline_ms(), None);
    world.link_up(LINK, 5);
    world.enter(vec![Command::LinkDown { link: LINK }]);
    world.link_up(LINK, 6);
    assert_eq!(
        world.state.next_deadline_ms(),
        None,
        "the life before is known dead"
    );
}

#[test]
fn the_groups_time_never_goes_back() {
    let mut world = World::new();
    let a = world.connect_with(
        LINK,
        Claim {
            expiry_s: 10,
            ..claim("a")
        },
    );
    world.disconnect(&a);
    let time_ms = world.state.time_ms();
    world.now_ms -= 500_000;
    world.enter(vec![Command::Tick]);
    assert_eq!(world.state.time_ms(), time_ms);
    assert_eq!(world.state.counters().sessions, 1);
    assert!(world.connect("a").session_present);
}

#[test]
fn client_numbers_are_reused_without_mixing_up_clients() {
    let mut world = World::new();
    let a = world.connect_with(
        LINK,
        Claim {
            expiry_s: 0,
            ..claim("a")
        },
    );
    world.disconnect(&a);
    let b = world.connect("b");
    assert_eq!(a.actor.client, b.actor.client);
    world.subscribe(&b, "t", Q1);
    assert_eq!(world.publish(&a, "t", "from the grave", Q1), None);
    assert!(world.got(&b).is_empty());
}

/// Who takes a SUBSCRIBE back removes only what it made, so a group says what that was; a repeat's answer does not know.
#[test]
fn a_subscription_says_whether_it_is_new() {
    let mut world = World::new();
    let client = world.connect("a");
    world.subscribe(&client, "old", Q1);
    let filter = |text| (TopicFilter::new(text).expect("a filter"), options(Q2));
    let subscribe = Box::new(Subscribe {
        actor: client.actor,
        packet_id: id(9),
        subscription_id: 0,
        filters: vec![filter("old"), filter("new")],
    });
    let news = |answer: &[FromGroup]| {
        let [FromGroup::Subscribed { outcomes, .. }] = answer else {
            panic!("one SUBACK, not {answer:?}");
        };
        let granted = ReasonCode::GrantedQoS2;
        assert!(outcomes.iter().all(|outcome| outcome.reason == granted));
        [outcomes[0].is_new, outcomes[1].is_new]
    };
    world.from(client.link, Command::Subscribe(subscribe.clone()));
    let is_it = |frame: &FromGroup| matches!(frame, FromGroup::Subscribed { .. });
    assert_eq!(news(&world.take(&client, is_it)), [false, true]);
    let mut out = Effects::default();
    let again = ToGroup::Subscribe(subscribe);
    world.state.answer_again(LINK, 1, &again, &mut out);
    assert_eq!(news(&out.links[usize::from(LINK.0)]), [false, false]);
}
