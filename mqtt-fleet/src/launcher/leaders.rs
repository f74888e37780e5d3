//! Which members lead their groups, as they say themselves.

use std::collections::BTreeMap;

use super::plan::NodePlan;
use crate::group_report::MemberReport;

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

    /// Takes in what these nodes say, or do not say. What was known before is forgotten. `is_planned` is true of names of
    /// members that the launcher runs: others, which came later, cannot be asked, and lead if their followers say so.
    pub(super) fn hear<'n>(
        &mut self,
        nodes: impl Iterator<Item = (&'n NodePlan, Option<MemberReport>)>,
        is_planned: impl Fn(&str) -> bool,
    ) {
        self.names.clear();
        for (node, report) in nodes {
            let (Some(group), Some(report)) = (node.group, report) else {
                continue;
            };
            if report.serves() {
                self.names.insert(group, node.name.clone());
            } else if let Some(leader) = report.leader.filter(|leader| !is_planned(leader)) {
                self.names.entry(group).or_insert(leader);
            }
        }
    }

    /// The groups without a leader.
    pub(super) fn missing(&self) -> impl Iterator<Item = u8> {
        let groups = (0..self.groups).filter_map(|group| u8::try_from(group).ok());
        groups.filter(|group| !self.names.contains_key(group))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::plan::{Addresses, NodeRole};

    fn broker(name: &str, group: u8) -> NodePlan {
        NodePlan {
            name: name.to_owned(),
            role: NodeRole::Broker,
            group: Some(group),
            addresses: Addresses::default(),
            command: Vec::new(),
        }
    }

    /// What one says that does this, and hears of this leader.
    fn says(role: &str, leader: Option<&str>) -> MemberReport {
        let text = serde_json::json!({
            "group": 0, "member": "m", "role": role, "term": 3, "leader": leader, "last_index": 9, "applied_index": 9,
            "snapshot_index": 0, "members": [], "disk": null, "health": "fine",
        });
        serde_json::from_value(text).expect("a report")
    }

    #[test]
    fn one_that_came_later_leads_if_a_follower_says_so() {
        let nodes = [
            broker("a", 0),
            broker("b", 0),
            broker("c", 1),
            broker("d", 2),
        ];
        let is_planned = |name: &str| nodes.iter().any(|node| node.name == name);
        let reports = [
            // It has not heard yet that it was replaced.
            Some(says("follower", Some("late"))),
            Some(says("leader", Some("b"))),
            Some(says("follower", Some("late"))),
            // It cannot be asked any more.
            Some(says("follower", Some("a"))),
        ];
        let mut leaders = Leaders::of_groups(3);
        leaders.hear(nodes.iter().zip(reports), is_planned);
        let known = [0, 1, 2].map(|group| leaders.of(group));
        assert_eq!(known, [Some("b"), Some("late"), None]);
        assert!(!leaders.all_known());
        assert_eq!(leaders.missing().collect::<Vec<_>>(), [2]);
        leaders.hear(nodes.iter().map(|node| (node, None)), is_planned);
        assert_eq!(leaders.missing().count(), 3, "nobody answers");
    }
}
