//! A leader that is to stop, or to leave the group, has another member lead first: "leadership transfer" (Ongaro's thesis, 3.10).
//!
//! 1. It leads on until a follower has nearly all of its log.
//! 2. It *gives way*: it ends its reign for itself. It is not sure to lead any more, and never is again in that term
//!    (`Inbox::give_way`). So its group takes and sends no frames, and proposes nothing. Its links stay. It goes on when the group
//!    has noticed: what that began to send while it was sure is sent by then.
//! 3. It waits until a follower has all of its log, and calls that one ([`Request::TimeoutNow`]).
//! 4. The follower holds an election at once. Its requests for votes say that the leader of the term before has given way
//!    ([`Request::TransferVote`]); then they are answered in spite of what the voter has promised that leader.
//! 5. When the new leader's first entry is agreed on, the old one's links are told who leads.
//!
//! If no follower can be had the member stops as if it were killed: the others wait until it has been silent for long. One
//! that is not to stop, but to leave the group, keeps silent too, until another one leads.
//!
//! # Why no two leaders are sure at once
//!
//! A lease (`lease`) is sound as its leader has the promise of a majority not to vote for another for a while. Here voters
//! break a promise. Let T be the term in the call of step 3; the new vote is of term T + 1, as the follower has last heard
//! the leader of T (`Election::asked`), and says so for no other term (`Election::is_given_way_to`).
//!
//! - *Promises to the leader of T* are not counted on any more: it has given way before it made the call, for good.
//!   Nobody else can say that it has: a candidate says so only if it was called by that leader in that term.
//! - *Promises to leaders of terms before T* count for nothing either. A leader was elected in T, so a majority had voted
//!   in T; whoever of that majority had promised an earlier leader something had kept it until then, or that leader had
//!   given way. And in T and after it they answer no call of an earlier leader. So that leader's lease is over.
//! - *Promises to leaders of T + 1 and later* are kept. A vote of term T + 1 ends none of them: whoever has heard such a
//!   leader has a vote of that leader, which openraft does not give up for this one (`Answers::end_promise`). The follower itself refuses
//!   the call of step 3 if it has heard a later leader; and if it hears one while it holds the election, that one gets no
//!   answer (`Election::heard_since`).
//!
//! So an election of term T + 1 takes away nothing that any lease counts on. What was agreed on stays, as ever: votes go by
//! the logs, and the old leader is a voter like the others, whose log may have more than theirs.
//!
//! Members that do not know these calls answer that they are absent. The leader then asks another one, or stops without.

use super::carry::Snapshots;
use super::config::Node;
use super::journal::Journal;
use super::limits::{HAND_OVER, LAG_OF_VOTERS, SUCCESSOR_WAIT, VOTE};
use super::network::{self, Peers};
use super::replica::{Replica, Running};
use super::wire::{Answer, Call, Request};
use openraft::RaftMetrics;
use std::collections::BTreeSet;
use std::time::Instant;
use tokio::time::timeout;

type Metrics = RaftMetrics<u64, Node>;

/// A follower with a vote, as its leader knows it.
#[derive(Clone, Copy, Debug)]
struct Follower {
    id: u64,
    /// The group's index of the last entry that it is known to have.
    matched: u64,
    /// When the last call to it was sent that it has answered.
    heard: Instant,
}

/// The follower to be asked: of those that have everything up to this entry the one that was heard last. One that is gone
/// has everything too, where nothing was proposed since.
fn successor(followers: &[Follower], upto: u64, asked: &BTreeSet<u64>) -> Option<u64> {
    let may_lead = |it: &&Follower| it.matched >= upto && !asked.contains(&it.id);
    let may_lead = followers.iter().filter(may_lead);
    may_lead.max_by_key(|it| it.heard).map(|it| it.id)
}

/// The leader that came after this term, when something is agreed on in its reign.
fn next_leader(metrics: &Metrics, term: u64) -> Option<&Node> {
    let applied = metrics.last_applied.map_or(0, |id| id.leader_id.term);
    let leader = metrics.current_leader.filter(|id| *id != metrics.id)?;
    let membership = metrics.membership_config.membership();
    (applied > term)
        .then(|| membership.get_node(&leader))
        .flatten()
}

fn has_other_voters(metrics: &Metrics) -> bool {
    let mut voters = metrics.membership_config.voter_ids();
    voters.any(|id| id != metrics.id)
}

impl<J: Journal, P: Peers, S: Snapshots> Replica<J, P, S> {
    /// Has another member lead, if this one does, before it stops as planned or leaves the group. Comes back when another leads, with its
    /// name, or after [`SUCCESSOR_WAIT`] and [`HAND_OVER`] together: `None`.
    pub async fn hand_over(&self) -> Option<Box<str>> {
        let running = self.running()?;
        let now = running.raft.metrics().borrow().clone();
        let term = now.current_term;
        if !self.inbox().has_won(term) || !has_other_voters(&now) {
            return None;
        }
        // No change of the members begins now. One that is under way has a majority of each form vote, as ever.
        let _change = self.begin_change();
        let nearly = |metrics: &Metrics| {
            let last = metrics.last_log_index.map_or(0, |index| index + 1);
            let followers = self.followers(metrics);
            successor(
                &followers,
                last.saturating_sub(LAG_OF_VOTERS),
                &BTreeSet::new(),
            )
            .is_some()
        };
        let wait = running.raft.wait(Some(SUCCESSOR_WAIT));
        if let Err(error) = wait.metrics(nearly, "a follower has nearly all").await {
            tracing::warn!(%error, "no other member can lead: does not hand over");
            return None;
        }
        if !self.inbox().give_way(term) {
            return None;
        }
        tracing::info!(term, "hands over to another member");
        let passed = timeout(HAND_OVER, self.pass_on(running, term)).await;
        let to = passed.ok().flatten();
        self.inbox().part();
        let Some(name) = to else {
            // One that does not stop would keep the others from electing one.
            self.inbox().keep_silent(term);
            tracing::warn!("has given way, and no other member leads yet");
            return None;
        };
        tracing::info!(to = %name, "another member leads");
        // Whoever carries the links can tell them so only when the group has heard it.
        let _in_vain = timeout(HAND_OVER, self.inbox().all_taken()).await;
        Some(name)
    }

    /// Asks one follower after the other, until one leads.
    async fn pass_on(&self, running: &Running, term: u64) -> Option<Box<str>> {
        let raft = &running.raft;
        self.inbox().is_unsure().await;
        // What was proposed before is in the log when the core has come to this.
        raft.with_raft_state(|_| ()).await.ok()?;
        let last = self.store().last();
        let mut asked = BTreeSet::new();
        loop {
            let may_go_on = |metrics: &Metrics| {
                let followers = self.followers(metrics);
                next_leader(metrics, term).is_some()
                    || successor(&followers, last, &asked).is_some()
            };
            let wait = raft.wait(Some(HAND_OVER));
            let metrics = wait.metrics(may_go_on, "a follower has all").await.ok()?;
            if let Some(leader) = next_leader(&metrics, term) {
                return Some(leader.name.clone());
            }
            let next = successor(&self.followers(&metrics), last, &asked)?;
            asked.insert(next);
            if self.ask_to_lead(&metrics, next, term).await {
                let leads = |metrics: &Metrics| next_leader(metrics, term).is_some();
                let elected = raft.wait(Some(VOTE)).metrics(leads, "another leads").await;
                if let Ok(metrics) = elected {
                    return next_leader(&metrics, term).map(|node| node.name.clone());
                }
            }
        }
    }

    /// Whether the member holds an election.
    async fn ask_to_lead(&self, metrics: &Metrics, id: u64, term: u64) -> bool {
        let membership = metrics.membership_config.membership();
        let Some(node) = membership.get_node(&id) else {
            return false;
        };
        let node = self.addresses().of(node);
        let request = Request::TimeoutNow { term };
        match network::call(self.peers(), &node, &Call { to: id, request }).await {
            Ok(Answer::Elects) => true,
            Ok(_) => {
                tracing::info!(member = %node.name, "cannot lead now");
                false
            }
            Err(error) => {
                tracing::info!(member = %node.name, %error, "cannot be asked to lead");
                false
            }
        }
    }

    /// The followers that have a vote, and have answered in this reign.
    fn followers(&self, metrics: &Metrics) -> Vec<Follower> {
        let Some(replication) = &metrics.replication else {
            return Vec::new();
        };
        let voters = metrics.membership_config.voter_ids();
        let others = voters.filter(|id| *id != metrics.id);
        let follower = |id: u64| {
            let matched = replication.get(&id).copied().flatten()?;
            let heard = self.inbox().change_lease(|lease| lease.heard_at(id))?;
            Some(Follower {
                id,
                matched: matched.index + 1,
                heard,
            })
        };
        others.filter_map(follower).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_one_that_has_all_and_was_heard_last_is_asked_and_each_once() {
        let start = Instant::now();
        let follower = |id, matched, millis| Follower {
            id,
            matched,
            heard: start + Duration::from_millis(millis),
        };
        let all = [follower(1, 10, 5), follower(2, 10, 7), follower(3, 9, 9)];
        let mut asked = BTreeSet::new();
        assert_eq!(successor(&all, 10, &asked), Some(2));
        assert_eq!(successor(&all, 9, &asked), Some(3), "it has enough");
        assert_eq!(successor(&all, 11, &asked), None, "none has");
        asked.insert(2);
        assert_eq!(successor(&all, 10, &asked), Some(1));
        asked.insert(1);
        assert_eq!(successor(&all, 10, &asked), None);
    }
}
