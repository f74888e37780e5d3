//! What else is in a snapshot: the embedded session store.

use crate::log::{LogError, Record, STORE_STREAM, SnapshotStore};
use std::io::{self, Read, Write};

/// A table that keeps its journal in the node's log beside the group: the embedded session store.
///
/// The live table is filled once, at start. Its snapshots are built from further instances ([`Journalled::fresh`]);
/// the live one is not touched by them.
pub trait Journalled: Send {
    /// An empty table of the same kind.
    fn fresh(&self) -> Box<dyn Journalled>;
    /// Fills an empty table from a snapshot.
    fn restore(&mut self, from: &mut dyn Read) -> io::Result<()>;
    /// Applies one journal record.
    fn replay(&mut self, body: &[u8]) -> io::Result<()>;
    /// Writes the table.
    fn snapshot(&self, to: &mut dyn Write) -> io::Result<()>;
}

/// No table: for a group beside which nobody keeps a journal. A folder in which somebody does is refused.
impl Journalled for () {
    fn fresh(&self) -> Box<dyn Journalled> {
        Box::new(())
    }

    fn restore(&mut self, from: &mut dyn Read) -> io::Result<()> {
        match io::copy(from, &mut io::sink())? {
            0 => Ok(()),
            _ => Err(somebodys_journal()),
        }
    }

    fn replay(&mut self, _body: &[u8]) -> io::Result<()> {
        Err(somebodys_journal())
    }

    fn snapshot(&self, _to: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn somebodys_journal() -> io::Error {
    let text = "the folder has session records, and this group is opened without a session store";
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Fills an empty table from the newest snapshot; index of the last journal record in it.
pub(super) fn restore_store(
    files: &SnapshotStore,
    store: &mut dyn Journalled,
) -> Result<u64, LogError> {
    let Some(mut snapshot) = files.latest(STORE_STREAM)? else {
        return Ok(0);
    };
    let restored = store.restore(&mut snapshot.content);
    restored.map_err(|error| LogError::snapshot("restore", error))?;
    Ok(snapshot.index)
}

/// Replays a journal record into a table.
pub(super) fn replay_journal(store: &mut dyn Journalled, record: &Record) -> Result<(), LogError> {
    let replayed = store.replay(&record.body);
    replayed.map_err(|error| LogError::snapshot("replay", error))
}
