//! Closed loop or open loop, and the open loop's schedule.

use std::time::Duration;

use crate::limits::PACE_STEP_MIN;

/// What decides when a message leaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pace {
    /// Closed loop: this many messages of a publisher may be under way.
    Window(u32),
    /// Open loop: messages leave by the clock, whatever became of those before.
    Rate {
        /// Messages per second of all publishers of one thread.
        per_s: f64,
    },
}

impl Pace {
    /// Time between two steps of a schedule of `per_s` messages per second.
    pub(crate) fn step(per_s: f64) -> Duration {
        Duration::from_secs_f64(1.0 / per_s).max(PACE_STEP_MIN)
    }
}

/// A fixed time for every message, in steps: message m of the thread belongs to publisher
/// m mod `publishers` and leaves at the end of the step in which it falls due.
#[derive(Debug)]
pub(crate) struct Schedule {
    start_ns: u64,
    step_ns: u64,
    per_step: f64,
    publishers: u64,
    due: u64,
}

impl Schedule {
    /// A schedule that starts at `start_ns`.
    pub(crate) fn new(per_s: f64, publishers: u64, start_ns: u64) -> Self {
        let step = Pace::step(per_s);
        let per_step = per_s * step.as_secs_f64();
        Self {
            start_ns,
            step_ns: step.as_nanos() as u64,
            per_step,
            publishers,
            due: 0,
        }
    }

    /// Messages due so far.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Messages of `publisher` due so far.
    #[inline]
    pub(crate) fn due_of(&self, publisher: u32) -> u64 {
        self.due
            .saturating_sub(u64::from(publisher))
            .div_ceil(self.publishers)
    }

    /// Moves to `now_ns`; gives the messages that fell due as from..to.
    pub(crate) fn advance(&mut self, now_ns: u64) -> (u64, u64) {
        let steps = now_ns.saturating_sub(self.start_ns) / self.step_ns;
        let from = self.due;
        self.due = from.max(self.due_after(steps));
        (from, self.due)
    }

    /// When message `seq` of `publisher` should leave.
    #[inline]
    pub(crate) fn intended_ns(&self, publisher: u32, seq: u64) -> u64 {
        let message = seq * self.publishers + u64::from(publisher);
        let mut steps = whole(message as f64 / self.per_step);
        while self.due_after(steps) <= message {
            steps += 1;
        }
        self.start_ns + steps * self.step_ns
    }

    fn due_after(&self, steps: u64) -> u64 {
        // A hair above, so that 0.999999 of a message is one.
        whole(self.per_step * steps as f64 + 1e-6)
    }
}

#[expect(clippy::cast_sign_loss, reason = "rates and counts are positive")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_time() {
        for per_s in [0.5, 7.0, 333.0, 1_000.0, 5_000.0, 123_456.0] {
            let mut schedule = Schedule::new(per_s, 3, 1_000);
            schedule.advance(1_000 + 60_000_000_000 + 1_000_000);
            let expected = per_s * 60.0;
            let off = (schedule.due() as f64 - expected).abs();
            assert!(
                off <= per_s * 0.001 + 1.0,
                "{per_s}/s: {} due",
                schedule.due()
            );
        }
    }

    #[test]
    fn each_message_is_due_exactly_at_its_intended_time() {
        for (per_s, publishers) in [(7.0, 3), (999.0, 7), (5_000.0, 500), (64_321.0, 10)] {
            for message in 0..3_000_u64 {
                let mut schedule = Schedule::new(per_s, publishers, 77);
                let (publisher, seq) = ((message % publishers) as u32, message / publishers);
                let at = schedule.intended_ns(publisher, seq);
                schedule.advance(at - 1);
                assert!(
                    schedule.due() <= message,
                    "{per_s}/s, message {message} too early"
                );
                schedule.advance(at);
                assert!(
                    schedule.due() > message,
                    "{per_s}/s, message {message} too late"
                );
                assert!(schedule.due_of(publisher) > seq);
            }
        }
    }

    #[test]
    fn what_is_due_is_shared_out_completely() {
        let mut schedule = Schedule::new(1_000.0, 7, 0);
        for step in 0..100 {
            schedule.advance(step * 1_000_000);
            let sum: u64 = (0..7).map(|publisher| schedule.due_of(publisher)).sum();
            assert_eq!(sum, schedule.due());
        }
    }
}
