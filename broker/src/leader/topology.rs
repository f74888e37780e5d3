//! Changes of the fleet's topology, which go through the log like everything else.

use super::Leader;
use crate::command::Command;
use crate::machine::TopologyRefused;
use cluster::topology::{MemberChange, Topology};
use std::sync::Arc;

/// What a change has come to: the topology as the log has it, stored, or why it stays as it is.
pub type TopologyResult = Result<Arc<Topology>, TopologyRefused>;

impl Leader {
    /// A topology that another node has, or that the cluster file begins with. Says at once where that is nothing new;
    /// `None`: it is proposed.
    pub fn learn_topology(&mut self, heard: Topology) -> Option<TopologyResult> {
        if let Some(held) = self.state.topology() {
            let mut newest = Topology::clone(held);
            match newest.take_newer(&heard) {
                Ok(true) => {}
                Ok(false) => return Some(Ok(Arc::clone(held))),
                Err(error) => return Some(Err(error.into())),
            }
        }
        self.batch.push(Command::Topology(Box::new(heard)));
        None
    }

    /// The member list changes: proposed.
    pub fn change_members(&mut self, change: MemberChange) {
        self.batch.push(Command::ChangeMembers(Box::new(change)));
    }

    /// What proposed changes have come to since this was last asked, in the order in which they were proposed.
    pub fn take_topology_results(&mut self) -> Vec<TopologyResult> {
        std::mem::take(&mut self.topology_results)
    }
}
