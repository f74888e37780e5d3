//! A proxy of a fleet: shards that devices connect to, and their links to the group. It keeps nothing that must
//! survive it.
//!
//! Order of the start: addresses are reserved, the admin port answers ("starting"), the shards listen, the links come
//! up, and then the proxy is ready. The MQTT port is open whatever becomes of the links: connected devices keep their
//! sockets, and a CONNECT waits for the group a while before it is refused.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use cluster::slots::GroupNo;
use cluster::topology::Topology;
use proxy::counters::ProxyCounters;
use proxy::link::ShardPoll;
use proxy::link_client::{LinkClient, LinkClientConfig, RunningLinkClient};

use crate::admin::{Admin, Health, Phase};
use crate::banner;
use crate::config::Settings;
use crate::figures;
use crate::listen::DevicePorts;
use crate::metrics::{self, Metrics};
use crate::node::{Node, NodeError};
use crate::reload;
use crate::shards::{self, Prepared, incarnation};
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
    let (mqtt, admin_address) = (ports.mqtt(), admin.address());
    let counters: Vec<Arc<ProxyCounters>> = (0..settings.shards).map(|_| Arc::default()).collect();

    let (prepared, links) = link(settings, node, &topology, group)?;
    let mut metrics = Metrics::default();
    metrics::add_process(&mut metrics);
    figures::add_shards(&mut metrics, &counters);
    figures::add_links(&mut metrics, links.counters().to_vec());
    let skew = figures::Later::default();
    figures::add_skew(&mut metrics, skew.clone());
    skew.set(topology);
    let health = Arc::new(Health::starting());
    let _admin = Admin::start(
        admin.open()?.swap_remove(0),
        format!("MQTT on {mqtt}"),
        Arc::clone(&health),
        metrics.publish(),
    )?;
    tracing::warn!("no session store is configured: this proxy keeps no session records");

    // A link is up once its shard has said which sessions it holds, so the shards come first.
    let shards = shards::start(prepared, settings, ports, &counters, || None, &stopper)?;
    if !await_links(&links, settings.shards, &reasons)? {
        shards.drain();
        return Ok(links.stop(Duration::ZERO)?);
    }
    health.enter(Phase::Ready);
    banner::show_text(&format!(
        "mqtt-fleet {} proxy {} of fleet {}\n  listening on  {mqtt} (MQTT 3.1, 3.1.1, 5)\n  admin         \
         http://{admin_address}/\n",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.file.fixed.cluster_id,
    ));
    end(&reasons, &health, || {
        shards.drain();
        Ok(links.stop(settings.proxy.drain)?)
    })
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
