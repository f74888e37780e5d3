//! A group behind a link server, a wire that can be cut, and scripted shards behind a link client.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod certificates;
pub(crate) mod node;
pub(crate) mod shard_end;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const FIXED: [u8; 16] = [0xF1; 16];
pub(crate) const SECRET: &[u8] = b"what this fleet knows and others do not";

/// Waits for what only figures tell.
pub(crate) fn await_true(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
