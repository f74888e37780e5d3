//! Snapshots in the background, and segments given back to the log.
//!
//! A snapshot is the index only: what the machine knows, with references to messages in the log. The group's thread
//! cuts the live machine between two entries and hands what it held then over a slice a turn, while it goes on;
//! a thread of its own writes the file. So there is no second copy of the index. The embedded session store belongs
//! to other threads: its table is built again from its last snapshot and its journal. A segment goes when a snapshot covers all its entries and none of its
//! messages is referred to any more. A segment that few messages keep alive is emptied by copying them to the
//! end of the log.

mod covered;
mod journalled;
mod replay;
mod slices;
#[cfg(test)]
mod tests;
pub mod transfer;
mod writer;

use crate::consensus::Position;
use crate::group::{AbortOnPanic, GROUP_STREAM, GroupWaker, Replica, read_message};
use crate::limits::{MachineLimits, SNAPSHOT_AGAIN, SNAPSHOT_BACKLOG_BYTES, SNAPSHOT_SLICE_BYTES};
use crate::log::{BODIES_STREAM, LogError, LogHandle, SegmentInfo, SnapshotStore, WhenFull};
use crate::machine::{SNAPSHOT_VERSION, SnapshotError, State};
use covered::{Covered, covered_segments};
pub use journalled::Journalled;
use journalled::{replay_journal, restore_store};
pub(crate) use replay::replay;
use slices::{Given, Slice, SlicesIn, slices};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;
use writer::Writer;

/// A table and how far its stream has been replayed into it.
pub(crate) struct Restored {
    pub(crate) state: State,
    /// Index of the last entry in `state`.
    pub(crate) applied: u64,
    /// Where that stands in the log of a group with members.
    pub(crate) position: Position,
    pub(crate) store: Box<dyn Journalled>,
    /// Index of the last journal record in `store`.
    pub(crate) journalled: u64,
}

impl Restored {
    fn covered(&self) -> Covered {
        Covered {
            group: self.applied,
            store: self.journalled,
        }
    }
}

/// Covered segments may have this many times the bytes of the living messages, and [`SLACK_SEGMENTS`] more.
const LOG_PER_LIVING_BYTE: u64 = 4;
/// See [`LOG_PER_LIVING_BYTE`]. Segments of full size.
const SLACK_SEGMENTS: u64 = 4;
/// Places of the message table that are looked at in one step, so messages that one step copies at most.
const RELOCATE_PLACES: u32 = 256;
/// Steps of a turn.
const RELOCATE_STEPS: usize = 16;
/// A turn copies messages until it has copied this many bytes.
const RELOCATE_BYTES: usize = 1 << 20;
/// A turn copies messages until it has copied this many.
const RELOCATE_MESSAGES: usize = 256;

/// Bytes of a snapshot of another member that are read in one go.
const INSTALL_BYTES: usize = 4 << 10;

/// Log sizes that snapshots go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A snapshot is built whenever the log has grown by this much.
    pub(crate) bytes_between: u64,
    /// Size of a segment.
    pub(crate) segment_bytes: u64,
}

/// Reads little at a time, and lets others have the processor before each: those who publish do not wait for a member that
/// joins, and may share a machine with it.
struct InTurns<R>(R);

impl<R: Read> Read for InTurns<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        std::thread::yield_now();
        let len = into.len().min(INSTALL_BYTES);
        self.0.read(&mut into[..len])
    }
}

/// A segment that is being emptied.
#[derive(Clone, Copy, Debug)]
struct Relocation {
    segment: u32,
    /// Where in the message table to look on.
    from: u32,
}

/// A snapshot under way.
struct Running {
    /// Comes when the thread needs neither the files nor the log any more.
    result: Receiver<Result<Covered, LogError>>,
    /// Until the last slice is handed over.
    slices: Option<SlicesIn>,
    /// What stands before the machine, until it is in a slice.
    head: Vec<u8>,
    /// Where it stands in the log of a group with members.
    position: Option<Position>,
}

/// Builds snapshots when the log has grown enough, and releases segments.
pub(crate) struct Snapshots {
    files: Option<Arc<SnapshotStore>>,
    limits: MachineLimits,
    template: Box<dyn Journalled>,
    covered: Covered,
    /// Other members may have to be sent entries from this index on.
    kept_from: u64,
    /// Log bytes at the last snapshot; for a log in memory, at the last review for its growth.
    bytes: u64,
    /// Log bytes behind the newest snapshot when the log was opened.
    replayed: u64,
    /// They count once the entries up to this one are applied: a snapshot before that would cover less than it could.
    replayed_up_to: u64,
    /// Whether the segments of all living messages were there when those entries were applied.
    is_checked: bool,
    sizes: Sizes,
    running: Option<Running>,
    /// Wakes the group when its snapshot can go on.
    waker: GroupWaker,
    /// Slices that were handed over while the group took no frames.
    waits: u64,
    /// Snapshots that found no space.
    without_space: u64,
    /// Not before then is one tried again.
    again_at: Option<Instant>,
    /// Tells the running thread to give up.
    stop: Arc<AtomicBool>,
    review: bool,
    relocation: Option<Relocation>,
    /// Whether a segment may have to be emptied, for all that is known.
    sparse: bool,
    /// The newest segment that was emptied. The log is gone through from its old end to its new one, so that what
    /// is copied is at most a third of what is given back, wherever the living messages are.
    emptied: u32,
}

impl Snapshots {
    /// `files` is `None` for a log in memory: then there is nothing to restart from, and a segment goes
    /// when its entries are applied and its messages gone.
    pub(crate) fn new(
        files: Option<SnapshotStore>,
        limits: MachineLimits,
        template: Box<dyn Journalled>,
        sizes: Sizes,
        waker: GroupWaker,
    ) -> Self {
        Self {
            files: files.map(Arc::new),
            limits,
            template,
            covered: Covered::default(),
            kept_from: u64::MAX,
            bytes: 0,
            replayed: 0,
            replayed_up_to: 0,
            is_checked: false,
            sizes,
            running: None,
            waker,
            waits: 0,
            without_space: 0,
            again_at: None,
            stop: Arc::default(),
            review: true,
            relocation: None,
            sparse: true,
            emptied: 0,
        }
    }

    /// This many bytes of the log were replayed behind the newest snapshot, up to this entry: they count towards the next
    /// one, else a process that is restarted often would never build one.
    pub(crate) fn replayed(&mut self, bytes: u64, up_to: u64) {
        self.replayed = bytes;
        self.replayed_up_to = up_to;
    }

    /// The state as the newest snapshots have it, with the live `store`; empty where there is none.
    /// `has_position`: members of a group have written them.
    pub(crate) fn restore(
        &mut self,
        store: Box<dyn Journalled>,
        has_position: bool,
    ) -> Result<Restored, LogError> {
        let files = self.files.as_deref();
        let restored = restore(files, &self.limits, store, has_position)?;
        self.covered = restored.covered();
        Ok(restored)
    }

    /// The state as the newest snapshot has it, which another member has sent; one under way is given up.
    pub(crate) fn install(&mut self) -> Result<(State, Position), LogError> {
        self.give_up()?;
        let Some(files) = self.files.as_deref() else {
            return Err(no_snapshot());
        };
        let snapshot = files.latest(GROUP_STREAM)?.ok_or_else(no_snapshot)?;
        self.covered.group = snapshot.index;
        self.review = true;
        let mut content = InTurns(snapshot.content);
        let position =
            Position::read(&mut content).map_err(|error| LogError::snapshot("restore", error))?;
        Ok((restore_state(&mut content, &self.limits)?, position))
    }

    /// Takes note of a snapshot that is written, and releases what is not needed.
    /// `kept_from`: no entry from this index on goes, whatever covers it; 0: nothing goes at all, messages come in that
    /// nothing refers to yet. Where a snapshot that is written now stands, if
    /// it says so.
    pub(crate) fn turn(
        &mut self,
        replica: &mut Replica,
        log: &LogHandle,
        kept_from: impl Fn() -> u64,
    ) -> Result<Option<Position>, LogError> {
        self.check_segments(replica, log)?;
        let is_kept_from = kept_from();
        self.review |= replica.take_freed() || is_kept_from != self.kept_from;
        self.kept_from = is_kept_from;
        let mut written = None;
        if self.files.is_none() {
            self.covered = Covered {
                group: replica.applied(),
                store: u64::MAX,
            };
            // A segment without any message is never reported free.
            let bytes = log.stats().bytes.load(Ordering::Relaxed);
            if bytes - self.bytes >= self.sizes.segment_bytes {
                self.bytes = bytes;
                self.review = true;
            }
        } else if let Some(running) = &self.running
            && let Ok(result) = running.result.try_recv()
        {
            let position = self.running.take().and_then(|running| running.position);
            if let Some(covered) = self.had_space(result, replica, log)? {
                written = position.filter(|position| position.index == covered.group);
                self.covered = covered;
                self.review = true;
            }
        }
        if is_kept_from > 0 && std::mem::take(&mut self.review) {
            self.release(replica.state(), log, kept_from)?;
        }
        Ok(written)
    }

    /// Fails once, when all entries are applied that were in the log at the start, if a segment is not there that has living
    /// messages: a file that was removed leaves no gap that a replay would see, if a snapshot covers its entries.
    fn check_segments(&mut self, replica: &Replica, log: &LogHandle) -> Result<(), LogError> {
        if self.is_checked || self.files.is_none() || replica.applied() < self.replayed_up_to {
            return Ok(());
        }
        self.is_checked = true;
        let there: Vec<u32> = log.segments().iter().map(|info| info.id).collect();
        let mut living = replica.state().live_segments().into_iter();
        let Some(missing) = living.find(|id| there.binary_search(id).is_err()) else {
            return Ok(());
        };
        let error = log.missing(missing);
        if log.outlives_power_cuts() {
            return Err(error);
        }
        // A power cut may have taken the end of the log and with it what says that nobody waits for these any more.
        tracing::error!(%error, "messages are missing");
        Ok(())
    }

    /// What came of a snapshot; `None` if the disk is full and that is waited out. Then it is tried again.
    fn had_space(
        &mut self,
        result: Result<Covered, LogError>,
        replica: &mut Replica,
        log: &LogHandle,
    ) -> Result<Option<Covered>, LogError> {
        match result {
            Err(error @ LogError::DiskFull { .. }) if log.when_full() == WhenFull::Wait => {
                tracing::warn!(%error, "a snapshot is given up and tried again");
                self.without_space += 1;
                self.again_at = Some(Instant::now() + SNAPSHOT_AGAIN);
                self.replayed = self.sizes.bytes_between;
                replica.give_up_snapshot();
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Gives up a snapshot under way, and waits until its thread has let go of the log: nobody else can open it before.
    pub(crate) fn stop(&mut self) -> Result<(), LogError> {
        self.stop.store(true, Ordering::Relaxed);
        self.give_up()
    }

    fn give_up(&mut self) -> Result<(), LogError> {
        let Some(Running { result, slices, .. }) = self.running.take() else {
            return Ok(());
        };
        // Its thread would wait for the next one.
        drop(slices);
        match result.recv().expect("it comes, or the process ends") {
            // Nobody wants it any more.
            Err(LogError::DiskFull { .. }) => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Whether [`Snapshots::go_on`] has something to do.
    pub(crate) fn wants_to_go_on(&self, replica: &Replica, log: &LogHandle) -> bool {
        match &self.running {
            Some(running) => running.slices.as_ref().is_some_and(SlicesIn::has_room),
            None => self.is_due(replica, log),
        }
    }

    /// Hands the next slice of a snapshot under way to its thread; begins one if it is time. Whether a further slice
    /// may follow at once. `position` stands at the head of one that begins.
    pub(crate) fn go_on(
        &mut self,
        replica: &mut Replica,
        log: &LogHandle,
        position: Option<&Position>,
    ) -> Result<bool, LogError> {
        if self.running.is_none() && self.is_due(replica, log) {
            self.start(replica, log, position)?;
        }
        self.waits += u64::from(self.is_behind(replica));
        let Some(running) = &mut self.running else {
            return Ok(false);
        };
        let Some(slices) = &mut running.slices else {
            return Ok(false);
        };
        slices.set_urgent(replica.state().snapshot_backlog() > SNAPSHOT_BACKLOG_BYTES / 2);
        let given = slices.give(|| next_slice(&mut running.head, replica));
        if given == Given::Ended {
            running.slices = None;
        }
        Ok(given == Given::More)
    }

    /// Whether the machine changes faster than its snapshot is written: then the group takes no frames.
    pub(crate) fn is_behind(&self, replica: &Replica) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.slices.is_some())
            && replica.state().snapshot_backlog() > SNAPSHOT_BACKLOG_BYTES
    }

    /// Slices of snapshots that were handed over while the group took no frames.
    pub(crate) fn waits(&self) -> u64 {
        self.waits
    }

    /// Snapshots that were given up since the disk was full.
    pub(crate) fn without_space(&self) -> u64 {
        self.without_space
    }

    fn is_due(&self, replica: &Replica, log: &LogHandle) -> bool {
        let bytes = log.stats().bytes.load(Ordering::Relaxed);
        let is_applied = replica.applied() >= self.replayed_up_to;
        let replayed = if is_applied { self.replayed } else { 0 };
        let grown = bytes.saturating_sub(self.bytes) + replayed;
        let may_again = self.again_at.is_none_or(|at| Instant::now() >= at);
        self.files.is_some() && grown >= self.sizes.bytes_between && may_again
    }

    fn start(
        &mut self,
        replica: &mut Replica,
        log: &LogHandle,
        position: Option<&Position>,
    ) -> Result<(), LogError> {
        let Some(files) = self.files.clone() else {
            return Ok(());
        };
        self.bytes = log.stats().bytes.load(Ordering::Relaxed);
        self.replayed = 0;
        self.again_at = None;
        let (slices_in, slices_out) = slices(self.waker.clone());
        let writer = Writer {
            files,
            slices: slices_out,
            target: replica.applied(),
            log: log.clone(),
            store: self.template.fresh(),
            before: self.covered,
            stop: Arc::clone(&self.stop),
        };
        let (told, result) = sync_channel(1);
        let group = self.waker.clone();
        let body = move || {
            let _abort = AbortOnPanic;
            // An error means that the group is gone.
            let _ = told.send(writer.write());
            group.wake();
        };
        let thread = std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(body);
        thread.map_err(|error| LogError::snapshot("start the thread of", error))?;
        replica.begin_snapshot();
        let mut head = Vec::new();
        if let Some(position) = position {
            position
                .write(&mut head)
                .map_err(|error| LogError::snapshot("begin", error))?;
        }
        self.running = Some(Running {
            result,
            slices: Some(slices_in),
            head,
            position: position.cloned(),
        });
        Ok(())
    }

    fn release(
        &mut self,
        state: &State,
        log: &LogHandle,
        kept_from: impl Fn() -> u64,
    ) -> Result<(), LogError> {
        let live: Vec<u32> = state.live_segments();
        let closed = log.closed_segments();
        if kept_from() == 0 {
            // What closed last may hold messages that have just begun to come in.
            self.review = true;
            return Ok(());
        }
        let mut done = self.covered_segments(closed)?;
        done.retain(|segment| live.binary_search(&segment.id).is_err());
        let done: Vec<u32> = done.into_iter().map(|segment| segment.id).collect();
        if !done.is_empty() {
            log.release(&done);
        }
        self.sparse = true;
        Ok(())
    }

    /// Those of the closed segments that no restart has to replay, oldest first.
    fn covered_segments(&self, closed: Vec<SegmentInfo>) -> Result<Vec<SegmentInfo>, LogError> {
        let mut covered = self.covered;
        let mut ranges = closed.iter().flat_map(|segment| &segment.streams);
        let newest = match self.files.as_deref() {
            Some(files) if ranges.any(|range| range.stream == BODIES_STREAM) => {
                files.newest(GROUP_STREAM)?
            }
            _ => None,
        };
        let aside = newest.filter(|newest| *newest > covered.group);
        covered.group = covered.group.min(self.kept_from.saturating_sub(1));
        Ok(covered_segments(closed, covered, aside))
    }

    /// Goes on emptying a segment, or looks for one where the log is far larger than what lives in it. Whether
    /// anything was copied or is left to look at.
    pub(crate) fn relocate(
        &mut self,
        replica: &mut Replica,
        log: &LogHandle,
    ) -> Result<bool, LogError> {
        let Some(leader) = replica.leader_mut() else {
            return Ok(false);
        };
        // Copies go to the disk one turn's worth at a time, so that no client waits behind many of them. The log
        // wakes the group when it has got further.
        if log.pending_bytes() >= RELOCATE_BYTES {
            return Ok(false);
        }
        if self.relocation.is_none() && std::mem::take(&mut self.sparse) {
            self.relocation = self.next_sparse(leader.state(), log)?;
        }
        let Some(Relocation { segment, mut from }) = self.relocation.take() else {
            return Ok(false);
        };
        let (mut messages, mut bytes) = (0, 0);
        for _ in 0..RELOCATE_STEPS {
            let (found, next) = leader
                .state()
                .messages_in_segment(segment, from, RELOCATE_PLACES);
            for (message, at) in found {
                if messages >= RELOCATE_MESSAGES || bytes >= RELOCATE_BYTES {
                    from = message.place;
                    self.relocation = Some(Relocation { segment, from });
                    return Ok(true);
                }
                let copy = read_message(log, at)?.to_compact();
                messages += 1;
                bytes += at.len as usize;
                leader.relocate(message, copy);
            }
            let Some(next) = next else {
                self.emptied = segment;
                // If it was not the last one, the next is found when the copies are applied and it is freed.
                return Ok(messages > 0);
            };
            from = next;
        }
        self.relocation = Some(Relocation { segment, from });
        Ok(true)
    }

    /// The oldest covered segment with living messages that was not emptied yet, if there is need.
    fn next_sparse(&self, state: &State, log: &LogHandle) -> Result<Option<Relocation>, LogError> {
        // Nothing goes while a snapshot is sent, so nothing would be won.
        if log.is_pinned() {
            return Ok(None);
        }
        let segments = self.covered_segments(log.closed_segments())?;
        let bytes: u64 = segments.iter().map(|info| u64::from(info.bytes)).sum();
        let living = state.counters().message_bytes;
        if bytes <= living * LOG_PER_LIVING_BYTE + self.sizes.segment_bytes * SLACK_SEGMENTS {
            return Ok(None);
        }
        let live = state.live_segments();
        let mut rest = segments.iter().filter(|info| info.id > self.emptied);
        let sparse = rest.find(|info| live.binary_search(&info.id).is_ok());
        Ok(sparse.map(|info| Relocation {
            segment: info.id,
            from: 0,
        }))
    }
}

fn no_snapshot() -> LogError {
    LogError::snapshot("find", io::ErrorKind::NotFound.into())
}

fn restore_state(from: &mut dyn Read, limits: &MachineLimits) -> Result<State, LogError> {
    State::restore(from, limits.clone()).map_err(|error| match error {
        SnapshotError::Version(version) if version > SNAPSHOT_VERSION => LogError::Unsupported {
            file: "the snapshot of the group".into(),
            version,
            known: SNAPSHOT_VERSION,
        },
        error => LogError::snapshot("restore", io::Error::other(error)),
    })
}

/// `has_position`: as members of a group write it.
pub(crate) fn restore(
    files: Option<&SnapshotStore>,
    limits: &MachineLimits,
    store: Box<dyn Journalled>,
    has_position: bool,
) -> Result<Restored, LogError> {
    let state = State::new(limits.clone());
    let mut restored = Restored {
        state,
        applied: 0,
        position: Position::default(),
        store,
        journalled: 0,
    };
    let Some(files) = files else {
        return Ok(restored);
    };
    if let Some(mut snapshot) = files.latest(GROUP_STREAM)? {
        restored.applied = snapshot.index;
        if has_position {
            let position = Position::read(&mut snapshot.content);
            restored.position = position.map_err(|error| LogError::snapshot("restore", error))?;
        }
        restored.state = restore_state(&mut snapshot.content, limits)?;
    }
    restored.journalled = restore_store(files, &mut *restored.store)?;
    Ok(restored)
}

/// A thread that writes a snapshot holds the log, which nobody else can open before.
impl Drop for Snapshots {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "a snapshot was not written");
        }
    }
}

/// What stands before the machine goes first.
fn next_slice(head: &mut Vec<u8>, replica: &mut Replica) -> Slice {
    let mut bytes = std::mem::take(head);
    bytes.reserve(SNAPSHOT_SLICE_BYTES + SNAPSHOT_SLICE_BYTES / 8);
    let is_last = replica.put_snapshot(&mut bytes, SNAPSHOT_SLICE_BYTES);
    Slice { bytes, is_last }
}
