//! Members whose disks are full.

use super::THREE;
use super::fleet::{Fleet, PATIENCE};
use crate::raft::Role;
use crate::raft::config::Vote;
use crate::raft::limits::CALLS_IN_CORE_MAX;
use crate::raft::wire::{Answer, Call, Request};
use openraft::raft::AppendEntriesRequest;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Fills the leader's disk, and waits until another one leads and has told it so.
async fn depose_by_filling(fleet: &Fleet, first: &'static str) -> &'static str {
    fleet.fill(first, true);
    let another = |fleet: &Fleet| fleet.leader().filter(|leader| *leader != first);
    let second = fleet.until("another leader", another).await;
    let is_over = |fleet: &Fleet| fleet.seen(first, |seen| seen.leads.is_none()).then_some(());
    fleet.until("its reign is over", is_over).await;
    second
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_space_gives_way_and_comes_back_with_it() {
    let fleet = Fleet::started(&THREE).await;
    let first = fleet.elected().await;
    fleet.propose(first, "before");
    fleet.all_saw("before").await;
    let second = depose_by_filling(&fleet, first).await;
    for other in fleet.others(&[first]) {
        fleet.propose(second, other);
        fleet.saw(other, other).await;
    }
    assert_eq!(fleet.texts(first), ["before"]);
    let role = |name: &str| fleet.members[name].replica.status().role;
    assert_ne!(
        role(first),
        Role::Leader,
        "its vote for another is not stored"
    );
    assert!(!fleet.knows_full(second), "two of three have space");
    fleet.fill(first, false);
    fleet.propose(second, "after");
    fleet.saw(first, "after").await;
}

#[tokio::test(start_paused = true)]
async fn a_majority_without_space_is_known_to_who_would_lead_and_the_group_comes_back() {
    let (fleet, first, [full, third]) = Fleet::of_three().await;
    fleet.propose(first, "before");
    fleet.all_saw("before").await;
    fleet.fill(full, true);
    fleet.fill(first, true);
    let knows = |fleet: &Fleet| fleet.knows_full(third).then_some(());
    fleet.until("it is known", knows).await;
    assert_eq!(fleet.leader(), None);
    fleet.fill(full, false);
    let leader = fleet.elected().await;
    fleet.propose(leader, "after");
    for name in [full, third] {
        fleet.saw(name, "after").await;
        assert!(!fleet.knows_full(name), "{name}");
    }
    fleet.fill(first, false);
    fleet.saw(first, "after").await;
}

#[tokio::test(start_paused = true)]
async fn a_member_without_space_stops() {
    let mut fleet = Fleet::started(&THREE).await;
    let first = fleet.elected().await;
    depose_by_filling(&fleet, first).await;
    let stopped = timeout(PATIENCE, fleet.stop(first)).await;
    stopped.expect("openraft waits for its vote to be stored");
    fleet.start(first).await;
    fleet.propose(fleet.elected().await, "after");
    fleet.saw(first, "after").await;
}

#[tokio::test(start_paused = true)]
async fn openraft_gets_no_more_than_so_many_calls_that_it_cannot_answer() {
    let fleet = Fleet::started(&THREE).await;
    let first = fleet.elected().await;
    let second = depose_by_filling(&fleet, first).await;
    let replica = |name: &str| fleet.members[name].replica.clone();
    let vote = Vote::new_committed(replica(second).status().term, fleet.id(second));
    let call = Call {
        to: fleet.id(first),
        request: Request::Append(
            AppendEntriesRequest {
                vote,
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            },
            0,
        ),
    };
    let mut calls = JoinSet::new();
    for _ in 0..=CALLS_IN_CORE_MAX {
        let (first, call) = (replica(first), call.bytes());
        calls.spawn(async move { Answer::read(&first.answer(call).await) });
    }
    let answer = timeout(PATIENCE, calls.join_next()).await;
    let answer = answer.expect("one has no room").expect("there are some");
    assert_eq!(answer.expect("no panic"), Ok(Answer::NoSpace));
    fleet.fill(first, false);
    while let Some(answer) = calls.join_next().await {
        let answer = answer.expect("no panic");
        assert!(
            matches!(answer, Ok(Answer::NoSpace | Answer::Append(..))),
            "{answer:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_counts_on_nobody_who_has_not_looked_at_its_call() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    for other in fleet.others(&[leader]) {
        fleet.cut(other, leader, true);
        fleet.answers(other, |_| Some(Answer::NoSpace));
    }
    let stops = |fleet: &Fleet| fleet.leader().is_none().then_some(());
    fleet.until("it is not sure any more", stops).await;
    let knows = |fleet: &Fleet| fleet.knows_full(leader).then_some(());
    fleet.until("it knows why", knows).await;
}
