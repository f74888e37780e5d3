//! What orders a group's entries and says which of them its members have agreed on, as the group sees it.
//!
//! The group proposes entries while it leads, and takes [`Event`]s. It knows nothing of terms beyond telling one from
//! another, nothing of votes, and nothing of other members but the leader's name.
//!
//! Invariant: an entry comes once, in order, and only when a majority of the voters has stored it, this member among
//! them. It never goes away again.

use crate::log::{Location, LogError};
use bytes::Bytes;
use cluster::topology::NodeName;
use std::io::{self, Read, Write};
use std::time::Instant;

/// What a group is told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This member leads. Everything that was agreed on before has come; what it proposes from now on comes back as
    /// entries of this term.
    Lead {
        /// The term it leads in.
        term: u64,
    },
    /// It does not lead, or does not any more.
    Follow {
        /// The member that does, as far as known.
        leader: Option<NodeName>,
    },
    /// The next entry.
    Entry(Entry),
    /// The newest snapshot in the [`SnapshotStore`](crate::log::SnapshotStore) replaces the state. Comes to
    /// followers only.
    Install {
        /// Index of the last entry that it covers.
        index: u64,
    },
}

/// An entry that is agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Its index in the group's log; consecutive, from 1.
    pub index: u64,
    /// Where this member's log has its record.
    pub at: Location,
    /// What it is.
    pub payload: Payload,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing, but that it has an index.
    Blank,
    /// Commands of the group.
    Commands {
        /// As [`crate::command_codec`] writes them.
        body: Bytes,
        /// Where that stands in the body of the record, in bytes.
        offset: u32,
    },
    /// The group's members from here on; only what wrote it can read it.
    Members(Bytes),
}

/// A place in the group's log, and what has to be known there to go on: stands at the head of each of the group's
/// snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the last entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The newest [`Payload::Members`] up to there; empty if there was none.
    pub members: Bytes,
}

/// Bytes of [`Position::members`] that are read back: thousands of members would fit.
const MEMBERS_BYTES_MAX: usize = 1 << 20;

impl Position {
    /// Writes `index u64 | term u64 | length of members u32 | members`, little endian.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        if self.members.len() > MEMBERS_BYTES_MAX {
            return Err(members_are_too_long());
        }
        to.write_all(&self.index.to_le_bytes())?;
        to.write_all(&self.term.to_le_bytes())?;
        to.write_all(&(self.members.len() as u32).to_le_bytes())?;
        to.write_all(&self.members)
    }

    /// Reads what [`Position::write`] wrote, and nothing behind it.
    pub fn read(from: &mut dyn Read) -> io::Result<Self> {
        let (mut index, mut term, mut len) = ([0; 8], [0; 8], [0; 4]);
        from.read_exact(&mut index)?;
        from.read_exact(&mut term)?;
        from.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MEMBERS_BYTES_MAX {
            return Err(members_are_too_long());
        }
        let mut members = vec![0; len];
        from.read_exact(&mut members)?;
        Ok(Self {
            index: u64::from_le_bytes(index),
            term: u64::from_le_bytes(term),
            members: members.into(),
        })
    }
}

fn members_are_too_long() -> io::Error {
    let text = format!("a group's members take more than {MEMBERS_BYTES_MAX} bytes");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// What orders and stores a group's entries. Nothing here waits.
pub trait Consensus: Send {
    /// Proposes an entry's commands. Only to be called between [`Event::Lead`] and the end of that leadership; if it
    /// ends before, the entry may come or not.
    fn propose(&mut self, body: Vec<u8>);

    /// What happened next, if anything did.
    fn next(&mut self) -> Option<Event>;

    /// Bytes that are proposed and not agreed on yet.
    fn pending_bytes(&self) -> usize;

    /// Until then no other member can lead: what needs no entry may be answered. `None`: this one does not lead.
    fn leads_until(&self) -> Option<Instant>;

    /// What the members' wall clocks show by their median, in milliseconds since the Unix epoch; `own_ms`: what this one's
    /// does. By the time of an [`Event::Lead`] a majority was heard.
    fn wall_ms(&self, own_ms: u64) -> u64 {
        own_ms
    }

    /// A snapshot of this position is on disk: the log up to there is needed no more for a restart.
    fn snapshot_written(&mut self, at: Position);

    /// Index of the first entry of this member's log that another member may have to be sent; 0: no segment of the log
    /// may go, as another member's messages are coming in.
    fn kept_from(&self) -> u64 {
        u64::MAX
    }

    /// Whether so few members have space on their disks that nothing can be agreed on, as far as this one knows: it leads,
    /// or tries to.
    fn is_full(&self) -> bool;

    /// Why nothing will be agreed on any more, if so.
    fn failure(&self) -> Option<LogError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = Position {
            index: 7,
            term: u64::MAX,
            members: Bytes::from_static(b"a, b and c"),
        };
        let mut bytes = Vec::new();
        position.write(&mut bytes).expect("to memory");
        bytes.extend_from_slice(b"what follows");
        let mut rest = &bytes[..];
        assert_eq!(Position::read(&mut rest).expect("it is one"), position);
        assert_eq!(rest, b"what follows");
        assert!(Position::read(&mut &bytes[..29]).is_err(), "it ends early");
    }

    #[test]
    fn members_of_any_length_are_not_reserved_memory_for() {
        let mut bytes = [0; 20];
        bytes[16..].fill(0xFF);
        let error = Position::read(&mut &bytes[..]).expect_err("4 GiB");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let members = vec![0; MEMBERS_BYTES_MAX + 1].into();
        let position = Position {
            members,
            ..Position::default()
        };
        assert!(position.write(&mut io::sink()).is_err());
    }
}
