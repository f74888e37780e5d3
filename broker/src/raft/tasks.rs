//! What goes on beside openraft as long as a member takes part.

use super::config::{Body, Node, Proposal, Raft, Types, random};
use super::inbox::Inbox;
use super::journal::Journal;
use super::limits::CATCH_UP;
use super::machine::NewestSnapshot;
use super::reign::Reign;
use crate::log::LogError;
use openraft::RaftMetrics;
use openraft::impls::OneshotResponder;
use openraft::raft::responder::Responder;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Has the member hold elections when they are due. Without space it holds none, as it could not store its
/// vote for itself, and openraft's clock stands still.
pub(super) async fn hold_elections(raft: Raft, inbox: Arc<Inbox>, log: impl Journal) {
    let metrics = raft.metrics();
    while let Some(due) = inbox.change_election(|election| election.due()) {
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let (leads, alone) = {
            let metrics = metrics.borrow();
            let voters = metrics.membership_config.voter_ids().count();
            (metrics.state == openraft::ServerState::Leader, voters == 1)
        };
        let is_full = log.is_full();
        // They would gather in a core that waits for the disk, and a leader without space calls nobody.
        raft.runtime_config().tick(!is_full);
        let hold = inbox.change_election(|election| {
            if is_full {
                election.put_off(now, &mut random());
            } else if leads {
                election.heard(now, &mut random());
            }
            election.hold(now, &mut random())
        });
        if hold == Some(true) && raft.trigger().elect().await.is_err() {
            return;
        }
        if hold == Some(true) && !alone {
            tracing::info!("no leader was heard: holds an election");
        }
    }
}

/// Tells the group who leads, and when it leads no more without another having been elected.
pub(super) async fn watch_reign(raft: Raft, inbox: Arc<Inbox>, reign: Arc<Reign>) {
    let mut metrics = raft.server_metrics();
    loop {
        let now = metrics.borrow_and_update().clone();
        reign.note(now.vote.leader_id.term, now.current_leader, Instant::now());
        // Also one that is the newest again, since a later one was cut off the log.
        let voters = now
            .membership_config
            .membership()
            .get_joint_config()
            .clone();
        inbox.change_lease(|lease| lease.voters(voters));
        let membership = now.membership_config.membership();
        inbox.members_are(|id| membership.get_node(&id).is_some());
        let term = now.vote.leader_id.term;
        let own = now.vote.committed && now.vote.leader_id.voted_for == Some(now.id);
        if own && now.state != openraft::ServerState::Leader {
            inbox.stepped_down(term);
        }
        let leader = now.current_leader.filter(|leader| *leader != now.id);
        let node = leader.and_then(|id| now.membership_config.membership().get_node(&id).cloned());
        if let Some(name) = node.and_then(|node| node.name.parse().ok()) {
            inbox.follows(term, name);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the group when openraft has ended by itself.
pub(super) async fn watch_failure(raft: Raft, inbox: Arc<Inbox>) {
    let mut metrics = raft.metrics();
    let ended = metrics
        .wait_for(|metrics| metrics.running_state.is_err())
        .await;
    let why = match ended {
        Ok(metrics) => match &metrics.running_state {
            Err(error) => error.to_string(),
            Ok(()) => return,
        },
        Err(gone) => gone.to_string(),
    };
    inbox.fail(LogError::group("go on in", why));
}

/// Tells openraft of the snapshots that the group writes, so that it forgets entries behind them. Not while one is on its
/// way to another member: that one will need the entries behind it, and would otherwise need the next snapshot, and so on.
/// `kept_entries` stay.
pub(super) async fn note_snapshots(
    raft: Raft,
    inbox: Arc<Inbox>,
    newest: NewestSnapshot,
    kept_entries: u64,
) {
    loop {
        let position = inbox.snapshot().await;
        if position.index == 0 {
            // It covers nothing.
            continue;
        }
        for member in inbox.nothing_is_sent().await {
            catches_up(&raft, member, kept_entries).await;
        }
        if let Err(error) = newest.set(&position) {
            inbox.fail(LogError::group(
                "go on in",
                format!("its members are {error}"),
            ));
            return;
        }
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}

/// Waits until a member lacks no more entries than are kept for it, for a while: once it is being sent them, openraft keeps
/// them by itself.
async fn catches_up(raft: &Raft, member: u64, kept_entries: u64) {
    let lacks_few = |metrics: &RaftMetrics<u64, Node>| {
        let Some(replication) = &metrics.replication else {
            return true;
        };
        let matched = replication.get(&member).copied().flatten();
        let last = metrics.last_log_index.unwrap_or(0);
        matched.is_some_and(|matched| last < matched.index + kept_entries)
    };
    let wait = raft.wait(Some(CATCH_UP));
    let waited = wait.metrics(lacks_few, "a member catches up").await;
    if let Err(error) = waited {
        tracing::debug!(%error, "a member that has got a snapshot does not catch up");
    }
}

pub(super) type Answered = <OneshotResponder<Types> as Responder<Types>>::Receiver;

/// Gives openraft what the group proposes, in order.
pub(super) async fn propose(raft: Raft, inbox: Arc<Inbox>, answers: mpsc::Sender<Answered>) {
    loop {
        for (term, body) in inbox.proposals().await {
            let body = Body::Here(body);
            let Ok(answer) = raft.client_write_ff(Proposal { term, body }).await else {
                return;
            };
            if answers.send(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Takes openraft's answers to proposals. The group sees its entries come back, or that it does not lead.
pub(super) async fn drop_answers(mut answers: mpsc::Receiver<Answered>) {
    while let Some(answer) = answers.recv().await {
        let _refused_or_applied = answer.await;
    }
}
