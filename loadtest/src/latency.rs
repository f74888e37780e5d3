//! End-to-end latency in microseconds.

use hdrhistogram::Histogram;

/// A histogram that counts runs: a batch that left and arrived together costs one look-up.
#[derive(Debug)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
    run_us: u64,
    run_count: u64,
}

/// Longest latency told apart, in microseconds; longer ones count as this.
const LATENCY_US_MAX: u64 = 120_000_000;

impl Latency {
    /// Nothing recorded.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .expect("bounds and digits are within what the histogram allows");
        Self {
            histogram,
            run_us: 0,
            run_count: 0,
        }
    }

    /// Records one message that took `ns` nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        let us = ns / 1_000;
        if us != self.run_us {
            self.settle();
            self.run_us = us;
        }
        self.run_count += 1;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
        self.run_count = 0;
    }

    /// The finished histogram.
    pub(crate) fn finish(mut self) -> Histogram<u64> {
        self.settle();
        self.histogram
    }

    fn settle(&mut self) {
        let us = self.run_us.clamp(1, LATENCY_US_MAX);
        self.histogram.saturating_record_n(us, self.run_count);
        self.run_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_counted_once() {
        let mut latency = Latency::new();
        for ns in [5_000, 5_100, 5_900, 7_000, 5_000, u64::MAX] {
            latency.record(ns);
        }
        let histogram = latency.finish();
        assert_eq!(histogram.len(), 6);
        assert_eq!(histogram.count_at(5), 4);
        assert_eq!(histogram.count_at(7), 1);
    }

    #[test]
    fn clear_forgets_the_open_run_too() {
        let mut latency = Latency::new();
        latency.record(5_000);
        latency.clear();
        assert_eq!(latency.finish().len(), 0);
    }
}
