//! Whether Redis answers, since when not, and when to try again. No clock, no I/O.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// What is known about Redis.
#[derive(Debug)]
pub(super) struct Health {
    backoff: Backoff,
    trouble: Option<Trouble>,
    retry_at: Option<Instant>,
}

/// An outage.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// When it was noticed.
    pub(super) since: Instant,
    /// The first error.
    pub(super) why: String,
}

impl Health {
    pub(super) fn new(retry_min: Duration, retry_max: Duration) -> Self {
        Self {
            backoff: Backoff::new(retry_min, retry_max),
            trouble: None,
            retry_at: None,
        }
    }

    /// Something failed. Plans the next attempt, unless one is planned. Says whether this is news.
    pub(super) fn failed(&mut self, now: Instant, why: &str, dice: u64) -> bool {
        if self.retry_at.is_none() {
            self.retry_at = Some(now + self.backoff.failed(dice));
        }
        let news = self.trouble.is_none();
        self.trouble.get_or_insert_with(|| Trouble {
            since: now,
            why: why.to_owned(),
        });
        news
    }

    /// Redis has done something. Ends the outage, if there was one, and says how long it was.
    pub(super) fn well(&mut self, now: Instant) -> Option<Duration> {
        let trouble = self.trouble.take()?;
        self.backoff.succeeded();
        self.retry_at = None;
        Some(now - trouble.since)
    }

    /// The time for the next attempt has come.
    pub(super) fn retry(&mut self) {
        self.retry_at = None;
    }

    /// When the next attempt is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The outage, while there is one.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_news_once_and_ends_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut health = Health::new(Duration::from_millis(50), Duration::from_secs(2));
        assert_eq!(health.well(at(0)), None);
        assert!(health.failed(at(0), "first", 0));
        assert!(!health.failed(at(1), "second", 0));
        assert_eq!(health.retry_at(), Some(at(50)), "the plan stands");
        health.retry();
        assert!(!health.failed(at(60), "third", 0));
        assert_eq!(health.retry_at(), Some(at(160)), "longer");
        assert_eq!(health.trouble().map(|trouble| &*trouble.why), Some("first"));
        assert_eq!(health.well(at(200)), Some(Duration::from_millis(200)));
        assert_eq!((health.well(at(201)), health.retry_at()), (None, None));
        assert!(health.failed(at(300), "again", 0));
        assert_eq!(health.retry_at(), Some(at(350)), "from the start");
    }
}
