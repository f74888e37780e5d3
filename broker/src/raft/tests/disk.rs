//! A disk that works while the clock stands still, and that may be full: the log writes on then, but nobody hears of it.

use crate::log::{Location, LogError, LogHandle};
use crate::raft::{Journal, NewRecord, Placed};
use bytes::Bytes;
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
pub(super) struct Disk {
    log: LogHandle,
    /// While it is full: what was durable when it became so.
    durable: Arc<Mutex<Option<u64>>>,
}

impl Disk {
    pub(super) fn new(log: LogHandle) -> Self {
        let durable = Arc::default();
        Self { log, durable }
    }

    pub(super) fn fill(&self, full: bool) {
        let durable = full.then(|| self.log.durable());
        *self.durable.lock().expect("no panic") = durable;
    }
}

impl Journal for Disk {
    fn append(&self, records: &[NewRecord]) -> Result<Placed, LogError> {
        let placed = Journal::append(&self.log, records)?;
        self.log.sync()?;
        Ok(placed)
    }

    fn durable(&self) -> u64 {
        let held = *self.durable.lock().expect("no panic");
        held.unwrap_or_else(|| self.log.durable())
    }

    fn failure(&self) -> Option<LogError> {
        self.log.failure()
    }

    fn is_full(&self) -> bool {
        self.durable.lock().expect("no panic").is_some()
    }

    fn read(&self, at: Location, offset: u32, len: u32) -> Result<Bytes, LogError> {
        self.log.read(at, offset, len)
    }
}
