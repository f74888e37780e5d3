//! How long and what for, as `cargo xtask partition` says.

use std::fmt;

use serde::Deserialize;

/// The settings of a run; `MQTT_FLEET_PARTITION` has them as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// How often each kind of cut is made.
    pub(crate) rounds: u32,
    /// Chooses proxies, groups and how long a cut lasts.
    pub(crate) seed: u64,
    /// Pairs of a publisher and a subscriber, at each of `QoS` 1 and 2.
    pub(crate) pairs: u32,
    /// Messages per second, at each of `QoS` 1 and 2.
    pub(crate) rate: u32,
}

impl Settings {
    /// What the environment says. Without it nothing is touched: the network of the machine is not to be played with.
    pub(crate) fn in_effect() -> Self {
        let text = std::env::var("MQTT_FLEET_PARTITION")
            .expect("the surroundings that `cargo xtask partition` makes");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("MQTT_FLEET_PARTITION: {error}"))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rounds,
            seed,
            pairs,
            rate,
        } = self;
        write!(
            f,
            "partition: 2 proxies, 2 groups, Redis; {rounds} rounds; {pairs} pairs and {rate} msg/s at each of QoS 1 \
             and 2; seed {seed}"
        )
    }
}
