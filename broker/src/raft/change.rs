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
use super::limits::{CALL, HEARTBEAT};
use super::network::Peers;
use super::newcomer::{Invited, both_vote};
use super::replica::{Replica, Running};
use cluster::topology::{HostPort, MEMBERS_MAX, NodeName};
use openraft::error::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

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
    /// This member comes into the group and is sent all there is, and gets no vote yet.
    Learn {
        /// Its name.
        name: NodeName,
        /// Where it takes calls.
        address: HostPort,
    },
    /// This member takes another one's place: from one moment to the next it has a vote and the other one has none. If that
    /// one leads, it has a further member lead first, which the change is to be asked of then. If it is the only one, it
    /// keeps its vote beside the new member's, and is to be removed after that.
    Replace {
        /// The one that goes.
        old: NodeName,
        /// The one that comes.
        name: NodeName,
        /// Where that one takes calls.
        address: HostPort,
    },
    /// This member leaves the group. If it leads, it has another member lead first, which the change is to be asked of then.
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
    /// Somebody else is there.
    #[error("the broker at {address} is {found}, not {name}")]
    Another {
        /// The one that was to come.
        name: NodeName,
        /// Where it was looked for.
        address: HostPort,
        /// Who is there.
        found: NodeName,
    },
    /// The group has a member of this name, and that is not the one that was to come, or it has lost its data.
    #[error("the group has a member {0} already; if that one has lost its data, repair it")]
    Named(NodeName),
    /// Both are members already.
    #[error(
        "{name} has a vote in the group already, and so has no need of the place of {old}; if {old} is to go, remove it"
    )]
    BothVote {
        /// The one that was to come.
        name: NodeName,
        /// The one that was to go.
        old: NodeName,
    },
    /// A group has no more members.
    #[error(
        "the group has {MEMBERS_MAX} members with a vote, which is the most; remove or replace one"
    )]
    Full,
    /// Too few others have what this one has.
    #[error(
        "{name} cannot be spared: a majority of the {voters} members with a vote must have everything without it, and too many of the others do not answer ({silent})"
    )]
    Needed {
        /// The member that was to be repaired.
        name: NodeName,
        /// Members with a vote.
        voters: usize,
        /// Those of the others that do not answer.
        silent: String,
    },
    /// One after the other.
    #[error(
        "{0} is coming into the group and has no vote yet; wait until it has one, or remove it"
    )]
    Coming(Box<str>),
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
    /// It leads, and goes only when another one does.
    #[error(
        "{0} leads the group, and no other member could take that over yet; ask again when ctl group status shows no lag"
    )]
    NoSuccessor(NodeName),
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
        let name = change.subject().clone();
        let deadline = Instant::now() + patience;
        let too_long = |_| ChangeError::TooLong {
            after: patience,
            why: self.waits_for(&name),
        };
        let planned = timeout_at(deadline, self.plan(running, change)).await;
        let Some(plan) = planned.map_err(too_long)?? else {
            return Ok(());
        };
        if plan.leaves.contains(&running.id) {
            return Err(self.leave_it_to_another().await);
        }
        let deadline = deadline.max(Instant::now() + CALL);
        let made = timeout_at(deadline, carry_out(&running.raft, plan)).await;
        made.map_err(too_long)?
    }

    /// Has another member lead, which is to make a change by which this one goes; the error says which.
    ///
    /// Who goes never makes the change itself, and not only because publishers would wait for an election. The entry that
    /// takes its vote is in its own log first. If it was lost together with that entry's calls to the others, it would stand
    /// for no election afterwards (in openraft; Ongaro's thesis, 4.2.2, has it do so), and refuse its vote to those that lack
    /// the entry: a group of two would never have a leader again.
    async fn leave_it_to_another(&self) -> ChangeError {
        match self.hand_over().await {
            Some(leader) => ChangeError::NotLeader {
                leader: Some(leader),
            },
            None => ChangeError::NoSuccessor(self.name().clone()),
        }
    }

    /// What is left to be done once a member that comes has nearly everything; `None`: nothing.
    async fn plan(&self, running: &Running, change: Change) -> Result<Option<Plan>, ChangeError> {
        match change {
            Change::Add { name, address } => self.add(running, name, &address, None).await,
            Change::Replace { old, name, address } => {
                self.add(running, name, &address, Some(&old)).await
            }
            Change::Learn { name, address } => {
                self.learn(running, &name, &address).await?;
                Ok(None)
            }
            Change::Remove { name } => self.remove(running, name).await.map(Some),
        }
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

    /// Has a member come in without a vote, until it has nearly all. Its id.
    async fn learn(
        &self,
        running: &Running,
        name: &NodeName,
        address: &HostPort,
    ) -> Result<u64, ChangeError> {
        let raft = &running.raft;
        let membership = agreed(raft).await?;
        let node = Node::at(name, address);
        let id = match self.invite(&node, name).await? {
            Invited::Now(id) => id,
            Invited::Before(id) if named(&membership, name).any(|named| named == id) => id,
            Invited::Before(_) => return Err(ChangeError::InUse(name.clone())),
        };
        self.addresses().is_at(&node);
        if !membership.voter_ids().any(|voter| voter == id) {
            let added = raft.add_learner(id, node, true).await;
            added.map_err(|error| refused(&error))?;
        }
        Ok(id)
    }

    /// How a member gets its vote, and that of `replaced` is taken away at the same time.
    async fn add(
        &self,
        running: &Running,
        name: NodeName,
        address: &HostPort,
        replaced: Option<&NodeName>,
    ) -> Result<Option<Plan>, ChangeError> {
        let raft = &running.raft;
        let id = self.learn(running, &name, address).await?;
        let membership = leads(raft)?;
        let is_voter = membership.voter_ids().any(|voter| voter == id);
        // Who is alone has nobody to hand over to before the new member has its vote.
        let is_alone = membership.voter_ids().all(|voter| voter == running.id);
        let leaves: BTreeSet<u64> = replaced
            .filter(|_| !is_alone)
            .into_iter()
            .flat_map(|old| named(&membership, old))
            .collect();
        if let Some(old) = replaced.filter(|old| both_vote(&membership, &name, old)) {
            let old = old.clone();
            return Err(ChangeError::BothVote { name, old });
        }
        let old = named(&membership, &name).filter(|old| *old != id);
        let old: BTreeSet<u64> = old.chain(leaves).collect();
        let is_complete = membership.get_joint_config().len() == 1;
        if is_complete && is_voter && old.is_empty() {
            return Ok(None);
        }
        let left = membership.voter_ids().filter(|id| !old.contains(id));
        let voters: BTreeSet<u64> = left.chain([id]).collect();
        if voters.len() > MEMBERS_MAX {
            return Err(ChangeError::Full);
        }
        let learners = membership.learner_ids().filter(|id| old.contains(id));
        Ok(Some(Plan {
            voters: Some(voters),
            learners: learners.collect(),
            leaves: old,
        }))
    }

    async fn remove(&self, running: &Running, name: NodeName) -> Result<Plan, ChangeError> {
        let membership = agreed(&running.raft).await?;
        let gone: BTreeSet<u64> = named(&membership, &name).collect();
        if gone.is_empty() {
            return Err(ChangeError::Unknown(name));
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let left: BTreeSet<u64> = voters.difference(&gone).copied().collect();
        if left.is_empty() {
            return Err(ChangeError::Last(name));
        }
        let learners = gone.difference(&voters).copied().collect();
        let keeps_votes = left == voters;
        if !keeps_votes
            && let Some(silent) = self.silent(running, &left, left.len() / 2 + 1).await?
        {
            let left = left.len();
            return Err(ChangeError::TooFew { name, left, silent });
        }
        Ok(Plan {
            voters: (!keeps_votes).then_some(left),
            learners,
            leaves: gone,
        })
    }

    /// The names of those of these members, this one among them, that do not answer, if fewer than so many do. What answered
    /// a moment ago may be gone by now, so only calls count that begin from now on; they are waited for as long as one may
    /// take.
    async fn silent(
        &self,
        running: &Running,
        members: &BTreeSet<u64>,
        enough: usize,
    ) -> Result<Option<String>, ChangeError> {
        let asked = Instant::now();
        loop {
            // It may have lost the others meanwhile.
            let membership = leads(&running.raft)?;
            let heard = |id: u64| self.inbox().change_lease(|lease| lease.heard_at(id));
            let answers = |id: &&u64| {
                **id == running.id || heard(**id).is_some_and(|sent| sent >= asked.into_std())
            };
            let answering: BTreeSet<u64> = members.iter().filter(answers).copied().collect();
            if answering.len() >= enough {
                return Ok(None);
            }
            if asked.elapsed() >= CALL {
                return Ok(Some(names(&membership, members.difference(&answering))));
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// Whether the group has everything without what this member has, and can bring that one back: a majority of those
    /// with a vote, this member not counted, answers, and no other member is coming. Changes nothing. Only for a leader.
    pub async fn can_spare(&self, name: &NodeName) -> Result<(), ChangeError> {
        let running = self.running();
        let running = running.ok_or(ChangeError::NotLeader { leader: None })?;
        let _change = self.begin_change().ok_or(ChangeError::Busy)?;
        let membership = leads(&running.raft)?;
        let own: BTreeSet<u64> = named(&membership, name).collect();
        if own.is_empty() {
            return Err(ChangeError::Unknown(name.clone()));
        }
        let mut learners = membership.learner_ids().filter(|id| !own.contains(id));
        if let Some(node) = learners.find_map(|id| membership.get_node(&id)) {
            return Err(ChangeError::Coming(node.name.clone()));
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let others: BTreeSet<u64> = voters.difference(&own).copied().collect();
        let (name, voters) = (name.clone(), voters.len());
        let silent = self.silent(running, &others, voters / 2 + 1).await?;
        silent.map_or(Ok(()), |silent| {
            Err(ChangeError::Needed {
                name,
                voters,
                silent,
            })
        })
    }
}

/// The last steps of a change.
struct Plan {
    /// Those that have a vote afterwards; `None`: those that have one.
    voters: Option<BTreeSet<u64>>,
    /// Those without a vote that are taken out.
    learners: BTreeSet<u64>,
    /// Those that go, with or without another one in their place.
    leaves: BTreeSet<u64>,
}

/// The names of these members, for a sentence.
fn names<'a>(membership: &Membership, ids: impl Iterator<Item = &'a u64>) -> String {
    let nodes = ids.filter_map(|id| membership.get_node(id));
    let names: Vec<&str> = nodes.map(|node| &*node.name).collect();
    names.join(", ")
}

async fn carry_out(raft: &Raft, plan: Plan) -> Result<(), ChangeError> {
    if let Some(voters) = plan.voters {
        set_voters(raft, voters).await?;
    }
    drop_learners(raft, plan.learners).await
}

impl Change {
    /// Who comes or goes.
    fn subject(&self) -> &NodeName {
        let (Self::Add { name, .. }
        | Self::Learn { name, .. }
        | Self::Replace { name, .. }
        | Self::Remove { name }) = self;
        name
    }
}

/// The newest membership, if this member leads, when a majority has stored it: until then it may be gone with this leader,
/// and nobody is to hear that it is so.
async fn agreed(raft: &Raft) -> Result<Membership, ChangeError> {
    leads(raft)?;
    let is_agreed = |now: &RaftMetrics<u64, Node>| {
        now.current_leader != Some(now.id) || now.last_applied >= *now.membership_config.log_id()
    };
    let wait = raft.wait(None);
    let agreed = wait.metrics(is_agreed, "the membership is agreed on");
    let agreed = agreed.await;
    agreed.map_err(|error| ChangeError::Refused(error.to_string()))?;
    leads(raft)
}

/// The newest membership, if this member leads.
pub(super) fn leads(raft: &Raft) -> Result<Membership, ChangeError> {
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

pub(super) fn named<'a>(
    membership: &'a Membership,
    name: &'a NodeName,
) -> impl Iterator<Item = u64> + 'a {
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
