//! A coarse timing wheel: one bucket a second, entries looked at when their bucket comes round.
//!
//! The wheel knows no deadlines. A connection whose deadline has moved on since it was entered is entered again
//! at its visit, so that a packet costs the wheel nothing. A connection without a deadline is visited once a round.

use crate::limits::WHEEL_SECONDS;

/// One entry: a slot of the connection table and the use of the slot it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    /// The second the visit was made for. An entry whose connection has since been entered elsewhere is void.
    pub(crate) at_s: u32,
}

/// The wheel. Its size follows the connection table's: one valid entry a connection, and void ones of the
/// connections that ended, or got an earlier deadline, within one round.
#[derive(Debug)]
pub(crate) struct Wheel {
    buckets: Vec<Vec<Visit>>,
    /// The next second to visit.
    next_s: u32,
}

impl Wheel {
    pub(crate) fn new(now_s: u32) -> Self {
        Self {
            buckets: (0..WHEEL_SECONDS).map(|_| Vec::new()).collect(),
            next_s: now_s,
        }
    }

    /// Enters a connection for a visit at `due_s`, or a round from `now_s`, whichever is first. Answers when.
    pub(crate) fn enter(&mut self, index: u32, generation: u32, due_s: u32, now_s: u32) -> u32 {
        let at_s = due_s.clamp(self.next_s, now_s.max(self.next_s) + WHEEL_SECONDS - 1);
        let at_s = at_s.min(self.next_s + WHEEL_SECONDS - 1);
        self.buckets[(at_s % WHEEL_SECONDS) as usize].push(Visit {
            index,
            generation,
            at_s,
        });
        at_s
    }

    /// Moves the visits of one second that has come into `into`. `false`: none is due any more.
    pub(crate) fn next_due(&mut self, now_s: u32, into: &mut Vec<Visit>) -> bool {
        if self.next_s > now_s {
            return false;
        }
        into.clear();
        let bucket = &mut self.buckets[(self.next_s % WHEEL_SECONDS) as usize];
        into.append(bucket);
        if bucket.capacity() > 4 * into.len() {
            bucket.shrink_to(into.len());
        }
        self.next_s += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_come_in_their_second_and_far_ones_once_a_round() {
        let mut wheel = Wheel::new(10);
        assert_eq!(wheel.enter(1, 0, 12, 10), 12);
        assert_eq!(wheel.enter(2, 0, 100_000, 10), 10 + WHEEL_SECONDS - 1);
        assert_eq!(
            wheel.enter(3, 0, 5, 10),
            10,
            "what is overdue comes at once"
        );
        let mut visits = Vec::new();
        let mut seen = Vec::new();
        for now_s in 10..200 {
            while wheel.next_due(now_s, &mut visits) {
                seen.extend(visits.iter().map(|visit| (now_s, visit.index)));
            }
        }
        assert_eq!(seen, [(10, 3), (12, 1), (73, 2)]);
    }

    #[test]
    fn a_late_turn_catches_up() {
        let mut wheel = Wheel::new(0);
        for second in 0..WHEEL_SECONDS {
            wheel.enter(second, 0, second, 0);
        }
        let mut visits = Vec::new();
        let mut count = 0;
        while wheel.next_due(1_000, &mut visits) {
            count += visits.len();
        }
        assert_eq!(count, WHEEL_SECONDS as usize);
        assert_eq!(
            wheel.enter(7, 0, 1_000, 1_000),
            1_001,
            "that second has been visited"
        );
    }
}
