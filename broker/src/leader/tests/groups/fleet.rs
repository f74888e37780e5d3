//! Groups with a log each, proxies with a link to each, and devices whose sessions are at several groups. A proxy
//! does what one has to do for QoS 1, and no more.

mod connections;

use crate::command::Producer;
use crate::leader::tests::LAZY_MS_MAX;
use crate::leader::tests::fleet::broker::Broker;
use crate::leader::tests::fleet::proxy::Proxy;
use crate::leader::{KICK_WAIT_MS, Routes};
use crate::limits::MachineLimits;
use cluster::frame::{Body, Delivery, FromGroup, ToGroup};
use cluster::ids::{Epoch, Handle, LinkNo, Rank};
use cluster::ring::GroupWeight;
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::{GroupNo, SlotTable};
use cluster::topology::{FixedPart, Routing};
use protocol::PacketId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(super) const GROUPS: usize = 3;
pub(super) const PROXIES: usize = 2;
pub(super) const DEVICES: usize = 3;

/// What a connection has to say to a group.
#[derive(Clone, Debug)]
enum Todo {
    Subscribe(usize),
    Publish(usize, String),
}

/// A group, as a connection sees it.
#[derive(Default)]
struct Place {
    rank: Option<Rank>,
    listing: bool,
    /// A join was sent, with the rank if `ranked`.
    joins: bool,
    ranked: bool,
    todo: VecDeque<Todo>,
    unanswered: u32,
}

struct Conn {
    device: usize,
    /// The connection's epoch at the home, and that of the session's start.
    epochs: Option<(Epoch, Epoch)>,
    connected: bool,
    /// Groups that have to answer before CONNACK.
    awaited: BTreeSet<usize>,
    places: BTreeMap<usize, Place>,
}

#[derive(Default)]
pub(super) struct Device {
    pub(super) at: Option<(usize, Handle)>,
    session: u32,
    granted: BTreeSet<usize>,
    pub(super) got: Vec<String>,
    unanswered: VecDeque<(usize, PacketId)>,
    /// The newest connection that had CONNACK, by its epoch, and how many publishes there had been.
    newest: (Epoch, u32),
}

struct Promise {
    payload: String,
    /// Who had subscribed, in which session.
    to: Vec<(usize, u32)>,
    acknowledged: bool,
}

pub(super) struct Fleet {
    pub(super) brokers: Vec<Broker>,
    routing: Arc<Routing>,
    /// By proxy and group.
    links: Vec<Vec<Proxy>>,
    conns: Vec<BTreeMap<Handle, Conn>>,
    handles: u32,
    pub(super) devices: Vec<Device>,
    ids: Vec<String>,
    topics: Vec<String>,
    promises: Vec<Promise>,
    count: u32,
}

pub(super) fn routing() -> Routing {
    let fixed = FixedPart {
        cluster_id: "fleet".to_owned(),
        rules: ShardKeyRules::default(),
        home_key: HomeKey::ClientId,
    };
    let weights: Vec<_> = (0..GROUPS)
        .map(|group| GroupWeight {
            group: GroupNo(group as u8),
            weight: 1,
        })
        .collect();
    Routing::new(&fixed, &SlotTable::from_ring(1, &weights).expect("groups"))
}

/// A name for each group, such that it is the group's.
fn names(start: &str, group_of: impl Fn(&str) -> GroupNo) -> Vec<String> {
    let of = |group: usize| {
        let mut names = (0..).map(|n| format!("{start}{n}/x"));
        names.find(|name| usize::from(group_of(name).0) == group)
    };
    let names = (0..GROUPS).map(|group| of(group).expect("there are many names"));
    names.collect()
}

impl Fleet {
    pub(super) fn new() -> Self {
        let routing = Arc::new(routing());
        let mut fleet = Self {
            brokers: (0..GROUPS)
                .map(|_| Broker::new(MachineLimits::default()))
                .collect(),
            links: (0..PROXIES)
                .map(|_| (0..GROUPS).map(|_| Proxy::default()).collect())
                .collect(),
            conns: (0..PROXIES).map(|_| BTreeMap::new()).collect(),
            handles: 0,
            devices: (0..DEVICES).map(|_| Device::default()).collect(),
            ids: names("device", |id| routing.home_of(id)),
            topics: names("topic", |topic| routing.group_of_topic(topic)),
            promises: Vec::new(),
            count: 0,
            routing,
        };
        for group in 0..GROUPS {
            fleet.route(group);
        }
        fleet.all_up();
        fleet.flow();
        fleet
    }

    fn route(&mut self, group: usize) {
        let (own, routing) = (GroupNo(group as u8), Arc::clone(&self.routing));
        self.brokers[group].leader.route(Routes { own, routing });
    }

    /// Device n has its home at group n.
    fn home(device: usize) -> usize {
        device % GROUPS
    }

    pub(super) fn up(&mut self, proxy: usize, group: usize) {
        let end = &mut self.links[proxy][group];
        if end.link.is_some() {
            return;
        }
        let producer = Producer {
            node: proxy as u32 + 1,
            shard: 0,
            incarnation: end.incarnation,
        };
        let up = self.brokers[group].leader.session_up(producer);
        end.link = Some(up.expect("it serves").0);
        end.resume();
    }

    pub(super) fn all_up(&mut self) {
        for proxy in 0..PROXIES {
            for group in 0..GROUPS {
                self.up(proxy, group);
            }
        }
    }

    pub(super) fn cut(&mut self, proxy: usize, group: usize) {
        let end = &mut self.links[proxy][group];
        if let Some(link) = end.link.take() {
            end.to_group.clear();
            end.from_group.clear();
            end.unit.clear();
            self.brokers[group].leader.session_lost(link);
        }
    }

    pub(super) fn crash(&mut self, group: usize) {
        for proxy in 0..PROXIES {
            self.cut(proxy, group);
        }
        self.brokers[group].crash();
        self.route(group);
    }

    pub(super) fn kill_proxy(&mut self, proxy: usize) {
        for group in 0..GROUPS {
            self.cut(proxy, group);
            let gone = std::mem::take(&mut self.links[proxy][group]);
            self.links[proxy][group].incarnation = gone.incarnation + 1;
        }
        self.conns[proxy].clear();
        for device in 0..DEVICES {
            if self.devices[device].at.is_some_and(|(at, _)| at == proxy) {
                self.drop_socket(device);
            }
        }
    }

    pub(super) fn wait(&mut self, ms: u64) {
        for group in 0..GROUPS {
            self.brokers[group].wait(ms);
            self.collect(group);
        }
    }

    pub(super) fn store(&mut self, group: usize, entries: usize) {
        self.brokers[group].store(entries);
        self.collect(group);
    }

    pub(super) fn flow_up(&mut self, proxy: usize, group: usize, frames: usize) -> bool {
        let mut moved = false;
        for _ in 0..frames {
            let end = &mut self.links[proxy][group];
            let Some(link) = end.link else { break };
            if !self.brokers[group].leader.is_ready(link) {
                break;
            }
            let Some(frame) = end.to_group.pop_front() else {
                break;
            };
            self.brokers[group].leader.frame(link, frame);
            moved = true;
        }
        self.collect(group);
        moved
    }

    /// Takes the effects of a turn to the wires, where there are any.
    fn collect(&mut self, group: usize) {
        let broker = &mut self.brokers[group];
        broker.leader.end_units(|_| false);
        let links = std::mem::take(&mut broker.leader.effects().links);
        for (at, frames) in links.into_iter().enumerate() {
            let link = LinkNo(at as u16);
            let mut ends = self.links.iter_mut().map(|ends| &mut ends[group]);
            let end = ends.find(|end| end.link == Some(link));
            let Some(end) = end.filter(|_| broker.leader.is_live(link)) else {
                continue;
            };
            for mut frame in frames {
                if let FromGroup::Deliver(Delivery { body, .. }) = &mut frame
                    && let Body::Stored(at) = *body
                {
                    *body = Body::Inline(broker.read(at));
                }
                end.from_group.push_back(frame);
            }
        }
    }

    pub(super) fn flow_down(&mut self, proxy: usize, group: usize, frames: usize) -> bool {
        let mut moved = false;
        for _ in 0..frames {
            let end = &mut self.links[proxy][group];
            let Some(frame) = end.from_group.pop_front() else {
                break;
            };
            moved = true;
            let FromGroup::Done { number } = frame else {
                end.unit.push(frame);
                continue;
            };
            for frame in std::mem::take(&mut end.unit) {
                self.take(proxy, group, frame);
            }
            let kept = &mut self.links[proxy][group].kept;
            while kept.front().is_some_and(|(first, _)| *first <= number) {
                kept.pop_front();
            }
        }
        moved
    }

    /// Everything that can move does, and the logs store it.
    pub(super) fn flow(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            self.wait(LAZY_MS_MAX);
            for group in 0..GROUPS {
                self.store(group, usize::MAX);
                for proxy in 0..PROXIES {
                    moved |= self.flow_up(proxy, group, usize::MAX);
                    moved |= self.flow_down(proxy, group, usize::MAX);
                }
            }
        }
    }

    fn push(&mut self, proxy: usize, group: usize, frame: ToGroup) {
        self.links[proxy][group].push(frame);
    }

    /// Everything is there again, and has had its time.
    pub(super) fn settle(&mut self) {
        self.all_up();
        self.flow();
        self.wait(KICK_WAIT_MS);
        self.flow();
    }

    /// Everybody comes back and answers everything; then every promise must have been kept, and when all sessions end
    /// nothing is left of them anywhere.
    pub(super) fn finish(&mut self) {
        self.settle();
        for device in 0..DEVICES {
            if !self.is_connected(device) {
                self.connect(device, device % PROXIES, false, u32::MAX);
                self.settle();
            }
            assert!(self.is_connected(device), "device {device}");
        }
        let mut answered = true;
        while answered {
            let answers = (0..DEVICES).map(|device| self.answer(device));
            answered = answers.filter(|answered| *answered).count() > 0;
            self.flow();
        }
        self.check();
        for device in 0..DEVICES {
            self.connect(device, 0, true, 0);
            self.settle();
            self.disconnect(device);
        }
        for _ in 0..3 {
            self.flow();
            self.wait(crate::limits::ERRANDS_AGAIN_MS);
        }
        for broker in &self.brokers {
            let counters = broker.leader.state().counters();
            let held = [counters.guests, counters.ends_pending, counters.sessions];
            assert_eq!(held, [0; 3], "{counters:?}");
            assert_eq!([counters.messages, counters.entries], [0; 2]);
            assert!(!broker.leader.state().has_errands());
        }
    }

    fn check(&self) {
        for promise in self.promises.iter().filter(|p| p.acknowledged) {
            for (device, session) in &promise.to {
                let device = &self.devices[*device];
                let lost = device.session == *session && !device.got.contains(&promise.payload);
                assert!(!lost, "{} is lost", promise.payload);
            }
        }
        for device in &self.devices {
            // First receipts, by publisher and topic.
            let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            for got in device.got.iter().filter(|got| seen.insert(got.as_str())) {
                let (count, flow) = got.split_once(' ').expect("made so");
                let before = newest.insert(flow, count);
                assert!(before.is_none_or(|before| before < count), "{got} is late");
            }
        }
    }
}
