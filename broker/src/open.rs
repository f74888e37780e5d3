//! Opening a group: the newest snapshots, the log behind them, and a leader over the result.

use crate::alone::Alone;
use crate::consensus::{Consensus, Position};
use crate::group::{
    Agreement, GROUP_STREAM, Group, GroupWaker, LinkEnd, Members, Replica, RunningGroup, clocks,
};
use crate::leader::Routes;
use crate::limits::MachineLimits;
use crate::log::{
    Durability, Log, LogError, LogHandle, LogOptions, Replay, ReplayStats, STORE_STREAM,
    SnapshotStore,
};
use crate::snapshots::{Journalled, Sizes, Snapshots, replay};
use crate::sole::take_over;
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

/// What a member of a replicated group joins it with.
#[derive(Debug)]
pub struct Joining<'a> {
    /// Its log.
    pub log: LogHandle,
    /// What is in that; not read yet.
    pub records: &'a mut Replay,
    /// Its snapshots.
    pub files: SnapshotStore,
    /// Where the newest of them stands.
    pub position: Position,
    /// To be nudged when something has happened.
    pub waker: GroupWaker,
}

/// A group that is replayed and not running yet.
pub struct OpenGroup {
    replica: Replica,
    agreement: Agreement,
    routes: Option<Routes>,
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
        let mut restored = snapshots.restore(store, false)?;
        records.start_at(GROUP_STREAM, restored.applied + 1);
        records.start_at(STORE_STREAM, restored.journalled + 1);
        replay(&mut restored, &mut records)?;
        let stats = records.stats().clone();
        snapshots.replayed(stats.bytes, restored.applied);
        let mut replica = Replica::following(restored.state, restored.applied);
        replica.lead(clocks(started), None);
        let alone = Alone::new(log.clone(), restored.applied);
        Ok(Self {
            replica,
            agreement: Agreement::Alone(Box::new(alone)),
            routes: None,
            log,
            snapshots,
            started,
            waker,
            journalled: restored.journalled,
            stats,
        })
    }

    /// Takes the data folder of a member of a replicated group and restores its newest snapshot. `join` has what is in
    /// the log behind it, and gives back what the group's entries come from. `stored` is called from the log's thread
    /// whenever more is stored. A folder that a group without others has written is taken over: `sole` says where the
    /// group stands then, for the index of its last entry.
    pub fn open_member<E: From<LogError>>(
        options: GroupOptions,
        sole: impl FnOnce(u64) -> Position,
        stored: Box<dyn Fn() + Send + Sync>,
        join: impl FnOnce(Joining<'_>) -> Result<Box<dyn Consensus>, E>,
    ) -> Result<Self, E> {
        let started = Instant::now();
        let waker = GroupWaker::default();
        let nudge = waker.clone();
        let sizes = Sizes {
            bytes_between: options.snapshot_bytes,
            segment_bytes: u64::from(options.log.segment_bytes),
        };
        let wake = move || {
            stored();
            nudge.nudge_if_behind();
        };
        let (log, mut records) = Log::open(&options.data, options.log, Box::new(wake))?;
        let files = SnapshotStore::open(&options.data)?;
        if let Some(index) = take_over(&log, &files, &options.limits, sole)? {
            tracing::info!(
                index,
                "takes over the data of a group that had no way to others"
            );
        }
        let kept = Some(files.clone());
        let mut snapshots =
            Snapshots::new(kept, options.limits, Box::new(()), sizes, waker.clone());
        let restored = snapshots.restore(Box::new(()), true)?;
        records.start_at(GROUP_STREAM, restored.position.index + 1);
        let consensus = join(Joining {
            log: log.clone(),
            records: &mut records,
            files,
            position: restored.position.clone(),
            waker: waker.clone(),
        })?;
        let stats = records.stats().clone();
        // They come back from the consensus to be applied.
        snapshots.replayed(stats.bytes, records.reached(GROUP_STREAM).unwrap_or(0));
        let members = Members::new(consensus, restored.position);
        Ok(Self {
            replica: Replica::following(restored.state, restored.applied),
            agreement: Agreement::Members(Box::new(members)),
            routes: None,
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
        let routes = Routes { own, routing };
        if let Some(leader) = self.replica.leader_mut() {
            leader.route(routes.clone());
        }
        self.routes = Some(routes);
    }

    /// The machine as a snapshot has it.
    #[cfg(test)]
    pub(crate) fn snapshot(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.replica.begin_snapshot();
        assert!(self.replica.put_snapshot(&mut bytes, usize::MAX));
        bytes
    }

    /// Starts the group's thread. `on_failure` is called once if the log fails; nothing is acknowledged after that.
    pub fn start(
        self,
        links: Vec<LinkEnd>,
        on_failure: Box<dyn FnOnce(&LogError) + Send>,
    ) -> std::io::Result<RunningGroup> {
        let group = Group::new(
            self.replica,
            self.agreement,
            self.routes,
            self.log,
            links,
            self.snapshots,
            self.started,
        );
        RunningGroup::start(group, self.waker, on_failure)
    }
}
