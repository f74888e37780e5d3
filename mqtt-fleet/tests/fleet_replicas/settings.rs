//! How long and what for, as `cargo xtask failover` says.

use std::fmt;

use serde::Deserialize;

/// The settings of a run; `MQTT_FLEET_FAILOVER` has them as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Leaders that are killed, the groups in turn.
    pub(crate) kills: u32,
    /// Cuts between members of a group, the kinds in turn.
    pub(crate) partitions: u32,
    /// How often everything is killed at once.
    pub(crate) fleet_kills: u32,
    /// Chooses who is cut from whom and for how long.
    pub(crate) seed: u64,
    /// Pairs of a publisher and a subscriber, at each of `QoS` 1 and 2.
    pub(crate) pairs: u32,
    /// Messages per second, at each of `QoS` 1 and 2.
    pub(crate) rate: u32,
    /// The run fails if of all gaps after kills the 99th of a hundred is longer, in seconds.
    pub(crate) gap_max: f64,
}

impl Settings {
    /// What the environment says. Without it nothing is touched: the network of the machine is not to be played with.
    pub(crate) fn in_effect() -> Self {
        let text = std::env::var("MQTT_FLEET_FAILOVER")
            .expect("the surroundings that `cargo xtask failover` makes");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("MQTT_FLEET_FAILOVER: {error}"))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kills,
            partitions,
            fleet_kills,
            seed,
            pairs,
            rate,
            ..
        } = self;
        write!(
            f,
            "failover: 3 proxies, 3 groups of 3 members, Redis; {kills} kills of leaders, {partitions} cuts between \
             members, {fleet_kills} kills of everything; {pairs} pairs and {rate} msg/s at each of QoS 1 and 2; seed {seed}"
        )
    }
}
