//! Which members lead their groups, as they say themselves.

use std::collections::BTreeMap;

use super::plan::NodePlan;
use super::probe;

/// Names of the members that lead, by their groups.
#[derive(Debug)]
pub(super) struct Leaders {
    groups: u16,
    names: BTreeMap<u8, String>,
}

impl Leaders {
    /// Of so many groups; nobody was asked yet.
    pub(super) fn of_groups(groups: u16) -> Self {
        Self {
            groups,
            names: BTreeMap::new(),
        }
    }

    /// Asks these nodes. What was known before is forgotten.
    pub(super) fn ask<'n>(&mut self, nodes: impl Iterator<Item = &'n NodePlan>) {
        self.names.clear();
        for node in nodes {
            if let Some(group) = node.group
                && !self.names.contains_key(&group)
                && probe::leads(node)
            {
                self.names.insert(group, node.name.clone());
            }
        }
    }

    /// Whether each group has a leader.
    pub(super) fn all_known(&self) -> bool {
        self.names.len() == usize::from(self.groups)
    }

    /// The leader of a group.
    pub(super) fn of(&self, group: u8) -> Option<&str> {
        self.names.get(&group).map(String::as_str)
    }
}
