//! What the log counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the fdatasync classes in microseconds; the last class has none.
pub const SYNC_CLASSES_US: [u64; 12] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    500_000,
    u64::MAX,
];

/// Counters since the log was opened; any thread may read them.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Records appended.
    pub records: AtomicU64,
    /// Bytes appended, headers included.
    pub bytes: AtomicU64,
    /// Batches refused because too many bytes waited for the disk.
    pub backlog_refusals: AtomicU64,
    /// Times the log has become full.
    pub times_full: AtomicU64,
    /// Times the log thread made what had gathered durable.
    pub syncs: AtomicU64,
    /// Time spent in fdatasync, in microseconds.
    pub sync_us: AtomicU64,
    /// Number of fdatasyncs per class of [`SYNC_CLASSES_US`].
    pub sync_classes: [AtomicU64; SYNC_CLASSES_US.len()],
    /// Segments begun.
    pub segments_begun: AtomicU64,
    /// Segments released by their owner.
    pub segments_released: AtomicU64,
    /// Segments begun in a file prepared ahead of need.
    pub spares_used: AtomicU64,
    /// Attempts to prepare or put away a segment file that failed (the log goes on without).
    pub spare_failures: AtomicU64,
    /// Reads answered from memory.
    pub reads_from_memory: AtomicU64,
    /// Reads that went to a file.
    pub reads_from_disk: AtomicU64,
}

impl LogStats {
    pub(super) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn synced(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = SYNC_CLASSES_US.partition_point(|bound| *bound < us);
        Self::count(&self.sync_classes[class], 1);
        Self::count(&self.syncs, 1);
        Self::count(&self.sync_us, us);
    }
}
