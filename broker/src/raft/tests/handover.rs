//! Leaders that stop as planned.

use super::fleet::Fleet;
use super::net::knows_no_handover;
use super::{FIVE, THREE};
use crate::consensus::Consensus;
use crate::raft::codec::log_id;
use crate::raft::config::Vote;
use crate::raft::limits::ELECTION_MAX;
use crate::raft::wire::{Answer, Request};
use openraft::raft::VoteRequest;
use std::time::Duration;
use tokio::time::Instant;

/// Between the call to the one that is to lead and its first entry there are a few writes to the disk. Without that call
/// nobody leads before [`ELECTION_MAX`] and more.
const SOON: Duration = Duration::from_millis(300);

fn may_act(fleet: &Fleet, name: &str) -> bool {
    let handle = fleet.members[name].handle.lock().expect("no panic");
    handle.leads_until().is_some()
}

/// The leader proposes all the time and hands over; then the other one is at it.
async fn is_handed_over(all: &[&'static str]) {
    let mut fleet = Fleet::started(all).await;
    let first = fleet.elected().await;
    for n in 0..200 {
        fleet.propose(first, &format!("early {n}"));
    }
    fleet.saw(first, "early 99").await;
    let acknowledged = fleet.texts(first);

    let begun = Instant::now();
    let to = fleet.members[first].replica.hand_over().await;
    let to = to.expect("another one");
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}");
    assert!(!may_act(&fleet, first));
    let second = fleet.elected().await;
    assert_eq!(second, &*to);
    assert_ne!(second, first);
    let follows = fleet.seen(first, |seen| seen.follows.clone());
    assert_eq!(follows.expect("it is known").as_str(), second);

    fleet.stop(first).await;
    fleet.propose(second, "late");
    for name in fleet.others(&[first]) {
        fleet.saw(name, "late").await;
        let texts = fleet.texts(name);
        assert!(texts.starts_with(&acknowledged), "{name} lacks some");
    }
    fleet.start(first).await;
    fleet.saw(first, "late").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_three_hands_over_before_it_stops() {
    is_handed_over(&THREE).await;
}

/// The old leader and the new one are no majority: others have to break their promise.
#[tokio::test(start_paused = true)]
async fn a_leader_of_five_hands_over_before_it_stops() {
    is_handed_over(&FIVE).await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_or_is_alone_hands_nothing_over() {
    let fleet = Fleet::started(&["a"]).await;
    let only = fleet.elected().await;
    assert_eq!(fleet.members[only].replica.hand_over().await, None);
    assert!(may_act(&fleet, only));
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    for follower in fleet.others(&[leader]) {
        assert_eq!(fleet.members[follower].replica.hand_over().await, None);
    }
    assert_eq!(fleet.elected().await, leader);
}

#[tokio::test(start_paused = true)]
async fn the_one_that_has_all_is_asked() {
    let (fleet, leader, [behind, even]) = Fleet::of_three().await;
    fleet.cut(leader, behind, true);
    for n in 0..100 {
        fleet.propose(leader, &format!("{n}"));
    }
    fleet.saw(even, "99").await;
    let to = fleet.members[leader].replica.hand_over().await;
    assert_eq!(to.as_deref(), Some(even));
    fleet.saw(behind, "99").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_follower_leads_until_it_stops() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    for follower in fleet.others(&[leader]) {
        fleet.cut(follower, leader, true);
    }
    for n in 0..100 {
        fleet.propose(leader, &format!("{n}"));
    }
    assert_eq!(fleet.members[leader].replica.hand_over().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_know_the_call_is_passed_over() {
    let (fleet, first, [old, new]) = Fleet::of_three().await;
    fleet.answers(old, knows_no_handover);
    let to = fleet.members[first].replica.hand_over().await;
    assert_eq!(to.as_deref(), Some(new));
    // None knows it: the one that has given way does not come back to it, and keeps silent until the others elect one.
    fleet.answers(first, knows_no_handover);
    let begun = Instant::now();
    assert_eq!(fleet.members[new].replica.hand_over().await, None);
    assert!(!may_act(&fleet, new));
    let third = fleet.elected().await;
    assert_ne!(third, new);
    assert!(begun.elapsed() > ELECTION_MAX, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_to_lead_is_from_the_leader_that_was_heard_last() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    let follower = fleet.others(&[leader])[0];
    fleet.propose(leader, "heard");
    fleet.saw(follower, "heard").await;
    let term = fleet.members[leader].replica.status().term;
    for strange in [term - 1, term + 1] {
        let request = Request::TimeoutNow { term: strange };
        assert_eq!(fleet.ask(follower, request).await, Answer::Absent);
    }
    assert_eq!(fleet.elected().await, leader);
    assert_eq!(fleet.members[follower].replica.status().term, term);
}

#[tokio::test(start_paused = true)]
async fn a_promise_holds_until_the_leader_has_given_way() {
    let (fleet, leader, [voter, candidate]) = Fleet::of_three().await;
    fleet.propose(leader, "heard");
    fleet.saw(voter, "heard").await;
    let term = fleet.members[leader].replica.status().term;
    // The voter promises no more than it has.
    fleet.cut(leader, voter, true);
    let wants = |term| VoteRequest {
        vote: Vote::new(term, fleet.id(candidate)),
        last_log_id: Some(log_id(term, u64::MAX - 1)),
    };
    let refused = |answer: &Answer| matches!(answer, Answer::Vote(vote) if !vote.vote_granted);
    let granted = |answer: &Answer| matches!(answer, Answer::Vote(vote) if vote.vote_granted);
    for (what, request) in [
        ("it has promised", Request::Vote(wants(term + 1))),
        ("this one leads", Request::TransferVote(wants(term))),
    ] {
        let answer = fleet.ask(voter, request).await;
        assert!(refused(&answer), "{what}: {answer:?}");
    }
    let next = Request::TransferVote(wants(term + 1));
    for what in ["the leader has given way", "the same call"] {
        let answer = fleet.ask(voter, next.clone()).await;
        assert!(granted(&answer), "{what}: {answer:?}");
    }
    let answer = fleet
        .ask(leader, Request::TransferVote(wants(term + 1)))
        .await;
    assert_eq!(answer, Answer::Absent, "it is sure, and has not given way");
}
