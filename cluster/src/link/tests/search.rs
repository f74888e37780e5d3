//! A link finds its group's leader, whatever the members say, and never asks without end.

use super::world::{known, producer_identity};
use crate::limits::{BACK_OFF_MAX, LINK_CONNECT, LINK_DEAD, MEMBER_SILENT, SEARCH_WAIT_MAX};
use crate::link::{Again, GroupView, LinkError, ProducerLink, Search};
use crate::topology::NodeName;
use crate::wire::{Refusal, Refused};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// What a member does with whoever comes.
#[derive(Clone, Debug)]
enum Member {
    Leads,
    Follows(Option<&'static str>),
    /// It takes no connection.
    Closed,
    /// Its machine does not answer.
    Silent,
    /// It takes connections and says nothing.
    Stopped,
    Refuses(Refusal),
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

struct World {
    now: Instant,
    link: ProducerLink,
    search: Search,
    view: GroupView,
    members: BTreeMap<&'static str, Member>,
    /// Who was tried, in order.
    tried: Vec<NodeName>,
}

impl World {
    fn new(members: &[(&'static str, Member)]) -> Self {
        let now = Instant::now() + Duration::from_secs(60);
        let mut view = GroupView::default();
        view.set_members(members.iter().map(|(text, _)| name(text)));
        Self {
            now,
            link: ProducerLink::new(producer_identity(), known(1), 5, now),
            search: Search::default(),
            view,
            members: members.iter().cloned().collect(),
            tried: Vec::new(),
        }
    }

    fn is(&mut self, member: &'static str, what: Member) {
        self.members.insert(member, what);
    }

    /// One connection, as soon as one may be made. Who has the link session then; otherwise what comes next.
    fn connect(&mut self) -> Result<NodeName, Again> {
        let due = self.link.deadline().expect("it is down");
        self.now = self.now.max(due);
        assert!(self.link.wants_connection(self.now));
        self.link.connecting(self.now);
        let member = self.search.next(self.now, &self.view).expect("a member");
        self.tried.push(member.clone());
        let refused = |refused| LinkError::Refused(refused);
        let why = match &self.members[member.as_str()] {
            Member::Leads => {
                self.search.welcomed(&member, &mut self.view);
                return Ok(member);
            }
            Member::Follows(leader) => refused(Refused::not_leader(leader.map(name), "")),
            Member::Closed => LinkError::Io(ErrorKind::ConnectionRefused),
            Member::Silent => {
                self.now += LINK_CONNECT;
                LinkError::Io(ErrorKind::TimedOut)
            }
            Member::Stopped => {
                self.now += LINK_DEAD;
                LinkError::Silent
            }
            Member::Refuses(refusal) => refused(Refused::new(*refusal, "")),
        };
        Err(self.lose(&member, &why))
    }

    fn lose(&mut self, member: &NodeName, why: &LinkError) -> Again {
        let again = (self.search).failed(self.now, Some(member), why, &mut self.view);
        self.link.lost(self.now, again);
        again
    }

    /// Connects until the link has a session: with whom, and after which time.
    fn find(&mut self) -> (NodeName, Duration) {
        let begun = self.now;
        for _ in 0..1_000 {
            if let Ok(member) = self.connect() {
                return (member, self.now - begun);
            }
        }
        panic!("no leader found: {:?}", self.tried);
    }
}

#[test]
fn a_hint_is_followed_at_once() {
    let mut world = World::new(&[
        ("a", Member::Follows(Some("c"))),
        ("b", Member::Follows(Some("c"))),
        ("c", Member::Leads),
    ]);
    assert_eq!(world.find(), (name("c"), Duration::ZERO));
    assert_eq!(world.tried, [name("a"), name("c")]);
}

#[test]
fn without_a_hint_all_are_asked_before_a_wait() {
    let mut world = World::new(&[
        ("a", Member::Follows(None)),
        ("b", Member::Closed),
        ("c", Member::Leads),
    ]);
    assert_eq!(world.find(), (name("c"), Duration::ZERO));
}

#[test]
fn a_leader_that_steps_down_is_followed_by_the_one_it_names() {
    let mut world = World::new(&[
        ("a", Member::Leads),
        ("b", Member::Follows(None)),
        ("c", Member::Leads),
    ]);
    let (leader, _) = world.find();
    let why = LinkError::Refused(Refused::not_leader(Some(name("c")), ""));
    assert_eq!(world.lose(&leader, &why), Again::AtOnce);
    assert_eq!(world.find(), (name("c"), Duration::ZERO));
    assert!(!world.tried.contains(&name("b")));
}

/// The whole of a failover: the followers do not know of the loss, then elect, then one of them leads.
#[test]
fn a_killed_leader_is_replaced_well_below_two_seconds() {
    for silent in [false, true] {
        let mut world = World::new(&[
            ("a", Member::Leads),
            ("b", Member::Follows(Some("a"))),
            ("c", Member::Follows(Some("a"))),
        ]);
        let (leader, _) = world.find();
        assert_eq!(leader, name("a"));
        world.is(
            "a",
            if silent {
                Member::Silent
            } else {
                Member::Closed
            },
        );
        assert_eq!(world.lose(&leader, &LinkError::Closed), Again::AtOnce);
        let killed = world.now;
        let at = |ms| killed + Duration::from_millis(ms);
        while world.now < at(400) {
            assert!(world.connect().is_err());
        }
        world.is("b", Member::Follows(None));
        world.is("c", Member::Follows(None));
        while world.now < at(900) {
            assert!(world.connect().is_err());
        }
        world.is("c", Member::Leads);
        let served = world.now;
        let (leader, _) = world.find();
        assert_eq!(leader, name("c"));
        let gap = world.now - served;
        assert!(gap <= SEARCH_WAIT_MAX, "silent {silent}: {gap:?}");
    }
}

#[test]
fn a_silent_machine_holds_the_search_up_once_in_a_while() {
    let mut world = World::new(&[
        ("a", Member::Silent),
        ("b", Member::Follows(Some("a"))),
        ("c", Member::Follows(Some("a"))),
    ]);
    let begun = world.now;
    while world.now < begun + Duration::from_secs(9) {
        assert!(world.connect().is_err());
    }
    let silent = world.tried.iter().filter(|it| **it == name("a")).count();
    assert!((2..=4).contains(&silent), "{silent} tries of one second");
    world.is("a", Member::Leads);
    let (leader, after) = world.find();
    assert_eq!(leader, name("a"));
    let most = MEMBER_SILENT + LINK_CONNECT + BACK_OFF_MAX;
    assert!(after <= most, "{after:?}");
}

#[test]
fn a_stopped_process_is_left_out_as_a_silent_machine_is() {
    let mut world = World::new(&[("a", Member::Stopped), ("b", Member::Closed)]);
    assert!(world.connect().is_err());
    for _ in 0..5 {
        assert!(world.connect().is_err());
    }
    let stopped = world.tried.iter().filter(|it| **it == name("a")).count();
    assert_eq!(stopped, 1, "{:?}", world.tried);
}

/// Both are wrong, for ever.
#[test]
fn members_that_name_each_other_are_asked_ever_less_often() {
    let mut world = World::new(&[
        ("a", Member::Follows(Some("b"))),
        ("b", Member::Follows(Some("a"))),
        ("c", Member::Follows(None)),
    ]);
    let begun = world.now;
    while world.now < begun + Duration::from_secs(60) {
        assert!(world.connect().is_err());
    }
    let rounds = world.tried.len() / 3;
    assert!((40..=100).contains(&rounds), "{rounds} rounds in a minute");
    // No member twice between two waits.
    for round in world.tried.chunks_exact(3) {
        assert!(["a", "b", "c"].iter().all(|it| round.contains(&name(it))));
    }
}

#[test]
fn a_name_that_nobody_has_is_no_hint() {
    let mut world = World::new(&[("a", Member::Follows(Some("z"))), ("b", Member::Leads)]);
    assert_eq!(world.find(), (name("b"), Duration::ZERO));
}

#[test]
fn a_full_leader_is_asked_again_and_nobody_else() {
    let mut world = World::new(&[
        ("a", Member::Follows(Some("b"))),
        ("b", Member::Refuses(Refusal::Full)),
        ("c", Member::Follows(Some("b"))),
    ]);
    assert_eq!(world.connect(), Err(Again::AtOnce));
    for _ in 0..10 {
        assert_eq!(world.connect(), Err(Again::Later));
    }
    assert!(world.tried[1..].iter().all(|it| *it == name("b")));
    world.is("b", Member::Leads);
    let (_, after) = world.find();
    assert!(after <= BACK_OFF_MAX);
}

#[test]
fn a_leader_without_a_majority_is_left_for_the_others() {
    let mut world = World::new(&[
        ("a", Member::Refuses(Refusal::NoQuorum)),
        ("b", Member::Follows(Some("a"))),
        ("c", Member::Leads),
    ]);
    assert_eq!(world.find(), (name("c"), Duration::ZERO));
}

#[test]
fn the_other_links_of_a_node_know_the_leader_too() {
    let mut world = World::new(&[("a", Member::Follows(None)), ("b", Member::Leads)]);
    world.find();
    let mut other = Search::default();
    assert_eq!(other.next(world.now, &world.view), Some(name("b")));
    assert!(!other.welcomed(&name("b"), &mut world.view), "the first");
    let gone = LinkError::Closed;
    other.failed(world.now, Some(&name("b")), &gone, &mut world.view);
    assert_eq!(world.view.leader(), None);
    assert_eq!(other.next(world.now, &world.view), Some(name("a")));
    assert!(other.welcomed(&name("a"), &mut world.view), "another one");
}

#[test]
fn one_broker_is_tried_with_waits_as_its_trouble_asks_for() {
    let mut world = World::new(&[("a", Member::Closed)]);
    assert_eq!(world.connect(), Err(Again::Later));
    world.is("a", Member::Refuses(Refusal::Secret));
    assert_eq!(world.connect(), Err(Again::Longest));
    let mut none = Search::default();
    assert_eq!(none.next(world.now, &GroupView::default()), None);
}

/// Where one member can do better by itself, nobody waits for a person.
#[test]
fn trouble_with_one_member_does_not_slow_the_search_down() {
    let mut world = World::new(&[
        ("a", Member::Follows(None)),
        ("b", Member::Refuses(Refusal::Tls)),
    ]);
    assert_eq!(world.connect(), Err(Again::AtOnce));
    assert_eq!(world.connect(), Err(Again::Soon));
    world.is("a", Member::Refuses(Refusal::Tls));
    assert_eq!(world.connect(), Err(Again::AtOnce));
    assert_eq!(world.connect(), Err(Again::Longest));
}

#[test]
fn who_has_left_the_group_is_not_asked() {
    let mut world = World::new(&[("a", Member::Leads), ("b", Member::Leads)]);
    world.find();
    world.view.set_members([name("b")].into_iter());
    assert_eq!(world.view.leader(), None);
    world.lose(&name("a"), &LinkError::Closed);
    let (leader, _) = world.find();
    assert_eq!(leader, name("b"));
}
