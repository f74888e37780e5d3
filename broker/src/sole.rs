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
use crate::log::{LogError, LogHandle, META_STREAM, SnapshotStore};
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
    let has = |stream| {
        segments
            .iter()
            .any(|segment| segment.last(stream).is_some())
    };
    if has(META_STREAM) {
        return Ok(false);
    }
    let Some(mut snapshot) = files.latest(GROUP_STREAM)? else {
        return Ok(has(GROUP_STREAM));
    };
    // A position begins with the snapshot's index, a machine with a word and a small number.
    let mut first = [0; 8];
    let read = snapshot.content.read_exact(&mut first);
    read.map_err(|error| LogError::snapshot("read", error))?;
    Ok(u64::from_le_bytes(first) != snapshot.index)
}
