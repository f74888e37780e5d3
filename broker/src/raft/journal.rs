//! What the raft code asks of the log, so that a simulated disk can stand in for it; and waiting for it.

use crate::faults::{self, Fault};
use crate::log::{Appends, Location, LogError, LogHandle};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// A record to append.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// The stream it goes to.
    pub stream: u16,
    /// Its index there.
    pub index: u64,
    /// What it is.
    pub content: Content,
}

/// What a record is.
#[derive(Clone, Debug)]
pub enum Content {
    /// A body: these bytes, and then those.
    Body(Vec<u8>, Bytes),
    /// The stream's records from this index on are void.
    Truncate,
}

/// Records that have their places.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// They are durable when [`Journal::durable`] has reached this.
    pub sequence: u64,
    /// Where each is.
    pub locations: Vec<Location>,
}

/// A log of records: appends that never wait, a mark that follows them, and reads.
pub trait Journal: Clone + Send + Sync + 'static {
    /// Appends all of the records or, with an error, none.
    fn append(&self, records: &[NewRecord]) -> Result<Placed, LogError>;

    /// The sequence number up to which all is durable.
    fn durable(&self) -> u64;

    /// Why nothing will be durable any more, if so.
    fn failure(&self) -> Option<LogError>;

    /// Whether it waits for space on the disk. What is appended may have to wait for long.
    fn is_full(&self) -> bool;

    /// So many bytes of a record's body, from this offset in it on.
    fn read(&self, at: Location, offset: u32, len: u32) -> Result<Bytes, LogError>;
}

impl Journal for LogHandle {
    fn append(&self, records: &[NewRecord]) -> Result<Placed, LogError> {
        let mut batch = Appends::new();
        for record in records {
            let (stream, index) = (record.stream, record.index);
            match &record.content {
                Content::Body(head, body) => batch.push_with(stream, index, |out| {
                    out.extend_from_slice(head);
                    out.extend_from_slice(body);
                })?,
                Content::Truncate => batch.push_truncate(stream, index)?,
            }
        }
        batch.owe_answers(records.len() as u64);
        let sequence = LogHandle::append(self, &mut batch)?;
        Ok(Placed {
            sequence,
            locations: batch.locations().to_vec(),
        })
    }

    fn durable(&self) -> u64 {
        LogHandle::durable(self)
    }

    fn failure(&self) -> Option<LogError> {
        LogHandle::failure(self)
    }

    fn is_full(&self) -> bool {
        LogHandle::is_full(self)
    }

    fn read(&self, at: Location, offset: u32, len: u32) -> Result<Bytes, LogError> {
        LogHandle::read(self, at, offset, len)
    }
}

/// Tells who waits for the disk that it has moved. To be called from the log's wake function.
#[derive(Clone, Debug, Default)]
pub struct DiskMoved(Arc<Moves>);

#[derive(Debug, Default)]
struct Moves {
    told: Notify,
    /// Nobody waits any more.
    closed: AtomicBool,
}

impl DiskMoved {
    /// More is durable, or the log has failed.
    pub fn tell(&self) {
        self.0.told.notify_waiters();
    }

    /// The member stops: whoever waits, now or later, for what is not durable by then fails. With a full disk it would
    /// be for ever.
    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.told.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Waits until the log has reached this sequence number.
    pub(super) async fn durable(&self, log: &impl Journal, sequence: u64) -> Result<(), LogError> {
        loop {
            let moved = self.0.told.notified();
            tokio::pin!(moved);
            // What comes between the look and the wait must not be missed.
            moved.as_mut().enable();
            if log.durable() >= sequence || faults::is_on(Fault::AckBeforeStore) {
                return Ok(());
            }
            if let Some(failure) = log.failure() {
                return Err(failure);
            }
            if self.is_closed() {
                return Err(LogError::group("go on in", "it stops".into()));
            }
            moved.await;
        }
    }
}
