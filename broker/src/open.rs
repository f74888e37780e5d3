//! Opening a group: the newest snapshots, the log behind them, and a leader over the result.

use crate::group::{GROUP_STREAM, Group, GroupWaker, LinkEnd, RunningGroup, clocks};
use crate::leader::{Leader, Routes};
use crate::limits::MachineLimits;
use crate::log::{
    Durability, Log, LogError, LogHandle, LogOptions, ReplayStats, STORE_STREAM, SnapshotStore,
};
use crate::snapshots::{Journalled, Sizes, Snapshots, replay};
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Segments of a log in memory are at most this large, in bytes.
const MEMORY_SEGMENT_BYTES_MAX: u32 = 2 << 20;

/// How a group is opened.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The data folder; made if missing. Not touched with [`Durability::Memory`].
    pub data: PathBuf,
    /// The log's options.
    pub log: LogOptions,
    /// Limits of the machine.
    pub limits: MachineLimits,
    /// A snapshot is built whenever the log has grown by this many bytes.
    pub snapshot_bytes: u64,
}

/// A group that is replayed and not running yet.
pub struct OpenGroup {
    leader: Leader,
    log: LogHandle,
    snapshots: Snapshots,
    started: Instant,
    waker: GroupWaker,
    journalled: u64,
    stats: ReplayStats,
}

impl OpenGroup {
    /// Takes the data folder, restores and replays. `store` is the node's embedded session store, still empty.
    pub fn open(mut options: GroupOptions, store: Box<dyn Journalled>) -> Result<Self, LogError> {
        let started = Instant::now();
        let waker = GroupWaker::default();
        let wake = waker.clone();
        let on_disk = options.log.durability != Durability::Memory;
        if !on_disk {
            // Memory is given back by the segment.
            options.log.segment_bytes = options.log.segment_bytes.min(MEMORY_SEGMENT_BYTES_MAX);
        }
        let sizes = Sizes {
            bytes_between: options.snapshot_bytes,
            segment_bytes: u64::from(options.log.segment_bytes),
        };
        let (log, mut records) =
            Log::open(&options.data, options.log, Box::new(move || wake.wake()))?;
        let files = on_disk
            .then(|| SnapshotStore::open(&options.data))
            .transpose()?;
        let template = store.fresh();
        let mut snapshots = Snapshots::new(files, options.limits, template, sizes, waker.clone());
        let mut restored = snapshots.restore(store)?;
        records.start_at(GROUP_STREAM, restored.applied + 1);
        records.start_at(STORE_STREAM, restored.journalled + 1);
        replay(&mut restored, &mut records)?;
        let stats = records.stats().clone();
        snapshots.replayed(stats.bytes);
        let leader = Leader::new(restored.state, restored.applied, clocks(started));
        Ok(Self {
            leader,
            log,
            snapshots,
            started,
            waker,
            journalled: restored.journalled,
            stats,
        })
    }

    /// The log, for the embedded store's journal (stream [`STORE_STREAM`]).
    pub fn log(&self) -> &LogHandle {
        &self.log
    }

    /// Index of the store's last journal record.
    pub fn journalled(&self) -> u64 {
        self.journalled
    }

    /// What was found on disk.
    pub fn replay_stats(&self) -> &ReplayStats {
        &self.stats
    }

    /// Wakes the group's thread; for the links' mailbags.
    pub fn waker(&self) -> GroupWaker {
        self.waker.clone()
    }

    /// The group is one of several.
    pub fn route(&mut self, own: GroupNo, routing: Arc<Routing>) {
        self.leader.route(Routes { own, routing });
    }

    /// The machine as a snapshot has it.
    #[cfg(test)]
    pub(crate) fn snapshot(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.leader.begin_snapshot();
        assert!(self.leader.put_snapshot(&mut bytes, usize::MAX));
        bytes
    }

    /// Starts the group's thread. `on_failure` is called once if the log fails; nothing is acknowledged after that.
    pub fn start(
        self,
        links: Vec<LinkEnd>,
        on_failure: Box<dyn FnOnce(&LogError) + Send>,
    ) -> std::io::Result<RunningGroup> {
        let group = Group::new(self.leader, self.log, links, self.snapshots, self.started);
        RunningGroup::start(group, self.waker, on_failure)
    }
}
