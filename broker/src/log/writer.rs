//! The log thread: takes all that has gathered, writes it, makes it durable, says so.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::directory::{self, Directory};
use super::format::{self, FIRST_RECORD, NOTE_AT, SegmentHeader};
use super::full::{Steps, Stopped};
use super::limits::{GATHER_US, QUIET_MS};
use super::shared::{Shared, locked};
use super::spares::{self, Spares};
use super::stats::LogStats;
use super::tail::{Job, Tail, Take};
use super::{Durability, LogError, SegmentInfo};

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) capacity: u32,
}

/// The state of the log thread.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) directory: Directory,
    pub(super) spares: Spares,
    pub(super) current: Current,
}

impl Writer {
    /// Runs until the log is closed or a write fails.
    pub(super) fn run(mut self) {
        let mut begun = Instant::now();
        while let Some(take) = self.next(begun) {
            begun = Instant::now();
            match self.carry_out(take) {
                Ok(()) => (self.shared.wake)(),
                Err(error) => {
                    self.shared.fail(error);
                    (self.shared.wake)();
                    return;
                }
            }
        }
    }

    /// Waits for something to do. `begun`: when the last batch was begun.
    fn next(&self, begun: Instant) -> Option<Take> {
        let mut tail = self.gather(locked(&self.shared.tail), begun);
        loop {
            if let Some(take) = tail.take() {
                return Some(take);
            }
            if tail.closing {
                if tail.mark() {
                    continue;
                }
                return None;
            }
            tail.writer_sleeps = true;
            if tail.has_quiet_work() {
                let quiet = Duration::from_millis(QUIET_MS);
                let waited = self.shared.work.wait_timeout(tail, quiet);
                let (guard, result) = waited.unwrap_or_else(PoisonError::into_inner);
                tail = guard;
                if result.timed_out() && tail.writer_sleeps {
                    tail.quiet();
                }
            } else {
                tail = self
                    .shared
                    .work
                    .wait(tail)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            tail.writer_sleeps = false;
        }
    }

    /// Something came while the last batch was made durable, so producers do not wait for each other, and what
    /// comes within a moment shares one sync. The moment ends early when as many answers wait as lately waited at
    /// most: producers that each wait for an answer have then all spoken.
    fn gather<'a>(
        &'a self,
        mut tail: MutexGuard<'a, Tail>,
        begun: Instant,
    ) -> MutexGuard<'a, Tail> {
        let rest = Duration::from_micros(GATHER_US).saturating_sub(begun.elapsed());
        if rest.is_zero() || tail.closing || !tail.begin_gathering() {
            return tail;
        }
        let waited = self.shared.work.wait_timeout(tail, rest);
        tail = waited.unwrap_or_else(PoisonError::into_inner).0;
        tail.end_gathering();
        tail
    }

    fn carry_out(&mut self, mut take: Take) -> Result<(), LogError> {
        let mut steps = Steps::default();
        while let Err(stopped) = self.attempt(&take.jobs, &mut steps) {
            let written = locked(&self.shared.tail).written().segment;
            for segment in steps.take_releases(&mut take.jobs, written) {
                self.spares.give_back(segment);
            }
            self.wait_for_space(stopped)?;
        }
        self.prepare_next(steps.written());
        self.shared.publish(take.sequence, take.bytes);
        // Who waits in `sync` looks at the durable mark with the tail locked: after this lock either
        // the mark was seen, or the waiter is there to be told.
        let durable = self.shared.options.durability == Durability::Fsync;
        locked(&self.shared.tail).wrote(take.end, durable);
        self.has_space();
        self.shared.progress.notify_all();
        Ok(())
    }

    /// Carries out what is not done yet. What is done twice then is the same again: bytes at their place.
    fn attempt(&mut self, jobs: &[Job], steps: &mut Steps) -> Result<(), Stopped> {
        while let Some(job) = jobs.get(steps.next()) {
            match job {
                Job::Write { at, bytes } => {
                    let (file, path) = (&self.current.file, &self.current.path);
                    directory::write_at(file, path, bytes, u64::from(at.offset))?;
                    steps.wrote(at.offset + bytes.len() as u32);
                }
                Job::Close { info, end, salt } => {
                    self.close(info, *end, *salt, steps)?;
                    steps.done();
                }
                Job::Open {
                    segment,
                    salt,
                    capacity,
                } => {
                    self.open(*segment, *salt, *capacity)?;
                    steps.opened();
                }
                Job::Release { segment } => {
                    if steps.is_first_time() {
                        self.spares.give_back(*segment);
                    }
                    steps.done();
                }
            }
        }
        let durable = self.shared.options.durability == Durability::Fsync;
        if durable && steps.written().is_some() {
            self.sync(steps)?;
        }
        Ok(())
    }

    fn sync(&self, steps: &mut Steps) -> Result<(), Stopped> {
        let begun = Instant::now();
        match directory::sync_data(&self.current.file, &self.current.path) {
            Ok(()) => {
                self.shared.stats.synced(begun.elapsed());
                Ok(())
            }
            // What was not stored may be gone from memory too, and the next sync would know nothing of it. Without
            // a sync per batch there are older bytes in the file that are not here to be written again.
            Err(full @ LogError::DiskFull { .. })
                if self.shared.options.durability == Durability::Fsync =>
            {
                steps.rewind();
                Err(Stopped::Full(full))
            }
            Err(error) => Err(Stopped::Failed(error)),
        }
    }

    /// Closes the current segment. It is made durable whatever the policy, so that only the last
    /// segment of a log can ever have a torn tail.
    fn close(
        &self,
        info: &SegmentInfo,
        end: u32,
        salt: u64,
        steps: &mut Steps,
    ) -> Result<(), Stopped> {
        let note = format::encode_note(end, &info.streams, salt);
        directory::write_at(
            &self.current.file,
            &self.current.path,
            &note,
            NOTE_AT as u64,
        )?;
        self.sync(steps)
    }

    fn open(&mut self, segment: u32, salt: u64, capacity: u32) -> Result<(), LogError> {
        let spare = self.spares.take(capacity);
        if spare.is_some() {
            LogStats::count(&self.shared.stats.spares_used, 1);
        }
        let header = SegmentHeader {
            segment,
            salt,
            capacity,
            zeroed: true,
        };
        self.current = begin_segment(&self.directory, header, spare)?;
        LogStats::count(&self.shared.stats.segments_begun, 1);
        Ok(())
    }

    /// Has the next segment file made while there is still room in this one: from the middle of this one on, and as much
    /// faster than this one fills that it is ready at three quarters.
    fn prepare_next(&self, written: Option<u32>) {
        let capacity = self.current.capacity;
        let Some(over) = written.and_then(|end| end.checked_sub(capacity / 2)) else {
            return;
        };
        let next = spares::next_capacity(capacity, &self.shared.options);
        let due = u64::from(next) * u64::from(over) * 4 / u64::from(capacity);
        self.spares.want(next, due.min(u64::from(next)) as u32);
    }
}

/// Puts a file with a new header into the place of a segment. The header is durable before the
/// file has the name, and the name before anything is written.
pub(super) fn begin_segment(
    directory: &Directory,
    mut header: SegmentHeader,
    spare: Option<spares::Spare>,
) -> Result<Current, LogError> {
    let path = directory.segment(header.segment);
    let (made, file) = if let Some(spare) = spare {
        header.zeroed = spare.zeroed;
        (spare.path, spare.file)
    } else {
        // Nothing was prepared: a sparse file will do, at the price of slower syncs.
        let made = directory.unfinished(header.segment);
        let file = directory::create_file(&made)?;
        if let Err(error) = file.set_len(u64::from(header.capacity)) {
            return Err(give_up(&made, LogError::io("grow", &made, error)));
        }
        (made, file)
    };
    let named = directory::write_at(&file, &made, &header.encode(), 0)
        .and_then(|()| directory::sync_data(&file, &made))
        .and_then(|()| {
            std::fs::rename(&made, &path).map_err(|error| LogError::io("name", &path, error))
        });
    if let Err(error) = named {
        return Err(give_up(&made, error));
    }
    directory.sync()?;
    Ok(Current {
        file,
        path,
        capacity: header.capacity,
    })
}

/// Removes a file that could not be made into a segment: it is made anew when there is space. The first error is the one
/// to tell.
fn give_up(made: &Path, error: LogError) -> LogError {
    if let Err(error) = std::fs::remove_file(made) {
        tracing::warn!(%error, file = %made.display(), "cannot remove");
    }
    error
}

/// The first segment of a new log, small and zeroed, so that starting takes no time.
pub(super) fn begin_log(
    directory: &Directory,
    salt: u64,
    capacity: u32,
) -> Result<Current, LogError> {
    let path = directory.unfinished(1);
    let file = spares::zero_file(&path, capacity, |_, _| ())?;
    let bytes = u64::from(capacity);
    let header = SegmentHeader {
        segment: 1,
        salt,
        capacity,
        zeroed: true,
    };
    begin_segment(
        directory,
        header,
        Some(spares::Spare {
            path,
            file,
            bytes,
            zeroed: true,
        }),
    )
}

const _: () = assert!(NOTE_AT < FIRST_RECORD as usize);
