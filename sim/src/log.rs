//! A broker's disk: what is appended is there for good after the next sync, and before that a crash may take it, or a
//! part of it.

use crate::rng::Rng;
use broker::consensus::Position;
use broker::group::GROUP_STREAM;
use broker::limits::MachineLimits;
use broker::log::{Location, Record, RecordKind};
use broker::machine::State;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk that a member appends to and the world syncs.
pub(crate) type SharedDisk = Arc<Mutex<Disk>>;

pub(crate) fn lock(disk: &SharedDisk) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A group's state at a place of its log, as a file.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    /// The position, and the state behind it.
    pub(crate) bytes: Bytes,
}

impl Snapshot {
    /// Reads a file.
    pub(crate) fn of(bytes: Bytes) -> Self {
        let position = Position::read(&mut &bytes[..]).expect("the head of a snapshot");
        Self { position, bytes }
    }

    /// The state in it.
    pub(crate) fn state(&self) -> State {
        let mut rest = &self.bytes[..];
        Position::read(&mut rest).expect("the head of a snapshot");
        let state = State::restore(&mut rest, MachineLimits::default());
        state.expect("states are read back as they were written")
    }
}

/// A place as a key.
type Place = (u32, u32);

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// All records ever appended.
    records: Vec<Record>,
    durable: usize,
    /// A sync is under way, and makes so many durable.
    syncing: Option<usize>,
    /// Bodies of entries, by the place of their records.
    bodies: BTreeMap<Place, Bytes>,
    /// Those that came with a snapshot.
    received: BTreeMap<Place, Bytes>,
    snapshot: Option<Snapshot>,
}

/// Where an entry's record is: on all disks of a group at the same place, so that members can send each other snapshots
/// as they are.
pub(crate) fn place_of(term: u64, index: u64) -> Location {
    Location {
        segment: term as u32,
        offset: index as u32,
    }
}

impl Disk {
    /// Takes a record.
    pub(crate) fn append(&mut self, record: Record) {
        self.keep_body(&record);
        self.records.push(record);
    }

    fn keep_body(&mut self, record: &Record) {
        if record.stream == GROUP_STREAM && record.kind == RecordKind::Data {
            let place = (record.at.segment, record.at.offset);
            self.bodies.insert(place, record.body.clone());
        }
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// A snapshot is written, for good. An older one than the newest counts for nothing.
    pub(crate) fn keep_snapshot(&mut self, snapshot: Snapshot) {
        let newest = self.snapshot.as_ref().map_or(0, |it| it.position.index);
        if snapshot.position.index > newest {
            self.snapshot = Some(snapshot);
        }
    }

    /// All bodies that a snapshot may refer to.
    pub(crate) fn bodies_up_to(&self, index: u64) -> Vec<(Location, Bytes)> {
        let all = self.bodies.iter();
        let own = all.filter(|((_, at), _)| u64::from(*at) <= index);
        let placed = own.map(|((segment, offset), body)| {
            let (segment, offset) = (*segment, *offset);
            (Location { segment, offset }, body.clone())
        });
        placed.collect()
    }

    /// Whether another member's snapshot has come.
    pub(crate) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Bodies that came with a snapshot are stored for good.
    pub(crate) fn receive(&mut self, bodies: Vec<(Location, Bytes)>) {
        for (at, body) in bodies {
            self.received.insert((at.segment, at.offset), body.clone());
            self.bodies.insert((at.segment, at.offset), body);
        }
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

    /// The body of an entry's record.
    pub(crate) fn body(&self, at: Location) -> &Bytes {
        &self.bodies[&(at.segment, at.offset)]
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
        self.bodies.clone_from(&self.received);
        for record in std::mem::take(&mut self.records) {
            self.append(record);
        }
        before..kept
    }

    pub(crate) fn records(&self, range: Range<usize>) -> &[Record] {
        &self.records[range]
    }

    /// The group's entries that are stored and not void, by index. What came with a snapshot is not among them.
    pub(crate) fn entries(&self) -> BTreeMap<u64, &Record> {
        let mut entries = BTreeMap::new();
        let own = |record: &&Record| record.stream == GROUP_STREAM;
        for record in self.records[..self.durable].iter().filter(own) {
            match record.kind {
                RecordKind::Data => {
                    entries.insert(record.index, record);
                }
                RecordKind::Truncate => {
                    entries.split_off(&record.index);
                }
            }
        }
        entries
    }

    /// Bodies of all that is stored and not void.
    pub(crate) fn living(&self) -> impl Iterator<Item = &Bytes> {
        let entries = self.entries();
        let own: Vec<&Bytes> = entries.into_values().map(|record| &record.body).collect();
        own.into_iter().chain(self.received.values())
    }
}
