//! A broker's disk: what is appended is there for good after the next sync, and before that a crash may take it, or a
//! part of it.

use crate::rng::Rng;
use broker::group::GROUP_STREAM;
use broker::log::{Location, Record, RecordKind};
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk that a member appends to and the world syncs.
pub(crate) type SharedDisk = Arc<Mutex<Disk>>;

pub(crate) fn lock(disk: &SharedDisk) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// All records ever appended, from number 1.
    records: Vec<Record>,
    durable: usize,
    /// A sync is under way, and makes so many durable.
    syncing: Option<usize>,
}

/// Where a record is: the segment says nothing, the offset is its number.
fn place_of(number: usize) -> Location {
    Location {
        segment: 1,
        offset: number as u32,
    }
}

impl Disk {
    /// Takes a record. Where it is.
    pub(crate) fn append(
        &mut self,
        stream: u16,
        index: u64,
        (kind, body): (RecordKind, Bytes),
    ) -> Location {
        let at = place_of(self.records.len() + 1);
        self.records.push(Record {
            stream,
            kind,
            index,
            at,
            body,
        });
        at
    }

    /// Begins a sync of everything that was appended; `false`: one is under way, or there is nothing to sync.
    pub(crate) fn begin_sync(&mut self) -> bool {
        let begins = self.syncing.is_none() && self.durable < self.records.len();
        if begins {
            self.syncing = Some(self.records.len());
        }
        begins
    }

    /// The sync under way is done: what it made durable.
    pub(crate) fn synced(&mut self) -> Range<usize> {
        let done = self.syncing.take().unwrap_or(self.durable);
        let before = std::mem::replace(&mut self.durable, done);
        before..done
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable as u64
    }

    pub(crate) fn appended(&self) -> u64 {
        self.records.len() as u64
    }

    /// The body of a record.
    pub(crate) fn body(&self, at: Location) -> &Bytes {
        &self.records[at.offset as usize - 1].body
    }

    /// A record by its number.
    pub(crate) fn record(&self, number: u64) -> &Record {
        &self.records[number as usize - 1]
    }

    /// The node is gone: of what was not durable a part is there, and the rest is torn off.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> Range<usize> {
        let at_risk = self.records.len() - self.durable;
        let kept = self.durable + rng.below(at_risk + 1);
        self.records.truncate(kept);
        let before = std::mem::replace(&mut self.durable, kept);
        self.syncing = None;
        before..kept
    }

    pub(crate) fn records(&self, range: Range<usize>) -> &[Record] {
        &self.records[range]
    }

    /// The group's entries that are stored and not void, from index 1.
    pub(crate) fn entries(&self) -> Vec<&Record> {
        let mut entries = Vec::new();
        let own = |record: &&Record| record.stream == GROUP_STREAM;
        for record in self.records[..self.durable].iter().filter(own) {
            match record.kind {
                RecordKind::Data => entries.push(record),
                RecordKind::Truncate => entries.truncate(record.index as usize - 1),
            }
        }
        entries
    }
}
