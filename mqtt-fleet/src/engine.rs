//! The running parts of a standalone broker: one group, its log, and the proxy shards.
//!
//! Start: open the data and replay, start the group, wait until it serves, then let the shards listen.
//! Stop: drain the shards, then stop the group, which stores what it still has.

use std::sync::Arc;
use std::time::Duration;

use broker::command::Producer;
use broker::group::{LinkEnd, RunningGroup};
use broker::log::LogError;
use broker::{GroupOptions, Journalled, OpenGroup};
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use proxy::counters::ProxyCounters;
use proxy::link::ShardWaker;

use crate::config::Settings;
use crate::listen::DevicePorts;
use crate::shards::{self, Prepared, RunningShards, incarnation};
use crate::standalone::RunError;
use crate::stop::Stopper;
use crate::store::Store;

/// The number of the one group there is; nobody asks for it.
const ONLY_GROUP: GroupNo = GroupNo(0);
/// A group that has not stored the first entry of its reign after this long has a disk that hangs.
const SERVING_WAIT: Duration = Duration::from_secs(60);
/// A snapshot is built whenever the log has grown by so many segments.
const SEGMENTS_PER_SNAPSHOT: u64 = 4;

/// A broker that is replayed and serves nobody yet.
pub(crate) struct Engine {
    group: RunningGroup,
    shards: Vec<Prepared>,
    store: Store,
}

/// A broker that serves.
pub(crate) struct Serving {
    group: RunningGroup,
    shards: RunningShards,
}

impl Engine {
    /// Opens the data folder, replays, and starts the group.
    pub(crate) fn open(settings: &Settings, stopper: &Stopper) -> Result<Self, RunError> {
        let (store, journal) = Store::new();
        let group = open_group(settings, store.live())?;
        journal.open(&group);
        let prepare = |_| {
            let group = group.waker();
            Prepared::with_group(ONLY_GROUP, Box::new(move || group.wake()))
        };
        let prepared = (0..settings.shards).map(prepare);
        let (shards, links): (Vec<_>, Vec<_>) =
            prepared.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let incarnation = incarnation();
        let links = (0_u32..).zip(links).map(|(shard, link)| LinkEnd {
            producer: Producer {
                node: 0,
                shard,
                incarnation,
            },
            to_group: Arc::clone(&link.to_group),
            from_group: Arc::clone(&link.to_shard),
        });
        let group = group.start(links.collect(), on_failure(stopper))?;
        Ok(Self {
            group,
            shards,
            store,
        })
    }

    /// Waits until the group serves, then opens the shards' listeners, in order.
    pub(crate) fn serve(
        self,
        settings: &Settings,
        stopper: &Stopper,
        ports: DevicePorts,
        counters: &[Arc<ProxyCounters>],
    ) -> Result<Serving, RunError> {
        wait_until_serving(&self.group)?;
        let store = self.store;
        let records = |_: &ShardWaker| Some(store.records());
        let routing = Arc::new(Routing::one_group(ONLY_GROUP));
        let shards = shards::start(
            self.shards,
            &routing,
            settings,
            ports,
            counters,
            records,
            stopper,
        )?;
        Ok(Serving {
            group: self.group,
            shards,
        })
    }

    /// The group, to read its figures.
    pub(crate) fn group(&self) -> &RunningGroup {
        &self.group
    }
}

impl Serving {
    /// Drains the shards within the deadline they were given, then stores what is left and stops.
    pub(crate) fn stop(self) -> Result<(), RunError> {
        self.shards.drain();
        Ok(self.group.stop()?)
    }
}

/// Takes the data folder and replays. `store` is the embedded session store of the process, still empty.
pub(crate) fn open_group(
    settings: &Settings,
    store: Box<dyn Journalled>,
) -> Result<OpenGroup, RunError> {
    let group = OpenGroup::open(group_options(settings), store)?;
    if let Some((file, offset)) = &group.replay_stats().torn {
        let bytes = group.replay_stats().torn_bytes;
        tracing::warn!(file = %file.display(), offset, bytes, "cut a torn end off the log: nothing in it was acknowledged");
    }
    Ok(group)
}

/// Reports a failed log as the reason why the process ends.
pub(crate) fn on_failure(stopper: &Stopper) -> Box<dyn FnOnce(&LogError) + Send> {
    let stopper = stopper.clone();
    Box::new(move |error| stopper.fault(error.clone().into()))
}

/// Waits until the group has stored the first entry of its reign.
pub(crate) fn wait_until_serving(group: &RunningGroup) -> Result<(), RunError> {
    if group.wait_until_serving(SERVING_WAIT) {
        return Ok(());
    }
    Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
}

/// How the group is opened.
pub(crate) fn group_options(settings: &Settings) -> GroupOptions {
    GroupOptions {
        data: settings.data.clone(),
        snapshot_bytes: u64::from(settings.log.segment_bytes) * SEGMENTS_PER_SNAPSHOT,
        log: settings.log.clone(),
        limits: settings.machine.clone(),
    }
}
