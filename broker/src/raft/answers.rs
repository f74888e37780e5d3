//! What a member answers to a leader and to candidates.
//!
//! Openraft's core does one thing after the other, and a disk without space holds it up: a vote has to be durable. What
//! is put before it waits in a queue without an end, so only so many calls are.

use super::config::{Carried, LogId, Raft, Types, Vote, random};
use super::election::Election;
use super::journal::Journal;
use super::limits::CALLS_IN_CORE_MAX;
use super::process;
use super::storage::Store;
use super::wire::Answer;
use crate::faults::{self, Fault};
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::{Snapshot, SnapshotMeta};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Answers what openraft has to be asked for.
#[derive(Debug)]
pub(super) struct Answers<J> {
    store: Store<J>,
    /// Calls that the core may be given.
    room: Arc<Semaphore>,
}

impl<J: Journal> Answers<J> {
    pub(super) fn new(store: Store<J>) -> Self {
        let room = Arc::new(Semaphore::new(CALLS_IN_CORE_MAX));
        Self { store, room }
    }

    /// To entries, or a sign of life, of a leader whose wall clock shows this.
    pub(super) async fn append(
        &self,
        raft: &Raft,
        append: AppendEntriesRequest<Types>,
        wall_ms: u64,
    ) -> Answer {
        let (raft, inbox) = (raft.clone(), &self.store.inbox);
        let held = inbox.called(append.vote.leader_id.voted_for, wall_ms);
        let term = append.vote.leader_id.term;
        let answered = self.ask(async move { raft.append_entries(append).await });
        let response = match answered.await {
            Ok(response) => response,
            Err(refusal) => return refusal,
        };
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            // The leader will count on it that this member does not want to lead for a while. Between openraft's answer
            // and this line it may have begun to.
            let heard = |election: &mut Election| {
                election.heard_since(held, term, Instant::now(), &mut random())
            };
            if inbox.change_election(heard) != Some(true) {
                return Answer::Absent;
            }
        }
        self.when_durable(response).await
    }

    /// To somebody who wants to lead. A member without space could not store its vote, so it has none: another may
    /// still lead on a promise of this one, and goes on to. Nor has a leader as long as its reign lasts: it counts itself
    /// among those that have promised it.
    ///
    /// With `given_way`, the leader of the term before has given way to who asks.
    pub(super) async fn vote(
        &self,
        raft: &Raft,
        vote: VoteRequest<u64>,
        given_way: bool,
    ) -> Answer {
        if self.store.log.is_full() {
            return Answer::NoSpace;
        }
        if self.store.inbox.reigns(Instant::now()) {
            return Answer::Absent;
        }
        if given_way && let Err(refusal) = self.end_promise(raft, vote.vote).await {
            return refusal;
        }
        let raft = raft.clone();
        let response = match self.ask(async move { raft.vote(vote).await }).await {
            Ok(response) => response,
            Err(refusal) => return refusal,
        };
        if response.vote_granted {
            let voted = |election: &mut Election| election.put_off(Instant::now(), &mut random());
            self.store.inbox.change_election(voted);
        }
        Answer::Vote(response)
    }

    /// Ends what this member has promised leaders of the terms before this candidate's, for openraft too. That refuses votes
    /// for a while after it has heard a leader, whatever becomes of the leader. It does not as long as its own vote is one
    /// for a candidate; and as in any Raft, each call of a later term brings its vote with it. So it is given one that does
    /// nothing else: a snapshot that covers no entry. The vote of this member is asked for after that, as ever.
    async fn end_promise(&self, raft: &Raft, candidate: Vote) -> Result<(), Answer> {
        let nothing = Snapshot {
            meta: SnapshotMeta::default(),
            snapshot: Box::new(Carried),
        };
        let raft = raft.clone();
        let installs = async move {
            let installed = raft.install_full_snapshot(candidate, nothing).await;
            installed.map_err(RaftError::Fatal)
        };
        self.ask(installs).await.map(|_| ())
    }

    /// To a leader that has given way in this term, and wants this member to lead.
    pub(super) async fn timeout_now(&self, raft: &Raft, term: u64) -> Answer {
        if self.store.log.is_full() {
            return Answer::NoSpace;
        }
        let asked = |election: &mut Election| election.asked(term, Instant::now(), &mut random());
        if self.store.inbox.change_election(asked) != Some(true) {
            return Answer::Absent;
        }
        tracing::info!("the leader hands over to this member");
        match raft.trigger().elect().await {
            Ok(()) => Answer::Elects,
            Err(_stops) => Answer::Absent,
        }
    }

    /// To somebody who wants to know whether it would get this member's vote, with its last entry. The core is waited for:
    /// who cannot vote now would not.
    pub(super) async fn pre_vote(&self, raft: &Raft, last_log_id: Option<LogId>) -> Answer {
        if self.store.log.is_full() {
            return Answer::NoSpace;
        }
        let raft = raft.clone();
        let turn = async move { raft.with_raft_state(|_| ()).await.map_err(RaftError::Fatal) };
        if let Err(refusal) = self.ask(turn).await {
            return refusal;
        }
        let knows_leader = self.store.inbox.knows_leader(Instant::now());
        let granted = !knows_leader && last_log_id >= self.store.last_log_id();
        Answer::PreVote { granted }
    }

    /// Puts a call before the core, if there is room. Who asked may go away meanwhile; the call stays in the queue, and
    /// keeps its room.
    async fn ask<R: Send + 'static>(
        &self,
        call: impl Future<Output = Result<R, RaftError<u64>>> + Send + 'static,
    ) -> Result<R, Answer> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return Err(self.no_room());
        };
        let asked = process::spawn(async move {
            let _room = room;
            call.await
        });
        // It stops.
        let answered = asked.await.map_err(|_| Answer::Absent)?;
        answered.map_err(|_| Answer::Absent)
    }

    fn no_room(&self) -> Answer {
        if self.store.log.is_full() {
            Answer::NoSpace
        } else {
            Answer::Absent
        }
    }

    /// Success says that the entries are stored, so it waits until they are.
    async fn when_durable(&self, response: AppendEntriesResponse<u64>) -> Answer {
        if matches!(
            response,
            AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)
        ) {
            if self.store.log.is_full() {
                return Answer::Full;
            }
            let stores = !faults::is_on(Fault::AnswerBeforeStore);
            if stores && self.store.all_durable().await.is_err() {
                return Answer::Absent;
            }
        }
        Answer::Append(response, self.store.wall.now_ms())
    }
}
