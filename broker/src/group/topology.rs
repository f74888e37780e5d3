//! Changes of the fleet's topology while the group runs, each answered once it is stored.

use super::links::Control;
use super::{Group, GroupWaker};
use crate::machine::TopologyRefused;
use cluster::topology::{MemberChange, Topology};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Reads and changes the topology in the group's log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GroupTopology(pub(super) GroupWaker);

/// Why a change of the topology is not stored, as far as this group knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The group does not serve here.
    #[error(
        "this broker does not lead its group, or not yet; mqtt-fleet ctl group status says which one does"
    )]
    NotServing,
    /// The group has ended meanwhile: whether the change is stored shows when it is there again.
    #[error("the group has ended; whether the change is stored shows when it serves again")]
    Ended,
    /// It does not go with what the log has.
    #[error(transparent)]
    Refused(#[from] TopologyRefused),
}

/// The topology with the change, stored.
pub type ChangeResult = Result<Arc<Topology>, ChangeError>;

/// What is asked of the group, and where the answer goes.
pub(super) struct Change {
    what: What,
    reply: SyncSender<ChangeResult>,
}

enum What {
    Learn(Box<Topology>),
    Members(Box<MemberChange>),
}

/// Those who wait for proposed changes, in the order of the proposals. There is at most one for each thread that
/// waits, so it needs no limit of its own.
pub(super) type Waiting = std::collections::VecDeque<SyncSender<ChangeResult>>;

impl GroupTopology {
    /// Puts a topology into the log, unless that has one that is as new. The one that it has then.
    ///
    /// Waits until it is stored; not to be called from a bag's wake function, which may be part of a turn.
    pub fn learn(&self, topology: Topology) -> ChangeResult {
        self.change(What::Learn(Box::new(topology)))
    }

    /// Changes the member list. The topology with that. Waits like [`GroupTopology::learn`].
    pub fn change_members(&self, change: MemberChange) -> ChangeResult {
        self.change(What::Members(Box::new(change)))
    }

    fn change(&self, what: What) -> ChangeResult {
        let (reply, answer) = sync_channel(1);
        let change = Change { what, reply };
        self.0.controls().push(Control::Topology(change));
        self.0.wake();
        // The group drops what it has not answered when it ends.
        answer.recv().unwrap_or(Err(ChangeError::Ended))
    }
}

impl Group {
    pub(super) fn change_topology(&mut self, change: Change) {
        let Change { what, reply } = change;
        let leader = self.replica.leader_mut();
        let Some(leader) = leader.filter(|leader| leader.is_serving()) else {
            answer(&reply, Err(ChangeError::NotServing));
            return;
        };
        match what {
            What::Learn(topology) => {
                if let Some(result) = leader.learn_topology(*topology) {
                    answer(&reply, result.map_err(Into::into));
                    return;
                }
            }
            What::Members(change) => leader.change_members(*change),
        }
        self.waiting.push_back(reply);
    }

    /// Tells those who wait what has been applied.
    pub(super) fn answer_changes(&mut self) {
        let Some(leader) = self.replica.leader_mut() else {
            return;
        };
        for result in leader.take_topology_results() {
            // What an earlier reign has proposed is answered by nobody: its results come before there is a leader.
            let reply = self
                .waiting
                .pop_front()
                .expect("one waits for each proposal");
            answer(&reply, result.map_err(Into::into));
        }
    }
}

/// Who asked waits; if its thread is gone all the same, nobody needs the answer.
fn answer(reply: &SyncSender<ChangeResult>, result: ChangeResult) {
    let _gone = reply.send(result);
}
