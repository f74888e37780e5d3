//! The wait before the next connection.

use crate::limits::{BACK_OFF_MAX, BACK_OFF_MIN};
use std::time::Duration;

/// Waits that double, with a random part.
#[derive(Debug)]
pub(super) struct BackOff {
    next: Duration,
    /// State of an xorshift generator; never zero.
    random: u64,
}

impl BackOff {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            next: BACK_OFF_MIN,
            random: seed | 1,
        }
    }

    /// The wait from now on: between a half and the whole of what is due, which is no more than `max`.
    pub(super) fn wait_at_most(&mut self, max: Duration) -> Duration {
        let whole = self.next.min(max);
        self.next = (whole * 2).min(max);
        self.jittered(whole)
    }

    /// The wait if only a person can help.
    pub(super) fn longest(&mut self) -> Duration {
        self.next = BACK_OFF_MAX;
        self.jittered(BACK_OFF_MAX)
    }

    /// It works again.
    pub(super) fn reset(&mut self) {
        self.next = BACK_OFF_MIN;
    }

    fn jittered(&mut self, whole: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = whole / 2;
        half + half.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_again() {
        let mut back_off = BackOff::new(77);
        let mut whole = BACK_OFF_MIN;
        for _ in 0..12 {
            let wait = back_off.wait_at_most(BACK_OFF_MAX);
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(BACK_OFF_MAX);
        }
        assert_eq!(whole, BACK_OFF_MAX);
        back_off.reset();
        assert!(back_off.wait_at_most(BACK_OFF_MAX) <= BACK_OFF_MIN);
        assert!(back_off.longest() >= BACK_OFF_MAX / 2);
    }

    #[test]
    fn short_waits_grow_to_the_longest_of_them() {
        let mut back_off = BackOff::new(77);
        let max = BACK_OFF_MIN * 3;
        for _ in 0..5 {
            assert!(back_off.wait_at_most(max) <= max);
        }
        let wait = back_off.wait_at_most(BACK_OFF_MAX);
        assert!(max / 2 <= wait && wait <= max, "{wait:?}");
    }

    #[test]
    fn two_proxies_do_not_wait_the_same() {
        let waits = |seed| {
            let mut back_off = BackOff::new(seed);
            [(); 3].map(|()| back_off.wait_at_most(BACK_OFF_MAX))
        };
        assert_ne!(waits(1 << 20), waits(1 << 21));
    }
}
