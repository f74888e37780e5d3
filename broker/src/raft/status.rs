//! What a member says of itself and of its group.

use super::config::Node;
use crate::log::LogError;
use cluster::topology::NodeName;
use openraft::{RaftMetrics, ServerState};
use std::time::Duration;

/// How far a member is with taking part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It reads its folder.
    Starting,
    /// Its folder is empty, and not all others have been heard yet; or it waits to be added.
    Waiting,
    /// Its folder is empty, but the group exists: what it knew is lost, and it takes no part until it is repaired.
    Lost {
        /// The member that knows of the group.
        by: NodeName,
    },
    /// It takes part.
    TakesPart,
    /// It cannot start.
    Failed {
        /// Why.
        why: String,
    },
}

impl Stage {
    pub(super) fn log(&self, name: &NodeName) {
        match self {
            Self::Waiting => {
                tracing::info!(member = %name, "waits for the other members of the group");
            }
            Self::Lost { by } => tracing::error!(
                member = %name, known_by = %by,
                "the data folder is empty but the group exists: this member takes no part until it is repaired (ctl group repair) or, if it is new, taken in (ctl group add, replace)"
            ),
            Self::TakesPart => tracing::info!(member = %name, "takes part in its group"),
            Self::Starting | Self::Failed { .. } => {}
        }
    }
}

/// What a member does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It orders the entries.
    Leader,
    /// It wants to.
    Candidate,
    /// It has a vote and follows.
    Follower,
    /// It has no vote.
    Learner,
    /// It does nothing.
    None,
}

/// A member as the group sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: Box<str>,
    /// Where it takes calls.
    pub address: Box<str>,
    /// Whether it has a vote.
    pub votes: bool,
    /// Index of the last entry that it is known to have; only a leader knows.
    pub matched: Option<u64>,
    /// Entries that it lacks; only a leader knows.
    pub lag: Option<u64>,
    /// Bytes of those, in the log; only a leader knows, when it is asked in detail, and not if it has not all of them any
    /// more: then the member is sent a snapshot.
    pub lag_bytes: Option<u64>,
}

/// A member's view of itself and of its group. Indexes are the group's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name.
    pub name: NodeName,
    /// How far it is with taking part.
    pub stage: Stage,
    /// What it does.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader, as far as known.
    pub leader: Option<Box<str>>,
    /// How long that one has led, as far as this member has seen.
    pub leads_for: Option<Duration>,
    /// Index of its last entry.
    pub last: u64,
    /// Index of the last entry that it knows to be stored by a majority.
    pub committed: u64,
    /// Index of the last entry that its group has been handed.
    pub applied: u64,
    /// Index of the newest snapshot.
    pub snapshot: u64,
    /// The members, by the newest membership it knows.
    pub members: Vec<Peer>,
    /// Whether a majority has answered lately; only a leader knows. One that is not answered goes on to lead, by its own
    /// word, and serves nobody.
    pub reaches_majority: Option<bool>,
    /// Snapshots of other members that began to come in and did not become whole.
    pub snapshots_cut_short: u64,
    /// What is damaged in the snapshot that it tried to send to another member, if so: in its file, or in a message that it
    /// refers to.
    pub unreadable: Option<String>,
    /// Why it does not go on, if so.
    pub failure: Option<String>,
}

impl MemberStatus {
    pub(super) fn new(
        name: &NodeName,
        stage: Stage,
        metrics: Option<&RaftMetrics<u64, Node>>,
        failure: Option<LogError>,
    ) -> Self {
        let failure = failure.map(|error| error.to_string());
        let mut status = Self {
            name: name.clone(),
            stage,
            role: Role::None,
            term: 0,
            leader: None,
            leads_for: None,
            last: 0,
            committed: 0,
            applied: 0,
            snapshot: 0,
            members: Vec::new(),
            reaches_majority: None,
            snapshots_cut_short: 0,
            unreadable: None,
            failure,
        };
        if let Some(metrics) = metrics {
            status.fill(metrics);
        }
        status
    }

    /// Entries up to this one are stored by a majority; what the group was handed is so anyway.
    pub(super) fn with_committed(self, committed: u64) -> Self {
        Self {
            committed: committed.max(self.applied),
            ..self
        }
    }

    /// Another leads. Openraft says so only when the vote for that one is stored.
    pub(super) fn deposed(&mut self) {
        self.role = Role::Follower;
        self.leader = None;
    }

    /// It hears no leader, and asks the others for votes. Openraft says so only when the term has been raised.
    pub(super) fn without_leader(&mut self) {
        if self.role == Role::Follower {
            self.role = Role::Candidate;
        }
        self.leader = None;
        self.leads_for = None;
    }

    fn fill(&mut self, metrics: &RaftMetrics<u64, Node>) {
        self.role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::None,
        };
        let index = |id: Option<openraft::LogId<u64>>| id.map_or(0, |id| id.index + 1);
        self.term = metrics.current_term;
        self.last = metrics.last_log_index.map_or(0, |index| index + 1);
        self.applied = index(metrics.last_applied);
        self.snapshot = index(metrics.snapshot);
        let membership = metrics.membership_config.membership();
        let leader = metrics
            .current_leader
            .and_then(|id| membership.get_node(&id));
        self.leader = leader.map(|node| node.name.clone());
        let voters: Vec<_> = membership.voter_ids().collect();
        for (id, node) in membership.nodes() {
            let known = metrics.replication.as_ref();
            let matched = known.and_then(|known| known.get(id)).map(|id| index(*id));
            self.members.push(Peer {
                id: *id,
                name: node.name.clone(),
                address: node.address.clone(),
                votes: voters.contains(id),
                matched,
                lag: matched.map(|matched| self.last.saturating_sub(matched)),
                lag_bytes: None,
            });
        }
    }
}
