//! What each kill did, and all of them together.

use std::fmt;
use std::time::Duration;

use crate::settings::Kind;

/// One kill.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub(crate) kind: Kind,
    /// The node's name.
    pub(crate) name: String,
    /// From the kill until it was there again, and ready.
    pub(crate) back: Duration,
    /// The longest time one connection was without service.
    pub(crate) gap: Duration,
    /// Redis was wiped as well.
    pub(crate) wiped: bool,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<9} back after {:6.3} s, longest gap {:6.3} s{}",
            self.name,
            self.back.as_secs_f64(),
            self.gap.as_secs_f64(),
            if self.wiped { ", and wiped" } else { "" }
        )
    }
}

/// All kills, by kind.
pub(crate) struct Table<'a>(pub(crate) &'a [Kill]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "kill -9    times    back: median     max    longest gap: median     max"
        )?;
        let mut kinds: Vec<_> = self.0.iter().map(|kill| kill.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let of_kind = || self.0.iter().filter(|kill| kill.kind == kind);
            let (back, back_max) = median_and_max(of_kind().map(|kill| kill.back));
            let (gap, gap_max) = median_and_max(of_kind().map(|kill| kill.gap));
            writeln!(
                f,
                "{:<9} {:>6} {back:>15.3} {back_max:>7.3} {gap:>22.3} {gap_max:>7.3}",
                kind.name(),
                of_kind().count(),
            )?;
        }
        Ok(())
    }
}

/// In seconds.
fn median_and_max(times: impl Iterator<Item = Duration>) -> (f64, f64) {
    let mut times: Vec<_> = times.map(|time| time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let last = times.last().copied();
    (times[times.len() / 2], last.expect("at least one"))
}
