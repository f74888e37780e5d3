//! The load simulator: real connections, an oracle that counts, latency histograms.
//!
//! Invariant: nothing in here is shared with the code it judges; the packets are written and read
//! by hand, and checked against an independent codec in the tests.
//! Invariant: in single loads (`pair`, `endure`, ...) a publisher and all receivers of its messages belong to one thread; in
//! scenarios workers tell each other what has arrived.
//! Invariant: the generator costs less CPU than the broker it drives, or its figures mean little;
//! every report says what it cost.

mod account;
mod agent;
mod args;
mod backlog;
mod command;
mod conduct;
mod control;
mod controller;
mod crew;
mod endure;
mod error;
mod latency;
mod limits;
mod link;
mod meter;
mod oracle;
mod outcome;
mod pacer;
mod plan;
mod progress;
mod report;
pub mod scenario;
mod signals;
mod simulate;
mod tls;
mod traffic;
mod window;
mod wire;
mod worker;

pub use agent::{AgentOptions, run_agent};
pub use args::{LoadtestArgs, Part, Scenario};
pub use backlog::Backlog;
pub use command::{Action, AgentArgs, LoadtestCommand, RunArgs, ScenariosArgs};
pub use conduct::run;
pub use control::message::FindingKind;
pub use controller::{
    Agents, ProcessList, RestartHook, RunOptions, Secret, Target, TargetProcess, Trust,
    WorkerProgram, run_scenario,
};
pub use error::Error;
pub use outcome::{
    Check, FindingLine, LatencyOutcome, LatencyPoint, Machine, Outcome, PhaseOutcome, Point,
    Resources, RoleResources, TargetInfo, Totals,
};
pub use report::{Endurance, Fight, Quantiles, Verdict};
pub use simulate::work;
