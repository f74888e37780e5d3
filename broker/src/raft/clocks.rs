//! The wall clocks of a group's members, and the time that a leader goes by: their median, so that no one of them alone
//! can put it forward.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Says what a member's wall clock shows, in milliseconds since the Unix epoch. The default is the system's.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// Another one, for a simulated world.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.unwrap_or_default().as_millis() as u64
        })
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// What the other members' wall clocks showed when they were last heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks(BTreeMap<u64, (u64, Instant)>);

impl Clocks {
    /// A member has said what its clock shows.
    pub(super) fn heard(&mut self, member: u64, wall_ms: u64, now: Instant) {
        self.0.insert(member, (wall_ms, now));
    }

    /// Only these members are in the group.
    pub(super) fn keep(&mut self, is_member: impl Fn(u64) -> bool) {
        self.0.retain(|member, _| is_member(*member));
    }

    /// The median of what the clocks show now, in milliseconds since the Unix epoch; `own_ms`: what this member's does. Of
    /// two in the middle the earlier one: what ends late does less harm than what ends early.
    pub(super) fn median_ms(&self, own_ms: u64, now: Instant) -> u64 {
        let shows = |(wall_ms, at): &(u64, Instant)| {
            let since = now.saturating_duration_since(*at);
            wall_ms.saturating_add(since.as_millis() as u64)
        };
        let mut all: Vec<u64> = self.0.values().map(shows).chain([own_ms]).collect();
        all.sort_unstable();
        all[(all.len() - 1) / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOURS: u64 = 3_600_000;

    fn clocks(shown: &[u64], at: Instant) -> Clocks {
        let mut clocks = Clocks::default();
        for (member, wall_ms) in shown.iter().enumerate() {
            clocks.heard(member as u64 + 2, *wall_ms, at);
        }
        clocks
    }

    #[test]
    fn no_one_clock_decides() {
        let now = Instant::now();
        let median = |own, others: &[u64]| clocks(others, now).median_ms(own, now);
        assert_eq!(median(7, &[]), 7, "nobody else was heard");
        assert_eq!(
            median(11 * HOURS, &[HOURS]),
            HOURS,
            "the earlier one of two"
        );
        assert_eq!(median(HOURS, &[11 * HOURS]), HOURS);
        assert_eq!(median(11 * HOURS, &[HOURS, HOURS + 1]), HOURS + 1);
        assert_eq!(median(0, &[HOURS, HOURS + 1]), HOURS);
        assert_eq!(median(HOURS, &[u64::MAX, 0]), HOURS);
        assert_eq!(median(9, &[1, 5, 7, 8]), 7);
        assert_eq!(median(9, &[1, 5, 7]), 5);
    }

    #[test]
    fn clocks_that_were_heard_run_on_and_the_last_word_counts() {
        let start = Instant::now();
        let mut clocks = clocks(&[1_000, 2_000], start);
        clocks.heard(2, 5_000, start + Duration::from_secs(1));
        let now = start + Duration::from_secs(3);
        assert_eq!(clocks.median_ms(100_000, now), 7_000);
        clocks.keep(|member| member == 3);
        assert_eq!(
            clocks.median_ms(100_000, now),
            5_000,
            "the other one has left"
        );
    }
}
