//! How long and what for: short, unless `cargo xtask chaos` says otherwise.

use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// What is killed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Proxy,
    Broker,
    /// In every other round it is wiped as well, beginning with the first.
    Redis,
    Haproxy,
}

/// The settings of a run; `MQTT_FLEET_CHAOS` has them as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// How often each kind is killed.
    pub(crate) rounds: u32,
    pub(crate) groups: u16,
    pub(crate) proxies: u16,
    /// Devices speak TLS.
    pub(crate) tls: bool,
    /// Devices also know the proxies' own addresses, not only that of `HAProxy`.
    pub(crate) direct: bool,
    /// What an acknowledged message outlives, as the launcher takes it.
    pub(crate) durability: String,
    /// In this order.
    pub(crate) kill: Vec<Kind>,
    /// Seconds between two kills in which all is well.
    pub(crate) secs_between: f64,
    /// Chooses among the proxies and the brokers.
    pub(crate) seed: u64,
    /// Pairs of a publisher and a subscriber, at each of `QoS` 1 and 2.
    pub(crate) pairs: u32,
    /// Messages per second, at each of `QoS` 1 and 2.
    pub(crate) rate: u32,
    /// Where the logs go if it fails.
    pub(crate) out: Option<PathBuf>,
}

impl Settings {
    /// What the environment says, else what makes a short test.
    pub(crate) fn in_effect() -> Self {
        let Ok(text) = std::env::var("MQTT_FLEET_CHAOS") else {
            return Self::short();
        };
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("MQTT_FLEET_CHAOS: {error}"))
    }

    fn short() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            rounds: 1,
            groups: 3,
            proxies: 3,
            tls: true,
            direct: true,
            durability: "fsync".to_owned(),
            kill: vec![Kind::Proxy, Kind::Broker, Kind::Redis, Kind::Haproxy],
            secs_between: 0.5,
            seed: now.expect("after 1970").as_secs(),
            pairs: 15,
            rate: 150,
            out: None,
        }
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Broker => "broker",
            Self::Redis => "redis",
            Self::Haproxy => "haproxy",
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kill.iter().map(|kind| kind.name()).collect();
        write!(
            f,
            "chaos: {} proxies, {} groups, devices with {} at {}; {} rounds of kill -9 of {}; {} pairs and {} msg/s at each \
             of QoS 1 and 2; seed {}",
            self.proxies,
            self.groups,
            if self.tls { "TLS" } else { "plain MQTT" },
            if self.direct {
                "HAProxy and the proxies"
            } else {
                "HAProxy"
            },
            self.rounds,
            kinds.join(", "),
            self.pairs,
            self.rate,
            self.seed
        )
    }
}
