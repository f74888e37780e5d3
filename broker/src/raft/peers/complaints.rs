//! What comes up several times a second is said seldom. Pure.

use super::super::limits::{COMPLAINT_AGAIN, COMPLAINT_OTHER};
use tokio::time::Instant;

/// What was complained of last.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Option<(Instant, String)>,
    unsaid: u64,
}

impl Complaints {
    /// Whether this is to be said now: if nothing was lately, or something else, or the same long ago. Then how many
    /// complaints were not said since.
    pub(super) fn due(&mut self, now: Instant, what: &str) -> Option<u64> {
        let is_early = self.last.as_ref().is_some_and(|(at, said)| {
            let wait = if said == what {
                COMPLAINT_AGAIN
            } else {
                COMPLAINT_OTHER
            };
            now < *at + wait
        });
        if is_early {
            self.unsaid += 1;
            return None;
        }
        self.last = Some((now, what.to_owned()));
        Some(std::mem::take(&mut self.unsaid))
    }

    /// All is well. Whether something was said before.
    pub(super) fn over(&mut self) -> bool {
        self.unsaid = 0;
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_same_is_said_seldom_and_something_else_sooner() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut complaints = Complaints::default();
        assert!(!complaints.over());
        for (at, what, is_said) in [
            (0, "refused", Some(0)),
            (1, "refused", None),
            (1, "secret", None),
            (5, "secret", Some(2)),
            (6, "refused", None),
            (59, "secret", None),
            (65, "secret", Some(2)),
        ] {
            assert_eq!(complaints.due(after(at), what), is_said, "{what} at {at} s");
        }
        assert!(complaints.over());
        assert_eq!(complaints.due(after(66), "secret"), Some(0), "it was well");
    }
}
