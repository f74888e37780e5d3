//! Agreement of a group with one member: what its disk has stored is agreed on.

use crate::log::{SharedDisk, lock, place_of};
use broker::consensus::{Consensus, Entry, Event, Payload, Position};
use broker::group::GROUP_STREAM;
use broker::log::{LogError, Record, RecordKind};
use std::time::{Duration, Instant};

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

/// An entry of a log that has nothing else.
fn entry_of(term: u64, record: &Record) -> Entry {
    let body = record.body.clone();
    Entry {
        term,
        index: record.index,
        at: record.at,
        payload: Payload::Commands { body, offset: 0 },
    }
}

impl Consensus for Solo {
    fn propose(&mut self, body: Vec<u8>) {
        self.pending_bytes += body.len();
        let mut disk = lock(&self.disk);
        let index = disk.appended() + 1;
        disk.append(Record {
            stream: GROUP_STREAM,
            kind: RecordKind::Data,
            index,
            at: place_of(0, index),
            body: body.into(),
        });
    }

    fn next(&mut self) -> Option<Event> {
        if !self.leads && self.next > self.before {
            self.leads = true;
            return Some(Event::Lead { term: self.term });
        }
        let disk = lock(&self.disk);
        let agreed = disk.durable();
        if self.next > agreed {
            return None;
        }
        let record = disk.record(self.next);
        self.next += 1;
        self.pending_bytes = self.pending_bytes.saturating_sub(record.body.len());
        Some(Event::Entry(entry_of(self.term, record)))
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
