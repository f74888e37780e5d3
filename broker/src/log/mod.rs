//! The durable log: one per process, shared by all groups in it and the session store.
//!
//! Records of several streams stand in segment files in the order they were appended. An append
//! gives a record its place at once and never waits; the log thread writes what has gathered, one
//! fdatasync for all of it, and then moves the durable mark ([`LogHandle::durable`]). There is no
//! artificial delay: a batch is what gathered while the last one was made durable.
//!
//! Messages are kept here and nowhere else: mailboxes hold a [`Location`] and read again.
//!
//! Invariants:
//! - A record never spans segments, and never moves.
//! - Every segment but the last is durable as a whole, so only the last can have a torn tail.
//! - Nothing behind a failed write is ever reported durable; the first failure is final. The exception is a disk
//!   without space, where [`WhenFull::Wait`] is asked for: what could not be written is written again.
//! - Bad bytes in what was reported durable are never skipped: the log refuses to open, or to read,
//!   and names file and offset. The one thing that cannot be told from a torn tail is damage in the
//!   last batch within [`limits::QUIET_MS`] of its write, when nothing was written behind it.
//!
//! # Replication
//!
//! The log stands under openraft 0.9. How its traits map:
//!
//! | trait method | here |
//! |---|---|
//! | `RaftLogReader::try_get_log_entries` | the adapter keeps the [`Location`] of each index since the snapshot; [`LogHandle::read`] |
//! | `RaftLogStorage::append(entries, LogFlushed)` | one [`Appends`] with one record per entry (term and entry in the body); `LogFlushed::log_io_completed` when [`LogHandle::durable`] has reached the returned number, from the wake function |
//! | `RaftLogStorage::save_vote`, `save_committed` | records of [`META_STREAM`], so they share the fdatasync; the newest counts |
//! | `RaftLogStorage::read_vote`, `read_committed`, `get_log_state` | filled by [`Replay`] at start |
//! | `RaftLogStorage::truncate(log_id)` | [`Appends::push_truncate`]: a record that makes replay forget the stream's records from an index on; their places stay unused until the segment goes. Nothing is ever overwritten, so a crash in between leaves either state |
//! | `RaftLogStorage::purge(log_id)` | the group counts references per segment; [`LogHandle::release`] when none is left and the snapshot covers the segment |
//! | `RaftStateMachine::apply` | the group thread, with the entries' [`Location`]s |
//! | `RaftStateMachine::get_snapshot_builder`, `get_current_snapshot` | [`SnapshotStore::write`], [`SnapshotStore::latest`] |
//! | `RaftStateMachine::begin_receiving_snapshot`, `install_snapshot` | a [`SnapshotStore::write`] fed from the network, plus the messages it refers to, appended as records of [`BODIES_STREAM`] |
//! | `StorageError` | [`LogError::Damaged`] means: do not vote or lead before repair |

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

mod appends;
mod aside;
mod directory;
mod error;
mod format;
mod full;
mod handle;
pub mod limits;
mod pin;
mod reader;
mod recover;
mod replay;
mod reread;
mod shared;
mod snapshot;
mod spares;
mod stats;
mod steps;
mod tail;
mod writer;

pub use appends::Appends;
pub use aside::{ask_to_set_aside, set_aside, set_aside_if_asked};
pub use error::LogError;
pub use handle::LogHandle;
pub use pin::Pin;
pub use replay::{Record, RecordKind, Replay, ReplayStats};
pub use snapshot::{Snapshot, SnapshotStore, Unchecked, Unfinished};
pub use stats::{LogStats, SYNC_CLASSES_US};
pub(crate) use steps::rest_after;

use directory::{Directory, Lock};
use format::FIRST_RECORD;
use shared::{Shared, Wake};
use spares::Spares;
use tail::{Position, Tail};
use writer::Writer;

/// The stream of the embedded session store. Groups have the streams from 0 on.
pub const STORE_STREAM: u16 = 0xFFFF;

/// The stream of what a member of a replicated group has to remember beside its entries: its votes. The newest record
/// counts. Indexes grow; replay hands out all that are there, in order.
///
/// A segment with such a record must not be released before a later one is durable in another segment: one that is
/// closed. So the segment with the newest record stays until the member votes again; that is one segment at most.
pub const META_STREAM: u16 = 64;

/// The stream of messages that came with a snapshot from another member; each has the snapshot's index. They are read
/// where the snapshot refers to them, and never replayed; their segments go when this or a later snapshot covers their
/// index and nothing refers to them.
pub const BODIES_STREAM: u16 = 65;

/// When a record counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After an fdatasync: survives a power cut.
    #[default]
    Fsync,
    /// After the write: survives a crash of the process, not of the machine.
    Os,
    /// At once, nothing is written: survives nothing.
    Memory,
}

/// What becomes of a log whose disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It fails for good, with [`LogError::DiskFull`]. For a log that nobody has a copy of: whoever waits for it is
    /// told at once.
    #[default]
    Stop,
    /// It keeps what it has, says so ([`LogHandle::is_full`]), and goes on when there is space. For the log of a
    /// group's member: the others go on meanwhile.
    Wait,
}

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// When a record counts as durable.
    pub durability: Durability,
    /// Size of a segment, from [`limits::SEGMENT_BYTES_MIN`] to [`limits::SEGMENT_BYTES_MAX`].
    pub segment_bytes: u32,
    /// Bytes of written records kept in memory; with [`Durability::Memory`] no bound.
    pub cache_bytes: usize,
    /// Bytes that may wait for the disk before appends are refused.
    pub pending_bytes_max: usize,
    /// What becomes of it when the disk is full, once it is open.
    pub when_full: WhenFull,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            segment_bytes: limits::SEGMENT_BYTES,
            cache_bytes: limits::CACHE_BYTES,
            pending_bytes_max: limits::PENDING_BYTES_MAX,
            when_full: WhenFull::default(),
        }
    }
}

/// Where a record is. Ordered as the records were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Offset of the record's header in it, in bytes.
    pub offset: u32,
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Number of the segment.
    pub id: u32,
    /// Smallest and largest index per stream.
    pub streams: Vec<StreamRange>,
    /// Bytes used, header included.
    pub bytes: u32,
}

/// The records of one stream in a segment. Where a record drops others, these count as if they were here: as long as
/// an index that was dropped has not been reached again, and covered by a snapshot, the record that dropped it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRange {
    /// The stream.
    pub stream: u16,
    /// The smallest index here.
    pub first: u64,
    /// The largest index here. When a snapshot covers it, no restart needs this stream's part of the segment.
    pub last: u64,
}

impl SegmentInfo {
    fn empty(id: u32) -> Self {
        Self {
            id,
            streams: Vec::new(),
            bytes: FIRST_RECORD,
        }
    }

    fn note(&mut self, stream: u16, index: u64) {
        match self.streams.iter_mut().find(|range| range.stream == stream) {
            Some(range) => {
                range.first = range.first.min(index);
                range.last = range.last.max(index);
            }
            None => self.streams.push(StreamRange {
                stream,
                first: index,
                last: index,
            }),
        }
    }

    /// A record drops what `older` segments and this one have of `stream` from `from` on.
    fn note_truncate<'a>(
        &mut self,
        older: impl IntoIterator<Item = &'a Self>,
        stream: u16,
        from: u64,
    ) {
        let last = older.into_iter().filter_map(|info| info.last(stream)).max();
        self.note(stream, from);
        if let Some(last) = last.filter(|last| *last > from) {
            self.note(stream, last);
        }
    }

    /// The largest index of `stream` here.
    pub fn last(&self, stream: u16) -> Option<u64> {
        let range = self.streams.iter().find(|range| range.stream == stream);
        range.map(|range| range.last)
    }
}

/// The way into the log.
#[derive(Debug)]
pub struct Log;

impl Log {
    /// Opens the log in the data folder `dir` (made if missing) and takes the folder for this
    /// process. `wake` is called, from the log thread, whenever more is durable, the log has
    /// failed, or it has become full or is so no more; it must not block. The records already there are in the [`Replay`]. With
    /// [`Durability::Memory`] no file is touched and there is no thread: appends are durable at
    /// once and `wake` is not called.
    pub fn open(
        dir: &Path,
        options: LogOptions,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(LogHandle, Replay), LogError> {
        let (min, max) = (limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX);
        if !(min..=max).contains(&options.segment_bytes) {
            return Err(LogError::SegmentBytes {
                min,
                max,
                is: options.segment_bytes,
            });
        }
        if options.durability == Durability::Memory {
            return Ok(open_in_memory(options, wake));
        }
        open_on_disk(dir, &options, wake)
    }
}

fn open_in_memory(options: LogOptions, wake: Wake) -> (LogHandle, Replay) {
    let capacity = options.segment_bytes;
    let position = Position {
        segment: 1,
        salt: 0,
        capacity,
        offset: FIRST_RECORD,
        marked: 0,
    };
    let tail = Tail::new(&options, position, SegmentInfo::empty(1), BTreeMap::new());
    let shared = share(options, tail, wake);
    (
        LogHandle::new(shared, None),
        Replay::new(Vec::new(), ReplayStats::default()),
    )
}

fn open_on_disk(
    dir: &Path,
    options: &LogOptions,
    wake: Wake,
) -> Result<(LogHandle, Replay), LogError> {
    let lock = Lock::take(dir)?;
    let directory = Directory::open(dir)?;
    let (ids, found_spares) = directory.list()?;
    let (sources, current, position, info, stats) = match recover::recover(&directory, &ids)? {
        Some(found) => (
            found.sources,
            found.current,
            found.position,
            found.info,
            found.stats,
        ),
        None => begin(&directory)?,
    };
    let closed = sources
        .iter()
        .map(|source| (source.info.id, source.info.clone()));
    let closed = closed.filter(|(id, _)| *id != info.id).collect();
    let shared = share(
        options.clone(),
        Tail::new(options, position, info, closed),
        wake,
    );
    let spares = Spares::start(directory.clone(), Arc::clone(&shared.stats), found_spares)?;
    let writer = Writer {
        shared: Arc::clone(&shared),
        directory: directory.clone(),
        spares,
        current,
    };
    let thread = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || writer.run())
        .map_err(|error| LogError::io("start the thread of", dir, error))?;
    let handle = LogHandle::new(shared, Some((directory, lock, thread)));
    Ok((handle, Replay::new(sources, stats)))
}

/// The parts of a log that was never there.
type New = (
    Vec<replay::Source>,
    writer::Current,
    Position,
    SegmentInfo,
    ReplayStats,
);

fn begin(directory: &Directory) -> Result<New, LogError> {
    let capacity = limits::SEGMENT_BYTES_MIN;
    let salt = tail::random_salt();
    let current = writer::begin_log(directory, salt, capacity)?;
    let position = Position {
        segment: 1,
        salt,
        capacity,
        offset: FIRST_RECORD,
        marked: 0,
    };
    Ok((
        Vec::new(),
        current,
        position,
        SegmentInfo::empty(1),
        ReplayStats::default(),
    ))
}

fn share(options: LogOptions, tail: Tail, wake: Wake) -> Arc<Shared> {
    Arc::new(Shared {
        options,
        tail: Mutex::new(tail),
        work: Condvar::new(),
        progress: Condvar::new(),
        durable: AtomicU64::new(0),
        pending_bytes: AtomicUsize::new(0),
        releases: AtomicU64::new(0),
        full: AtomicBool::new(false),
        failure: OnceLock::new(),
        stats: Arc::new(LogStats::default()),
        wake,
    })
}
