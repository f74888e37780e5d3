//! Latencies of one second, compact: what many processes keep at once should be small while little happens.

use std::collections::BTreeMap;

use crate::control::message::{LatencyKind, Spread};
use crate::limits::SPREAD_PENDING_MAX;

/// Latencies by kind, µs, since they were last taken.
#[derive(Debug, Default)]
pub(crate) struct Spreads {
    kinds: [One; KINDS.len()],
}

const KINDS: [LatencyKind; 7] = [
    LatencyKind::Connect,
    LatencyKind::Subscribe,
    LatencyKind::Ping,
    LatencyKind::Telemetry,
    LatencyKind::TelemetryAck,
    LatencyKind::Command,
    LatencyKind::CommandAck,
];

/// Values not yet counted, and buckets with their counts.
#[derive(Debug, Default)]
struct One {
    pending: Vec<u64>,
    counts: BTreeMap<u64, u64>,
}

impl Spreads {
    /// Something took so long.
    #[inline]
    pub(crate) fn record(&mut self, kind: LatencyKind, us: u64) {
        let one = &mut self.kinds[kind as usize];
        one.pending.push(bucket(us));
        if one.pending.len() >= SPREAD_PENDING_MAX {
            one.count();
        }
    }

    /// Takes what there is; afterwards there is nothing.
    pub(crate) fn take(&mut self) -> Vec<(LatencyKind, Spread)> {
        let mut taken = Vec::new();
        for (one, kind) in self.kinds.iter_mut().zip(KINDS) {
            one.count();
            if !one.counts.is_empty() {
                let counts = std::mem::take(&mut one.counts);
                taken.push((kind, Spread(counts.into_iter().collect())));
            }
        }
        taken
    }
}

impl One {
    fn count(&mut self) {
        for value in self.pending.drain(..) {
            *self.counts.entry(value).or_default() += 1;
        }
    }
}

/// The middle of a value's bucket: 1,024 buckets to each doubling, so it is off by less than 0.1 %.
fn bucket(us: u64) -> u64 {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(BUCKET_BITS);
    let half = (1 << shift) >> 1;
    ((us >> shift) << shift) + half
}

/// Significant bits of a bucket.
const BUCKET_BITS: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_in_their_places() {
        for (place, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }

    #[test]
    fn buckets_are_exact_when_small_and_close_when_great() {
        for us in 0..2_048 {
            assert_eq!(bucket(us), us);
        }
        for us in [2_049, 70_001, 12_345_678, 600_000_000, u64::MAX / 2] {
            assert!(
                bucket(us).abs_diff(us) <= us / 1_000,
                "{us} became {}",
                bucket(us)
            );
        }
    }

    #[test]
    fn everything_recorded_is_taken_once() {
        let mut spreads = Spreads::default();
        for us in 0..10_000 {
            spreads.record(LatencyKind::Ping, us % 100);
        }
        spreads.record(LatencyKind::Command, 7);
        let taken = spreads.take();
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0].0, LatencyKind::Ping);
        assert!(taken[0].1.0.iter().all(|(_, count)| *count == 100));
        assert_eq!(taken[0].1.0.len(), 100);
        assert_eq!(taken[1], (LatencyKind::Command, Spread(vec![(7, 1)])));
        assert!(spreads.take().is_empty());
    }
}
