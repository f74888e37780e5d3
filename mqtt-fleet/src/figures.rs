//! Where the figures of `/metrics` come from: the shards' counters, and the group once it runs.

use std::sync::{Arc, OnceLock};

use broker::group::{GroupStatus, RunningGroup};
use broker::link_server::LinkServerCounters;
use cluster::topology::SlotSkew;
use proxy::counters::ProxyCounters;
use proxy::link_client::LinkCounters;
use session_store::RedisStore;

use crate::admin::Fleet;
use crate::group_report::{MemberReport, MemberRole, Reporter};
use crate::metrics::{Figure, Metrics, summed};

type ReadStatus = Box<dyn Fn() -> GroupStatus + Send + Sync>;

/// The group's figures; zeros until there is a group.
#[derive(Clone, Default)]
pub(crate) struct Figures(Arc<OnceLock<ReadStatus>>);

impl Figures {
    /// From here on the figures are those of `group`.
    pub(crate) fn read_from(&self, group: &RunningGroup) {
        if self.0.set(Box::new(group.status_reader())).is_err() {
            unreachable!("a process has one group");
        }
    }

    /// Lists the group in `metrics`.
    pub(crate) fn add_group(&self, metrics: &mut Metrics) {
        let group = self.clone();
        metrics.block(
            "mqtt_fleet_group_",
            GAUGES,
            &[
                ("sessions", "Sessions"),
                ("subscriptions", "Subscriptions"),
                ("messages", "Messages kept"),
            ],
            move || group.list(),
        );
    }

    fn list(&self) -> Vec<Figure> {
        let status = self.0.get().map(|read| read()).unwrap_or_default();
        let mut figures: Vec<Figure> = status.counters.each().collect();
        figures.push((
            "applied_index",
            "Index of the last applied log entry",
            status.applied,
        ));
        figures.push((
            "leads",
            "1 while this member leads its group and serves",
            u64::from(status.serving),
        ));
        figures.push((
            "qos0_dropped_link_full",
            "QoS 0 deliveries dropped: a shard does not keep up",
            status.qos0_dropped_link_full,
        ));
        figures.push((
            "qos0_dropped_link_lost",
            "QoS 0 deliveries dropped: a link had no session",
            status.qos0_dropped_link_lost,
        ));
        figures.push((
            "frames_out_of_turn",
            "Frames dropped: they came before their link session's Resume, or to the wrong group",
            status.frames_out_of_turn,
        ));
        figures.push((
            "claims_void",
            "Claims not taken: their connections were over when the link came back",
            status.claims_void,
        ));
        figures.push((
            "snapshot_waits",
            "Slices of snapshots that were written while the group took no frames",
            status.snapshot_waits,
        ));
        figures.push((
            "log_full",
            "1 while the disk is full and the log waits for space",
            u64::from(status.log_full),
        ));
        figures.push((
            "snapshots_without_space",
            "Snapshots that were given up as the disk was full; they are tried again",
            status.snapshots_without_space,
        ));
        figures.push((
            "proving_clock_step",
            "1 while a large step of the wall clock is not believed yet",
            u64::from(status.proving_clock_step),
        ));
        figures
    }
}

/// Lists the shards in `metrics`, added up.
pub(crate) fn add_shards(metrics: &mut Metrics, shards: &[Arc<ProxyCounters>]) {
    let shards = shards.to_vec();
    metrics.block(
        "mqtt_fleet_proxy_",
        &["connections_open", "store_changes_waiting"],
        &[
            ("connections_open", "Connections"),
            ("publishes_in_qos0", "Publishes received, QoS 0"),
            ("publishes_in_qos1", "Publishes received, QoS 1"),
            ("publishes_in_qos2", "Publishes received, QoS 2"),
        ],
        move || summed(shards.iter().map(|counters| counters.each().collect())),
    );
}

/// Lists a proxy's links in `metrics`, added up.
pub(crate) fn add_links(metrics: &mut Metrics, links: Vec<Arc<LinkCounters>>) {
    metrics.block(
        "mqtt_fleet_link_",
        &["up", "group_full", "kept_bytes", "kept_frames"],
        &[("up", "Links to groups")],
        move || summed(links.iter().map(|counters| counters.each().collect())),
    );
}

/// Lists a proxy's session store in `metrics`.
pub(crate) fn add_store(metrics: &mut Metrics, store: RedisStore) {
    metrics.block(
        "mqtt_fleet_store_",
        &["up", "writes_waiting", "bytes_waiting"],
        &[("up", "Redis answers")],
        move || store.stats().each().collect(),
    );
}

/// Lists a broker's link server in `metrics`.
pub(crate) fn add_link_server(metrics: &mut Metrics, server: Later<Arc<LinkServerCounters>>) {
    metrics.block(
        "mqtt_fleet_links_",
        &["links_up", "bytes_waiting"],
        &[("links_up", "Links of proxies")],
        move || match server.get() {
            Some(counters) => counters.each().collect(),
            None => LinkServerCounters::default().each().collect(),
        },
    );
}

/// Lists what the process knows of the fleet: how evenly the slots lie on the groups, and how new the member list is.
pub(crate) fn add_fleet(metrics: &mut Metrics, fleet: Later<Fleet>) {
    let members = fleet.clone();
    metrics.gauge(
        "mqtt_fleet_slot_skew_percent",
        "Slots of the fullest group, relative to its share by weight; 100 is even",
        move || {
            let newest = fleet.get().map(|fleet| fleet.shared.newest());
            let skew = newest.and_then(|newest| {
                let topology = newest.topology();
                SlotSkew::of(&topology.table, &topology.groups)
            });
            // Never negative, and at most 64 groups times 100.
            skew.map_or(100, |skew| {
                ((skew.ratio * 100.0).round() as i64).unsigned_abs()
            })
        },
    );
    metrics.gauge(
        "mqtt_fleet_members_version",
        "Version of the fleet's member list that this node knows; 1: of the cluster file",
        move || {
            let newest = members.get().map(|fleet| fleet.shared.newest());
            newest.map_or(0, |newest| newest.version().members)
        },
    );
}

/// Lists a broker's part in its group in `metrics`.
pub(crate) fn add_member(metrics: &mut Metrics, reporter: Later<Arc<Reporter>>) {
    metrics.block(
        "mqtt_fleet_member_",
        &["role", "damaged", "term", "last_index", "snapshot_index", "lag_max"],
        &[],
        move || {
            let report = reporter.get().map(|reporter| reporter.standing());
            let figure = |read: fn(&MemberReport) -> u64| report.as_ref().map_or(0, read);
            vec![
                (
                    "role",
                    "What it does in its group: 0 it waits or is damaged, 1 learner, 2 follower, 3 candidate, or leader that does not reach a majority, 4 leader",
                    figure(MemberReport::role_number),
                ),
                (
                    "damaged",
                    "1 while it takes no part since its log or snapshot is damaged, or its data folder was lost",
                    figure(|report| u64::from(report.role == MemberRole::Damaged)),
                ),
                (
                    "term",
                    "The term it is in; 0 if it is alone in its group",
                    figure(|report| report.term.unwrap_or(0)),
                ),
                ("last_index", "Index of its last entry", figure(|report| report.last_index)),
                (
                    "snapshot_index",
                    "Index of its newest snapshot",
                    figure(|report| report.snapshot_index),
                ),
                (
                    "lag_max",
                    "Entries that the member farthest behind lacks; 0 where this one does not lead",
                    figure(MemberReport::lag_max),
                ),
                (
                    "snapshots_cut_short",
                    "Snapshots of other members that began to come in and did not become whole",
                    reporter.get().map_or(0, |reporter| reporter.snapshots_cut_short()),
                ),
            ]
        },
    );
}

/// Something that figures are read from once it is there.
pub(crate) struct Later<T>(Arc<OnceLock<T>>);

impl<T> Later<T> {
    /// From here on it is there.
    pub(crate) fn set(&self, value: T) {
        if self.0.set(value).is_err() {
            unreachable!("set once, at the start of the process");
        }
    }

    /// It, if it is there by now.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get()
    }
}

impl<T> Clone for Later<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

const GAUGES: &[&str] = &[
    "sessions",
    "attached",
    "subscriptions",
    "shared_queues",
    "messages",
    "message_bytes",
    "entries",
    "leads",
    "retained_messages",
    "retained_bytes",
    "guests",
    "ends_pending",
    "applied_index",
    "proving_clock_step",
    "log_full",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_calls_a_gauge_is_listed_as_one() {
        for (name, help, _) in broker::machine::Counters::default().each() {
            let is_listed = GAUGES.contains(&name);
            assert_eq!(is_listed, help.starts_with("Gauge:"), "{name}: {help}");
        }
    }
}
