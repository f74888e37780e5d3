//! Sessions that are at several groups: ranks, joins, and how what other groups hold comes to an end.

use super::world::{Client, HERE, HOME, LINK, World, claim, id, will};
use crate::command::Command;
use crate::machine::{Effects, ErrandKey, OtherGroups};
use cluster::frame::{
    Claim, DoneKind, ErrandKind, FromGroup, Join, Listed, Reattach, ToGroup, WillFate,
};
use cluster::ids::{Actor, Epoch, LinkNo, Rank};
use cluster::slots::GroupNo;
use protocol::{QoS, ReasonCode};

const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;
const OTHER: LinkNo = LinkNo(1);

fn two_links() -> World {
    let mut world = World::new();
    world.link_up(OTHER, 1);
    world
}

fn clean(id: &str) -> Claim {
    Claim {
        clean_start: true,
        ..claim(id)
    }
}

#[test]
fn a_group_has_its_rank_until_the_session_ends() {
    let mut world = World::new();
    let (first, claimed) = world.connect_fully(claim("a"));
    assert_eq!(claimed.start_epoch, claimed.epoch);
    assert!(claimed.groups.is_empty());
    assert_eq!(world.list(&first, 5), Some(Rank(1)));
    assert_eq!(world.list(&first, 9), Some(Rank(2)));
    assert_eq!(world.list(&first, 5), Some(Rank(1)), "it keeps its rank");
    world.disconnect(&first);
    let (again, resumed) = world.connect_fully(claim("a"));
    assert_eq!(resumed.start_epoch, claimed.epoch);
    let listed = |group, rank: Option<u8>| Listed {
        group: GroupNo(group),
        rank: rank.map(Rank),
    };
    assert_eq!(*resumed.groups, [listed(5, Some(1)), listed(9, Some(2))]);
    // A clean start gives ranks anew, and names the groups that are to be fenced off.
    let (new, started) = world.connect_fully(clean("a"));
    assert_eq!(started.start_epoch, started.epoch);
    assert_eq!(*started.groups, [listed(5, None), listed(9, None)]);
    assert_eq!(world.list(&new, 9), Some(Rank(1)));
    assert!(again.actor.epoch < new.actor.epoch);
}

#[test]
fn there_are_63_ranks_beside_the_home() {
    let mut world = World::new();
    let a = world.connect("a");
    for group in 1..64 {
        assert_eq!(world.list(&a, group), Some(Rank(group)));
    }
    assert_eq!(world.list(&a, 0), None);
    assert_eq!(world.state.counters().lists_refused, 1);
}

#[test]
fn the_end_of_a_session_is_asked_of_every_group_until_it_is_done() {
    let mut world = World::new();
    let (a, claimed) = world.connect_fully(claim("a"));
    world.list(&a, 5);
    world.list(&a, 9);
    let (_, started) = world.connect_fully(clean("a"));
    let ends = [5, 9].map(|group| ErrandKey::End("a".into(), GroupNo(group)));
    assert_eq!(world.errands, ends);
    let errand = world
        .state
        .errand(HERE, &ends[0], |_| HOME)
        .expect("it is due");
    let start_epoch = claimed.epoch;
    let client_id = "a".into();
    let what = ErrandKind::End {
        client_id,
        start_epoch,
    };
    assert_eq!((errand.to, &errand.what), (GroupNo(5), &what));
    assert_eq!(world.state.next_errand(None), Some(ends[0].clone()));
    world.errand_done();
    assert_eq!(world.state.next_errand(None), Some(ends[1].clone()));
    assert_eq!(world.state.next_errand(Some(&ends[1])), None);
    // A second answer finds nothing, and one for an earlier session ends nothing.
    let done = |start_epoch| {
        let mut done = errand.done();
        done.to = GroupNo(9);
        done.what = DoneKind::End {
            client_id: "a".into(),
            start_epoch,
        };
        Command::ErrandDone(Box::new(done))
    };
    world.from(LINK, done(Epoch(claimed.epoch.0 - 1)));
    assert_eq!(world.state.counters().ends_pending, 1);
    let (_, resumed) = world.connect_fully(claim("a"));
    assert_eq!(resumed.start_epoch, started.epoch);
    let left = Listed {
        group: GroupNo(9),
        rank: None,
    };
    assert_eq!(
        *resumed.groups,
        [left],
        "group 5 has ended it, and needs no fence"
    );
    world.from(LINK, done(claimed.epoch));
    world.from(LINK, done(claimed.epoch));
    assert_eq!(world.state.counters().ends_pending, 0);
    assert_eq!(world.state.counters().errands_done, 2);
}

#[test]
fn expiry_and_an_end_with_the_connection_end_it_elsewhere_too() {
    for expiry_s in [0, 5] {
        let mut world = World::new();
        let a = world.connect_with(
            LINK,
            Claim {
                expiry_s,
                ..claim("a")
            },
        );
        world.list(&a, 5);
        world.disconnect(&a);
        world.pass_s(6);
        assert_eq!(world.errands, [ErrandKey::End("a".into(), GroupNo(5))]);
        assert_eq!(world.state.counters().sessions, 0);
    }
}

/// The connection of the ended session may still be at a group that has not heard of the end.
#[test]
fn a_session_after_one_that_expired_is_fenced_off_where_that_has_not_ended() {
    let mut world = World::new();
    let (a, _) = world.connect_fully(claim("a"));
    let (ab, _) = world.connect_fully(Claim {
        expiry_s: 5,
        ..claim("ab")
    });
    for client in [&a, &ab] {
        world.list(client, 5);
        world.list(client, 9);
    }
    world.disconnect(&ab);
    world.pass_s(6);
    assert!(world.connect_fully(claim("b")).1.groups.is_empty());
    world.errand_done();
    let (new, started) = world.connect_fully(claim("ab"));
    assert!(!new.session_present);
    let left = Listed {
        group: GroupNo(9),
        rank: None,
    };
    assert_eq!(*started.groups, [left], "group 5 has ended it");
    assert_eq!(world.list(&new, 9), Some(Rank(1)));
    world.errand_done();
    world.disconnect(&new);
    let (_, resumed) = world.connect_fully(claim("ab"));
    assert_eq!(resumed.groups.len(), 1, "it is there with its rank");
    assert_eq!(world.state.counters().ends_pending, 0);
}

#[test]
fn deliveries_of_a_guest_have_the_packet_ids_of_its_rank() {
    let mut world = two_links();
    let publisher = world.connect("p");
    let guest = world.join(LINK, "g", (3, 3), Some(2)).expect("taken");
    world.subscribe(&guest, "t", Q1);
    world.publish(&publisher, "t", "1", Q1);
    world.publish(&publisher, "t", "2", Q1);
    let got = world.got(&guest);
    let ids: Vec<_> = got.iter().filter_map(|got| got.packet_id).collect();
    assert_eq!(ids, [id(2047), id(2048)]);
    world.complete(&guest, &got[0]);
    world.disconnect(&guest);
    // What is left comes to the next connection, with its packet id and DUP.
    let next = world.join(OTHER, "g", (4, 3), Some(2)).expect("taken");
    assert_ne!(next.actor.epoch, guest.actor.epoch);
    let again = world.got(&next);
    assert_eq!((again[0].packet_id, again[0].dup), (Some(id(2048)), true));
    world.complete(&next, &again[0]);
    assert_eq!(world.state.counters().entries, 0);
}

#[test]
fn a_newer_connection_fences_an_older_one_off() {
    let mut world = two_links();
    let publisher = world.connect("p");
    let old = world.join(LINK, "g", (3, 3), Some(1)).expect("taken");
    world.subscribe(&old, "t", Q1);
    let new = world.join(OTHER, "g", (8, 3), Some(1)).expect("taken");
    world.publish(&publisher, "t", "1", Q1);
    assert!(world.got(&old).is_empty());
    assert_eq!(world.payloads(&new), ["1"]);
    assert_eq!(world.publish(&old, "t", "2", Q1), None, "fenced off");
    let late = world.join(LINK, "g", (7, 3), Some(1));
    assert!(late.is_none(), "an older connection that comes later");
    assert_eq!(world.state.counters().joins_refused, 1);
    world.disconnect(&old);
    world.publish(&publisher, "t", "3", Q1);
    assert_eq!(
        world.payloads(&new),
        ["3"],
        "an old connection's end is nothing"
    );
}

#[test]
fn a_later_session_begins_with_nothing() {
    let mut world = two_links();
    let publisher = world.connect("p");
    let old = world.join(LINK, "g", (3, 3), Some(1)).expect("taken");
    world.subscribe(&old, "t", Q1);
    world.publish(&publisher, "t", "1", Q1);
    let fence = world.join(OTHER, "g", (9, 9), None).expect("taken");
    assert!(world.got(&fence).is_empty());
    let counters = world.state.counters();
    assert_eq!(
        [counters.subscriptions, counters.entries, counters.guests],
        [0, 0, 1]
    );
    // The late end of the session before does not end this one.
    world.end("g", 3);
    assert_eq!(world.state.counters().guests, 1);
    let again = world.join(LINK, "g", (4, 3), Some(1));
    assert!(again.is_none(), "of the session before");
}

#[test]
fn without_a_rank_nothing_is_held() {
    let mut world = World::new();
    let guest = world.join(LINK, "g", (3, 3), None).expect("taken");
    let refused = ReasonCode::ImplementationSpecificError;
    assert_eq!(world.subscribe(&guest, "t", Q1), refused);
    let listener = world.connect("l");
    world.subscribe(&listener, "t", Q1);
    assert_eq!(
        world.publish(&guest, "t", "1", Q1),
        Some(ReasonCode::Success)
    );
    assert_eq!(world.publish(&guest, "t", "2", Q2), Some(refused));
    assert_eq!(world.payloads(&listener), ["1"]);
    // Its rank comes later, by the same connection.
    let raised = world.join_as(LINK, guest.handle, "g", (3, 3), Some(4));
    let raised = raised.expect("taken");
    assert_eq!(raised.actor, guest.actor);
    world.subscribe(&raised, "u", Q1);
    world.publish(&listener, "u", "3", Q1);
    assert_eq!(world.got(&raised)[0].packet_id, Some(id(1 + 4 * 1023)));
    // A rank stays.
    world
        .join_as(LINK, guest.handle, "g", (3, 3), None)
        .expect("taken");
    world.disconnect(&raised);
    assert_eq!(world.state.counters().guests, 1);
    let only_acts = world.join(LINK, "h", (3, 3), None).expect("taken");
    world.disconnect(&only_acts);
    assert_eq!(world.state.counters().guests, 1, "gone with its connection");
}

#[test]
fn a_stranger_may_publish_at_qos_0_and_nothing_else() {
    let mut world = World::new();
    let listener = world.connect("l");
    world.subscribe(&listener, "t", Q1);
    let stranger = Client {
        actor: Actor::NOBODY,
        ..listener.clone()
    };
    world.publish(&stranger, "t", "1", QoS::AtMostOnce);
    assert_eq!(world.payloads(&listener), ["1"]);
    let kept = super::world::message("t", "2");
    world.publish_with(&stranger, kept, QoS::AtMostOnce, true, 1);
    assert_eq!(world.payloads(&listener), ["2"]);
    assert_eq!(world.state.counters().retained_messages, 1);
    assert_eq!(world.publish(&stranger, "t", "3", Q1), None);
    assert!(world.payloads(&listener).is_empty());
    assert_eq!(world.state.counters().fenced, 1);
}

#[test]
fn an_ended_session_is_not_joined_any_more() {
    let mut world = World::new();
    let guest = world.join(LINK, "g", (3, 3), Some(1)).expect("taken");
    world.subscribe(&guest, "t", Q1);
    assert!(world.end("g", 3));
    assert_eq!(world.done.len(), 1);
    assert_eq!(world.state.counters().subscriptions, 0);
    // Its proxy may have lost the home, and know nothing of the end.
    let kicks = world.take(&guest, |frame| matches!(frame, FromGroup::Kick { .. }));
    assert_eq!(kicks.len(), 1, "the connection is closed");
    assert!(world.join(LINK, "g", (3, 3), Some(1)).is_none());
    assert!(world.join(LINK, "g", (5, 3), Some(1)).is_none());
    assert!(world.join(LINK, "g", (6, 4), Some(1)).is_some());
    let gone = world.join(LINK, "i", (3, 3), Some(1)).expect("taken");
    world.subscribe(&gone, "t", Q1);
    world.disconnect(&gone);
    assert!(world.end("i", 3));
    let kicks = world.take(&gone, |frame| matches!(frame, FromGroup::Kick { .. }));
    assert!(kicks.is_empty(), "there is nobody to close");
    // One that has never come is remembered too, for ten minutes.
    world.end("h", 3);
    world.pass_s(599);
    assert!(world.join(LINK, "h", (3, 3), Some(1)).is_none());
    world.pass_s(121);
    assert!(world.join(LINK, "h", (3, 3), Some(1)).is_some());
}

#[test]
fn a_lost_link_leaves_what_is_held() {
    let mut world = two_links();
    let publisher = world.connect("p");
    let guest = world.join(OTHER, "g", (3, 3), Some(1)).expect("taken");
    world.join(OTHER, "h", (3, 3), None).expect("taken");
    world.subscribe(&guest, "t", Q1);
    world.enter(vec![Command::LinkDown { link: OTHER }]);
    assert_eq!(world.state.counters().guests, 1, "what only acted is gone");
    world.publish(&publisher, "t", "1", Q1);
    world.link_up(OTHER, 1);
    world.number(OTHER, 100);
    // The same connection comes back: the same epoch, since it is the same home's.
    let back = world.join_as(OTHER, guest.handle, "g", (3, 3), Some(1));
    assert_eq!(back.expect("taken").actor, guest.actor);
    assert_eq!(world.payloads(&guest), ["1"]);
}

#[test]
fn a_resume_asks_guests_that_were_let_go_to_join_again() {
    let mut world = two_links();
    let kept = world.join(OTHER, "k", (3, 3), Some(1)).expect("taken");
    let gone = world.join(OTHER, "g", (3, 3), None).expect("taken");
    let home = world.connect("p");
    world.enter(vec![Command::LinkDown { link: OTHER }]);
    let resume = |world: &mut World, client: &Client, others| {
        let mut out = Effects::default();
        let reattach = Reattach {
            actor: client.actor,
            handle: client.handle,
            last: None,
        };
        world.state.resume(OTHER, &reattach, others, &mut out);
        match &out.of_link(OTHER)[..] {
            [FromGroup::Rejoin { handle }] if *handle == client.handle => true,
            [FromGroup::Kick { handle, .. }] if *handle == client.handle => false,
            other => panic!("{other:?}"),
        }
    };
    let others = OtherGroups::Some;
    assert!(resume(&mut world, &kept, others), "detached");
    assert!(resume(&mut world, &gone, others), "not known any more");
    assert!(
        !resume(&mut world, &gone, OtherGroups::None),
        "no other has guests"
    );
    assert!(!resume(&mut world, &home, others), "on another link");
    let next = world.connect("q");
    assert_eq!(next.actor.client, gone.actor.client);
    assert!(
        !resume(&mut world, &gone, others),
        "its number is another client's"
    );
    world.join(LINK, "k", (4, 3), Some(1)).expect("taken");
    assert!(
        !resume(&mut world, &kept, others),
        "a newer connection acts"
    );
}

#[test]
fn repeats_are_answered_from_the_state() {
    let mut world = two_links();
    let (home, _) = world.connect_fully(claim("p"));
    world.list(&home, 5);
    let guest = world.join(LINK, "g", (3, 3), Some(1)).expect("taken");
    let again = |world: &mut World, frame: ToGroup| {
        let mut out = Effects::default();
        world.state.answer_again(LINK, 1, &frame, &mut out);
        std::mem::take(out.of_link(LINK))
    };
    let list = ToGroup::List {
        actor: home.actor,
        group: GroupNo(5),
    };
    let answers = again(&mut world, list);
    let rank = Some(Rank(1));
    assert!(matches!(answers[..], [FromGroup::Listed { rank: it, .. }] if it == rank));
    let join = |epoch| {
        ToGroup::Join(Box::new(Join {
            handle: guest.handle,
            client_id: "g".into(),
            epoch: Epoch(epoch),
            start_epoch: Epoch(3),
            rank,
        }))
    };
    let answers = again(&mut world, join(3));
    assert!(matches!(&answers[..], [FromGroup::Joined(it)] if it.epoch == guest.actor.epoch));
    world.disconnect(&guest);
    let answers = again(&mut world, join(3));
    assert!(matches!(answers[..], [FromGroup::Rejoin { .. }]));
    world.join(OTHER, "g", (4, 3), Some(1)).expect("taken");
    let answers = again(&mut world, join(3));
    assert!(matches!(answers[..], [FromGroup::Kick { .. }]));
    world.end("g", 3);
    let answers = again(&mut world, join(3));
    assert!(
        matches!(answers[..], [FromGroup::Rejoin { .. }]),
        "its join is refused then"
    );
}

#[test]
fn a_will_for_another_group_is_published_there_once() {
    let mut home = World::new();
    let with_will = Claim {
        will: Some(Box::new(will("far", 0))),
        ..claim("a")
    };
    let (a, claimed) = home.connect_fully(with_will);
    let gone = |client: &Client| cluster::frame::Disconnect {
        actor: client.actor,
        expiry_s: None,
        will: WillFate::Published,
    };
    let mut out = Effects::default();
    // Without a leader that publishes it.
    let (index, now_ms) = (home.entries.len() as u64 + 1, home.now_ms);
    let from = Command::From {
        link: LINK,
        first: 1_000,
    };
    let disconnect = Command::Disconnect(Box::new(gone(&a)));
    for command in [from, disconnect] {
        home.state.apply(index, now_ms, command, &mut out);
    }
    let key = home.state.next_errand(None).expect("the will is due");
    assert_eq!(key, ErrandKey::Will(a.actor.client, claimed.epoch));
    assert!(
        home.state.errand(HERE, &key, |_| HERE).is_none(),
        "its own topic"
    );
    let errand = home.state.errand(HERE, &key, |_| HOME).expect("elsewhere");
    assert!(matches!(errand.what, ErrandKind::Will { epoch, .. } if epoch == claimed.epoch));

    let mut there = World::new();
    let listener = there.connect("l");
    there.subscribe(&listener, "far", Q1);
    there.foreign_will("far", claimed.epoch.0);
    there.foreign_will("far", claimed.epoch.0);
    assert_eq!(there.payloads(&listener), ["will"], "once");
    assert_eq!(there.done.len(), 2, "and answered each time");
    let first = 1_001;
    let done = Command::ErrandDone(Box::new(errand.done()));
    for command in [Command::From { link: LINK, first }, done] {
        home.state.apply(index + 1, now_ms, command, &mut out);
    }
    assert!(!home.state.has_errands());
}

#[test]
fn a_group_that_becomes_a_home_forgets_its_guest() {
    let mut world = World::new();
    let guest = world.join(LINK, "g", (3, 3), Some(1)).expect("taken");
    world.subscribe(&guest, "t", Q1);
    let owner = world.connect("g");
    assert!(!owner.session_present);
    let counters = world.state.counters();
    assert_eq!(
        [counters.guests, counters.subscriptions, counters.sessions],
        [0, 0, 1]
    );
    assert!(
        world.join(LINK, "g", (9, 9), Some(1)).is_none(),
        "this is its home"
    );
}
