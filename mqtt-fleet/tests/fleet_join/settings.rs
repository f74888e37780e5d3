//! How much is in the group, as `cargo xtask join` says.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::publisher::Latency;

/// The settings of a run; `MQTT_FLEET_JOIN` has them as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Sessions that are away.
    pub(crate) sessions: u64,
    /// Subscriptions of each.
    pub(crate) filters: u64,
    /// Messages that wait for all of them together.
    pub(crate) messages: u64,
    /// Bytes of each.
    pub(crate) size: u64,
    /// Messages per second of the publisher that is measured.
    pub(crate) rate: u32,
    /// Seconds of the measurement before the join.
    baseline: u64,
    /// The run fails if p99 during the join is so many times that before, or more. `None`: it only says how it was.
    pub(crate) ratio_max: Option<f64>,
}

impl Settings {
    /// What the environment says; without it a little, which says nothing of latencies.
    pub(crate) fn in_effect() -> Self {
        match std::env::var("MQTT_FLEET_JOIN") {
            Ok(text) => serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("MQTT_FLEET_JOIN: {error}")),
            Err(_) => Self {
                sessions: 100,
                filters: 10,
                messages: 20_000,
                size: 512,
                rate: 1_000,
                baseline: 4,
                ratio_max: None,
            },
        }
    }

    /// The brokers' configuration. With a little in the group files are small, so that there are snapshots all the same.
    pub(crate) fn broker(&self) -> &'static str {
        if self.ratio_max.is_some() {
            ""
        } else {
            "[data]\nsegment_mb = 1\n"
        }
    }

    /// Time for the publisher to get going.
    pub(crate) fn warmup(&self) -> Duration {
        self.baseline() / 2
    }

    /// Time of the measurement before the join.
    pub(crate) fn baseline(&self) -> Duration {
        Duration::from_secs(self.baseline)
    }

    /// Fails if latency has risen too much.
    pub(crate) fn judge(&self, before: &Latency, during: &Latency) {
        if let Some(max) = self.ratio_max {
            let ratio = during.ratio(before);
            assert!(
                ratio < max,
                "p99 has risen {ratio:.2} times, not below {max}"
            );
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sessions,
            filters,
            messages,
            size,
            rate,
            ..
        } = self;
        write!(
            f,
            "join: 1 group of 3 members; {sessions} sessions with {filters} subscriptions each, {messages} messages of \
             {size} bytes; {rate} msg/s at QoS 1"
        )
    }
}
