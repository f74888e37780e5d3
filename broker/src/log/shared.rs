//! What the handles and the log thread have in common.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::stats::LogStats;
use super::tail::Tail;
use super::{Durability, LogError, LogOptions};

/// Called when more is durable, or the log has failed.
pub(super) type Wake = Box<dyn Fn() + Send + Sync>;

pub(super) struct Shared {
    pub(super) options: LogOptions,
    pub(super) tail: Mutex<Tail>,
    /// Tells the log thread that there is work.
    pub(super) work: Condvar,
    /// Tells waiters in `sync` that `durable` or `failure` changed.
    pub(super) progress: Condvar,
    /// Append sequence number up to which everything is durable.
    pub(super) durable: AtomicU64,
    pub(super) pending_bytes: AtomicUsize,
    /// Number of releases: readers then close files that may be gone.
    pub(super) releases: AtomicU64,
    /// The log thread waits for space.
    pub(super) full: AtomicBool,
    pub(super) failure: OnceLock<LogError>,
    pub(super) stats: Arc<LogStats>,
    pub(super) wake: Wake,
}

impl Shared {
    pub(super) fn in_memory(&self) -> bool {
        self.options.durability == Durability::Memory
    }

    /// The first failure stands for all: what was not durable then never will be.
    pub(super) fn fail(&self, error: LogError) {
        tracing::error!(%error, "the log has failed: nothing more will be acknowledged");
        let _first = self.failure.set(error);
        let _tail = locked(&self.tail);
        self.progress.notify_all();
    }

    /// Everything up to `sequence` is durable; `bytes` fewer wait.
    pub(super) fn publish(&self, sequence: u64, bytes: usize) {
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.durable.fetch_max(sequence, Ordering::Release);
    }
}

/// Locks. A thread that panicked while it held the lock has left whole records behind (a batch is
/// placed before anything of it is visible), and the panic itself ends the process's service.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
