//! Names of topics, filters and clients, and what belongs to which group.

use crate::member::address_of;
use cluster::ring::GroupWeight;
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::{GroupNo, SlotTable};
use cluster::topology::{Announcement, FixedPart, NodeName, Routing, Topology};
use protocol::filter_matches;
use std::sync::Arc;

/// Topics of each group.
const TOPICS_PER_GROUP: usize = 2;
/// The names of topics that only shared subscriptions match: each has one of its own, or all of them have one together.
const SHARED_ALONE: &str = "y";
const SHARED_TOGETHER: &str = "z";

#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) routing: Arc<Routing>,
    pub(crate) announcement: Arc<Announcement>,
    pub(crate) topics: Vec<String>,
    pub(crate) topic_group: Vec<usize>,
    pub(crate) filters: Vec<String>,
    pub(crate) clients: Vec<String>,
    pub(crate) homes: Vec<usize>,
    /// Of each group, those that it begins with before those that may join it.
    pub(crate) members: Vec<Vec<NodeName>>,
}

impl Names {
    /// `members`: of each group.
    pub(crate) fn new(members: &[usize], devices: usize) -> Self {
        let groups = members.len();
        let name = |group: usize, member: usize| {
            let name = format!("broker-{group}-{member}");
            name.parse().expect("letters and digits")
        };
        let of_group =
            |(group, count): (usize, &usize)| (0..*count).map(|it| name(group, it)).collect();
        let members = members.iter().enumerate().map(of_group).collect();
        let fixed = FixedPart {
            cluster_id: "simulated".to_owned(),
            rules: ShardKeyRules::default(),
            home_key: HomeKey::ClientId,
        };
        let table = if groups == 1 {
            SlotTable::of_one_group(1, GroupNo(0))
        } else {
            let weight = |group| GroupWeight {
                group: GroupNo(group as u8),
                weight: 1,
            };
            let weights: Vec<_> = (0..groups).map(weight).collect();
            SlotTable::from_ring(1, &weights).expect("weights above zero")
        };
        let routing = Routing::new(&fixed, &table);
        let announcement = Announcement::new(Topology {
            cluster_id: fixed.cluster_id.clone(),
            fixed: fixed.hash(),
            table,
            members_version: 1,
            groups: Vec::new(),
        });
        let mut topics = Vec::new();
        for (last, count) in [
            ("x", TOPICS_PER_GROUP),
            (SHARED_ALONE, 1),
            (SHARED_TOGETHER, 1),
        ] {
            for group in 0..groups {
                let names = (0..).map(|n| format!("t{n}/{last}"));
                let own = names.filter(|name| usize::from(routing.group_of_topic(name).0) == group);
                topics.extend(own.take(count));
            }
        }
        let topic_group = topics
            .iter()
            .map(|topic| usize::from(routing.group_of_topic(topic).0));
        let clients: Vec<_> = (0..devices).map(|n| format!("device-{n}")).collect();
        let homes = clients.iter().map(|id| usize::from(routing.home_of(id).0));
        let filters = topics
            .iter()
            .filter_map(|topic| match topic.rsplit_once('/')? {
                (_, SHARED_ALONE) => Some(format!("$share/alone/{topic}")),
                (_, SHARED_TOGETHER) => None,
                _ => Some(topic.clone()),
            });
        let mut filters: Vec<String> = filters.collect();
        let together = format!("$share/together/+/{SHARED_TOGETHER}");
        filters.extend(["+/x/#".to_owned(), "+/x".to_owned(), together]);
        Self {
            topic_group: topic_group.collect(),
            homes: homes.collect(),
            announcement: Arc::new(announcement),
            routing: Arc::new(routing),
            topics,
            members,
            filters,
            clients,
        }
    }

    /// The broker whose member takes calls at this address.
    pub(crate) fn broker_at(&self, address: &str) -> Option<usize> {
        let mut all = self.members.iter().flatten();
        all.position(|name| address_of(name).as_str() == address)
    }

    /// For each topic, the filters that match it and are not shared.
    pub(crate) fn matching(&self) -> Vec<Vec<usize>> {
        let of = |topic: &String| {
            let filters = self.filters.iter().enumerate();
            let matching = filters.filter(|(_, filter)| filter_matches(filter, topic));
            let matching = matching.map(|(at, _)| at);
            matching.filter(|at| !self.is_shared(*at)).collect()
        };
        self.topics.iter().map(of).collect()
    }

    pub(crate) fn is_shared(&self, filter: usize) -> bool {
        self.filters[filter].starts_with("$share/")
    }

    /// The shared subscription that a topic's messages go to, if there is one.
    pub(crate) fn shared_by(&self, topic: usize) -> Option<usize> {
        let matches = |filter: &String| {
            let inner = filter.strip_prefix("$share/");
            let inner = inner.and_then(|rest| rest.split_once('/'));
            inner.is_some_and(|(_, inner)| filter_matches(inner, &self.topics[topic]))
        };
        self.filters.iter().position(matches)
    }
}
