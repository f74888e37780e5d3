//! Three real groups in memory and two shards, with links in this process.
#![allow(dead_code, reason = "each test file uses a part")]

use crate::support::{Client, PATIENCE};
use broker::command::Producer;
use broker::group::{LinkEnd, RunningGroup};
use broker::limits::MachineLimits;
use broker::log::{Durability, LogOptions};
use broker::machine::Counters;
use broker::{GroupOptions, OpenGroup};
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::{GroupNo, SLOT_COUNT, SlotTable};
use cluster::topology::{FixedPart, Routing};
use mqtt_fleet_proxy::auth::AcceptAll;
use mqtt_fleet_proxy::counters::ProxyCounters;
use mqtt_fleet_proxy::limits::ProxyLimits;
use mqtt_fleet_proxy::link::{GroupLink, ShardPoll};
use mqtt_fleet_proxy::shard::{ListenerConfig, Shard, ShardConfig, ShardHandle};
use protocol::{ConnAck, Connect, Packet, ReasonCode};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

pub(crate) const GROUPS: [GroupNo; 3] = [GroupNo(0), GroupNo(1), GroupNo(2)];

pub(crate) struct Fleet {
    groups: Vec<RunningGroup>,
    shards: Vec<RunningShard>,
}

pub(crate) struct RunningShard {
    pub(crate) address: SocketAddr,
    handle: ShardHandle,
    thread: JoinHandle<io::Result<()>>,
}

/// Three groups whose slots take turns.
pub(crate) fn routing() -> Routing {
    let fixed = FixedPart {
        cluster_id: "fleet".to_owned(),
        rules: ShardKeyRules::default(),
        home_key: HomeKey::ClientId,
    };
    let in_turn = |slot| GROUPS[usize::from(slot % 3)];
    let slots: Vec<_> = (0..SLOT_COUNT).map(in_turn).collect();
    Routing::new(&fixed, &SlotTable::new(1, slots).expect("one group a slot"))
}

/// A topic of the group with this index; its first level is `kind`.
pub(crate) fn topic(kind: &str, group: usize) -> String {
    let routing = routing();
    let mut topics = (0..).map(|n| format!("{kind}/{n}"));
    topics
        .find(|topic| routing.group_of_topic(topic) == GROUPS[group])
        .expect("there are topics without end")
}

/// A client id whose home is the group with this index.
pub(crate) fn client_id(name: &str, group: usize) -> String {
    let routing = routing();
    let mut ids = (0..).map(|n| format!("{name}-{n}"));
    ids.find(|id| routing.home_of(id) == GROUPS[group])
        .expect("there are ids without end")
}

impl Fleet {
    pub(crate) fn start() -> Self {
        let routing = Arc::new(routing());
        let opened: Vec<_> = GROUPS.iter().map(|group| open(*group, &routing)).collect();
        let polls: Vec<_> = (0..2)
            .map(|_| ShardPoll::new().expect("descriptors are left"))
            .collect();
        let mut links: Vec<Vec<(GroupNo, Arc<GroupLink>)>> = vec![Vec::new(); polls.len()];
        let mut groups = Vec::new();
        for (group, open) in GROUPS.into_iter().zip(opened) {
            let mut ends = Vec::new();
            for (shard, poll) in (0..).zip(&polls) {
                let waker = open.waker();
                let link = GroupLink::new(poll.waker(), Box::new(move || waker.wake()));
                let link = Arc::new(link);
                ends.push(LinkEnd {
                    producer: Producer {
                        node: 0,
                        shard,
                        incarnation: 1,
                    },
                    to_group: Arc::clone(&link.to_group),
                    from_group: Arc::clone(&link.to_shard),
                });
                links[shard as usize].push((group, link));
            }
            let failed = |error: &_| panic!("the log failed: {error}");
            let running = open.start(ends, Box::new(failed));
            groups.push(running.expect("a thread is free"));
        }
        for group in &groups {
            assert!(group.wait_until_serving(PATIENCE));
        }
        let shards = polls.into_iter().zip(links);
        let shards = shards
            .map(|(poll, links)| RunningShard::start(poll, links, &routing))
            .collect();
        Self { groups, shards }
    }

    /// CONNECT on a shard, answered with success.
    pub(crate) fn connect(&self, shard: usize, connect: Connect) -> (Client, ConnAck) {
        connect_to(self.shards[shard].address, connect)
    }

    /// Waits until the groups' figures, which may be a second old, are as they should be in the end.
    pub(crate) fn wait_for(&self, what: &str, reached: impl Fn(&[Counters]) -> bool) {
        let start = std::time::Instant::now();
        let counters = || -> Vec<_> {
            let groups = self.groups.iter();
            groups.map(|group| group.status().counters).collect()
        };
        while !reached(&counters()) {
            assert!(start.elapsed() < PATIENCE, "waited for {what} in vain");
            std::thread::yield_now();
        }
    }

    pub(crate) fn stop(self) {
        for shard in self.shards {
            shard.stop();
        }
        for group in self.groups {
            group.stop().expect("everything is stored");
        }
    }
}

impl RunningShard {
    pub(crate) fn start(
        poll: ShardPoll,
        links: Vec<(GroupNo, Arc<GroupLink>)>,
        routing: &Arc<Routing>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let config = ShardConfig {
            listeners: vec![ListenerConfig::plain(listener)],
            limits: ProxyLimits::default(),
            links,
            routing: Arc::clone(routing),
            authenticator: Arc::new(AcceptAll),
            records: None,
            counters: Arc::new(ProxyCounters::default()),
        };
        let shard = Shard::new(poll, config).expect("the listener is good");
        let handle = shard.handle();
        let thread = std::thread::spawn(move || shard.run());
        Self {
            address,
            handle,
            thread,
        }
    }

    pub(crate) fn stop(self) {
        self.handle.drain();
        let result = self.thread.join().expect("no panic");
        result.expect("no error of the poll");
    }
}

/// CONNECT to a shard, answered with success.
pub(crate) fn connect_to(address: SocketAddr, connect: Connect) -> (Client, ConnAck) {
    let socket = TcpStream::connect(address).expect("the shard listens");
    let mut client = Client::new(socket);
    client.version = connect.version;
    client.send(&Packet::Connect(Box::new(connect)));
    match client.receive() {
        Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => (client, *connack),
        other => panic!("{other:?}"),
    }
}

fn open(group: GroupNo, routing: &Arc<Routing>) -> OpenGroup {
    let options = GroupOptions {
        data: std::path::PathBuf::new(),
        log: LogOptions {
            durability: Durability::Memory,
            ..LogOptions::default()
        },
        limits: MachineLimits::default(),
        snapshot_bytes: 64 << 20,
    };
    let mut open = OpenGroup::open(options, Box::new(())).expect("there is nothing yet");
    open.route(group, Arc::clone(routing));
    open
}
