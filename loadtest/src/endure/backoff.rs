//! When a lost connection is tried again: at random, so that a crowd does not come back at once.

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// Draws waiting times. Each failure doubles the longest, until a connection is up.
#[derive(Debug)]
pub(crate) struct Backoff {
    random: u64,
    failures: u32,
}

impl Backoff {
    /// `seed` tells the devices apart.
    pub(crate) fn new(seed: u64) -> Self {
        let mut backoff = Self {
            random: seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            failures: 0,
        };
        backoff.draw();
        backoff
    }

    /// The wait before the next try, in nanoseconds.
    pub(crate) fn wait_ns(&mut self) -> u64 {
        let (shortest, longest) = (BACKOFF_MIN.as_nanos() as u64, BACKOFF_MAX.as_nanos() as u64);
        self.failures = (self.failures + 1).min(16);
        let top = (shortest << self.failures).min(longest);
        shortest + self.draw() % (top - shortest + 1)
    }

    /// A wait of up to `longest_ns` that says nothing about failures.
    pub(crate) fn pause_ns(&mut self, longest_ns: u64) -> u64 {
        self.draw() % (longest_ns + 1)
    }

    /// A connection is up.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_in_bounds_grow_and_begin_again() {
        let (shortest, longest) = (BACKOFF_MIN.as_nanos() as u64, BACKOFF_MAX.as_nanos() as u64);
        let mut top = 0;
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            assert!((shortest..=2 * shortest).contains(&backoff.wait_ns()));
            for _ in 0..50 {
                let wait = backoff.wait_ns();
                assert!((shortest..=longest).contains(&wait));
                top = top.max(wait);
            }
            backoff.reset();
            assert!((shortest..=2 * shortest).contains(&backoff.wait_ns()));
        }
        assert!(top > longest * 9 / 10);
    }

    #[test]
    fn two_devices_wait_differently() {
        assert_ne!(Backoff::new(0).wait_ns(), Backoff::new(1).wait_ns());
    }
}
