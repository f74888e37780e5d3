//! What a member finds in its own log when it starts.

use super::codec::Malformed;
use super::config::Vote;
use super::entries::Entries;
use super::record::{self, ENTRY_HEAD, Meta, MetaRecord, Slot};
use crate::consensus::Position;
use crate::group::GROUP_STREAM;
use crate::log::{META_STREAM, Record, RecordKind};

/// Collects the records of a replay that are the member's: those of the group's stream behind the newest snapshot,
/// and those of [`META_STREAM`]. Only places are kept, no bodies.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub(super) position: Position,
    pub(super) entries: Entries,
    pub(super) meta: Option<Meta>,
    /// The number that the folder was given before its member took part.
    pub(super) folder: Option<u64>,
    /// The first entry behind the snapshot is of an earlier term than the snapshot: the branch from here on is void.
    pub(super) dropped: Option<u64>,
    pub(super) meta_next: u64,
}

impl Recovered {
    /// A member whose newest snapshot stands here; [`Position::default`]: there is none.
    pub fn at(position: Position) -> Self {
        Self {
            entries: Entries::behind(position.index, position.term),
            position,
            meta: None,
            folder: None,
            dropped: None,
            meta_next: 1,
        }
    }

    /// The next record of the log. Those of other streams are ignored.
    pub fn record(&mut self, record: &Record) -> Result<(), Malformed> {
        match record.stream {
            GROUP_STREAM => self.entry(record),
            META_STREAM => self.meta(record),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, record: &Record) -> Result<(), Malformed> {
        let (purged, last) = (self.entries.purged().0, self.entries.last().0);
        if record.kind == RecordKind::Truncate {
            // One that begins under the snapshot voids what is behind it all the same.
            let from = record.index.max(purged + 1);
            self.entries.truncate(from);
            self.dropped = self.dropped.filter(|dropped| *dropped < from);
            return Ok(());
        }
        if record.index <= purged {
            return Ok(());
        }
        if record.index != last + 1 {
            return Err(Malformed("an entry behind the one before it"));
        }
        let (term, kind, payload) = record::read_entry(&record.body)?;
        if term < self.position.term {
            // The snapshot came from another member, and the log had a branch that nobody agreed on. It was to be
            // dropped next.
            self.dropped.get_or_insert(record.index);
        }
        debug_assert_eq!(payload.len() + ENTRY_HEAD, record.body.len());
        self.entries.push(Slot {
            term,
            at: record.at,
            len: payload.len() as u32,
            kind,
        });
        Ok(())
    }

    fn meta(&mut self, record: &Record) -> Result<(), Malformed> {
        match MetaRecord::read(&record.body)? {
            MetaRecord::Member(meta) => self.meta = Some(meta),
            MetaRecord::Folder(number) => self.folder = Some(number),
        }
        self.meta_next = record.index + 1;
        Ok(())
    }

    /// Whether the folder says whose it is, and nothing else: its member has neither voted nor stored anything.
    pub(super) fn is_untouched(&self) -> bool {
        let has_not_voted = |meta: &Meta| meta.vote == Vote::default();
        self.entries.last() == (0, 0) && self.meta.as_ref().is_some_and(has_not_voted)
    }

    /// Whether the member has never taken part in a group with this folder.
    pub fn is_empty(&self) -> bool {
        self.meta.is_none() && self.entries.last() == (0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Kind, entry_head};
    use super::*;
    use crate::log::Location;

    fn record(kind: RecordKind, index: u64, term: u64) -> Record {
        Record {
            stream: GROUP_STREAM,
            kind,
            index,
            at: Location {
                segment: 1,
                offset: 8,
            },
            body: entry_head(term, Kind::Blank).to_vec().into(),
        }
    }

    /// Index and term of what a member finds behind a snapshot of this entry.
    fn found(index: u64, term: u64, records: &[Record]) -> Vec<(u64, u64)> {
        let position = Position {
            index,
            term,
            ..Position::default()
        };
        let mut recovered = Recovered::at(position);
        for record in records {
            recovered.record(record).expect("a log as it is written");
        }
        assert_eq!(recovered.dropped, None);
        let entries = recovered.entries.range(0..u64::MAX);
        entries.map(|(index, slot)| (index, slot.term)).collect()
    }

    #[test]
    fn a_branch_that_is_void_is_void_wherever_the_snapshot_stands() {
        let mut records: Vec<Record> = (1..=5).map(|at| record(RecordKind::Data, at, 1)).collect();
        records.push(record(RecordKind::Truncate, 3, 0));
        let branch: Vec<(u64, u64)> = (3..=6).map(|at| (at, 2)).collect();
        records.extend(branch.iter().map(|at| record(RecordKind::Data, at.0, at.1)));
        for (index, term) in [(2, 1), (3, 2), (4, 2), (5, 2), (6, 2)] {
            let behind: Vec<_> = branch.iter().filter(|at| at.0 > index).copied().collect();
            assert_eq!(found(index, term, &records), behind, "snapshot of {index}");
        }
    }

    #[test]
    fn a_snapshot_of_another_member_may_stand_within_the_void_branch() {
        let mut records: Vec<Record> = (1..=5).map(|at| record(RecordKind::Data, at, 1)).collect();
        records.push(record(RecordKind::Truncate, 3, 0));
        assert_eq!(found(4, 2, &records), []);
        records.push(record(RecordKind::Data, 5, 2));
        assert_eq!(found(4, 2, &records), [(5, 2)]);
    }
}
