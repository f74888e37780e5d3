//! How long a connection was without service.
//!
//! A gap begins when a connection is lost, or when the broker begins to owe something on it (an
//! acknowledgement to a publisher, an acknowledged message to a subscriber); every answer ends it,
//! and begins the next one while something is still owed.

/// The gaps of one connection.
#[derive(Debug, Default)]
#[allow(clippy::struct_field_names, reason = "units are last in names")]
pub(crate) struct Availability {
    since_ns: Option<u64>,
    longest_ns: u64,
    /// The longest that ended since somebody looked.
    recent_ns: u64,
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
            let gap_ns = now_ns.saturating_sub(since);
            self.longest_ns = self.longest_ns.max(gap_ns);
            self.recent_ns = self.recent_ns.max(gap_ns);
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
        self.longest_ns.max(self.open_ns(now_ns))
    }

    /// The longest gap that ended since the last call, or that is still open.
    pub(crate) fn take_recent_ns(&mut self, now_ns: u64) -> u64 {
        std::mem::take(&mut self.recent_ns).max(self.open_ns(now_ns))
    }

    fn open_ns(&self, now_ns: u64) -> u64 {
        self.since_ns
            .map_or(0, |since| now_ns.saturating_sub(since))
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
    fn a_recent_gap_is_told_once_and_an_open_one_until_it_ends() {
        let mut gaps = Availability::default();
        gaps.wait(0);
        gaps.served(true, 50);
        assert_eq!(gaps.take_recent_ns(60), 50);
        assert_eq!(gaps.take_recent_ns(70), 20);
        assert_eq!(gaps.take_recent_ns(190), 140);
        gaps.served(false, 200);
        assert_eq!(gaps.take_recent_ns(210), 150);
        assert_eq!(gaps.take_recent_ns(900), 0);
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
