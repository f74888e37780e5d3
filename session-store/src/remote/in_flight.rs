//! How many commands may be on their way to Redis at once. No clock, no I/O.
//!
//! Many proxies share one Redis. If each had the full number on its way while Redis is busy, the last would be answered
//! later than anybody waits, and be sent again: more work for less. So the number begins low, grows by one with each
//! round of answers, and halves when an answer does not come in time (additive increase, multiplicative decrease: Chiu
//! and Jain, 1989).

/// Where it begins, and the least it becomes.
const FIRST: usize = 32;
const LEAST: usize = 4;

/// The present bound.
#[derive(Debug)]
pub(super) struct InFlight {
    limit: usize,
    max: usize,
    /// Answers since the bound last changed.
    answers: usize,
}

impl InFlight {
    /// Never more than `max`.
    pub(super) fn new(max: usize) -> Self {
        Self {
            limit: max.min(FIRST),
            max,
            answers: 0,
        }
    }

    /// The bound.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// An answer has come in time.
    pub(super) fn answered(&mut self) {
        self.answers += 1;
        if self.answers >= self.limit {
            self.answers = 0;
            self.limit = self.max.min(self.limit + 1);
        }
    }

    /// Answers did not come in time, and the connection was given up. To be called once for each connection.
    pub(super) fn gave_up(&mut self) {
        self.answers = 0;
        self.limit = self.max.min((self.limit / 2).max(LEAST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_one_a_round_and_halves() {
        let mut bound = InFlight::new(64);
        assert_eq!(bound.limit(), 32);
        (0..32).for_each(|_| bound.answered());
        assert_eq!(bound.limit(), 33);
        (0..32).for_each(|_| bound.answered());
        bound.gave_up();
        assert_eq!(bound.limit(), 16);
        (0..10).for_each(|_| bound.gave_up());
        assert_eq!(bound.limit(), LEAST);
        (0..10_000).for_each(|_| bound.answered());
        assert_eq!(bound.limit(), 64, "never more");
    }

    #[test]
    fn a_small_maximum_counts() {
        let mut bound = InFlight::new(1);
        bound.gave_up();
        assert_eq!(bound.limit(), 1);
        bound.answered();
        assert_eq!(bound.limit(), 1);
    }
}
