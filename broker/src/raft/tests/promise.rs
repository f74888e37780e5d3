//! What a member's answer promises.

use super::THREE;
use super::fleet::Fleet;
use crate::raft::codec::log_id;
use crate::raft::config::{Vote, random};
use crate::raft::limits::ELECTION_MAX;
use crate::raft::wire::{Answer, Call, Request};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use tokio::time::Instant;

/// A sign of life of the leader, for a follower.
fn sign_of_life(fleet: &Fleet, leader: &str, follower: &str) -> Call {
    let term = fleet.members[leader].replica.status().term;
    let append = AppendEntriesRequest {
        vote: Vote::new_committed(term, fleet.id(leader)),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let request = Request::Append(append, 0);
    let to = fleet.id(follower);
    Call { to, request }
}

#[tokio::test(start_paused = true)]
async fn a_call_gets_no_answer_if_an_election_begins_before_it() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    let follower = fleet.others(&[leader])[0];
    let call = sign_of_life(&fleet, leader, follower).bytes();
    let replica = &fleet.members[follower].replica;

    let answer = Answer::read(&replica.answer(call.clone()).await);
    let success = AppendEntriesResponse::Success;
    assert!(
        matches!(&answer, Ok(Answer::Append(response, _)) if *response == success),
        "{answer:?}"
    );

    let mut answering = pin!(replica.answer(call));
    let begun = answering
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(begun.is_pending(), "it is under way");
    let held = replica.store().inbox.change_election(|election| {
        let later = Instant::now() + ELECTION_MAX * 10;
        election.hold(later, &mut random())
    });
    assert_eq!(held, Some(true));
    assert_eq!(Answer::read(&answering.await), Ok(Answer::Absent));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_sure_votes_for_nobody() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    // Openraft itself goes by the age of the vote, which nothing renews at the leader.
    tokio::time::sleep(ELECTION_MAX * 2).await;
    let leader_is = fleet.elected().await;
    assert_eq!(leader_is, leader, "all is well");
    let replica = &fleet.members[leader].replica;
    let candidate = fleet.id(fleet.others(&[leader])[0]);
    let term = replica.status().term;
    let request = Request::Vote(VoteRequest {
        vote: Vote::new(term + 1, candidate),
        last_log_id: Some(log_id(term + 1, u64::MAX - 1)),
    });
    assert_eq!(fleet.ask(leader, request).await, Answer::Absent);
    assert_eq!(replica.status().term, term);
}
