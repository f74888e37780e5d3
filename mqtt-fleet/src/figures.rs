//! Where the figures of `/metrics` come from: the shards' counters, and the group once it runs.

use std::sync::{Arc, OnceLock};

use broker::group::{GroupStatus, RunningGroup};
use proxy::counters::ProxyCounters;

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

    /// Lists everything in `metrics`.
    pub(crate) fn add_to(&self, metrics: &mut Metrics, shards: &[Arc<ProxyCounters>]) {
        let shards = shards.to_vec();
        metrics.block(
            "mqtt_fleet_proxy_",
            &["connections_open"],
            &[
                ("connections_open", "Connections"),
                ("publishes_in_qos0", "Publishes received, QoS 0"),
                ("publishes_in_qos1", "Publishes received, QoS 1"),
                ("publishes_in_qos2", "Publishes received, QoS 2"),
            ],
            move || summed(shards.iter().map(|counters| counters.each().collect())),
        );
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
            "qos0_dropped_link_full",
            "QoS 0 deliveries dropped: a shard does not keep up",
            status.qos0_dropped_link_full,
        ));
        figures.push((
            "proving_clock_step",
            "1 while a large step of the wall clock is not believed yet",
            u64::from(status.proving_clock_step),
        ));
        figures
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
    "retained_messages",
    "retained_bytes",
    "applied_index",
    "proving_clock_step",
];
