//! The group machine: sessions, subscriptions, mailboxes, retained messages and shared queues of one group.
//!
//! [`State::apply`] takes one command of the group's log and appends what follows from it to [`Effects`]. It reads no
//! clock and does no I/O; the time is the entry's.

mod acks;
mod claim;
mod context;
mod counters;
mod dispatch;
mod effects;
mod elsewhere;
mod ending;
mod errands;
mod fan_out;
mod filters;
mod guests;
mod held;
mod mailbox;
mod memory;
mod messages;
mod producers;
mod publish;
mod repeats;
mod resume;
mod retain;
pub mod retained;
mod session;
mod shared;
mod snapshot;
mod state;
mod subscribe;
mod subscriber_list;
pub mod subscriptions;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod topology;
mod trie;
mod wills;

pub use counters::Counters;
pub use effects::{Effects, LeaderEffect};
pub use errands::ErrandKey;
pub use resume::OtherGroups;
pub use snapshot::SnapshotError;
pub(crate) use snapshot::VERSION as SNAPSHOT_VERSION;
pub(crate) use snapshot::place;
pub use state::State;
pub use topology::TopologyRefused;
