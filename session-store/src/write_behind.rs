//! Writes that wait a moment for the next one of the same client. One per proxy shard; no clock,
//! no thread, no lock.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::{TAKEN_IN_ORDER, WAITING_BYTES_MAX, WAITING_ENTRIES_MAX, WRITE_DELAY_MS};
use crate::{EmbeddedStore, Journal, Record, Saved, StoreError};

/// What is to be done about a client's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Save this record, given in its stored form ([`Record::encode`]).
    Save {
        /// The client.
        client_id: Arc<str>,
        /// The record's epoch.
        epoch: u64,
        /// The stored form.
        record: Box<[u8]>,
    },
    /// Delete its record, if not newer.
    Delete {
        /// The client.
        client_id: Arc<str>,
        /// The highest epoch to delete.
        epoch: u64,
    },
}

/// Where a [`WriteBehind`] can be emptied at once.
pub trait Sink {
    /// Carries out one write. Says whether it took effect, or a newer record stands.
    fn write(&self, write: &Write) -> Result<bool, StoreError>;
}

impl<J: Journal> Sink for EmbeddedStore<J> {
    fn write(&self, write: &Write) -> Result<bool, StoreError> {
        match write {
            Write::Save {
                client_id,
                epoch,
                record,
            } => self
                .save_bytes(client_id, *epoch, record)
                .map(|saved| saved == Saved::Stored),
            Write::Delete { client_id, epoch } => self.delete_now(client_id, *epoch),
        }
    }
}

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Writes that took effect.
    pub written: u64,
    /// Writes that a newer record stood against, or deletes of nothing.
    pub without_effect: u64,
}

/// What a [`WriteBehind`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteBehindStats {
    /// Writes taken in.
    pub taken: u64,
    /// Writes that replaced a waiting one of the same client.
    pub coalesced: u64,
    /// Writes that are older than the waiting one, left out.
    pub outdated: u64,
    /// Waiting writes dropped at the limit.
    pub dropped: u64,
}

/// The waiting writes of one proxy shard, at most one per client.
#[derive(Debug)]
pub struct WriteBehind {
    waiting: HashMap<Arc<str>, Waiting, RandomState>,
    /// Clients in the order their wait began, with its number. Those that were taken out are still in it, but for its
    /// front: that one waits, if anybody does.
    order: VecDeque<(u64, Arc<str>)>,
    last_wait: u64,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    delay_ms: u64,
    stats: WriteBehindStats,
}

#[derive(Debug)]
struct Waiting {
    write: Write,
    since_ms: u64,
    wait: u64,
}

impl Default for WriteBehind {
    fn default() -> Self {
        Self::new(WAITING_ENTRIES_MAX, WAITING_BYTES_MAX, WRITE_DELAY_MS)
    }
}

impl WriteBehind {
    /// Nothing waits yet; at most `entries_max` writes of together `bytes_max` bytes will. A write
    /// is due `delay_ms` after the first one of its client.
    pub fn new(entries_max: usize, bytes_max: usize, delay_ms: u64) -> Self {
        Self {
            waiting: HashMap::default(),
            order: VecDeque::new(),
            last_wait: 0,
            bytes: 0,
            entries_max,
            bytes_max,
            delay_ms,
            stats: WriteBehindStats::default(),
        }
    }

    /// Takes a write in, in place of what waits for its client.
    pub fn put(&mut self, now_ms: u64, write: Write) {
        self.stats.taken += 1;
        let bytes = write.bytes();
        if let Some(there) = self.waiting.get_mut(write.client_id()) {
            if there.write.stands_against(&write) {
                self.stats.outdated += 1;
                return;
            }
            self.stats.coalesced += 1;
            self.bytes = self.bytes - there.write.bytes() + bytes;
            there.write = write;
        } else {
            let client_id = Arc::clone(write.client_id());
            self.bytes += bytes;
            self.last_wait += 1;
            let wait = self.last_wait;
            self.order.push_back((wait, Arc::clone(&client_id)));
            let since_ms = now_ms;
            let waiting = Waiting {
                write,
                since_ms,
                wait,
            };
            self.waiting.insert(client_id, waiting);
        }
        while self.len() > self.entries_max || (self.bytes > self.bytes_max && self.len() > 1) {
            self.pop();
            self.stats.dropped += 1;
        }
    }

    /// Takes a record to be saved, in place of what waits for its client.
    pub fn save(&mut self, now_ms: u64, record: &Record) -> Result<(), StoreError> {
        let client_id = Arc::from(&*record.client_id);
        let write = Write::Save {
            client_id,
            epoch: record.epoch,
            record: record.encode()?,
        };
        self.put(now_ms, write);
        Ok(())
    }

    /// Takes a deletion, in place of what waits for the client.
    pub fn delete(&mut self, now_ms: u64, client_id: &str, epoch: u64) {
        self.put(
            now_ms,
            Write::Delete {
                client_id: client_id.into(),
                epoch,
            },
        );
    }

    /// The write that waits for a client: newer than what the store has.
    pub fn get(&self, client_id: &str) -> Option<&Write> {
        self.waiting.get(client_id).map(|waiting| &waiting.write)
    }

    /// When the longest waiting write is due, in the caller's milliseconds.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.first().map(|first| first.since_ms + self.delay_ms)
    }

    /// The longest waiting write, if it is due. It goes on waiting.
    pub fn first_due(&self, now_ms: u64) -> Option<&Write> {
        let first = self.first()?;
        (first.since_ms + self.delay_ms <= now_ms).then_some(&first.write)
    }

    /// Takes the write that waits for a client out, due or not: nothing more will come that could join it.
    pub fn take(&mut self, client_id: &str) -> Option<Write> {
        let waiting = self.waiting.remove(client_id)?;
        self.bytes -= waiting.write.bytes();
        self.tidy();
        Some(waiting.write)
    }

    /// Takes the longest waiting write out, if it is due: for a store that answers later.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Write> {
        if self.deadline_ms()? > now_ms {
            return None;
        }
        self.pop()
    }

    /// Writes what is due. At the first error it stops and keeps the rest, the failed one included.
    pub fn flush_due(&mut self, now_ms: u64, sink: &impl Sink) -> Result<Flushed, StoreError> {
        let mut flushed = Flushed::default();
        while self
            .deadline_ms()
            .is_some_and(|deadline| deadline <= now_ms)
        {
            self.flush_one(sink, &mut flushed)?;
        }
        Ok(flushed)
    }

    /// Writes everything, due or not. At the first error it stops and keeps the rest.
    pub fn flush(&mut self, sink: &impl Sink) -> Result<Flushed, StoreError> {
        let mut flushed = Flushed::default();
        while !self.is_empty() {
            self.flush_one(sink, &mut flushed)?;
        }
        Ok(flushed)
    }

    /// Number of writes that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that wait, client ids and records.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// The counters.
    pub fn stats(&self) -> WriteBehindStats {
        self.stats
    }

    fn flush_one(&mut self, sink: &impl Sink, flushed: &mut Flushed) -> Result<(), StoreError> {
        let Some(first) = self.first() else {
            return Ok(());
        };
        if sink.write(&first.write)? {
            flushed.written += 1;
        } else {
            flushed.without_effect += 1;
        }
        self.pop();
        Ok(())
    }

    fn pop(&mut self) -> Option<Write> {
        let (_, client_id) = self.order.front()?;
        let client_id = Arc::clone(client_id);
        self.take(&client_id)
    }

    fn first(&self) -> Option<&Waiting> {
        let (_, client_id) = self.order.front()?;
        self.waiting.get(client_id)
    }

    /// Takes those who wait no more off the front of the order, and out of it once they are most of it.
    fn tidy(&mut self) {
        let waiting = &self.waiting;
        let waits = |(wait, client_id): &(u64, Arc<str>)| {
            let there = waiting.get(client_id);
            there.is_some_and(|there| there.wait == *wait)
        };
        while self.order.front().is_some_and(|first| !waits(first)) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * waiting.len() + TAKEN_IN_ORDER {
            self.order.retain(waits);
        }
    }
}

impl Write {
    /// The client it is about.
    pub fn client_id(&self) -> &Arc<str> {
        match self {
            Self::Save { client_id, .. } | Self::Delete { client_id, .. } => client_id,
        }
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Save { epoch, .. } | Self::Delete { epoch, .. } => *epoch,
        }
    }

    /// Whether a later write of the same client does nothing: it is of a lower epoch, or saves what
    /// this one deletes.
    pub(crate) fn stands_against(&self, later: &Self) -> bool {
        let saves_deleted = matches!((self, later), (Self::Delete { .. }, Self::Save { .. }));
        self.epoch() > later.epoch() || (saves_deleted && self.epoch() == later.epoch())
    }

    /// Bytes it holds: client id and record.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Save {
                client_id, record, ..
            } => client_id.len() + record.len(),
            Self::Delete { client_id, .. } => client_id.len(),
        }
    }
}
