//! Since when the group's leader leads, as far as this member has seen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The newest reign that was seen. A member that comes later, or was cut off, has seen less of it.
#[derive(Debug, Default)]
pub(super) struct Reign(Mutex<Option<Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    term: u64,
    leader: u64,
    since: Instant,
}

impl Reign {
    /// Who leads in the newest term; `None`: nobody, as far as known.
    pub(super) fn note(&self, term: u64, leader: Option<u64>, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(leader) = leader else {
            *seen = None;
            return;
        };
        if seen.is_none_or(|seen| (seen.term, seen.leader) != (term, leader)) {
            let since = now;
            *seen = Some(Seen {
                term,
                leader,
                since,
            });
        }
    }

    /// How long it has lasted; `None`: nobody leads, as far as known.
    pub(super) fn lasts(&self, now: Instant) -> Option<Duration> {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.map(|seen| now.saturating_duration_since(seen.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reign_lasts_until_another_one_begins() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let reign = Reign::default();
        assert_eq!(reign.lasts(start), None);
        reign.note(3, Some(7), at(0));
        reign.note(3, Some(7), at(5));
        assert_eq!(reign.lasts(at(9)), Some(Duration::from_secs(9)));
        reign.note(4, Some(7), at(10));
        assert_eq!(reign.lasts(at(11)), Some(Duration::from_secs(1)));
        reign.note(5, None, at(12));
        assert_eq!(reign.lasts(at(13)), None);
    }
}
