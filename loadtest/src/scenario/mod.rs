//! Scenarios: what a run does, in a TOML file.
//!
//! | module  | what it holds                                                |
//! |---------|--------------------------------------------------------------|
//! | `model` | a scenario that makes sense                                  |
//! | `read`  | a file that becomes one, or all of its mistakes              |
//! | `ready` | those that come with the program                             |

mod model;
mod read;
mod ready;

pub use model::{
    Commands, Consumer, FleetNodes, FleetSpec, NextAddress, PayloadSize, Phase, PhaseKind,
    Population, Protocol, Reconnect, RestartNodes, Scenario, Subscription, Telemetry, Template,
    Thresholds, Will,
};
pub use read::{Mistake, ReadError, parse, read};
pub use ready::{LoadError, READY, Ready, load};

/// Bytes at the start of each payload that the oracle needs.
pub const STAMP_BYTES: usize = 25;
