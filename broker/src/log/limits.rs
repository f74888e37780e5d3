//! Every bound of the log, with the rule at the bound.

use std::time::Duration;

/// Largest record body in bytes. Larger ones are refused by
/// [`Appends::push`](super::Appends::push): an MQTT packet cannot be larger than 256 MiB.
pub const RECORD_BYTES_MAX: usize = 288 << 20;

/// Smallest size of a segment in bytes that a configuration may ask for.
pub const SEGMENT_BYTES_MIN: u32 = 1 << 20;

/// Largest size of a segment in bytes that a configuration may ask for. (A record that is larger
/// than a segment still gets a segment of its own size.)
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Default size of a segment in bytes. The first segments of a new data folder are smaller (each
/// four times its predecessor), so that starting is instant and small fleets stay small on disk.
pub const SEGMENT_BYTES: u32 = 32 << 20;

/// Default bound of records in memory that are already written, in bytes. At the bound the oldest
/// go; they are read from disk when needed again, and that is the system's own cache for long after.
pub const CACHE_BYTES: usize = 16 << 20;

/// What stays of that cache in bytes after [`QUIET_MS`] without an append: the system's own cache has the rest.
pub const CACHE_QUIET_BYTES: usize = CHUNK_BYTES;

/// Default bound of records that wait for the disk, in bytes. At the bound
/// [`LogHandle::append`](super::LogHandle::append) refuses with
/// [`LogError::Backlog`](super::LogError::Backlog) and counts it; callers look at
/// [`LogHandle::pending_bytes`](super::LogHandle::pending_bytes) and stop taking work before.
pub const PENDING_BYTES_MAX: usize = 64 << 20;

/// Bytes of memory taken at a time for records. One allocation serves many appends.
pub const CHUNK_BYTES: usize = 256 << 10;

/// What a piece of the cache costs beside its bytes.
pub const PIECE_OVERHEAD_BYTES: usize = 64;

/// Bytes read from a segment file at once, at most: where records are read one after the other, the next ones are
/// read with them.
pub const READ_AHEAD_BYTES: usize = 256 << 10;

/// Bytes read from a segment file where nothing says that the neighbours of a record are next. Most records are
/// smaller.
pub const READ_AHEAD_BYTES_MIN: usize = 16 << 10;

/// Segment files that one reader holds open.
pub const READ_FILES_MAX: usize = 4;

/// Bytes that are zeroed, written or given back in one step where nobody waits for that. Each is on disk before the next:
/// the fdatasync of the log never stands behind more.
pub const STEP_BYTES: usize = 256 << 10;

/// After each step, but those of the session store's snapshot and of one that comes in at its sender's pace, there is a rest
/// of so many times as long as it took, so that such work takes a quarter of the disk at most. Bounded by [`STEP_REST_MAX`], and left out where somebody waits after all: the log fills faster than its next
/// segment file is made, the disk is full, or the changes since a snapshot began fill half of their limit.
pub const STEP_REST: u32 = 3;
/// See [`STEP_REST`].
pub const STEP_REST_MAX: Duration = Duration::from_millis(50);

/// Streams that may share a log, beside [`STORE_STREAM`](super::STORE_STREAM). An append to a
/// stream of a higher number is refused.
pub const STREAMS_MAX: u16 = 128;

/// Prepared segment files that are kept for later use. More are deleted.
pub const SPARES_MAX: usize = 2;

/// At most this long after the beginning of a sync, in microseconds, records that came during it wait for others
/// to share the next one. A sync costs as much CPU as some ten messages do otherwise.
pub const GATHER_US: u64 = 1_000;

/// Where more answers than this have lately shared a sync, its cost is small enough, and nothing waits.
pub const GATHER_ANSWERS_MAX: u64 = 64;

/// Batches whose sizes say how many answers may be expected to wait together.
pub const GATHER_BATCHES: usize = 16;

/// Time between two tries to go on where the disk was full, in milliseconds. Each is one write.
pub const FULL_RETRY_MS: u64 = 250;

/// Time without an append, in milliseconds, after which the log notes on disk how far it is
/// durable and shrinks its cache.
pub const QUIET_MS: u64 = 1_000;

const _: () = assert!(
    RECORD_BYTES_MAX < (u32::MAX / 2) as usize,
    "offsets are 32 bits wide"
);
const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES && SEGMENT_BYTES <= SEGMENT_BYTES_MAX);
const _: () = assert!(
    CHUNK_BYTES < SEGMENT_BYTES_MIN as usize,
    "a segment holds several chunks"
);
const _: () = assert!(READ_AHEAD_BYTES_MIN <= READ_AHEAD_BYTES);
const _: () = assert!(CACHE_QUIET_BYTES <= CACHE_BYTES);
