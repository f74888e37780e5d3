//! Counts that must agree when all is quiet.

use std::fmt;

use crate::common::broker::metric;
use crate::common::fleet::{Fleet, FleetNode};

/// What the parts of a fleet say there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    /// Sessions at their homes.
    pub(crate) sessions: u64,
    /// What other groups hold of sessions.
    pub(crate) guests: u64,
    /// Sessions that are over, and that another group was not heard to have ended.
    pub(crate) ends_pending: u64,
    /// Sockets of the proxies.
    pub(crate) connections: u64,
    /// Session records in Redis.
    pub(crate) records: u64,
}

impl Census {
    /// Nothing is left anywhere.
    pub(crate) const EMPTY: Self = Self {
        sessions: 0,
        guests: 0,
        ends_pending: 0,
        connections: 0,
        records: 0,
    };

    pub(crate) fn take(fleet: &Fleet) -> Self {
        let nodes = fleet.nodes();
        let sum = |role: &str, name: &str| -> u64 {
            let of_role = nodes.iter().filter(|node| node.role == role);
            of_role.map(|node| figure(node, name)).sum()
        };
        let all = sum("broker", "mqtt_fleet_group_sessions");
        let guests = sum("broker", "mqtt_fleet_group_guests");
        let records = fleet.redis(&["EVAL", COUNT_RECORDS, "0"]);
        Self {
            sessions: all.saturating_sub(guests),
            guests,
            ends_pending: sum("broker", "mqtt_fleet_group_ends_pending"),
            connections: sum("proxy", "mqtt_fleet_proxy_connections_open"),
            records: records.trim().parse().expect("a number"),
        }
    }
}

/// What is left of a deleted record for a while is none.
const COUNT_RECORDS: &str = "local n = 0 for _, key in ipairs(redis.call('KEYS', 'mqtt-fleet:session:*')) do \
    if redis.call('HEXISTS', key, 'deleted') == 0 then n = n + 1 end end return n";

/// A gauge of a node, summed over its threads.
#[allow(clippy::cast_sign_loss, reason = "nothing is counted below 0")]
fn figure(node: &FleetNode, name: &str) -> u64 {
    let admin = node.addresses["admin"];
    let value = if node.role == "broker" {
        // No labels: the blank keeps longer names out.
        metric(admin, &[&format!("{name} ")])
    } else {
        metric(admin, &[name])
    };
    value as u64
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions, {} guests, {} ends pending at the groups; {} connections at the proxies; {} records in Redis",
            self.sessions, self.guests, self.ends_pending, self.connections, self.records
        )
    }
}
