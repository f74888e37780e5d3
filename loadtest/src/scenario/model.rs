//! What a scenario says, after it has been read and found to make sense.
//!
//! Devices of all populations are numbered in one row, from 0, in the order of the populations: a *device number*.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::limits::DEVICES_MAX;

/// A whole scenario. It travels to the worker processes as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Name: that of the report.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// What chance is drawn from: the same seed gives the same devices, intervals and choices.
    pub seed: u64,
    /// The fleet that is started when no target is given.
    pub fleet: FleetSpec,
    /// Devices.
    pub populations: Vec<Population>,
    /// Back ends that receive from devices.
    pub consumers: Vec<Consumer>,
    /// Back ends that send to devices.
    pub commands: Vec<Commands>,
    /// What happens, in this order.
    pub phases: Vec<Phase>,
    /// When the run has passed.
    pub pass: Thresholds,
}

/// The fleet that is started when no target is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetSpec {
    /// Proxy processes.
    pub proxies: u16,
    /// Broker groups.
    pub groups: u16,
    /// Threads of each proxy.
    pub shards: u16,
    /// `fsync`, `os` or `memory`.
    pub durability: String,
    /// Template that says which group is a session's home, such as `devices/%c`; without it the client id.
    pub home_key: Option<String>,
}

/// MQTT versions that devices speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// 3.1.1
    V311,
    /// 5.0
    V5,
}

/// Devices that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// Name, unique among populations.
    pub name: String,
    /// Their device numbers.
    pub devices: Range<u32>,
    /// MQTT version.
    pub protocol: Protocol,
    /// With TLS.
    pub tls: bool,
    /// Keep alive, s; 0: none.
    pub keepalive_s: u16,
    /// Clean session (clean start): the session ends with the connection.
    pub clean: bool,
    /// Session expiry interval, s (version 5 and not clean only).
    pub session_expiry_s: u32,
    /// Template of the client id: `%n` is the number within the population. Before it stand the run's number in hexadecimal
    /// and `-`, so that no two runs have a client id in common, nor a topic with `%c` in it.
    pub client_id: Template,
    /// What each subscribes to, once, when it has no session.
    pub subscriptions: Vec<Subscription>,
    /// Its will.
    pub will: Option<Will>,
    /// What it sends.
    pub telemetry: Option<Telemetry>,
    /// What it does when its connection is lost.
    pub reconnect: Reconnect,
}

/// A text with `%n` (number within the population) and, in topics, `%c` (client id). Topics say nothing else of the run: the
/// levels of a topic decide which group of a fleet it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template(pub String);

/// A topic filter and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Topic filter.
    pub filter: Template,
    /// 0, 1 or 2.
    pub qos: u8,
}

/// A will (MQTT 5, 3.1.2.5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Will {
    /// Its topic.
    pub topic: Template,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Kept as the topic's retained message.
    pub retain: bool,
    /// Will delay interval, s (version 5 only).
    pub delay_s: u32,
    /// Its payload, as it is.
    pub payload: String,
}

/// What a device sends by itself, as long as it is connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Topic.
    pub topic: Template,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Mean time between two messages of a device, ms.
    pub interval_ms: u64,
    /// Each interval is drawn evenly from `interval * (1 - jitter) ..= interval * (1 + jitter)`; 0 to 1.
    pub jitter: f64,
    /// Payload bytes.
    pub payload: PayloadSize,
}

/// How many bytes payloads have. None has fewer than [`STAMP_BYTES`](super::STAMP_BYTES).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum PayloadSize {
    /// All the same.
    Fixed(u32),
    /// Evenly from the first to the second.
    Even(u32, u32),
    /// `min + e`, with `e` exponential of this mean, at most `max`: many small ones, few large ones.
    Exponential {
        /// Smallest.
        min: u32,
        /// Mean of what is above the smallest.
        mean: u32,
        /// Largest.
        max: u32,
    },
}

/// How a device comes back after it has lost its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconnect {
    /// First wait, ms, evenly from 0 to this ("full jitter"); it doubles with each failure.
    pub first_ms: u64,
    /// Longest wait, ms.
    pub longest_ms: u64,
    /// Where to.
    pub address: NextAddress,
}

/// Which address a device tries after it has lost its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextAddress {
    /// The same one.
    Same,
    /// The next one in the list.
    Next,
    /// Any.
    Random,
}

/// Connections of a back end with one shared subscription (or a plain one).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// Name, unique among consumers and commands.
    pub name: String,
    /// How many connections.
    pub connections: u16,
    /// Share name; `None`: each connection has a subscription of its own, and gets everything.
    pub share: Option<String>,
    /// Topic filter, without `$share/…`.
    pub filter: String,
    /// 0, 1 or 2.
    pub qos: u8,
}

/// Connections of a back end that send to devices at random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commands {
    /// Name, unique among consumers and commands.
    pub name: String,
    /// Index of the population whose devices get them.
    pub population: usize,
    /// How many connections.
    pub connections: u16,
    /// Topic; `%c` and `%n` are the device's.
    pub topic: Template,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Messages a second, all connections together, in phases that do not say otherwise. They leave by the clock (open loop).
    pub rate_per_s: f64,
    /// Payload bytes.
    pub payload: PayloadSize,
}

/// One step of the scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Name, for reports.
    pub name: String,
    /// What happens.
    pub what: PhaseKind,
    /// Longest time it may take, ms; a phase that is not done by then fails the run.
    pub limit_ms: u64,
    /// Whether commands are sent meanwhile, and how many times their rate.
    pub commands: f64,
}

/// What happens in a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PhaseKind {
    /// Devices that are not connected yet connect, so many a second, all populations mixed. Done when all are up.
    Ramp {
        /// Connections a second.
        per_s: f64,
    },
    /// Nothing special, for so long.
    Steady {
        /// How long, ms.
        for_ms: u64,
    },
    /// That share of the connected devices lose their sockets at once (no DISCONNECT), and come back by their reconnect
    /// rules. Done when all are back.
    Storm {
        /// 0 to 1.
        share: f64,
    },
    /// Nodes are stopped and started again, one after the other. Done when all are ready and all devices are back.
    Restart {
        /// What is restarted.
        nodes: RestartNodes,
        /// Between two, ms.
        every_ms: u64,
    },
    /// Telemetry and commands stop; done when everything owed has arrived.
    Drain,
}

/// What a [`PhaseKind::Restart`] restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartNodes {
    /// Nodes of a fleet that has a launcher.
    Fleet(FleetNodes),
    /// A program and its arguments, run once; for targets that the run has not started.
    Hook(Vec<String>),
}

/// Nodes of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FleetNodes {
    /// All proxies.
    Proxies,
    /// All brokers.
    Brokers,
    /// Its Redis.
    Redis,
}

/// When a run has passed. What is `None` is not judged. Broken promises (lost QoS 1 and 2, duplicated QoS 2, order, lost
/// sessions, packets that a broker must not send) fail every run, unless `promises` is false.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Judge the promises.
    pub promises: bool,
    /// Most QoS 0 messages lost, as a share of those sent (0 to 1).
    pub qos0_lost_share_max: Option<f64>,
    /// Most connections lost, other than in a storm or restart and what was asked for.
    pub connections_lost_max: Option<u64>,
    /// Least connects a second, over each ramp.
    pub ramp_per_s_min: Option<f64>,
    /// Longest time until all are back after a storm, s.
    pub storm_s_max: Option<f64>,
    /// 99th percentile of connects (dial to CONNACK), ms.
    pub connect_p99_ms_max: Option<f64>,
    /// 99th percentile of commands (due to arrival), ms.
    pub command_p99_ms_max: Option<f64>,
    /// 99th percentile of telemetry, ms.
    pub telemetry_p99_ms_max: Option<f64>,
    /// Memory of all proxies over what they had before the first device, per connection, bytes.
    pub proxy_bytes_per_connection_max: Option<f64>,
    /// Memory of all brokers over what they had before, per device, bytes.
    pub group_bytes_per_device_max: Option<f64>,
    /// Memory of Redis over what it had before, per device, bytes.
    pub redis_bytes_per_device_max: Option<f64>,
    /// Growth of any process of the target during storms, over its steady memory before them (0.2: 20 %).
    pub storm_growth_max: Option<f64>,
    /// CPU of the simulator over CPU of the target, whole run.
    pub cpu_ratio_max: Option<f64>,
    /// Resident memory of the simulator per device, all of it, bytes: its tables are there before the first device.
    pub simulator_bytes_per_device_max: Option<f64>,
    /// Longest whole run, s.
    pub run_s_max: Option<f64>,
}

impl Scenario {
    /// How many devices there are.
    #[must_use]
    pub fn device_count(&self) -> u32 {
        self.populations.last().map_or(0, |last| last.devices.end)
    }

    /// The same with so many times the devices of each population, at least one; ramps that grow may take that much longer.
    #[expect(clippy::cast_sign_loss, reason = "the factor is above 0")]
    pub fn scaled(mut self, factor: f64) -> Result<Self, String> {
        let refuse = |why: String| Err(format!("so many times the devices ({factor}): {why}"));
        if !(factor > 0.0 && factor.is_finite()) {
            return refuse("a number above 0 is needed".to_owned());
        }
        let mut first: u32 = 0;
        for population in &mut self.populations {
            let count = (population.devices.len() as f64 * factor).round().max(1.0);
            if count + f64::from(first) > f64::from(DEVICES_MAX) {
                return refuse(format!("{DEVICES_MAX} devices are the limit"));
            }
            let fixed = !population.client_id.0.contains("%n");
            let count = if fixed { 1 } else { count as u32 };
            population.devices = first..first + count;
            first = population.devices.end;
        }
        let ramps = |phase: &&mut Phase| matches!(phase.what, PhaseKind::Ramp { .. });
        for ramp in self.phases.iter_mut().filter(ramps) {
            ramp.limit_ms = (ramp.limit_ms as f64 * factor.max(1.0)) as u64;
        }
        Ok(self)
    }

    /// Index of the population of a device.
    #[must_use]
    pub fn population_of(&self, device: u32) -> usize {
        self.populations
            .partition_point(|population| population.devices.end <= device)
    }
}

impl Template {
    /// The text for a device.
    #[must_use]
    pub fn fill(&self, number: u32, client_id: &str) -> String {
        let numbered = self.0.replace("%n", &number.to_string());
        numbered.replace("%c", client_id)
    }
}
