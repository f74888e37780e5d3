//! The topology of the fleet, in the log of the group that makes its versions: group 0. Other groups have none.

use super::effects::{Effects, LeaderEffect};
use super::state::State;
use cluster::topology::{MemberChange, MemberError, NotTaken, Topology};
use std::sync::Arc;

/// Why the topology stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyRefused {
    /// The log has none yet.
    #[error("the group's log has no topology yet")]
    Nothing,
    /// It is none that could follow.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// The members cannot be changed so.
    #[error(transparent)]
    Members(#[from] MemberError),
}

impl State {
    /// The newest topology in the log, if it has one.
    pub fn topology(&self) -> Option<&Arc<Topology>> {
        self.topology.as_ref()
    }

    /// The first topology is taken as it is, each later one if it is newer.
    pub(super) fn learn_topology(&mut self, heard: Topology, out: &mut Effects) {
        let result = match &self.topology {
            None => Ok(heard.logged()),
            Some(held) => {
                let mut newest = Topology::clone(held);
                newest.take_newer(&heard).map(|_| newest)
            }
        };
        self.answer_topology(result.map_err(Into::into), out);
    }

    pub(super) fn change_members(&mut self, change: &MemberChange, out: &mut Effects) {
        let result = match &self.topology {
            None => Err(TopologyRefused::Nothing),
            Some(held) => {
                let mut next = Topology::clone(held);
                next.change(change).map(|_| next).map_err(Into::into)
            }
        };
        self.answer_topology(result, out);
    }

    /// Exactly one answer for each command, so that the leader can tell them apart by their order.
    fn answer_topology(&mut self, result: Result<Topology, TopologyRefused>, out: &mut Effects) {
        let answer = result.map(|topology| {
            let topology = Arc::new(topology);
            self.topology = Some(Arc::clone(&topology));
            topology
        });
        out.leader.push(LeaderEffect::Topology(answer));
    }
}
