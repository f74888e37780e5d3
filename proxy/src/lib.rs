//! The proxy: what devices connect to.
//!
//! A [`session::Session`] decides, without I/O; a [`shard::Shard`] carries out, on a thread of its own, with
//! its own listener, connections, timers and link to the group. Nothing is shared between shards.

pub mod auth;
pub mod counters;
pub mod limits;
pub mod link;
pub mod link_client;
mod proxy_protocol;
pub mod records;
pub mod session;
pub mod shard;
pub mod tls;
