//! The broker group: a deterministic group machine behind a durable log.

mod alone;
pub mod command;
pub mod command_codec;
pub mod consensus;
pub mod faults;
pub mod group;
pub mod leader;
pub mod limits;
pub mod link_server;
pub mod log;
pub mod machine;
mod open;
pub mod raft;
mod snapshots;
mod sole;

pub use open::{GroupOptions, Joining, OpenGroup};
pub use snapshots::{Journalled, transfer};
