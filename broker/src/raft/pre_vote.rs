//! Whether a member would win an election, asked before it holds one: "pre-vote" (Ongaro's thesis, 9.6).
//!
//! An election raises the term, and that ends the reign of any leader, also of one that is well. So who has not heard its
//! leader for a while (it stood still, or the network to it alone was cut, or it is being sent a snapshot) first asks the
//! others whether they would vote for it. They would not while they hear the leader, nor if they have entries that it
//! lacks. Nobody stores or promises anything for that, and no term is raised. It only keeps elections from being held, so
//! all that is said of elections holds as it is. Who is asked to lead by a leader that gives way asks nobody (`handover`).
//!
//! Both ends ask their core first. One that waits for its disk would hold the election, or vote, only later, when another
//! may lead; so meanwhile it asks for none, and is none that would vote.

use super::carry::Snapshots;
use super::config::{LogId, Membership, Node, Raft};
use super::journal::Journal;
use super::limits::VOTE;
use super::network::{self, Network, Peers};
use super::process;
use super::wire::{Answer, Call, Request};
use openraft::error::Fatal;
use std::collections::BTreeSet;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// What would become of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// A majority would vote for this member.
    Won,
    /// It is the only one with a vote.
    Alone,
    /// Too few would, as far as they have answered in time.
    Lost,
}

/// Asks all with a vote at once, and comes back as soon as it is clear, after [`VOTE`] at the latest. An error: openraft
/// has ended.
pub(super) async fn prospect<J: Journal, P: Peers, S: Snapshots>(
    raft: &Raft,
    network: &Network<J, P, S>,
) -> Result<Prospect, Fatal<u64>> {
    let begun = Instant::now();
    let asked = timeout(VOTE, async {
        let state = raft.with_raft_state(|state| state.membership_state.clone());
        let members = state.await?;
        let member = {
            let metrics = raft.metrics();
            let now = metrics.borrow();
            (now.id, now.current_term)
        };
        Ok::<_, Fatal<u64>>(ask(network, members.effective().membership(), member).await)
    });
    let prospect = asked.await.unwrap_or(Ok(Prospect::Lost))?;
    // A process that stood still has old answers.
    let is_fresh = begun.elapsed() <= VOTE;
    Ok(if is_fresh { prospect } else { Prospect::Lost })
}

async fn ask<J: Journal, P: Peers, S: Snapshots>(
    network: &Network<J, P, S>,
    membership: &Membership,
    (own, term): (u64, u64),
) -> Prospect {
    let mut poll = Poll::new(membership.get_joint_config().clone(), own);
    let last = network.store.last_log_id();
    let (tell, mut told) = mpsc::channel(poll.open.len().max(1));
    for id in poll.open.clone() {
        let Some(node) = membership.get_node(&id) else {
            poll.said(id, false);
            continue;
        };
        let asked = would_vote(
            network.clone(),
            (id, network.addresses.of(node)),
            term,
            last,
        );
        let tell = tell.clone();
        process::spawn(async move {
            // It may be clear without this one.
            let _clear = tell.send((id, asked.await)).await;
        });
    }
    drop(tell);
    loop {
        if let Some(prospect) = poll.prospect() {
            return prospect;
        }
        let Some((id, yes)) = told.recv().await else {
            return Prospect::Lost;
        };
        poll.said(id, yes);
    }
}

async fn would_vote<J: Journal, P: Peers, S: Snapshots>(
    network: Network<J, P, S>,
    (id, node): (u64, Node),
    term: u64,
    last_log_id: Option<LogId>,
) -> bool {
    let request = Request::PreVote { last_log_id };
    let call = Call { to: id, request };
    let inbox = &network.store.inbox;
    match network::call(&network.peers, &node, &call).await {
        Ok(Answer::PreVote { granted }) => {
            inbox.space(term, id, false);
            granted
        }
        Ok(Answer::NoSpace) => {
            inbox.space(term, id, true);
            false
        }
        Ok(_) => false,
        Err(error) => {
            tracing::debug!(%error, "a member does not say whether it would vote");
            false
        }
    }
}

/// The votes as far as they are known. Pure.
#[derive(Debug)]
struct Poll {
    own: u64,
    /// Each of these sets must have a majority: two while the membership changes.
    sets: Vec<BTreeSet<u64>>,
    granted: BTreeSet<u64>,
    /// Those that have not answered.
    open: BTreeSet<u64>,
}

impl Poll {
    fn new(sets: Vec<BTreeSet<u64>>, own: u64) -> Self {
        let mut open: BTreeSet<u64> = sets.iter().flatten().copied().collect();
        let granted: BTreeSet<u64> = open.take(&own).into_iter().collect();
        if granted.is_empty() {
            // It has no vote, so nobody needs to be asked.
            open.clear();
        }
        Self {
            own,
            sets,
            granted,
            open,
        }
    }

    fn said(&mut self, member: u64, granted: bool) {
        if self.open.remove(&member) && granted {
            self.granted.insert(member);
        }
    }

    /// `None`: it is not clear yet.
    fn prospect(&self) -> Option<Prospect> {
        let is_majority = |of: &dyn Fn(&u64) -> bool| {
            let enough =
                |set: &BTreeSet<u64>| set.iter().filter(|id| of(id)).count() > set.len() / 2;
            self.granted.contains(&self.own) && self.sets.iter().all(enough)
        };
        if is_majority(&|id| self.granted.contains(id)) {
            let is_alone = self.granted.len() == 1;
            return Some(if is_alone {
                Prospect::Alone
            } else {
                Prospect::Won
            });
        }
        let can_win = is_majority(&|id| self.granted.contains(id) || self.open.contains(id));
        (!can_win).then_some(Prospect::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(sets: &[&[u64]]) -> Poll {
        let sets = sets.iter().map(|ids| ids.iter().copied().collect());
        Poll::new(sets.collect(), 1)
    }

    /// What is clear when these have answered this.
    fn after(sets: &[&[u64]], said: &[(u64, bool)]) -> Option<Prospect> {
        let mut poll = poll(sets);
        for (member, granted) in said {
            poll.said(*member, *granted);
        }
        poll.prospect()
    }

    const THREE: &[&[u64]] = &[&[1, 2, 3]];
    const FOUR: &[&[u64]] = &[&[1, 2, 3, 4]];
    const FIVE: &[&[u64]] = &[&[1, 2, 3, 4, 5]];

    #[test]
    fn a_majority_decides_as_soon_as_it_is_there() {
        assert_eq!(after(THREE, &[]), None, "nobody has answered");
        assert_eq!(after(THREE, &[(3, true)]), Some(Prospect::Won));
        let twice_and_a_stranger = [(2, true), (2, true), (9, true)];
        assert_eq!(
            after(FIVE, &twice_and_a_stranger),
            None,
            "each counts once, strangers never"
        );
        let and_more = [&twice_and_a_stranger[..], &[(3, false), (4, true)]].concat();
        assert_eq!(after(FIVE, &and_more), Some(Prospect::Won));
    }

    #[test]
    fn it_is_lost_as_soon_as_no_majority_can_be_had() {
        assert_eq!(after(THREE, &[(2, false)]), None);
        let both = [(2, false), (3, false)];
        assert_eq!(after(THREE, &both), Some(Prospect::Lost));
        let half = [(2, true), (3, false)];
        assert_eq!(after(FOUR, &half), None, "half is no majority");
        let all = [(2, true), (3, false), (4, false)];
        assert_eq!(after(FOUR, &all), Some(Prospect::Lost));
    }

    #[test]
    fn a_group_that_changes_has_to_agree_in_both_forms() {
        let forms: &[&[u64]] = &[&[1, 2, 3], &[1, 4, 5]];
        let old = [(2, true), (3, true)];
        assert_eq!(after(forms, &old), None, "none of the new ones");
        let both = [(2, true), (3, true), (4, false), (5, true)];
        assert_eq!(after(forms, &both), Some(Prospect::Won));
    }

    #[test]
    fn an_only_voter_asks_nobody_and_who_has_no_vote_cannot_win() {
        let one = poll(&[&[1]]);
        assert_eq!((one.prospect(), one.open.len()), (Some(Prospect::Alone), 0));
        let other = poll(&[&[2, 3, 4]]);
        assert_eq!(
            (other.prospect(), other.open.len()),
            (Some(Prospect::Lost), 0)
        );
        assert_eq!(after(&[&[2, 3, 4]], &[(2, true)]), Some(Prospect::Lost));
        assert_eq!(after(&[], &[]), Some(Prospect::Lost), "no membership");
    }
}
