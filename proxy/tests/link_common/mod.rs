//! A group behind a link server, a wire that can be cut, and scripted shards behind a link client.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod node;
pub(crate) mod shard_end;
pub(crate) mod wire;

use std::time::Duration;

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const FIXED: [u8; 16] = [0xF1; 16];
pub(crate) const SECRET: &[u8] = b"what this fleet knows and others do not";
