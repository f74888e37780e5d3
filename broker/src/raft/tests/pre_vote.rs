//! Members that have not heard their leader for a while, and whose leader is well.

use super::carried::grown_without_one;
use super::fleet::Fleet;
use super::{FIVE, THREE};
use crate::raft::Role;
use crate::raft::codec::log_id;
use crate::raft::config::LogId;
use crate::raft::limits::ELECTION_MAX;
use crate::raft::wire::{Answer, Request};
use std::time::Duration;

/// Longer than any member waits for an election, some times.
const LONG: Duration = Duration::from_secs(2);

fn term(fleet: &Fleet, name: &str) -> u64 {
    fleet.members[name].replica.status().term
}

/// The leader and its term, after all have heard that.
async fn reign(fleet: &Fleet) -> (&'static str, u64) {
    let leader = fleet.elected().await;
    fleet.propose(leader, "before");
    fleet.all_saw("before").await;
    (leader, term(fleet, leader))
}

/// What is agreed on now comes to all, and it is the same reign.
async fn goes_on(fleet: &Fleet, (leader, before): (&str, u64)) {
    fleet.propose(leader, "after");
    for name in THREE {
        fleet.saw(name, "after").await;
        let status = fleet.members[name].replica.status();
        assert_eq!(status.term, before, "{name}");
        assert_eq!(status.leader.as_deref(), Some(leader), "{name}");
    }
    assert_eq!(fleet.seen(leader, |seen| seen.leads), Some(before));
}

/// A follower is cut off, by this, for longer than it waits for elections; then not any more.
async fn ends_no_reign(cut: impl Fn(&Fleet, &str, &str, bool)) {
    let fleet = Fleet::started(&THREE).await;
    let (leader, before) = reign(&fleet).await;
    let away = fleet.others(&[leader])[0];
    cut(&fleet, leader, away, true);
    fleet.asks_for_votes(away, 8).await;
    let status = fleet.members[away].replica.status();
    assert_eq!(status.term, before);
    assert_eq!((status.role, status.leader), (Role::Candidate, None));
    cut(&fleet, leader, away, false);
    goes_on(&fleet, (leader, before)).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_was_cut_off_asks_all_the_time_and_ends_no_reign() {
    ends_no_reign(|fleet, _, away, cut| fleet.isolate(away, cut)).await;
}

/// Only the leader does not reach it.
#[tokio::test(start_paused = true)]
async fn a_follower_that_reaches_all_and_hears_nobody_ends_no_reign() {
    ends_no_reign(Fleet::cut).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_stood_still_ends_no_reign() {
    let fleet = Fleet::started(&THREE).await;
    let (leader, before) = reign(&fleet).await;
    let away = fleet.others(&[leader])[0];
    for _ in 0..2 {
        fleet.pause(away, true);
        tokio::time::sleep(LONG).await;
        fleet.pause(away, false);
        fleet.propose(leader, "between");
        fleet.saw(away, "between").await;
    }
    goes_on(&fleet, (leader, before)).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_sent_a_snapshot_slowly_ends_no_reign() {
    let (mut fleet, leader, away) = grown_without_one().await;
    let before = term(&fleet, leader);
    let held = fleet.hold_pieces().await;
    fleet.start(away).await;
    fleet.asks_for_votes(away, 8).await;
    drop(held);
    goes_on(&fleet, (leader, before)).await;
    assert_eq!(fleet.seen(away, |seen| seen.installed), 1);
}

/// Stops the leader; another one leads then.
async fn fails_over(fleet: &mut Fleet, text: &str) {
    let first = fleet.elected().await;
    fleet.stop(first).await;
    let second = fleet.elected().await;
    fleet.propose(second, text);
    fleet.all_saw(text).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_of_three_elects_another_when_its_leader_is_gone() {
    for _ in 0..3 {
        let mut fleet = Fleet::started(&THREE).await;
        reign(&fleet).await;
        fails_over(&mut fleet, "without one").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_of_five_elects_others_as_long_as_three_are_there() {
    let mut fleet = Fleet::started(&FIVE).await;
    let (_, before) = reign(&fleet).await;
    fails_over(&mut fleet, "without one").await;
    fails_over(&mut fleet, "without two").await;
    let third = fleet.elected().await;
    fleet.stop(third).await;
    let left = *fleet.members.keys().next().expect("two are left");
    fleet.asks_for_votes(left, 4).await;
    let until_then = term(&fleet, left);
    assert!(until_then > before);
    fleet.asks_for_votes(left, 12).await;
    assert_eq!(term(&fleet, left), until_then, "two of five raise no term");
}

/// What a member answers to who has this as its last entry.
async fn asked(fleet: &Fleet, name: &str, last_log_id: Option<LogId>) -> Answer {
    fleet.ask(name, Request::PreVote { last_log_id }).await
}

const YES: Answer = Answer::PreVote { granted: true };
const NO: Answer = Answer::PreVote { granted: false };

#[tokio::test(start_paused = true)]
async fn who_hears_a_leader_or_leads_would_vote_for_nobody() {
    let fleet = Fleet::started(&THREE).await;
    let (leader, before) = reign(&fleet).await;
    let all = Some(log_id(before + 1, 1_000));
    for name in THREE {
        assert_eq!(asked(&fleet, name, all).await, NO, "{name}");
    }
    fleet.isolate(leader, true);
    let stops = |fleet: &Fleet| fleet.leader().is_none().then_some(());
    fleet.until("the leader is not sure any more", stops).await;
    // It has heard nobody for longer than they have promised it.
    tokio::time::sleep(ELECTION_MAX).await;
    assert_eq!(asked(&fleet, leader, all).await, YES);
}

#[tokio::test(start_paused = true)]
async fn who_hears_no_leader_would_vote_for_one_that_lacks_nothing() {
    let fleet = Fleet::started(&THREE).await;
    let (leader, before) = reign(&fleet).await;
    let away = fleet.others(&[leader])[0];
    fleet.isolate(away, true);
    fleet.asks_for_votes(away, 1).await;
    let last = fleet.members[away].replica.store().last_log_id();
    let last = last.expect("it has some");
    assert_eq!(asked(&fleet, away, Some(last)).await, YES);
    let fewer = log_id(last.leader_id.term, last.index - 1);
    assert_eq!(asked(&fleet, away, Some(fewer)).await, NO);
    assert_eq!(asked(&fleet, away, None).await, NO);
    let later = log_id(before + 1, 0);
    assert_eq!(
        asked(&fleet, away, Some(later)).await,
        YES,
        "by a later leader"
    );
    fleet.fill(away, true);
    assert_eq!(asked(&fleet, away, Some(last)).await, Answer::NoSpace);
}
