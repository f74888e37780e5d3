//! The thread that writes a snapshot: the group's slices, then the session store's table from its journal.

use super::slices::SlicesOut;
use super::{Covered, Journalled, replay_journal, restore_store};
use crate::group::GROUP_STREAM;
use crate::log::{LogError, LogHandle, STORE_STREAM, SnapshotStore, StreamRange};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What it has to write.
pub(super) struct Writer {
    pub(super) files: Arc<SnapshotStore>,
    pub(super) slices: SlicesOut,
    /// Index of the last entry in the slices.
    pub(super) target: u64,
    pub(super) log: LogHandle,
    /// An empty table.
    pub(super) store: Box<dyn Journalled>,
    pub(super) before: Covered,
    pub(super) stop: Arc<AtomicBool>,
}

impl Writer {
    /// Where the snapshots stand then: as before if they were given up.
    pub(super) fn write(mut self) -> Result<Covered, LogError> {
        let written = self
            .files
            .write(GROUP_STREAM, self.target, |to| self.slices.write(to));
        match written {
            Err(_) if self.slices.is_given_up() => return Ok(self.before),
            written => written?,
        };
        let store = self.journal()?;
        self.files.prune(GROUP_STREAM, 1)?;
        Ok(Covered {
            group: self.target,
            store,
        })
    }

    /// The snapshot of the session store: the last one, and its journal up to the group's entry `target`. What the
    /// log has written but not stored yet must not get into a snapshot, a power cut would take it from the log only.
    fn journal(&mut self) -> Result<u64, LogError> {
        let before = self.before;
        let segments = self.log.segments();
        let mut ranges = segments.iter().flat_map(|segment| &segment.streams);
        let is_news =
            |range: &StreamRange| range.stream == STORE_STREAM && range.last > before.store;
        if before.group >= self.target || !ranges.any(is_news) {
            return Ok(before.store);
        }
        let mut journalled = restore_store(&self.files, &mut *self.store)?;
        let starts = [
            (GROUP_STREAM, before.group + 1),
            (STORE_STREAM, journalled + 1),
        ];
        for record in self.log.replay(&starts)? {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(before.store);
            }
            let record = record?;
            match record.stream {
                GROUP_STREAM if record.index >= self.target => break,
                STORE_STREAM => {
                    replay_journal(&mut *self.store, &record)?;
                    journalled = record.index;
                }
                _ => {}
            }
        }
        self.files
            .write(STORE_STREAM, journalled, |to| self.store.snapshot(to))?;
        self.files.prune(STORE_STREAM, 1)?;
        Ok(journalled)
    }
}
