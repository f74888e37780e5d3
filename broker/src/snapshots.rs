//! Snapshots in the background, and segments given back to the log.
//!
//! A snapshot is the index only: what the machine knows, with references to messages in the log. It is
//! built by a thread of its own from the previous snapshot and the log behind it, never from the live
//! machine, which goes on meanwhile. A segment goes when a snapshot covers all its entries and none of its
//! messages is referred to any more.

use crate::command_codec;
use crate::group::GROUP_STREAM;
use crate::leader::Leader;
use crate::limits::MachineLimits;
use crate::log::{LogError, LogHandle, STORE_STREAM, SnapshotStore};
use crate::machine::{Effects, State};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// A table that keeps its journal in the node's log beside the group: the embedded session store.
///
/// All methods are called on a second instance, built for the snapshot; the live one is not touched.
pub trait Journalled: Send {
    /// An empty table of the same kind.
    fn fresh(&self) -> Box<dyn Journalled>;
    /// Fills an empty table from a snapshot.
    fn restore(&mut self, from: &mut dyn Read) -> std::io::Result<()>;
    /// Applies one journal record.
    fn replay(&mut self, body: &[u8]) -> std::io::Result<()>;
    /// Writes the table.
    fn snapshot(&self, to: &mut dyn Write) -> std::io::Result<()>;
}

/// A table and how far its stream has been replayed into it.
pub(crate) struct Restored {
    pub(crate) state: State,
    /// Index of the last entry in `state`.
    pub(crate) applied: u64,
    pub(crate) store: Box<dyn Journalled>,
    /// Index of the last journal record in `store`.
    pub(crate) journalled: u64,
}

/// Where the newest snapshots stand.
#[derive(Clone, Copy, Debug, Default)]
struct Covered {
    group: u64,
    store: u64,
}

/// Builds snapshots when the log has grown enough, and releases segments.
pub(crate) struct Snapshots {
    files: Option<Arc<SnapshotStore>>,
    limits: MachineLimits,
    template: Box<dyn Journalled>,
    covered: Covered,
    /// Log bytes at the last snapshot.
    bytes: u64,
    bytes_between: u64,
    running: Option<JoinHandle<Result<Covered, LogError>>>,
    review: bool,
}

impl Snapshots {
    /// `files` is `None` for a log in memory: then there is nothing to restart from, and a segment goes
    /// when its entries are applied and its messages gone.
    pub(crate) fn new(
        files: Option<SnapshotStore>,
        limits: MachineLimits,
        template: Box<dyn Journalled>,
        bytes_between: u64,
    ) -> Self {
        Self {
            files: files.map(Arc::new),
            limits,
            template,
            covered: Covered::default(),
            bytes: 0,
            bytes_between,
            running: None,
            review: true,
        }
    }

    /// The state as the newest snapshots have it, with the live `store`; empty where there is none.
    pub(crate) fn restore(&mut self, store: Box<dyn Journalled>) -> Result<Restored, LogError> {
        let restored = restore(self.files.as_deref(), &self.limits, store)?;
        self.covered = Covered {
            group: restored.applied,
            store: restored.journalled,
        };
        Ok(restored)
    }

    /// Looks after a snapshot under way, starts one if it is time, and releases what is not needed.
    pub(crate) fn turn(&mut self, leader: &mut Leader, log: &LogHandle) -> Result<(), LogError> {
        self.review |= !leader.take_freed().is_empty();
        if self.files.is_none() {
            self.covered = Covered {
                group: leader.applied(),
                store: u64::MAX,
            };
        } else if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            let thread = self.running.take().expect("checked above");
            self.covered = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            self.review = true;
        } else if self.running.is_none() {
            self.start_if_due(leader, log)?;
        }
        if std::mem::take(&mut self.review) {
            self.release(leader, log);
        }
        Ok(())
    }

    fn start_if_due(&mut self, leader: &Leader, log: &LogHandle) -> Result<(), LogError> {
        let bytes = log.stats().bytes.load(Ordering::Relaxed);
        if bytes.saturating_sub(self.bytes) < self.bytes_between {
            return Ok(());
        }
        let Some(files) = self.files.clone() else {
            return Ok(());
        };
        self.bytes = bytes;
        let (target, log, limits) = (leader.applied(), log.clone(), self.limits.clone());
        let store = self.template.fresh();
        let body = move || build(&files, &log, &limits, store, target);
        let thread = std::thread::Builder::new()
            .name("snapshot".into())
            .spawn(body);
        self.running =
            Some(thread.map_err(|error| LogError::snapshot("start the thread of", error))?);
        Ok(())
    }

    fn release(&self, leader: &Leader, log: &LogHandle) {
        let live: Vec<u32> = leader.state().live_segments();
        let covered = |stream, last| match stream {
            GROUP_STREAM => last <= self.covered.group,
            STORE_STREAM => last <= self.covered.store,
            _ => false,
        };
        let mut segments = log.segments();
        segments.pop();
        let done = segments.into_iter().filter(|segment| {
            live.binary_search(&segment.id).is_err()
                && segment
                    .streams
                    .iter()
                    .all(|range| covered(range.stream, range.last))
        });
        let done: Vec<u32> = done.map(|segment| segment.id).collect();
        if !done.is_empty() {
            log.release(&done);
        }
    }
}

fn restore(
    files: Option<&SnapshotStore>,
    limits: &MachineLimits,
    store: Box<dyn Journalled>,
) -> Result<Restored, LogError> {
    let state = State::new(limits.clone());
    let mut restored = Restored {
        state,
        applied: 0,
        store,
        journalled: 0,
    };
    let Some(files) = files else {
        return Ok(restored);
    };
    if let Some(mut snapshot) = files.latest(GROUP_STREAM)? {
        restored.applied = snapshot.index;
        restored.state = State::restore(&mut snapshot.content, limits.clone())
            .map_err(|error| LogError::snapshot("restore", std::io::Error::other(error)))?;
    }
    if let Some(mut snapshot) = files.latest(STORE_STREAM)? {
        restored.journalled = snapshot.index;
        restored
            .store
            .restore(&mut snapshot.content)
            .map_err(|error| LogError::snapshot("restore", error))?;
    }
    Ok(restored)
}

/// The snapshot thread: previous snapshots, then the log up to `target`, then the new ones.
fn build(
    files: &SnapshotStore,
    log: &LogHandle,
    limits: &MachineLimits,
    store: Box<dyn Journalled>,
    target: u64,
) -> Result<Covered, LogError> {
    let mut at = restore(Some(files), limits, store)?;
    let starts = [
        (GROUP_STREAM, at.applied + 1),
        (STORE_STREAM, at.journalled + 1),
    ];
    replay(&mut at, &mut log.replay(&starts)?, target)?;
    files.write(GROUP_STREAM, at.applied, |to| at.state.snapshot(to))?;
    files.write(STORE_STREAM, at.journalled, |to| at.store.snapshot(to))?;
    files.prune(GROUP_STREAM, 1)?;
    files.prune(STORE_STREAM, 1)?;
    Ok(Covered {
        group: at.applied,
        store: at.journalled,
    })
}

/// Applies records of both streams until the group's entry `target` is in.
pub(crate) fn replay(
    at: &mut Restored,
    records: &mut crate::log::Replay,
    target: u64,
) -> Result<(), LogError> {
    let mut effects = Effects::default();
    for record in records {
        let record = record?;
        match record.stream {
            GROUP_STREAM if record.index > target => break,
            GROUP_STREAM => {
                let entry = command_codec::decode_entry(record.index, &record.body, record.at)
                    .map_err(|error| {
                        LogError::snapshot("decode an entry of", std::io::Error::other(error))
                    })?;
                for command in entry.commands {
                    at.state
                        .apply(entry.index, entry.time_ms, command, &mut effects);
                    effects.clear();
                }
                at.applied = record.index;
            }
            STORE_STREAM => {
                at.store
                    .replay(&record.body)
                    .map_err(|error| LogError::snapshot("replay", error))?;
                at.journalled = record.index;
            }
            _ => {}
        }
    }
    Ok(())
}
