//! How the topology changes while a fleet runs: group 0's log makes new versions, every node takes the newest it hears of.

use super::{FixedHash, Member, NodeName, Topology};
use crate::slots::GroupNo;

/// Version of tables and lists that stand in a cluster file. Group 0's log has taken none of them yet.
pub(super) const FILE_VERSION: u64 = 1;

/// Version of the member list that group 0's log begins with; each change counts up from here.
const FIRST_LOGGED_VERSION: u64 = FILE_VERSION + 1;

/// Which of two topologies of a fleet is the newer one.
///
/// All versions but those from cluster files are made by one log, one after the other, so any two can be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TopologyVersion {
    /// Counts the changes of the slot table.
    pub table: u64,
    /// Counts the changes of the member list.
    pub members: u64,
}

/// Why a node does not take a topology that another one tells it of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It is that of another fleet.
    #[error(
        "it is of fleet \"{theirs}\" with fixed part {their_fixed}, this is \"{ours}\" with fixed part {our_fixed}"
    )]
    OtherFleet {
        /// There: the fleet.
        theirs: String,
        /// There: its fixed part.
        their_fixed: FixedHash,
        /// Here: the fleet.
        ours: String,
        /// Here: its fixed part.
        our_fixed: FixedHash,
    },
    /// It gives slots to other groups.
    #[error(
        "by it other groups have some slots than by what is known here, and this version cannot move slots between \
         groups; start all nodes with the groups that the fleet began with"
    )]
    OtherSlots,
}

impl Topology {
    /// Its version.
    pub fn version(&self) -> TopologyVersion {
        TopologyVersion {
            table: self.table.version(),
            members: self.members_version,
        }
    }

    /// Whether nobody has told this node of the fleet yet: all it knows is from the cluster file.
    pub fn is_from_file(&self) -> bool {
        self.members_version == FILE_VERSION
    }

    /// Takes another topology of the same fleet if that is newer. Whether it was.
    pub fn take_newer(&mut self, other: &Self) -> Result<bool, NotTaken> {
        if other.cluster_id != self.cluster_id || other.fixed != self.fixed {
            return Err(NotTaken::OtherFleet {
                theirs: other.cluster_id.clone(),
                their_fixed: other.fixed,
                ours: self.cluster_id.clone(),
                our_fixed: self.fixed,
            });
        }
        if other.table.groups() != self.table.groups() {
            return Err(NotTaken::OtherSlots);
        }
        let is_newer = other.version() > self.version();
        if is_newer {
            self.clone_from(other);
        }
        Ok(is_newer)
    }

    /// The same as the first that a log has: newer than what stands in any cluster file.
    #[must_use]
    pub fn logged(mut self) -> Self {
        self.members_version = self.members_version.max(FIRST_LOGGED_VERSION);
        self
    }

    /// The group that has a member of this name, and the member.
    pub fn member(&self, name: &NodeName) -> Option<(GroupNo, &Member)> {
        self.groups.iter().find_map(|group| {
            let member = group.members.iter().find(|member| member.name == *name)?;
            Some((group.weight.group, member))
        })
    }
}

impl std::fmt::Display for TopologyVersion {
    /// Slot table, then members: `1.3`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.table, self.members)
    }
}

#[cfg(test)]
mod tests;
