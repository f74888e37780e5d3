//! What the rest of the process holds of the log.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::appends::Appends;
use super::directory::{Directory, Lock};
use super::reader::Reader;
use super::shared::{Shared, locked};
use super::stats::LogStats;
use super::{Durability, Location, LogError, SegmentInfo, WhenFull};

/// A handle to the log; clones are cheap, may go to other threads, and read ahead on their own.
///
/// When the last one is dropped, what was appended is written and the log thread ends.
pub struct LogHandle {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
    reader: Mutex<Reader>,
}

/// Ends the log thread with the last handle.
struct Guard {
    shared: Arc<Shared>,
    directory: Option<Directory>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Given back last, when nothing writes any more.
    _lock: Option<Lock>,
}

impl LogHandle {
    pub(super) fn new(
        shared: Arc<Shared>,
        files: Option<(Directory, Lock, JoinHandle<()>)>,
    ) -> Self {
        let (directory, lock, thread) = match files {
            Some((directory, lock, thread)) => (Some(directory), Some(lock), Some(thread)),
            None => (None, None, None),
        };
        let thread = Mutex::new(thread);
        let guard = Guard {
            shared: Arc::clone(&shared),
            directory,
            thread,
            _lock: lock,
        };
        Self {
            shared,
            guard: Arc::new(guard),
            reader: Mutex::default(),
        }
    }

    /// Appends a batch: its records get their places at once ([`Appends::locations`]), in one
    /// piece as far as other threads' batches are concerned. Never waits for the disk. Returns the
    /// append sequence number of the last record: it is durable when [`durable`](Self::durable)
    /// has reached it. On an error nothing was taken.
    pub fn append(&self, batch: &mut Appends) -> Result<u64, LogError> {
        if let Some(failure) = self.shared.failure.get() {
            return Err(failure.clone());
        }
        let (records, bytes) = (batch.len() as u64, batch.byte_len());
        let in_memory = self.shared.in_memory();
        if !in_memory {
            self.admit(bytes)?;
            batch.write_checks();
        }
        let (sequence, wake) = {
            let mut tail = locked(&self.shared.tail);
            let sequence = tail.append(batch);
            (sequence, tail.wakes_writer())
        };
        if in_memory {
            self.shared.durable.fetch_max(sequence, Ordering::Release);
        } else if wake {
            self.shared.work.notify_one();
        }
        LogStats::count(&self.shared.stats.records, records);
        LogStats::count(&self.shared.stats.bytes, bytes as u64);
        Ok(sequence)
    }

    /// Counts `bytes` as waiting, or refuses. A single batch may pass the bound, else a record
    /// larger than it could never be appended.
    fn admit(&self, bytes: usize) -> Result<(), LogError> {
        let pending_bytes = self.shared.pending_bytes.load(Ordering::Relaxed);
        if pending_bytes > 0 && pending_bytes + bytes > self.shared.options.pending_bytes_max {
            LogStats::count(&self.shared.stats.backlog_refusals, 1);
            return Err(LogError::Backlog { pending_bytes });
        }
        self.shared
            .pending_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes that are appended and not durable yet.
    pub fn pending_bytes(&self) -> usize {
        self.shared.pending_bytes.load(Ordering::Relaxed)
    }

    /// The append sequence number (counted in records from the opening of the log) up to which all
    /// is durable in the sense of the log's [`Durability`](super::Durability).
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// The failure that ended the log, if one did. What was not durable then never will be.
    pub fn failure(&self) -> Option<LogError> {
        self.shared.failure.get().cloned()
    }

    /// Whether the disk is full and the log waits for space ([`WhenFull::Wait`]). What is appended waits with it, up to
    /// [`LogOptions::pending_bytes_max`](super::LogOptions::pending_bytes_max).
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Acquire)
    }

    /// What becomes of it when the disk is full.
    pub fn when_full(&self) -> WhenFull {
        self.shared.options.when_full
    }

    /// Waits until everything appended so far, by any thread, is durable: with [`WhenFull::Wait`] for as long as
    /// the disk is full.
    pub fn sync(&self) -> Result<(), LogError> {
        self.sync_unless(|| None)
    }

    /// The same, but fails when the disk is full, also where the log waits for space.
    pub fn sync_unless_full(&self) -> Result<(), LogError> {
        let full = || LogError::DiskFull {
            path: self
                .guard
                .directory
                .as_ref()
                .map(Directory::path)
                .unwrap_or_default(),
        };
        self.sync_unless(|| self.is_full().then(full))
    }

    fn sync_unless(&self, given_up: impl Fn() -> Option<LogError>) -> Result<(), LogError> {
        let mut tail = locked(&self.shared.tail);
        let target = tail.sequence();
        loop {
            if let Some(failure) = self.shared.failure.get() {
                return Err(failure.clone());
            }
            if self.durable() >= target {
                return Ok(());
            }
            if let Some(error) = given_up() {
                return Err(error);
            }
            tail = self
                .shared
                .progress
                .wait(tail)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// `len` bytes from byte `offset` of the body of the record at `at`: a slice of what is in
    /// memory, or read from disk (with its neighbours, where they are likely next) and checked. What was in memory
    /// keeps a piece of 256 KiB alive, so it should not live long. The record must not be in a released segment.
    pub fn read(&self, at: Location, offset: u32, len: u32) -> Result<Bytes, LogError> {
        if let Some(found) = self.read_from_memory(at, offset, len) {
            return found;
        }
        let Some(directory) = &self.guard.directory else {
            return Err(LogError::NotFound { at });
        };
        LogStats::count(&self.shared.stats.reads_from_disk, 1);
        let releases = self.shared.releases.load(Ordering::Acquire);
        locked(&self.reader).read(directory, at, (offset, len), releases)
    }

    /// What [`LogHandle::read`] gives, if it is in memory.
    pub fn read_from_memory(
        &self,
        at: Location,
        offset: u32,
        len: u32,
    ) -> Option<Result<Bytes, LogError>> {
        let found = locked(&self.shared.tail).read(at, offset, len)?;
        LogStats::count(&self.shared.stats.reads_from_memory, 1);
        Some(found)
    }

    /// Says that nothing in these segments is needed any more, now or after a restart. The file of
    /// each is used again or removed. The current segment stays; ids that do not exist are ignored.
    /// Returns how many were released.
    pub fn release(&self, segments: &[u32]) -> usize {
        let (released, wake) = {
            let mut tail = locked(&self.shared.tail);
            let released = segments.iter().filter(|id| tail.release(**id)).count();
            (released, std::mem::take(&mut tail.writer_sleeps))
        };
        if wake {
            self.shared.work.notify_one();
        }
        self.shared
            .releases
            .fetch_add(released as u64, Ordering::Release);
        LogStats::count(&self.shared.stats.segments_released, released as u64);
        released
    }

    /// Every segment, oldest first. The last one is the current one and cannot be released.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        locked(&self.shared.tail).segments()
    }

    /// Whether what is said to be durable outlives a power cut.
    pub(crate) fn outlives_power_cuts(&self) -> bool {
        self.shared.options.durability == Durability::Fsync
    }

    /// That a segment is not there which should be.
    pub(crate) fn missing(&self, segment: u32) -> LogError {
        let directory = self.guard.directory.as_ref();
        LogError::Damaged {
            file: directory.map_or_else(PathBuf::default, |it| it.segment(segment)),
            offset: 0,
            what: "messages that wait are in this file, and it is not there",
        }
    }

    /// The segments that nothing is appended to any more and that are durable as a whole, oldest first.
    pub fn closed_segments(&self) -> Vec<SegmentInfo> {
        locked(&self.shared.tail).closed_segments()
    }

    /// Bytes of records in memory, waiting or cached.
    pub fn cached_bytes(&self) -> usize {
        locked(&self.shared.tail).cached_bytes()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn directory(&self) -> Option<&Directory> {
        self.guard.directory.as_ref()
    }

    /// The counters.
    pub fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.shared.stats)
    }
}

impl Clone for LogHandle {
    fn clone(&self) -> Self {
        let (shared, guard) = (Arc::clone(&self.shared), Arc::clone(&self.guard));
        Self {
            shared,
            guard,
            reader: Mutex::default(),
        }
    }
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        locked(&self.shared.tail).closing = true;
        self.shared.work.notify_one();
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread {
            // The wake function may hold a handle: then this is the log thread itself.
            if thread.thread().id() != std::thread::current().id() {
                thread.join().expect("the log thread does not panic");
            }
        }
    }
}
