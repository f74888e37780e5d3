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

#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) routing: Arc<Routing>,
    pub(crate) announcement: Arc<Announcement>,
    pub(crate) topics: Vec<String>,
    pub(crate) topic_group: Vec<usize>,
    pub(crate) filters: Vec<String>,
    pub(crate) clients: Vec<String>,
    pub(crate) homes: Vec<usize>,
    /// Of each group.
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
        for group in 0..groups {
            let names = (0..).map(|n| format!("t{n}/x"));
            let own = names.filter(|name| usize::from(routing.group_of_topic(name).0) == group);
            topics.extend(own.take(TOPICS_PER_GROUP));
        }
        let topic_group = topics
            .iter()
            .map(|topic| usize::from(routing.group_of_topic(topic).0));
        let clients: Vec<_> = (0..devices).map(|n| format!("device-{n}")).collect();
        let homes = clients.iter().map(|id| usize::from(routing.home_of(id).0));
        let mut filters = topics.clone();
        filters.extend(["#".to_owned(), "+/x".to_owned()]);
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

    /// For each topic, the filters that match it.
    pub(crate) fn matching(&self) -> Vec<Vec<usize>> {
        let of = |topic: &String| {
            let filters = self.filters.iter().enumerate();
            let matching = filters.filter(|(_, filter)| filter_matches(filter, topic));
            matching.map(|(at, _)| at).collect()
        };
        self.topics.iter().map(of).collect()
    }
}
