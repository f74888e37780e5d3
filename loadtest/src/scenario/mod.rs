//! Scenarios: what a run does, in a TOML file.
//!
//! | module  | what it holds                                                |
//! |---------|--------------------------------------------------------------|
//! | `model` | a scenario that makes sense                                  |

mod model;

pub use model::{
    Commands, Consumer, FleetSpec, NextAddress, PayloadSize, Phase, PhaseKind, Population,
    Protocol, Reconnect, RestartNodes, Scenario, Subscription, Telemetry, Template, Thresholds,
    Will,
};

/// Bytes at the start of each payload that the oracle needs.
pub const STAMP_BYTES: usize = 25;
