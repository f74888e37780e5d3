//! A proxy of a fleet: shards that devices connect to, and their links to the groups. It keeps nothing that must
//! survive it.
//!
//! Order of the start: addresses are reserved, the admin port answers ("starting"), the shards listen, the links come
//! up, and then the proxy is ready. The MQTT port is open whatever becomes of the links: connected devices keep their
//! sockets, and a CONNECT waits for the group a while before it is refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::topology::{Routing, SharedTopology};
use proxy::counters::ProxyCounters;
use proxy::link::ShardWaker;
use proxy::records::{RecordSink, RemoteRecords};
use session_store::{RedisConfig, RedisStore};

use crate::admin::{Admin, Fleet, Health, Phase};
use crate::banner;
use crate::config::Settings;
use crate::figures;
use crate::keeper::Keeper;
use crate::links::Links;
use crate::listen::DevicePorts;
use crate::metrics::{self, Metrics};
use crate::node::Node;
use crate::reload;
use crate::shards::{self, RunningShards};
use crate::standalone::{RunError, admin_place, begin, end};

/// Runs the proxy until a signal stops it (`Ok`) or it cannot go on.
pub(crate) fn run(settings: &Settings, node: &Node) -> Result<(), RunError> {
    let (stopper, reasons) = begin(settings)?;
    let topology = node.topology()?;
    node.keep(&topology)?;
    node.say(&topology);
    let routing = Arc::new(Routing::new(&node.file.fixed, &topology.table));
    let admin = admin_place(settings).reserve(1)?;
    let ports = DevicePorts::reserve(settings)?;
    reload::watch(settings)?;
    let text = banner(settings, node, &ports, admin.address());
    let counters: Vec<Arc<ProxyCounters>> = (0..settings.shards).map(|_| Arc::default()).collect();

    let shared = SharedTopology::new(topology);
    let keeper = Keeper::start(&shared, node, None)?;
    let (prepared, links) = Links::start(settings, node, &shared, &routing)?;
    let mut metrics = Metrics::default();
    metrics::add_process(&mut metrics);
    figures::add_shards(&mut metrics, &counters);
    figures::add_links(&mut metrics, links.counters());
    let fleet = figures::Later::default();
    figures::add_fleet(&mut metrics, fleet.clone());
    fleet.set(Fleet { shared, log: None });
    let store = open_store(settings)?;
    if let Some(store) = &store {
        figures::add_store(&mut metrics, store.clone());
    }
    let health = Arc::new(Health::starting());
    let _admin = Admin::start(
        admin.open()?.swap_remove(0),
        format!("MQTT on {}", ports.mqtt()),
        Arc::clone(&health),
        metrics.publish(),
        Some(fleet),
        None,
    )?;

    let records = |shard: &ShardWaker| {
        let store = store.as_ref()?;
        Some(records(store, node, &routing, shard))
    };
    // A link is up once its shard has said which sessions it holds, so the shards come first.
    let shards = shards::start(
        prepared, &routing, settings, ports, &counters, records, &stopper,
    )?;
    let up = links.await_up(&reasons)?;
    let serving = Serving {
        shards,
        links,
        store,
        keeper,
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
    links: Links,
    store: Option<RedisStore>,
    keeper: Keeper,
}

impl Serving {
    /// Takes leave of the devices, then waits until group and store have what they brought, each at most `limit`.
    fn stop(self, limit: Duration) -> Result<(), RunError> {
        self.shards.drain();
        self.links.stop(limit)?;
        self.keeper.stop();
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
    let store = settings.redis.as_ref();
    let store = store.map_or_else(|| "none".to_owned(), RedisConfig::addresses);
    format!(
        "mqtt-fleet {} proxy {} of fleet {}\n  listening on  {} (MQTT 3.1, 3.1.1, 5)\n{}  session store \
         {store}\n  admin         http://{admin}/\n",
        env!("CARGO_PKG_VERSION"),
        node.name,
        node.file.fixed.cluster_id,
        ports.mqtt(),
        banner::further_ports(ports),
    )
}

/// Where a shard's session records go.
fn records(
    store: &RedisStore,
    node: &Node,
    routing: &Arc<Routing>,
    shard: &ShardWaker,
) -> Box<dyn RecordSink> {
    Box::new(RemoteRecords::new(
        store.clone(),
        node.name.as_str().to_owned(),
        Arc::clone(routing),
        shard.wake(),
    ))
}

/// The session store as configured. It need not be there yet.
fn open_store(settings: &Settings) -> Result<Option<RedisStore>, RunError> {
    let Some(config) = &settings.redis else {
        tracing::warn!("no session store is configured (redis.urls)");
        return Ok(None);
    };
    let store = RedisStore::start(config.clone())?;
    store.watch_for_wipes();
    if let Some(acceptor) = &settings.tls {
        acceptor.share_ticket_keys(&store);
    }
    Ok(Some(store))
}
