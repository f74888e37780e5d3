//! The broker group: a deterministic group machine behind a durable log.
pub mod log;
pub mod command;
pub mod limits;
pub mod machine;
