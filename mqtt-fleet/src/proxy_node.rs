//! A proxy of a fleet: shards that devices connect to, and their links to the group. It keeps nothing that must
//! survive it.
//!
//! Order of the start: addresses are reserved, the admin port answers ("starting"), the shards listen, the links come
//! up, and then the proxy is ready. The MQTT port is open whatever becomes of the links: connected devices keep their
//! sockets, and a CONNECT waits for the group a while before it is refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use cluster::slots::GroupNo;
use cluster::topology::Topology;
use proxy::counters::ProxyCounters;
use proxy::link::ShardPoll;
use proxy::link_client::{LinkClient, LinkClientConfig, RunningLinkClient};
use session_store::{RedisConfig, RedisStore};

use crate::admin::{Admin, Health, Phase};
use crate::banner;
use crate::config::Settings;
use crate::figures;
use crate::listen::DevicePorts;
use crate::metrics::{self, Metrics};
use crate::node::{Node, NodeError};
use crate::reload;
use crate::shards::{self, Prepared, RunningShards, incarnation};
use crate::standalone::{RunError, admin_place, begin, end};
use crate::stop::Stop;

/// How often a proxy that starts looks at its links.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it says that it still waits for them.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// Runs the proxy until a signal stops it (`Ok`) or it cannot go on.
pub(crate) fn run(settings: &Settings, node: &Node) -> Result<(), RunError> {
    let (stopper, reasons) = begin(settings)?;
    let topology = node.topology()?;
    let group = only_group(&topology)?;
    let admin = admin_place(settings).reserve(1)?;
    let ports = DevicePorts::reserve(settings)?;
    reload::watch(settings.tls.as_ref().map(|port| Arc::clone(&port.acceptor)))?;
    let text = banner(settings, node, &ports, admin.address());
    let counters: Vec<Arc<ProxyCounters>> = (0..settings.shards).map(|_| Arc::default()).collect();

    let (prepared, links) = link(settings, node, &topology, group)?;
    let mut metrics = Metrics::default();
    metrics::add_process(&mut metrics);
    figures::add_shards(&mut metrics, &counters);
    figures::add_links(&mut metrics, links.counters().to_vec());
    let skew = figures::Later::default();
    figures::add_skew(&mut metrics, skew.clone());
    skew.set(topology);
    let store = open_store(settings)?;
    if let Some(store) = &store {
        figures::add_store(&mut metrics, store.clone());
        if let Some(tls) = &settings.tls {
            tls.acceptor.share_ticket_keys(store);
        }
    }
    let health = Arc::new(Health::starting());
    let _admin = Admin::start(
        admin.open()?.swap_remove(0),
        format!("MQTT on {}", ports.mqtt()),
        Arc::clone(&health),
        metrics.publish(),
    )?;

    let records = || None;
    // A link is up once its shard has said which sessions it holds, so the shards come first.
    let shards = shards::start(prepared, settings, ports, &counters, records, &stopper)?;
    let up = await_links(&links, settings.shards, &reasons)?;
    let serving = Serving {
        shards,
        links,
        store,
    };
    if !up {
        return serving.stop(Duration::ZERO);
    }
    health.enter(Phase::Ready);
    banner::show_text(&text);
    end(&reasons, &health, || serving.stop(settings.proxy.drain))
}

/// A proxy that serves.
struct Serving {
    shards: RunningShards,
    links: RunningLinkClient,
    store: Option<RedisStore>,
}

impl Serving {
    /// Takes leave of the devices, then waits until group and store have what they brought, each at most `limit`.
    fn stop(self, limit: Duration) -> Result<(), RunError> {
        self.shards.drain();
        self.links.stop(limit)?;
        let left = self.store.map_or(0, |store| store.close(limit));
        if left > 0 {
            tracing::warn!(
                records = left,
                "Redis did not take the last session records"
            );
        }
        Ok(())
    }
}

fn banner(settings: &Settings, node: &Node, ports: &DevicePorts, admin: SocketAddr) -> String {
    let tls = ports
        .tls()
        .map_or_else(String::new, |tls| format!("  with TLS      {tls}\n"));
    let store = settings.redis.as_ref();
    let store = store.map_or_else(|| "none".to_owned(), RedisConfig::addresses);
    format!(
        "mqtt-fleet {} proxy {} of fleet {}\n  listening on  {} (MQTT 3.1, 3.1.1, 5)\n{tls}  session store \
         {store}\n  admin         http://{admin}/\n",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.file.fixed.cluster_id,
        ports.mqtt(),
    )
}

/// The session store as configured. It need not be there yet.
fn open_store(settings: &Settings) -> Result<Option<RedisStore>, RunError> {
    let Some(config) = &settings.redis else {
        tracing::warn!("no session store is configured (redis.urls)");
        return Ok(None);
    };
    let store = RedisStore::start(config.clone())?;
    if let Some(port) = &settings.tls {
        port.acceptor.share_ticket_keys(&store);
    }
    Ok(Some(store))
}

/// The group of this fleet. Here, and only here, a proxy says that it cannot do with several yet.
fn only_group(topology: &Topology) -> Result<GroupNo, NodeError> {
    match topology.groups.as_slice() {
        [group] => Ok(group.weight.group),
        groups => Err(NodeError::SeveralGroups(groups.len())),
    }
}

/// The shards with their links, which begin to connect.
fn link(
    settings: &Settings,
    node: &Node,
    topology: &Topology,
    group: GroupNo,
) -> Result<(Vec<Prepared>, RunningLinkClient), RunError> {
    let members = topology.members(group).iter();
    let mut client = LinkClient::new(LinkClientConfig {
        fixed: node.file.fixed.hash().0,
        group: u32::from(group.0),
        brokers: members.map(|member| member.link.to_string()).collect(),
        name: node.name.as_str().into(),
        node: node.name.number(),
        incarnation: incarnation(),
        secret: node.secret.bytes().into(),
    })?;
    let mut prepared = Vec::with_capacity(settings.shards);
    for _ in 0..settings.shards {
        let poll = ShardPoll::new()?;
        let link = client.link(poll.waker())?;
        prepared.push(Prepared { poll, link });
    }
    Ok((prepared, client.start()?))
}

/// Waits until every shard has its link; `false` when a signal comes first.
fn await_links(
    links: &RunningLinkClient,
    shards: usize,
    reasons: &Receiver<Stop>,
) -> Result<bool, RunError> {
    let mut reminder = Instant::now() + REMIND_EVERY;
    while links.up() < shards {
        match reasons.recv_timeout(LOOK_EVERY) {
            Ok(Stop::Signal) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Ok(Stop::Fault(fault)) => return Err(fault),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() >= reminder {
            reminder += REMIND_EVERY;
            tracing::warn!("still no link to the group; devices are let in when there is one");
        }
    }
    Ok(true)
}
