//! What those wait for who started a fleet: its launcher says something, it ends, or somebody has had enough.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Rung whenever something has happened. Who waits looks then.
#[derive(Debug, Default)]
pub(super) struct Bell {
    news: Mutex<News>,
    rung: Condvar,
}

/// What has happened so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct News {
    /// The launcher closed its output: it has ended, or is about to.
    pub(super) ended: bool,
    /// A signal asks for the end.
    pub(super) stopped: bool,
}

impl Bell {
    /// Notes what has happened, and has everybody look.
    pub(super) fn ring(&self, happened: impl FnOnce(&mut News)) {
        happened(&mut self.lock());
        self.rung.notify_all();
    }

    /// Waits until `look` finds what it looks for; `None` at the deadline. It looks at once, and whenever the bell rings.
    pub(super) fn wait<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(News) -> Option<T>,
    ) -> Option<T> {
        let mut news = self.lock();
        loop {
            if let Some(found) = look(*news) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.rung.wait_timeout(news, left);
            news = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        // Two flags are whole whatever became of the thread that wrote them.
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_waits_looks_when_it_rings_and_gives_up_at_the_deadline() {
        let bell = Arc::new(Bell::default());
        let ringer = Arc::clone(&bell);
        let thread = std::thread::spawn(move || ringer.ring(|news| news.ended = true));
        let far = Instant::now() + Duration::from_secs(60);
        assert_eq!(bell.wait(far, |news| news.ended.then_some(7)), Some(7));
        thread.join().expect("it rings");
        assert_eq!(
            bell.wait(Instant::now(), |news| news.stopped.then_some(())),
            None
        );
    }
}
