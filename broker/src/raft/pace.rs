//! How a member without a vote gets the entries that it lacks: nobody waits for it, so its calls keep out of others' way.

use super::limits::{EASE, ENTRIES_REST, ENTRIES_REST_MAX};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{Instant, sleep_until};

/// How many members catch up with ease. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ease(Arc<AtomicUsize>);

impl Ease {
    /// Whether any does.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Keeps the calls apart that bring many entries to one member.
#[derive(Debug)]
pub(super) struct Pace {
    ease: Ease,
    /// It is counted there.
    is_easy: bool,
    /// Since when it catches up; `None`: it does not.
    since: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(ease: Ease) -> Self {
        Self {
            ease,
            is_easy: false,
            since: None,
            rests_until: None,
        }
    }

    /// Waits until the next one may go.
    pub(super) async fn rest(&mut self) {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.set_easy(since.elapsed() < EASE);
        if let Some(until) = self.rests_until.take() {
            sleep_until(until).await;
        }
    }

    /// One that began then has been answered, or has failed.
    pub(super) fn ended(&mut self, begun: Instant) {
        let rest = ENTRIES_REST * begun.elapsed();
        let until = Instant::now() + rest.min(ENTRIES_REST_MAX);
        self.rests_until = self.is_easy.then_some(until);
    }

    /// The member lacks few entries now, or others wait for it.
    pub(super) fn over(&mut self) {
        self.since = None;
        self.rests_until = None;
        self.set_easy(false);
    }

    fn set_easy(&mut self, is_easy: bool) {
        match (self.is_easy, is_easy) {
            (false, true) => self.ease.0.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.ease.0.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.is_easy = is_easy;
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.set_easy(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::advance;

    /// Makes a call that takes so many milliseconds; how many the next one waits.
    async fn rests_after(pace: &mut Pace, took: u64) -> u128 {
        pace.rest().await;
        let begun = Instant::now();
        advance(Duration::from_millis(took)).await;
        pace.ended(begun);
        let ended = Instant::now();
        pace.rest().await;
        ended.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_kept_apart_by_what_they_took_up_to_a_bound() {
        let mut pace = Pace::new(Ease::default());
        for (took, rests) in [(0, 0), (1, 3), (4, 5), (90, 5)] {
            assert_eq!(rests_after(&mut pace, took).await, rests, "after {took} ms");
            let rested = Instant::now();
            pace.rest().await;
            assert_eq!(rested.elapsed().as_millis(), 0, "it rests once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_catch_up_with_ease_gets_all_there_is() {
        let ease = Ease::default();
        let mut pace = Pace::new(ease.clone());
        let mut other = Pace::new(ease.clone());
        assert!(!ease.is_wanted());
        assert_eq!(rests_after(&mut pace, 4).await, 5);
        other.rest().await;
        advance(EASE).await;
        assert_eq!(rests_after(&mut pace, 4).await, 0);
        assert!(ease.is_wanted(), "by the other one");
        drop(other);
        assert!(!ease.is_wanted());
        pace.over();
        assert_eq!(rests_after(&mut pace, 4).await, 5, "it lags anew");
        assert!(ease.is_wanted());
        pace.over();
        assert!(!ease.is_wanted());
    }
}
