//! The proxy shards of a process: prepared first, so that their links can be made; listening when there is
//! somebody to hand frames to.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use broker::group::AbortOnPanic;
use cluster::mailbag::Wake;
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use proxy::auth::AcceptAll;
use proxy::counters::ProxyCounters;
use proxy::limits::ProxyLimits;
use proxy::link::{GroupLink, ShardPoll, ShardWaker};
use proxy::records::RecordSink;
use proxy::shard::{Shard, ShardConfig, ShardHandle};

use crate::config::Settings;
use crate::listen::DevicePorts;
use crate::standalone::RunError;
use crate::stop::Stopper;

/// Descriptors for the log, the admin port and the session store.
const OWN_DESCRIPTORS: usize = 80;
/// Descriptors of a shard: its poll and what wakes it, and for each of two ports a socket and one held back.
const DESCRIPTORS_PER_SHARD: usize = 6;
/// Descriptors of a link of a shard: its connection, and what its carrier is woken by, counted as if it were alone.
const DESCRIPTORS_PER_LINK: usize = 3;

/// A shard that has everything but its listener.
pub(crate) struct Prepared {
    /// What it sleeps on.
    pub(crate) poll: ShardPoll,
    /// Its link to each group; the other ends belong to whoever carries the frames.
    pub(crate) links: Vec<(GroupNo, Arc<GroupLink>)>,
}

/// Shards that serve.
pub(crate) struct RunningShards(Vec<(ShardHandle, JoinHandle<()>)>);

impl Prepared {
    /// A shard whose frames all go to the group in this process, and are announced by `wake`; with its link.
    pub(crate) fn with_group(group: GroupNo, wake: Wake) -> io::Result<(Self, Arc<GroupLink>)> {
        let poll = ShardPoll::new()?;
        let link = Arc::new(GroupLink::new(poll.waker(), wake));
        let links = vec![(group, Arc::clone(&link))];
        Ok((Self { poll, links }, link))
    }
}

/// Opens the ports and starts a thread for each shard. `records` says where the session records of a shard go, which it can wake.
pub(crate) fn start(
    prepared: Vec<Prepared>,
    routing: &Arc<Routing>,
    settings: &Settings,
    ports: DevicePorts,
    counters: &[Arc<ProxyCounters>],
    mut records: impl FnMut(&ShardWaker) -> Option<Box<dyn RecordSink>>,
    stopper: &Stopper,
) -> Result<RunningShards, RunError> {
    let links = prepared.iter().map(|shard| shard.links.len()).sum();
    let limits = limits_within_descriptors(&settings.proxy, own_descriptors(prepared.len(), links));
    let rows = prepared.into_iter().zip(ports.open()?).zip(counters);
    let shards = rows
        .enumerate()
        .map(|(number, ((prepared, listeners), counters))| {
            let config = ShardConfig {
                listeners,
                limits: limits.clone(),
                links: prepared.links,
                routing: Arc::clone(routing),
                authenticator: Arc::new(AcceptAll),
                counters: Arc::clone(counters),
                records: records(prepared.poll.waker()),
            };
            start_one(number, Shard::new(prepared.poll, config)?, stopper.clone())
        });
    Ok(RunningShards(shards.collect::<io::Result<_>>()?))
}

fn start_one(
    number: usize,
    shard: Shard,
    stopper: Stopper,
) -> io::Result<(ShardHandle, JoinHandle<()>)> {
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

impl RunningShards {
    /// Drains the shards within the deadline they were given.
    pub(crate) fn drain(self) {
        for (handle, _) in &self.0 {
            handle.drain();
        }
        for (_, thread) in self.0 {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// What a process with so many shards, and so many links of all of them, needs beside its connections. Too little here
/// would leave a lost link without a descriptor to come back with, while connections have them all.
fn own_descriptors(shards: usize, links: usize) -> u64 {
    let own = OWN_DESCRIPTORS + shards * DESCRIPTORS_PER_SHARD + links * DESCRIPTORS_PER_LINK;
    own as u64
}

/// As many connections as there are descriptors for, less those the process needs itself.
fn limits_within_descriptors(configured: &ProxyLimits, own: u64) -> ProxyLimits {
    let descriptors =
        rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let most = u32::try_from(descriptors.saturating_sub(own)).unwrap_or(u32::MAX);
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
pub(crate) fn incarnation() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy for many devices: links to 12 groups from each of 16 shards.
    #[test]
    fn connections_leave_descriptors_for_every_shard_and_link() {
        let (shards, groups) = (16, 12);
        let mut kept = Vec::new();
        let before = open_descriptors();
        for _ in 0..shards {
            let (prepared, _) =
                Prepared::with_group(GroupNo(0), Box::new(|| {})).expect("descriptors are left");
            let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
            let spares = [(); 2].map(|()| std::fs::File::open("/dev/null"));
            kept.push((prepared, ports, spares));
        }
        let of_shards = open_descriptors() - before;
        let of_links = shards * groups + 2 * groups;
        let own = own_descriptors(shards, shards * groups) as usize;
        assert!(
            own >= OWN_DESCRIPTORS + of_shards + of_links,
            "{own} for {of_shards} of shards and {of_links} of links"
        );
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd")
            .expect("Linux says")
            .count()
    }
}
