//! What a member finds in its own log when it starts.

use super::codec::Malformed;
use super::config::Vote;
use super::entries::Entries;
use super::record::{self, ENTRY_HEAD, Meta, Slot};
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
            if record.index > purged {
                self.entries.truncate(record.index);
                self.dropped = self.dropped.filter(|dropped| *dropped < record.index);
            }
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
        self.meta = Some(Meta::read(&record.body)?);
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
