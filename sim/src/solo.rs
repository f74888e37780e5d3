//! Agreement of a group with one member: what its disk has stored is agreed on.

use crate::log::Disk;
use broker::consensus::{Consensus, Entry, Event, Payload, Position};
use broker::faults::{self, Fault};
use broker::log::{Location, LogError};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A disk that the group proposes to and the world syncs.
pub(crate) type SharedDisk = Arc<Mutex<Disk>>;

pub(crate) fn lock(disk: &SharedDisk) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Solo {
    disk: SharedDisk,
    /// Index of the next entry to hand over.
    next: u64,
    /// What the disk had at the start is behind it.
    before: u64,
    term: u64,
    leads: bool,
    until: Instant,
    pending_bytes: usize,
}

impl Solo {
    /// A new life of the member, whose `term` no earlier one had.
    pub(crate) fn new(disk: SharedDisk, term: u64, now: Instant) -> Self {
        let before = lock(&disk).durable();
        Self {
            disk,
            next: 1,
            before,
            term,
            leads: false,
            // Nobody else can lead, however long it takes.
            until: now + Duration::from_secs(1_000_000),
            pending_bytes: 0,
        }
    }
}

/// Where an entry's record is.
fn place_of(index: u64) -> Location {
    Location {
        segment: 1,
        offset: index as u32,
    }
}

/// An entry of a log that has nothing else.
pub(crate) fn entry_of(term: u64, index: u64, body: Bytes) -> Entry {
    Entry {
        term,
        index,
        at: place_of(index),
        payload: Payload::Commands { body, offset: 0 },
    }
}

impl Consensus for Solo {
    fn propose(&mut self, body: Vec<u8>) {
        self.pending_bytes += body.len();
        lock(&self.disk).append(Bytes::from(body));
    }

    fn next(&mut self) -> Option<Event> {
        if !self.leads && self.next > self.before {
            self.leads = true;
            return Some(Event::Lead { term: self.term });
        }
        let disk = lock(&self.disk);
        let agreed = if faults::is_on(Fault::AckBeforeStore) {
            disk.appended()
        } else {
            disk.durable()
        };
        if self.next > agreed {
            return None;
        }
        let index = self.next;
        let body = disk.body(index).clone();
        self.next += 1;
        self.pending_bytes = self.pending_bytes.saturating_sub(body.len());
        Some(Event::Entry(entry_of(self.term, index, body)))
    }

    fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    fn leads_until(&self) -> Option<Instant> {
        self.leads.then_some(self.until)
    }

    fn snapshot_written(&mut self, _at: Position) {}

    fn kept_from(&self) -> u64 {
        1
    }

    fn is_full(&self) -> bool {
        false
    }

    fn failure(&self) -> Option<LogError> {
        None
    }
}
