//! The running parts of a standalone broker: one group, its log, and the proxy shards.
//!
//! Start: open the data and replay, start the group, wait until it serves, then let the shards listen.
//! Stop: drain the shards, then stop the group, which stores what it still has.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use broker::command::Producer;
use broker::group::{AbortOnPanic, GroupWaker, LinkEnd, RunningGroup};
use broker::{GroupOptions, OpenGroup};
use cluster::mailbag::Wake;
use proxy::auth::AcceptAll;
use proxy::counters::ProxyCounters;
use proxy::limits::ProxyLimits;
use proxy::link::{GroupLink, ShardPoll};
use proxy::shard::{ListenerConfig, Shard, ShardConfig, ShardHandle};

use crate::config::Settings;
use crate::listen::Reserved;
use crate::standalone::RunError;
use crate::stop::Stopper;
use crate::store::Store;

/// A group that has not stored the first entry of its reign after this long has a disk that hangs.
const SERVING_WAIT: Duration = Duration::from_secs(60);
/// Descriptors for the log, the admin port and the threads' own.
const OWN_DESCRIPTORS: u64 = 96;
/// A snapshot is built whenever the log has grown by so many segments.
const SEGMENTS_PER_SNAPSHOT: u64 = 4;

/// A broker that is replayed and serves nobody yet.
pub(crate) struct Engine {
    group: RunningGroup,
    shards: Vec<Prepared>,
    store: Store,
}

/// A shard that has everything but its listener.
struct Prepared {
    poll: ShardPoll,
    link: Arc<GroupLink>,
}

/// A broker that serves.
pub(crate) struct Serving {
    group: RunningGroup,
    shards: Vec<(ShardHandle, JoinHandle<()>)>,
}

impl Engine {
    /// Opens the data folder, replays, and starts the group.
    pub(crate) fn open(settings: &Settings, stopper: &Stopper) -> Result<Self, RunError> {
        let (store, journal) = Store::new();
        let group = OpenGroup::open(group_options(settings), store.live())?;
        journal.open(&group);
        if let Some((file, offset)) = &group.replay_stats().torn {
            let bytes = group.replay_stats().torn_bytes;
            tracing::warn!(file = %file.display(), offset, bytes, "cut a torn end off the log: nothing in it was acknowledged");
        }
        let shards: Vec<Prepared> = (0..settings.shards)
            .map(|_| prepare(&group.waker()))
            .collect::<Result<_, _>>()?;
        let incarnation = incarnation();
        let links = (0_u32..).zip(&shards).map(|(shard, prepared)| LinkEnd {
            producer: Producer {
                node: 0,
                shard,
                incarnation,
            },
            to_group: Arc::clone(&prepared.link.to_group),
            from_group: Arc::clone(&prepared.link.to_shard),
        });
        let stopper = stopper.clone();
        let failed = move |error: &broker::log::LogError| stopper.fault(error.clone().into());
        let group = group.start(links.collect(), Box::new(failed))?;
        Ok(Self {
            group,
            shards,
            store,
        })
    }

    /// Waits until the group serves, then opens the shards: one listener each, in order.
    pub(crate) fn serve(
        self,
        settings: &Settings,
        stopper: &Stopper,
        mqtt: Reserved,
        counters: &[Arc<ProxyCounters>],
    ) -> Result<Serving, RunError> {
        if !self.group.wait_until_serving(SERVING_WAIT) {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        }
        let limits = limits_within_descriptors(&settings.proxy);
        let store = self.store;
        let parts = self
            .shards
            .into_iter()
            .zip(mqtt.open()?)
            .zip(counters)
            .enumerate();
        let shards = parts.map(|(number, ((prepared, listener), counters))| {
            let config = ShardConfig {
                listeners: vec![ListenerConfig::plain(listener)],
                limits: limits.clone(),
                link: prepared.link,
                authenticator: Arc::new(AcceptAll),
                counters: Arc::clone(counters),
                records: Some(store.records()),
            };
            start_shard(number, Shard::new(prepared.poll, config)?, stopper.clone())
        });
        let shards = shards.collect::<std::io::Result<_>>()?;
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
        for (handle, _) in &self.shards {
            handle.drain();
        }
        for (_, thread) in self.shards {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        Ok(self.group.stop()?)
    }
}

fn prepare(group: &GroupWaker) -> std::io::Result<Prepared> {
    let poll = ShardPoll::new()?;
    let group = group.clone();
    let wake: Wake = Box::new(move || group.wake());
    let link = Arc::new(GroupLink::new(poll.waker(), wake));
    Ok(Prepared { poll, link })
}

fn start_shard(
    number: usize,
    shard: Shard,
    stopper: Stopper,
) -> std::io::Result<(ShardHandle, JoinHandle<()>)> {
    let handle = shard.handle();
    let body = move || {
        let _abort = AbortOnPanic;
        if let Err(error) = shard.run() {
            // The kernel refuses to poll: nothing of this shard works any more, and nothing can mend it.
            stopper.fault(error.into());
        }
    };
    let thread = std::thread::Builder::new()
        .name(format!("shard-{number}"))
        .spawn(body)?;
    Ok((handle, thread))
}

fn group_options(settings: &Settings) -> GroupOptions {
    GroupOptions {
        data: settings.data.clone(),
        snapshot_bytes: u64::from(settings.log.segment_bytes) * SEGMENTS_PER_SNAPSHOT,
        log: settings.log.clone(),
        limits: settings.machine.clone(),
    }
}

/// As many connections as there are descriptors for, less those the process needs itself.
fn limits_within_descriptors(configured: &ProxyLimits) -> ProxyLimits {
    let descriptors =
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let most = u32::try_from(descriptors.saturating_sub(OWN_DESCRIPTORS)).unwrap_or(u32::MAX);
    if configured.connections_max > most {
        tracing::info!(
            descriptors,
            connections_max = most,
            "fewer connections than configured: the descriptor limit"
        );
    }
    ProxyLimits {
        connections_max: configured.connections_max.min(most),
        ..configured.clone()
    }
}

/// Random, so that no two lives of a process are taken for one.
fn incarnation() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
