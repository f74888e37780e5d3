//! What to add to the clock of another machine: asked several times, and the answer that took the shortest way counts.

use crate::limits::CLOCK_ROUNDS;

/// One exchange of clocks with a worker.
#[derive(Debug)]
pub(crate) struct Exchange {
    left: u32,
    best: Option<Reading>,
}

/// What an exchange has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The worker's clock to run time, µs.
    pub(crate) offset_us: i64,
    /// How far it may be off: half the way there and back, µs.
    pub(crate) error_us: u64,
}

impl Exchange {
    /// To begin with a question.
    pub(crate) fn new() -> Self {
        Self {
            left: CLOCK_ROUNDS,
            best: None,
        }
    }

    /// An answer came at `now_us` to what was asked at `sent_us`, both run time; the worker's clock said `own_us`. `None`: ask
    /// again. The worker read its clock somewhere between the two, so the middle is off by half of the time between at most.
    pub(crate) fn answered(&mut self, now_us: u64, sent_us: u64, own_us: u64) -> Option<Reading> {
        let way_us = now_us.saturating_sub(sent_us);
        let middle_us = sent_us + way_us / 2;
        let reading = Reading {
            offset_us: middle_us.cast_signed() - own_us.cast_signed(),
            error_us: way_us.div_ceil(2),
        };
        if self
            .best
            .is_none_or(|best| reading.error_us < best.error_us)
        {
            self.best = Some(reading);
        }
        self.left = self.left.saturating_sub(1);
        self.best.filter(|_| self.left == 0)
    }
}

/// How far off the time between two workers' clocks may be, given how far each is: those of the two worst.
pub(crate) fn between(errors_us: impl Iterator<Item = u64>) -> u64 {
    let (mut first, mut second) = (0, 0);
    for error in errors_us {
        if error > first {
            (first, second) = (error, first);
        } else {
            second = second.max(error);
        }
    }
    first + second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_wins_and_bounds_the_error() {
        // The worker's clock is 5,000,000 µs ahead of run time.
        let mut exchange = Exchange::new();
        let mut now = 1_000;
        let mut found = None;
        for round in 0..CLOCK_ROUNDS {
            assert_eq!(found, None, "round {round}");
            // There and back, µs: one round is quick, the others are slow in one direction.
            let (there, back) = if round == 2 { (40, 60) } else { (30, 9_000) };
            let own = now + there + 5_000_000;
            found = exchange.answered(now + there + back, now, own);
            now += 20_000;
        }
        let found = found.expect("all rounds are over");
        assert_eq!(found.error_us, 50);
        assert!((found.offset_us + 5_000_000).unsigned_abs() <= found.error_us);
    }

    #[test]
    fn two_clocks_are_off_by_both_errors() {
        assert_eq!(between([].into_iter()), 0);
        assert_eq!(between([7].into_iter()), 7);
        assert_eq!(between([0, 7, 0, 9, 8].into_iter()), 17);
    }
}
