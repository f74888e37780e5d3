//! The group's time: never back, no jump that ends every session at once.
//!
//! Within a reign time grows by the monotonic clock only, so setting the wall clock changes nothing.
//! Wall time enters with a reign. A step of more than a day forward is not believed at once: time runs
//! on from the last entry, and the step is taken after the wall clock has kept pace with the monotonic
//! clock for ten minutes.

/// A step of the wall clock larger than this is not believed at once. Milliseconds.
pub const STEP_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// How long the wall clock must keep pace with the monotonic clock before a large step is taken. Milliseconds.
pub const STEP_PROOF_MS: u64 = 10 * 60 * 1000;
/// How far the two clocks may drift apart while a step is being proven. Milliseconds.
pub const STEP_DRIFT_MS_MAX: u64 = 5_000;

/// What the machine's clocks say at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Milliseconds since some fixed moment; never goes back.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch; may be set at any time.
    pub wall_ms: u64,
}

/// The time of one reign.
#[derive(Clone, Debug)]
pub struct GroupClock {
    base_ms: u64,
    base_monotonic_ms: u64,
    step: Option<Step>,
}

/// A step forward that waits for proof.
#[derive(Clone, Copy, Debug)]
struct Step {
    since: Clocks,
}

impl GroupClock {
    /// Starts a reign. `last_ms` is the time of the log's last entry, 0 for an empty log.
    pub fn new(last_ms: u64, now: Clocks) -> Self {
        let believed = last_ms == 0 || now.wall_ms <= last_ms.saturating_add(STEP_MS_MAX);
        Self {
            base_ms: if believed {
                last_ms.max(now.wall_ms)
            } else {
                last_ms
            },
            base_monotonic_ms: now.monotonic_ms,
            step: (!believed).then_some(Step { since: now }),
        }
    }

    /// The group's time in milliseconds since the Unix epoch.
    pub fn now_ms(&mut self, now: Clocks) -> u64 {
        let time = self.base_ms + now.monotonic_ms.saturating_sub(self.base_monotonic_ms);
        let Some(step) = self.step else { return time };
        let passed = now.monotonic_ms.saturating_sub(step.since.monotonic_ms);
        let expected = step.since.wall_ms.saturating_add(passed);
        if now.wall_ms.abs_diff(expected) > STEP_DRIFT_MS_MAX {
            // The wall clock was set again: whatever it says now has to prove itself anew.
            self.step =
                (now.wall_ms > time.saturating_add(STEP_MS_MAX)).then_some(Step { since: now });
        } else if passed >= STEP_PROOF_MS {
            self.step = None;
            self.base_ms = now.wall_ms.max(time);
            self.base_monotonic_ms = now.monotonic_ms;
            return self.base_ms;
        }
        time
    }

    /// Whether a large step of the wall clock is waiting for proof.
    pub fn is_proving_step(&self) -> bool {
        self.step.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = STEP_MS_MAX;

    fn at(monotonic_ms: u64, wall_ms: u64) -> Clocks {
        Clocks {
            monotonic_ms,
            wall_ms,
        }
    }

    #[test]
    fn a_fresh_group_takes_the_wall_clock() {
        let mut clock = GroupClock::new(0, at(5, 1_700_000_000_000));
        assert_eq!(clock.now_ms(at(7, 3)), 1_700_000_000_002);
    }

    #[test]
    fn a_clock_set_back_across_a_restart_runs_on_from_the_last_entry() {
        let mut clock = GroupClock::new(10 * DAY, at(0, 2 * DAY));
        assert_eq!(clock.now_ms(at(100, 2 * DAY + 100)), 10 * DAY + 100);
        assert!(!clock.is_proving_step());
    }

    #[test]
    fn a_wall_clock_set_within_a_reign_changes_nothing() {
        let mut clock = GroupClock::new(10 * DAY, at(0, 10 * DAY + 1));
        assert_eq!(clock.now_ms(at(50, 9000 * DAY)), 10 * DAY + 51);
        assert_eq!(clock.now_ms(at(60, 0)), 10 * DAY + 61);
    }

    #[test]
    fn a_step_of_years_is_taken_after_ten_minutes_of_proof() {
        let mut clock = GroupClock::new(10 * DAY, at(0, 900 * DAY));
        assert!(clock.is_proving_step());
        assert_eq!(clock.now_ms(at(1_000, 900 * DAY + 1_000)), 10 * DAY + 1_000);
        let proven = clock.now_ms(at(STEP_PROOF_MS, 900 * DAY + STEP_PROOF_MS));
        assert_eq!(proven, 900 * DAY + STEP_PROOF_MS);
        assert_eq!(clock.now_ms(at(STEP_PROOF_MS + 5, 0)), proven + 5);
    }

    #[test]
    fn a_wall_clock_that_jumps_again_starts_its_proof_anew() {
        let mut clock = GroupClock::new(10 * DAY, at(0, 900 * DAY));
        assert_eq!(
            clock.now_ms(at(STEP_PROOF_MS, 12 * DAY)),
            10 * DAY + STEP_PROOF_MS
        );
        assert!(
            clock.is_proving_step(),
            "12 days is again more than a day ahead"
        );
        assert_eq!(
            clock.now_ms(at(STEP_PROOF_MS + 1, 10 * DAY)),
            10 * DAY + STEP_PROOF_MS + 1
        );
        assert!(
            !clock.is_proving_step(),
            "back within a day: nothing to prove"
        );
    }
}
