//! Segment files made ahead of need and taken back afterwards, on a thread of its own: zeroing a
//! file takes tens of milliseconds, in which the log thread has acknowledgements to release.
//!
//! A file that is full length and written once needs no metadata change on fdatasync, which halves
//! its cost on journaling file systems.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::directory::{self, Directory};
use super::limits::{SPARES_MAX, STEP_BYTES};
use super::shared::locked;
use super::stats::LogStats;
use super::steps::{self, rest_after};
use super::{LogError, LogOptions};

/// A segment file nobody uses.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) bytes: u64,
    /// True if it is all zeros.
    pub(super) zeroed: bool,
}

/// The thread and what it has made.
#[derive(Debug)]
pub(super) struct Spares {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    directory: Directory,
    stats: Arc<LogStats>,
    work: Mutex<Work>,
    changed: Condvar,
    number: AtomicU64,
}

#[derive(Debug, Default)]
struct Work {
    spares: Vec<Spare>,
    /// Segments that nobody needs any more (at most as many as there are segments).
    released: VecDeque<u32>,
    /// Size of the file that is wanted next.
    wanted: Option<u32>,
    /// So many bytes of it should be ready by now.
    due: u32,
    /// The disk is full: nothing is kept for later.
    scarce: bool,
    stop: bool,
}

impl Work {
    /// Where a file of at least `capacity` bytes is.
    fn fitting(&self, capacity: u32) -> Option<usize> {
        let fits = |spare: &Spare| spare.bytes >= u64::from(capacity);
        self.spares.iter().position(fits)
    }
}

impl Spares {
    /// Starts the thread. `found` are spare files of an earlier run; they are taken over.
    pub(super) fn start(
        directory: Directory,
        stats: Arc<LogStats>,
        found: Vec<PathBuf>,
    ) -> Result<Self, LogError> {
        let mut spares = Vec::new();
        let mut highest = 0;
        for path in found {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            highest = highest.max(number.unwrap_or(0));
            let file = directory::open_file(&path)?;
            let meta = file
                .metadata()
                .map_err(|error| LogError::io("read", &path, error))?;
            if spares.len() < SPARES_MAX {
                // It may have been made or used: what is in it is unknown.
                spares.push(Spare {
                    path,
                    file,
                    bytes: meta.len(),
                    zeroed: false,
                });
            } else {
                fs::remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
            }
        }
        let shared = Arc::new(Shared {
            directory,
            stats,
            work: Mutex::new(Work {
                spares,
                ..Work::default()
            }),
            changed: Condvar::new(),
            number: AtomicU64::new(highest + 1),
        });
        let on_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-files".into())
            .spawn(move || on_thread.run())
            .map_err(|error| {
                LogError::io("start the thread of", &shared.directory.spare(0), error)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A file of at least `capacity` bytes, if there is one.
    pub(super) fn take(&self, capacity: u32) -> Option<Spare> {
        let mut work = locked(&self.shared.work);
        work.due = 0;
        let at = work.fitting(capacity)?;
        Some(work.spares.swap_remove(at))
    }

    /// Asks for a file of `capacity` bytes, of which so many are `due` by now, if there is none.
    pub(super) fn want(&self, capacity: u32, due: u32) {
        let mut work = locked(&self.shared.work);
        let is_lacking = work.fitting(capacity).is_none();
        work.due = if is_lacking { due } else { 0 };
        if is_lacking && !work.scarce {
            work.wanted = Some(capacity);
            self.shared.changed.notify_one();
        }
    }

    /// The disk is full, or is so no more: space is more useful than prepared files.
    pub(super) fn set_scarce(&self, scarce: bool) {
        locked(&self.shared.work).scarce = scarce;
        self.shared.changed.notify_one();
    }

    /// Takes back the file of a segment.
    pub(super) fn give_back(&self, segment: u32) {
        locked(&self.shared.work).released.push_back(segment);
        self.shared.changed.notify_one();
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        locked(&self.shared.work).stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .expect("the thread for log files does not panic");
        }
    }
}

/// One thing to do.
enum Task {
    PutAway(u32),
    Remove(Spare),
    Make(u32),
}

impl Shared {
    fn run(&self) {
        // Since a file was last made. A full disk fails each attempt: one line says that it does.
        let mut failed = 0_u64;
        while let Some(task) = self.next() {
            let makes = matches!(task, Task::Make(_));
            let done = match task {
                Task::PutAway(segment) => self.put_away(segment),
                Task::Remove(spare) => self.remove(&spare.path),
                Task::Make(capacity) => self.make(capacity),
            };
            match done {
                Err(error) => {
                    LogStats::count(&self.stats.spare_failures, 1);
                    failed += u64::from(makes);
                    if !makes {
                        tracing::warn!(%error, "a file of the log that nobody needs any more stays");
                    } else if failed == 1 {
                        tracing::warn!(%error, "the log goes on without prepared segment files, as long as none can be made");
                    }
                }
                Ok(()) if makes && failed > 0 => {
                    tracing::info!(failed, "segment files are prepared again");
                    failed = 0;
                }
                Ok(()) => {}
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let mut work = locked(&self.work);
        loop {
            if let Some(segment) = work.released.pop_front() {
                return Some(Task::PutAway(segment));
            }
            if work.stop {
                return None;
            }
            if work.scarce
                && let Some(spare) = work.spares.pop()
            {
                return Some(Task::Remove(spare));
            }
            if let Some(capacity) = work.wanted.take() {
                return Some(Task::Make(capacity));
            }
            work = self
                .changed
                .wait(work)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Keeps the file of a released segment as a spare, or removes it.
    fn put_away(&self, segment: u32) -> Result<(), LogError> {
        let path = self.directory.segment(segment);
        let failed = |error| LogError::io("put away", &path, error);
        let is_kept = {
            let work = locked(&self.work);
            work.spares.len() < SPARES_MAX && !work.scarce
        };
        let put_away = if is_kept {
            self.next_path()
        } else {
            self.directory.unfinished(segment)
        };
        fs::rename(&path, &put_away).map_err(failed)?;
        // Before the file is written again, or cut short, its old name must be gone for good.
        self.directory.sync()?;
        if is_kept {
            self.keep(put_away, false)
        } else {
            self.remove(&put_away)
        }
    }

    fn make(&self, capacity: u32) -> Result<(), LogError> {
        let too_small = {
            let mut work = locked(&self.work);
            if work.fitting(capacity).is_some() {
                return Ok(());
            }
            std::mem::take(&mut work.spares)
        };
        for small in too_small {
            self.remove(&small.path)?;
        }
        let path = self.next_path();
        if let Err(error) = zero_file(&path, capacity, |time, zeroed| self.rest(time, zeroed)) {
            // A half made file only takes space.
            unlink(&path)?;
            return Err(error);
        }
        self.keep(path, true)
    }

    /// Removes a file that is no segment any more.
    fn remove(&self, path: &Path) -> Result<(), LogError> {
        let file = directory::open_file(path)?;
        let removed = steps::remove(&file, path, |time| self.rest(time, 0));
        removed.map_err(|error| LogError::io("remove", path, error))
    }

    /// Waits for that long, or until more bytes of a file are due than are zeroed.
    fn rest(&self, time: Duration, zeroed: u32) {
        let work = locked(&self.work);
        let may_rest = |work: &mut Work| work.due <= zeroed && !work.scarce && !work.stop;
        let rested = self.changed.wait_timeout_while(work, time, may_rest);
        drop(rested.unwrap_or_else(PoisonError::into_inner));
    }

    fn keep(&self, path: PathBuf, zeroed: bool) -> Result<(), LogError> {
        let file = directory::open_file(&path)?;
        let bytes = file
            .metadata()
            .map_err(|error| LogError::io("read", &path, error))?
            .len();
        locked(&self.work).spares.push(Spare {
            path,
            file,
            bytes,
            zeroed,
        });
        Ok(())
    }

    fn next_path(&self) -> PathBuf {
        self.directory
            .spare(self.number.fetch_add(1, Ordering::Relaxed))
    }
}

fn unlink(path: &Path) -> Result<(), LogError> {
    fs::remove_file(path).map_err(|error| LogError::io("remove", path, error))
}

/// Writes a file of zeros in steps, `rest`ing after each as long as it is told, with so many bytes zeroed.
pub(super) fn zero_file(
    path: &Path,
    bytes: u32,
    rest: impl Fn(Duration, u32),
) -> Result<File, LogError> {
    let file = directory::create_file(path)?;
    let zeros = vec![0; STEP_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let began = Instant::now();
        let len = (zeros.len() as u32).min(bytes - at);
        directory::write_at(&file, path, &zeros[..len as usize], u64::from(at))?;
        directory::sync_data(&file, path)?;
        at += len;
        rest(rest_after(began.elapsed()), at);
    }
    Ok(file)
}

/// Size of the segment that follows one of `capacity` bytes.
pub(super) fn next_capacity(capacity: u32, options: &LogOptions) -> u32 {
    capacity.saturating_mul(4).min(options.segment_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_which_more_is_due_is_made_without_rests() {
        let dir = tempfile::tempdir().expect("a folder");
        let spares = Spares {
            shared: Arc::new(Shared {
                directory: Directory::open(dir.path()).expect("a new folder"),
                stats: Arc::default(),
                work: Mutex::default(),
                changed: Condvar::new(),
                number: AtomicU64::new(1),
            }),
            thread: None,
        };
        let (mib, hour) = (1 << 20, Duration::from_secs(3_600));
        spares.want(mib, mib / 2);
        spares.shared.rest(hour, mib / 4);
        let resting = {
            let shared = Arc::clone(&spares.shared);
            std::thread::spawn(move || shared.rest(hour, mib / 2))
        };
        spares.want(mib, mib / 2 + 1);
        resting.join().expect("no panic");
    }
}
