//! Randomness that can be repeated: the seed is printed, and `MQTT_FLEET_TEST_SEED` sets it.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64*): good enough to pick moments and sizes.
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeded from the environment or the clock. Prints the seed, which the test harness shows on failure.
    pub(crate) fn new() -> Self {
        let seed = std::env::var("MQTT_FLEET_TEST_SEED").map_or_else(
            |_| {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .expect("after 1970");
                now.as_nanos() as u64
            },
            |text| text.parse().expect("MQTT_FLEET_TEST_SEED is a number"),
        );
        println!("MQTT_FLEET_TEST_SEED={seed}");
        Self(seed | 1)
    }

    /// A generator for one actor, from a seed that an owner rolled for it.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `0..n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
