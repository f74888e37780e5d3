//! The data folder of a group that had no way to others (`alone`), taken over by a member of a replicated group.
//!
//! Such a group writes neither terms nor votes nor a membership. So before the member reads anything, a snapshot is
//! written that has them, with the effect of all entries that are there: they are behind it, and never read as the
//! member's.
//!
//! Invariant: wherever that is cut short, the folder is one of either kind, and each start can tell which.

use crate::consensus::Position;
use crate::group::{GROUP_STREAM, Replica};
use crate::limits::{MachineLimits, SNAPSHOT_SLICE_BYTES};
use crate::log::{LogError, LogHandle, META_STREAM, STORE_STREAM, SnapshotStore};
use crate::raft::Recovered;
use crate::snapshots::{replay, restore};
use std::io::{self, Read, Write};

/// Takes a folder over if it is one. `position` says, for the index of the last entry, where the group stands from then
/// on. That index; `None`: there is nothing to take over.
pub(crate) fn take_over(
    log: &LogHandle,
    files: &SnapshotStore,
    limits: &MachineLimits,
    position: impl FnOnce(u64) -> Position,
) -> Result<Option<u64>, LogError> {
    if !is_without_others(log, files)? {
        return Ok(None);
    }
    let mut restored = restore(Some(files), limits, Box::new(()), false)?;
    let records = log.replay(&[(GROUP_STREAM, restored.applied + 1)])?;
    replay(&mut restored, records)?;
    let index = restored.applied;
    let position = position(index);
    let mut replica = Replica::following(restored.state, index);
    files.write(GROUP_STREAM, index, |to| {
        position.write(to)?;
        write_state(&mut replica, to)
    })?;
    files.prune(GROUP_STREAM, 1)?;
    Ok(Some(index))
}

fn write_state(replica: &mut Replica, to: &mut dyn Write) -> io::Result<()> {
    replica.begin_snapshot();
    let mut slice = Vec::new();
    loop {
        slice.clear();
        let is_last = replica.put_snapshot(&mut slice, SNAPSHOT_SLICE_BYTES);
        to.write_all(&slice)?;
        if is_last {
            return Ok(());
        }
    }
}

/// Whether there are entries, and they are those of a group that had no way to others. A member has written who it is
/// before it takes part, or begins with a snapshot that a position stands before.
fn is_without_others(log: &LogHandle, files: &SnapshotStore) -> Result<bool, LogError> {
    let segments = log.segments();
    let last = |stream| {
        let all = segments.iter();
        all.filter_map(|segment| segment.last(stream)).max()
    };
    match last(META_STREAM) {
        None => {}
        Some(1) if !has_taken_part(log)? => {}
        Some(_) => return Ok(false),
    }
    let Some(mut snapshot) = files.latest(GROUP_STREAM)? else {
        return Ok(last(GROUP_STREAM).is_some());
    };
    // A position begins with the snapshot's index, a machine with a word and a small number.
    let mut first = [0; 8];
    let read = snapshot.content.read_exact(&mut first);
    read.map_err(|error| LogError::snapshot("read", error))?;
    Ok(u64::from_le_bytes(first) != snapshot.index)
}

/// Whether a member has taken part in a group with this folder: one that has only waited for others wrote a single record.
fn has_taken_part(log: &LogHandle) -> Result<bool, LogError> {
    let mut recovered = Recovered::at(Position::default());
    for record in log.replay(&[(GROUP_STREAM, u64::MAX), (STORE_STREAM, u64::MAX)])? {
        let read = recovered.record(&record?);
        read.map_err(|error| {
            LogError::group("read", format!("a record of the member is {error}"))
        })?;
    }
    Ok(!recovered.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Appends, Log, LogOptions};

    /// Whether a folder is one to take over that has an entry, and this record of a member.
    fn is_taken_over(of_member: &[u8]) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || {
            let opened = Log::open(folder.path(), LogOptions::default(), Box::new(|| ()));
            opened.expect("a log").0
        };
        let files = SnapshotStore::open(folder.path()).expect("a folder for snapshots");
        let mut batch = Appends::new();
        for (stream, body) in [(META_STREAM, of_member), (GROUP_STREAM, b"an entry")] {
            batch.push(stream, 1, body).expect("it fits");
        }
        open().append(&mut batch).expect("healthy");
        is_without_others(&open(), &files).expect("readable")
    }

    #[test]
    fn a_member_that_only_waited_for_others_is_nobody_to_its_folder() {
        let waited = [&[2][..], &7_u64.to_le_bytes()].concat();
        assert!(is_taken_over(&waited));
        // Kind, life, no others, no vote.
        let took_part = [&[1][..], &[0; 8], &[0], &[0; 17]].concat();
        assert!(!is_taken_over(&took_part));
    }
}
