//! What each failure cost, and all of them together.

use std::fmt;
use std::time::Duration;

/// A failure of some kind and what it cost.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Of which kind.
    pub(crate) kind: &'static str,
    /// Who was concerned.
    pub(crate) who: String,
    /// From its beginning to the next PUBACK; after a cut, the longest time without one.
    pub(crate) gap: Duration,
    /// From its end until everything was as before.
    pub(crate) whole: Duration,
}

/// All failures, by kind.
pub(crate) struct Table<'a>(pub(crate) &'a [Failure]);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gap, whole) = (self.gap.as_secs_f64(), self.whole.as_secs_f64());
        write!(
            f,
            "{:<24} {:<24} gap {gap:6.3} s, whole after {whole:6.3} s",
            self.kind, self.who
        )
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>5}  {:>8} {:>7} {:>7}  {:>10} {:>7}",
            "failure", "times", "gap: p50", "p99", "max", "whole: p50", "max"
        )?;
        let mut kinds: Vec<_> = self.0.iter().map(|failure| failure.kind).collect();
        kinds.dedup();
        let mut seen = std::collections::HashSet::new();
        for kind in kinds.into_iter().filter(|kind| seen.insert(*kind)) {
            let of_kind = || self.0.iter().filter(move |failure| failure.kind == kind);
            let gaps = sorted(of_kind().map(|failure| failure.gap));
            let wholes = sorted(of_kind().map(|failure| failure.whole));
            writeln!(
                f,
                "{kind:<24} {:>5}  {:>8.3} {:>7.3} {:>7.3}  {:>10.3} {:>7.3}",
                gaps.len(),
                percentile(&gaps, 50),
                percentile(&gaps, 99),
                percentile(&gaps, 100),
                percentile(&wholes, 50),
                percentile(&wholes, 100),
            )?;
        }
        Ok(())
    }
}

/// The gaps of all failures of a kind: the shortest time that so many of a hundred do not exceed, in seconds; `None` if
/// there were none.
pub(crate) fn gap_of(failures: &[Failure], kind: &str, percent: usize) -> Option<f64> {
    let of_kind = failures.iter().filter(|failure| failure.kind == kind);
    let gaps = sorted(of_kind.map(|failure| failure.gap));
    (!gaps.is_empty()).then(|| percentile(&gaps, percent))
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times
}

/// By the nearest rank, in seconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1].as_secs_f64()
}
