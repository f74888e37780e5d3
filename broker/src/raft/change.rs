//! Changes of who is in the group, carried out by its leader.
//!
//! A member comes in as a learner: it is sent all there is, and gets its vote when it has nearly caught up. So a group
//! never counts on one that could not answer for long. One that lost its folder comes back under another id in place of
//! the old one (`node_id`).
//!
//! A change that was cut off half way is ended by asking for it again, from the membership that it has left behind, also
//! when the new member was started again meanwhile: it is known by its id.

use super::carry::Snapshots;
use super::config::{Membership, Node, Raft};
use super::journal::Journal;
use super::limits::{CALL, CALL_AGAIN, HEARTBEAT};
use super::network::{self, Peers};
use super::replica::{Replica, Running};
use super::wire::{Answer, Call, Request};
use cluster::topology::{HostPort, NodeName};
use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// A change of the group's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This member joins the group: its folder is empty, or the group knows it. If the group has another one of its
    /// name, it takes that one's place.
    Add {
        /// Its name.
        name: NodeName,
        /// Where it takes calls.
        address: HostPort,
    },
    /// This member leaves the group.
    Remove {
        /// Its name.
        name: NodeName,
    },
}

/// Why a change was not made, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader changes who is in the group.
    #[error("this member does not lead the group{}", leader.as_ref().map_or_else(
        String::new, |leader| format!("; {leader} does"),
    ))]
    NotLeader {
        /// The one that does, as far as known.
        leader: Option<Box<str>>,
    },
    /// The new member does not answer.
    #[error("the new member does not answer: {0}")]
    Unreachable(String),
    /// The new member's folder is not empty.
    #[error(
        "the data folder of {0} is not empty: it is a member, or has been one; set the folder aside first"
    )]
    InUse(NodeName),
    /// There is no such member.
    #[error("the group has no member {0}")]
    Unknown(NodeName),
    /// It is the last one.
    #[error("{0} is the only member with a vote")]
    Last(NodeName),
    /// Without it, those that answer are no majority: the group would stand still.
    #[error(
        "without {name} the group has {left} members with a vote, of which too many do not answer ({silent}): start \
         them, or remove them first"
    )]
    TooFew {
        /// The member that was to leave.
        name: NodeName,
        /// Members with a vote that would be left.
        left: usize,
        /// Those of them that do not answer.
        silent: String,
    },
    /// Another change is under way.
    #[error("another change of the members is under way; try again when it is done")]
    Busy,
    /// The new member has not caught up, or a majority does not answer. What was begun goes on.
    #[error("the change is not complete after {after:?}: {why}; it goes on, and may become so")]
    TooLong {
        /// How long it was waited for.
        after: Duration,
        /// Who is waited for.
        why: String,
    },
    /// Openraft does not want to, or stops.
    #[error("the change was not made: {0}")]
    Refused(String),
}

impl<J: Journal, P: Peers, S: Snapshots> Replica<J, P, S> {
    /// Changes the members of the group that this one leads. Comes back when a majority has stored the change, which
    /// for a new member takes until it has caught up; gives up after `patience`.
    pub async fn change(&self, change: Change, patience: Duration) -> Result<(), ChangeError> {
        let Some(running) = self.running() else {
            return Err(ChangeError::NotLeader { leader: None });
        };
        // What one goes by, another would change under it.
        let _change = self.begin_change().ok_or(ChangeError::Busy)?;
        let (Change::Add { name, .. } | Change::Remove { name }) = change.clone();
        let made = tokio::time::timeout(patience, async {
            match change {
                Change::Add { name, address } => self.add(running, name, &address).await,
                Change::Remove { name } => self.remove(running, name).await,
            }
        });
        made.await.unwrap_or_else(|_| {
            Err(ChangeError::TooLong {
                after: patience,
                why: self.waits_for(&name),
            })
        })
    }

    /// What holds up a change of this member.
    fn waits_for(&self, name: &NodeName) -> String {
        let members = self.status().members;
        let known = members.iter().filter(|peer| *peer.name == *name.as_str());
        match known.filter_map(|peer| peer.lag).max() {
            Some(lag) if lag > 0 => format!("{name} still lacks {lag} entries"),
            _ => "a majority of the members has not stored it".to_owned(),
        }
    }

    async fn add(
        &self,
        running: &Running,
        name: NodeName,
        address: &HostPort,
    ) -> Result<(), ChangeError> {
        let (raft, membership) = (&running.raft, leads(&running.raft)?);
        let node = Node {
            name: name.as_str().into(),
            address: address.as_str().into(),
        };
        let id = match self.invite(&node, &name).await? {
            Invited::Now(id) => id,
            Invited::Before(id) if named(&membership, &name).any(|named| named == id) => id,
            Invited::Before(_) => return Err(ChangeError::InUse(name)),
        };
        let is_complete = membership.get_joint_config().len() == 1;
        let is_voter = membership.voter_ids().any(|voter| voter == id);
        if is_complete && is_voter && named(&membership, &name).all(|named| named == id) {
            return Ok(());
        }
        let added = raft.add_learner(id, node, true).await;
        added.map_err(|error| refused(&error))?;
        let old = named(&membership, &name).filter(|old| *old != id);
        let old: BTreeSet<u64> = old.collect();
        let voters: BTreeSet<u64> = membership
            .voter_ids()
            .filter(|id| !old.contains(id))
            .collect();
        let voters = voters.into_iter().chain([id]).collect();
        set_voters(raft, voters).await?;
        let learners: BTreeSet<u64> = old
            .into_iter()
            .filter(|id| membership.learner_ids().any(|learner| learner == *id))
            .collect();
        drop_learners(raft, learners).await
    }

    /// Has the new member take part with an id of its own choice.
    async fn invite(&self, node: &Node, name: &NodeName) -> Result<Invited, ChangeError> {
        let request = Request::Invite { name: name.clone() };
        let call = Call { to: 0, request };
        loop {
            return match network::call(self.peers(), node, &call).await {
                Ok(Answer::Invited { id }) => Ok(Invited::Now(id)),
                Ok(Answer::Member { id }) => Ok(Invited::Before(id)),
                // It reads its folder.
                Ok(Answer::Wait) => {
                    tokio::time::sleep(CALL_AGAIN).await;
                    continue;
                }
                Ok(_) => Err(ChangeError::InUse(name.clone())),
                Err(error) => Err(ChangeError::Unreachable(error.to_string())),
            };
        }
    }

    async fn remove(&self, running: &Running, name: NodeName) -> Result<(), ChangeError> {
        let raft = &running.raft;
        let membership = leads(raft)?;
        let gone: BTreeSet<u64> = named(&membership, &name).collect();
        if gone.is_empty() {
            return Err(ChangeError::Unknown(name));
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let left: BTreeSet<u64> = voters.difference(&gone).copied().collect();
        if left.is_empty() {
            return Err(ChangeError::Last(name));
        }
        if left != voters {
            self.are_enough(&membership, &left, name).await?;
            set_voters(raft, left).await?;
        }
        drop_learners(raft, gone.difference(&voters).copied().collect()).await
    }

    /// Whether a majority of those that are `left` without `name` answers. A leader of a moment ago has not heard all yet.
    async fn are_enough(
        &self,
        membership: &Membership,
        left: &BTreeSet<u64>,
        name: NodeName,
    ) -> Result<(), ChangeError> {
        let asked = Instant::now();
        let mut answering = self.answering(left);
        while answering.len() <= left.len() / 2 && asked.elapsed() < CALL {
            tokio::time::sleep(HEARTBEAT).await;
            answering = self.answering(left);
        }
        if answering.len() > left.len() / 2 {
            return Ok(());
        }
        let silent = left.difference(&answering);
        let silent = silent.filter_map(|id| membership.get_node(id));
        let silent: Vec<&str> = silent.map(|node| &*node.name).collect();
        Err(ChangeError::TooFew {
            name,
            left: left.len(),
            silent: silent.join(", "),
        })
    }
}

/// A member that has been asked to take part.
enum Invited {
    /// It does so from now on, with this id.
    Now(u64),
    /// It did so before.
    Before(u64),
}

/// The newest membership, if this member leads.
fn leads(raft: &Raft) -> Result<Membership, ChangeError> {
    let metrics = raft.metrics();
    let now = metrics.borrow();
    let membership = now.membership_config.membership();
    // One that has left the group leads for a moment longer, until the others have stored that.
    let is_voter = membership.voter_ids().any(|id| id == now.id);
    if now.current_leader == Some(now.id) && is_voter {
        return Ok(membership.clone());
    }
    let leader = now.current_leader.filter(|id| *id != now.id);
    let leader = leader.and_then(|id| membership.get_node(&id));
    Err(ChangeError::NotLeader {
        leader: leader.map(|node| node.name.clone()),
    })
}

fn named<'a>(membership: &'a Membership, name: &'a NodeName) -> impl Iterator<Item = u64> + 'a {
    let nodes = membership.nodes();
    let named = nodes.filter(|(_, node)| *node.name == *name.as_str());
    named.map(|(id, _)| *id)
}

async fn set_voters(raft: &Raft, voters: BTreeSet<u64>) -> Result<(), ChangeError> {
    let change = ChangeMembers::ReplaceAllVoters(voters);
    let changed = raft.change_membership(change, false).await;
    changed.map(|_| ()).map_err(|error| refused(&error))
}

async fn drop_learners(raft: &Raft, learners: BTreeSet<u64>) -> Result<(), ChangeError> {
    if learners.is_empty() {
        return Ok(());
    }
    let change = ChangeMembers::RemoveNodes(learners);
    let changed = raft.change_membership(change, false).await;
    changed.map(|_| ()).map_err(|error| refused(&error))
}

fn refused(error: &RaftError<u64, ClientWriteError<u64, Node>>) -> ChangeError {
    use openraft::error::ChangeMembershipError;
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => ChangeError::NotLeader {
            leader: forward.leader_node.as_ref().map(|node| node.name.clone()),
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => ChangeError::Busy,
        other => ChangeError::Refused(other.to_string()),
    }
}
