//! How long a connection was without service.
//!
//! A gap begins when a connection is lost, or when the broker begins to owe something on it (an
//! acknowledgement to a publisher, an acknowledged message to a subscriber); every answer ends it,
//! and begins the next one while something is still owed.

/// The gaps of one connection.
#[derive(Debug, Default)]
pub(crate) struct Availability {
    since_ns: Option<u64>,
    longest_ns: u64,
}

impl Availability {
    /// The broker owes something, or the connection is lost.
    #[inline]
    pub(crate) fn wait(&mut self, now_ns: u64) {
        self.since_ns.get_or_insert(now_ns);
    }

    /// Something came; `owed` tells whether more is due.
    #[inline]
    pub(crate) fn served(&mut self, owed: bool, now_ns: u64) {
        if let Some(since) = self.since_ns.take() {
            self.longest_ns = self.longest_ns.max(now_ns.saturating_sub(since));
        }
        if owed {
            self.since_ns = Some(now_ns);
        }
    }

    /// Counting starts here: what was before is forgotten.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.longest_ns = 0;
        self.since_ns = self.since_ns.map(|_| now_ns);
    }

    /// The longest gap; one that is still open ends now.
    pub(crate) fn longest_ns(&self, now_ns: u64) -> u64 {
        let open = self
            .since_ns
            .map_or(0, |since| now_ns.saturating_sub(since));
        self.longest_ns.max(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_runs_from_the_first_debt_to_the_next_answer() {
        let mut gaps = Availability::default();
        gaps.wait(10);
        gaps.wait(50);
        gaps.served(true, 100);
        gaps.served(false, 130);
        assert_eq!(gaps.longest_ns(1_000), 90);
        gaps.wait(1_000);
        assert_eq!(gaps.longest_ns(1_200), 200, "the open one counts");
    }

    #[test]
    fn nothing_owed_is_no_gap() {
        let mut gaps = Availability::default();
        gaps.served(false, 10);
        gaps.served(false, 1_000);
        assert_eq!(gaps.longest_ns(5_000), 0);
    }

    #[test]
    fn what_was_before_the_start_is_forgotten() {
        let mut gaps = Availability::default();
        gaps.wait(0);
        gaps.start(100);
        gaps.served(false, 130);
        assert_eq!(gaps.longest_ns(130), 30);
    }
}
