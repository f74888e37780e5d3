//! What the log thread does when the disk is full: nothing is lost, nothing is written twice to another place, and
//! nothing is reported durable, until there is space.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::limits::FULL_RETRY_MS;
use super::shared::locked;
use super::stats::LogStats;
use super::tail::{self, Job};
use super::writer::Writer;
use super::{LogError, WhenFull};

/// Why a batch was not carried out to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// There is no space. It can go on when there is.
    Full(LogError),
    /// Anything else.
    Failed(LogError),
}

impl From<LogError> for Stopped {
    fn from(error: LogError) -> Self {
        match error {
            LogError::DiskFull { .. } => Self::Full(error),
            _ => Self::Failed(error),
        }
    }
}

/// How far a batch is carried out.
#[derive(Debug, Default)]
pub(super) struct Steps {
    next: usize,
    /// Where the jobs of the current file begin.
    file: usize,
    /// How far it ever was.
    furthest: usize,
    /// Offset behind the last bytes written to a file.
    written: Option<u32>,
}

impl Steps {
    /// Which job is next.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    pub(super) fn is_first_time(&self) -> bool {
        self.next >= self.furthest
    }

    pub(super) fn done(&mut self) {
        self.next += 1;
        self.furthest = self.furthest.max(self.next);
    }

    pub(super) fn wrote(&mut self, end: u32) {
        self.written = Some(end);
        self.done();
    }

    pub(super) fn opened(&mut self) {
        self.done();
        self.file = self.next;
    }

    /// What was written to the current file is not there for sure.
    pub(super) fn rewind(&mut self) {
        self.next = self.file;
    }

    /// Takes the releases that were never carried out out of the jobs: they wait behind bytes that they would make room
    /// for. Only those of segments before `written`, which are in the files as a whole.
    pub(super) fn take_releases(&self, jobs: &mut Vec<Job>, written: u32) -> Vec<u32> {
        tail::take_releases(jobs, self.furthest, written)
    }

    /// Offset behind the last bytes written to a file, if any were.
    pub(super) fn written(&self) -> Option<u32> {
        self.written
    }
}

impl Writer {
    /// Waits until there may be space. An error if that is not what to do.
    pub(super) fn wait_for_space(&self, stopped: Stopped) -> Result<(), LogError> {
        let full = match stopped {
            Stopped::Full(full) if self.shared.options.when_full == WhenFull::Wait => full,
            Stopped::Full(error) | Stopped::Failed(error) => return Err(error),
        };
        if !self.shared.full.swap(true, Ordering::AcqRel) {
            tracing::error!(error = %full, "nothing more is acknowledged until there is space");
            LogStats::count(&self.shared.stats.times_full, 1);
            self.spares.set_scarce(true);
            // Who looked before this lock waits by now.
            drop(locked(&self.shared.tail));
            self.shared.progress.notify_all();
            (self.shared.wake)();
        }
        let until = Instant::now() + Duration::from_millis(FULL_RETRY_MS);
        let mut tail = locked(&self.shared.tail);
        loop {
            if tail.closing {
                return Err(full);
            }
            for segment in tail.take_releases() {
                self.spares.give_back(segment);
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            let waited = self.shared.work.wait_timeout(tail, rest);
            tail = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything is written. The caller wakes those who want to know.
    pub(super) fn has_space(&self) {
        if self.shared.full.swap(false, Ordering::AcqRel) {
            tracing::info!("there is space on the disk again");
            self.spares.set_scarce(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Location;
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_failed_sync_has_the_current_file_written_again() {
        let mut steps = Steps::default();
        assert_eq!(steps.written(), None);
        steps.wrote(10);
        steps.rewind();
        assert_eq!(steps.next(), 0, "nothing was opened yet");
        steps.wrote(10);
        steps.done();
        steps.opened();
        steps.wrote(20);
        steps.done();
        assert_eq!((steps.next(), steps.written()), (5, Some(20)));
        steps.rewind();
        assert_eq!(steps.next(), 3, "the older files are durable");
        assert!(!steps.is_first_time());
        steps.wrote(20);
        assert!(!steps.is_first_time());
        steps.done();
        assert!(steps.is_first_time());
    }

    #[test]
    fn releases_do_not_wait_behind_what_they_make_room_for() {
        let write = || Job::Write {
            at: Location {
                segment: 5,
                offset: 64,
            },
            bytes: Bytes::from_static(b"much"),
        };
        let release = |segment| Job::Release { segment };
        let mut jobs = vec![release(1), write(), release(2), release(5), release(3)];
        let mut steps = Steps::default();
        steps.done();
        assert_eq!(steps.take_releases(&mut jobs, 5), [2, 3]);
        assert!(matches!(
            jobs[..],
            [
                Job::Release { segment: 1 },
                Job::Write { .. },
                Job::Release { segment: 5 }
            ]
        ));
        assert!(steps.take_releases(&mut jobs, 5).is_empty(), "once");
    }
}
