//! What goes on beside openraft as long as a member takes part.

use super::carry::Snapshots;
use super::config::{Body, Node, Proposal, Raft, Types, random};
use super::inbox::Inbox;
use super::journal::Journal;
use super::limits::{CATCH_UP, CATCH_UP_GAIN};
use super::machine::NewestSnapshot;
use super::network::{Network, Peers};
use super::pre_vote::{self, Prospect};
use super::reign::Reign;
use crate::log::LogError;
use openraft::RaftMetrics;
use openraft::impls::OneshotResponder;
use openraft::raft::responder::Responder;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Has the member hold elections when they are due and it would win them. Without space it holds none, as it could not
/// store its vote for itself, and openraft's clock stands still.
pub(super) async fn hold_elections<J: Journal, P: Peers, S: Snapshots>(
    raft: Raft,
    network: Network<J, P, S>,
) {
    let inbox = &network.store.inbox;
    let mut was_refused = false;
    while let Some(due) = inbox.change_election(|election| election.due()) {
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let is_full = network.store.log.is_full();
        let (leads, is_silent) = {
            let metrics = raft.metrics();
            let now = metrics.borrow();
            let leads = now.state == openraft::ServerState::Leader;
            // Openraft's clock has it notice that it is no member any more.
            let votes = now.membership_config.voter_ids().any(|id| id == now.id);
            (
                leads,
                leads && votes && inbox.keeps_silent(now.current_term),
            )
        };
        // They would gather in a core that waits for the disk, and a leader without space calls nobody.
        raft.runtime_config().tick(!is_full && !is_silent);
        let is_due = inbox.change_election(|election| {
            if is_full || leads {
                election.put_off(now, &mut random());
            }
            election.is_due(now)
        });
        if is_due != Some(true) {
            was_refused = false;
            continue;
        }
        let Ok(prospect) = pre_vote::prospect(&raft, &network).await else {
            return;
        };
        let now = Instant::now();
        let holds = inbox.change_election(|election| {
            // Not if it has heard a leader meanwhile, or voted for another.
            if prospect == Prospect::Lost && election.is_due(now) {
                election.lost(now, &mut random());
            }
            election.hold(now, &mut random())
        });
        if holds == Some(true) && raft.trigger().elect().await.is_err() {
            return;
        }
        let is_refused = inbox.lacks_leader();
        match prospect {
            Prospect::Lost if is_refused && !was_refused => {
                tracing::info!("no leader was heard, and too few would vote for this member");
            }
            Prospect::Won if holds == Some(true) => {
                tracing::info!("no leader was heard: holds an election");
            }
            _ => {}
        }
        was_refused = is_refused;
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

/// Waits until a member lacks no more entries than are kept for it, as long as it lacks clearly fewer each time: openraft would
/// forget them while they are being sent, and the member would need the next snapshot.
async fn catches_up(raft: &Raft, member: u64, kept_entries: u64) {
    let mut lacked = u64::MAX;
    loop {
        let lacks_few = |metrics: &RaftMetrics<u64, Node>| {
            lacks(metrics, member).is_none_or(|lacks| lacks < kept_entries)
        };
        let wait = raft.wait(Some(CATCH_UP));
        let waited = wait.metrics(lacks_few, "a member catches up").await;
        let Err(error) = waited else {
            return;
        };
        let lacks = lacks(&raft.metrics().borrow(), member);
        if lacks.is_none_or(|lacks| lacks >= lacked - lacked / CATCH_UP_GAIN) {
            tracing::debug!(%error, "a member that has got a snapshot does not catch up");
            return;
        }
        lacked = lacks.unwrap_or(0);
    }
}

/// Entries that a member lacks; `None`: this one does not lead, or not that one.
fn lacks(metrics: &RaftMetrics<u64, Node>, member: u64) -> Option<u64> {
    let matched = *metrics.replication.as_ref()?.get(&member)?;
    let from = matched.map_or(0, |matched| matched.index + 1);
    Some((metrics.last_log_index.unwrap_or(0) + 1).saturating_sub(from))
}

pub(super) type Answered = <OneshotResponder<Types> as Responder<Types>>::Receiver;

/// Gives openraft what the group proposes, in order.
pub(super) async fn propose(raft: Raft, inbox: Arc<Inbox>, answers: mpsc::Sender<Answered>) {
    loop {
        for (term, body) in inbox.proposals().await {
            if !inbox.has_won(term) {
                // A leader that has given way adds nothing to what its successor has to have.
                continue;
            }
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

#[cfg(test)]
mod tests {
    use super::super::codec::log_id;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_a_member_lacks_is_what_comes_behind_what_it_has() {
        let mut metrics = RaftMetrics::new_initial(1);
        assert_eq!(lacks(&metrics, 2), None, "it does not lead");
        metrics.last_log_index = Some(9);
        let known = [(2, Some(log_id(1, 7))), (3, None), (4, Some(log_id(1, 9)))];
        metrics.replication = Some(BTreeMap::from(known));
        let all = [2, 3, 4, 5].map(|member| lacks(&metrics, member));
        assert_eq!(all, [Some(2), Some(10), Some(0), None]);
    }
}
