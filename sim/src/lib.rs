//! The deterministic simulator.
//!
//! A seed makes a world of devices, proxies and groups, and everything that happens there: which messages are sent, what
//! comes late, what is cut, who crashes and what its disk had stored by then. What decides is production code
//! (`proxy::session`, `cluster::link`, `broker::leader`, `broker::machine`); time, network, disks and chance are the
//! world's. An oracle remembers every acknowledgement. At the end faults stop, everybody comes back, and every promise must have
//! been kept ([`invariants`]).
//!
//! Invariant: the same seed gives the same trace, bit for bit, in every process.

mod broker;
mod calls;
mod clock;
mod device;
mod engine;
mod entries;
mod env;
mod faults;
pub mod invariants;
mod judge;
mod ledger;
mod log;
mod member;
mod names;
mod net;
mod operator;
mod outbox;
mod plan;
mod proxy;
mod queue;
mod redis;
mod rng;
mod shelf;
mod solo;
mod stops;
mod stored;
pub mod story;
mod trace;
mod world;

pub use ::broker::faults::Fault;
pub use trace::Lines;
pub use world::{Outcome, run};
