//! How long to wait before the next attempt. No clock, no dice: both are arguments.

use std::time::Duration;

/// Waits that double from attempt to attempt, up to a maximum, each shortened by up to half at
/// random, so that many processes that lost one server do not come back in step.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// One more attempt failed; how long to wait. `dice` is any random number.
    pub(super) fn failed(&mut self, dice: u64) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let full = doubled.min(self.max);
        let share = (dice >> 11) as f64 / (1_u64 << 53) as f64;
        full.mul_f64(1.0 - share / 2.0)
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(2_000));
        let waits: Vec<_> = (0..7).map(|_| backoff.failed(0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 2_000]);
        for _ in 0..100 {
            assert_eq!(backoff.failed(0), ms(2_000));
        }
        assert_eq!(backoff.failed(u64::MAX).as_millis(), 1_000);
        assert_eq!(backoff.failed(1 << 63).as_millis(), 1_500);
        backoff.succeeded();
        assert_eq!(backoff.failed(0), ms(50));
    }
}
