//! Which group a topic, a filter and a client belong to.

use super::FixedPart;
use crate::shard_key::FilterPlacement;
use crate::slots::{GroupNo, SlotTable};
use protocol::TopicFilter;

/// The groups of a fleet, and what belongs to which. A value that does not change: a new slot table makes a new one.
///
/// With one group nothing is hashed and nothing is looked up.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Never empty, ascending.
    groups: Box<[GroupNo]>,
    /// `None`: there is one group.
    several: Option<Box<Several>>,
}

#[derive(Clone, Debug)]
struct Several {
    fixed: FixedPart,
    table: SlotTable,
}

/// Where a filter is registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterGroups {
    /// At this group: it has every topic that the filter can match.
    One(GroupNo),
    /// At every group.
    Every,
}

impl Routing {
    /// Everything is the one group's.
    pub fn one_group(group: GroupNo) -> Self {
        Self {
            groups: [group].into(),
            several: None,
        }
    }

    /// By the rules of a fleet and the table of its slots. A group without slots is none of the groups.
    pub fn new(fixed: &FixedPart, table: &SlotTable) -> Self {
        let counts = table.slot_counts();
        let holds = |group: &GroupNo| counts[usize::from(group.0)] > 0;
        let groups: Box<[GroupNo]> = (0..GroupNo::MAX).map(GroupNo).filter(holds).collect();
        let several = (groups.len() > 1).then(|| {
            Box::new(Several {
                fixed: fixed.clone(),
                table: table.clone(),
            })
        });
        Self { groups, several }
    }

    /// Every group there is, ascending; at least one.
    pub fn groups(&self) -> &[GroupNo] {
        &self.groups
    }

    /// Whether one group has everything.
    #[inline]
    pub fn is_one_group(&self) -> bool {
        self.several.is_none()
    }

    /// The group that a message of this topic goes to.
    #[inline]
    pub fn group_of_topic(&self, topic: &str) -> GroupNo {
        match &self.several {
            None => self.groups[0],
            Some(several) => several.table.group_of(several.fixed.slot_of_topic(topic)),
        }
    }

    /// Where a filter is registered. A filter that can match topics of different keys is registered at every group,
    /// also where those keys happen to be in one group now: slots move, registrations do not.
    pub fn groups_of_filter(&self, filter: &TopicFilter) -> FilterGroups {
        let Some(several) = &self.several else {
            return FilterGroups::One(self.groups[0]);
        };
        match several.fixed.filter_placement(filter) {
            FilterPlacement::OneSlot(slot) => FilterGroups::One(several.table.group_of(slot)),
            FilterPlacement::EveryGroup => FilterGroups::Every,
        }
    }

    /// The group that is the home of a client's session.
    pub fn home_of(&self, client_id: &str) -> GroupNo {
        match &self.several {
            None => self.groups[0],
            Some(several) => several.table.group_of(several.fixed.home_slot(client_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::GroupWeight;
    use crate::shard_key::{HomeKey, HomeTemplate, ShardKeyRules};

    fn fixed(home_key: HomeKey) -> FixedPart {
        FixedPart {
            cluster_id: "fleet".to_owned(),
            rules: ShardKeyRules::default(),
            home_key,
        }
    }

    fn three_groups() -> SlotTable {
        let weights = [1, 4, 9].map(|group| GroupWeight {
            group: GroupNo(group),
            weight: 1,
        });
        SlotTable::from_ring(1, &weights).expect("three groups")
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).expect("a valid filter")
    }

    #[test]
    fn one_group_has_everything() {
        let one = Routing::one_group(GroupNo(7));
        let table = SlotTable::of_one_group(3, GroupNo(7));
        for routing in [one, Routing::new(&fixed(HomeKey::ClientId), &table)] {
            assert!(routing.is_one_group());
            assert_eq!(routing.groups(), [GroupNo(7)]);
            assert_eq!(routing.group_of_topic("a/b/c"), GroupNo(7));
            assert_eq!(routing.home_of("client"), GroupNo(7));
            for text in ["a/b", "#", "$share/g/+/x"] {
                let place = routing.groups_of_filter(&filter(text));
                assert_eq!(place, FilterGroups::One(GroupNo(7)), "{text}");
            }
        }
    }

    #[test]
    fn topics_filters_and_homes_meet_where_the_slot_is() {
        let template = HomeTemplate::new("devices/%c").expect("valid");
        let fixed = fixed(HomeKey::Topic(template));
        let table = three_groups();
        let routing = Routing::new(&fixed, &table);
        assert_eq!(routing.groups(), [GroupNo(1), GroupNo(4), GroupNo(9)]);
        let mut seen = std::collections::BTreeSet::new();
        for device in 0..200 {
            let topic = format!("devices/{device}/telemetry");
            let group = routing.group_of_topic(&topic);
            assert_eq!(group, table.group_of(fixed.slot_of_topic(&topic)));
            assert_eq!(routing.home_of(&device.to_string()), group);
            for text in [
                format!("devices/{device}/#"),
                format!("$share/g/devices/{device}/+"),
            ] {
                assert_eq!(
                    routing.groups_of_filter(&filter(&text)),
                    FilterGroups::One(group)
                );
            }
            seen.insert(group.0);
        }
        assert_eq!(Vec::from_iter(seen), [1, 4, 9], "all groups have devices");
        for text in ["#", "devices/+/telemetry", "$share/g/devices/#"] {
            assert_eq!(
                routing.groups_of_filter(&filter(text)),
                FilterGroups::Every,
                "{text}"
            );
        }
    }
}
