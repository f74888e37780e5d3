//! Groups with a log each, proxies with a link to each, and devices whose sessions are at several groups. A proxy
//! does what one has to do for QoS 1, and no more.

use crate::command::Producer;
use crate::leader::tests::fleet::broker::Broker;
use crate::leader::tests::fleet::proxy::{Connection, Proxy, disconnect};
use crate::leader::tests::{LAZY_MS_MAX, handle, message};
use crate::leader::{KICK_WAIT_MS, Routes};
use crate::limits::MachineLimits;
use cluster::frame::{
    Ack, AckKind, Body, Claim, Claimed, Delivery, FromGroup, Join, Publish, Subscribe, ToGroup,
};
use cluster::ids::{Actor, Epoch, Handle, LinkNo, Rank};
use cluster::ring::GroupWeight;
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::{GroupNo, SlotTable};
use cluster::topology::{FixedPart, Routing};
use protocol::{PacketId, QoS, SubscribeOptions, TopicFilter, Version, Will};
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
    serial: u32,
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
    /// The newest connection that had CONNACK, and how many publishes there had been.
    newest: (u32, u32),
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
    serial: u32,
}

fn routing() -> Routing {
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
            serial: 0,
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

    fn take(&mut self, proxy: usize, group: usize, frame: FromGroup) {
        match frame {
            FromGroup::Claimed(claimed) => self.claimed(proxy, group, &claimed),
            FromGroup::Listed {
                handle,
                group: at,
                rank,
            } => {
                let at = usize::from(at.0);
                if let Some(conn) = self.conns[proxy].get_mut(&handle) {
                    conn.places.entry(at).or_default().rank = rank;
                    self.pursue(proxy, handle, at);
                }
            }
            FromGroup::Joined(joined) => {
                let actor = Actor {
                    client: joined.client,
                    epoch: joined.epoch,
                };
                self.joined(proxy, group, joined.handle, actor);
            }
            FromGroup::Rejoin { handle } => self.rejoin(proxy, group, handle),
            FromGroup::Kick { handle, .. } => {
                self.over(proxy, handle);
                self.push(proxy, group, ToGroup::Kicked { handle });
            }
            FromGroup::Deliver(delivery) => self.deliver(proxy, group, &delivery),
            FromGroup::Published {
                handle, packet_id, ..
            } => self.published(proxy, group, handle, packet_id),
            FromGroup::Subscribed {
                handle,
                packet_id,
                reasons,
            } => self.subscribed(proxy, group, handle, packet_id, reasons[0].is_error()),
            FromGroup::Errand(errand) => {
                self.push(proxy, usize::from(errand.to.0), ToGroup::Errand(errand));
            }
            FromGroup::ErrandDone(done) => {
                self.push(proxy, usize::from(done.from.0), ToGroup::ErrandDone(done));
            }
            other => panic!("{other:?} was not asked for"),
        }
    }

    fn actor(&self, proxy: usize, group: usize, handle: Handle) -> Option<Actor> {
        self.links[proxy][group].connections.get(&handle)?.actor
    }

    fn enter(&mut self, proxy: usize, group: usize, handle: Handle, device: usize) {
        let connections = &mut self.links[proxy][group].connections;
        connections.entry(handle).or_insert(Connection {
            device,
            actor: None,
            last: None,
            released: BTreeSet::new(),
        });
    }

    fn drop_socket(&mut self, device: usize) {
        self.devices[device].at = None;
        self.devices[device].unanswered.clear();
    }

    /// Connects a device through a proxy; a connection that it had is left as it is.
    pub(super) fn connect(&mut self, device: usize, proxy: usize, clean: bool, expiry_s: u32) {
        self.connect_with(device, proxy, clean, expiry_s, None);
    }

    pub(super) fn connect_with(
        &mut self,
        device: usize,
        proxy: usize,
        clean_start: bool,
        expiry_s: u32,
        will_topic: Option<usize>,
    ) {
        self.drop_socket(device);
        self.handles += 1;
        self.serial += 1;
        let handle = handle(self.handles);
        let conn = Conn {
            device,
            serial: self.serial,
            epochs: None,
            connected: false,
            awaited: BTreeSet::new(),
            places: BTreeMap::new(),
        };
        self.conns[proxy].insert(handle, conn);
        let home = Self::home(device);
        self.enter(proxy, home, handle, device);
        if clean_start {
            // Whether the claim arrives or not, nothing is promised any more.
            self.devices[device].session += 1;
            self.devices[device].granted.clear();
        }
        let will = will_topic.map(|topic| {
            Box::new(Will {
                message: message(&self.topics[topic], b"will"),
                qos: QoS::AtLeastOnce,
                retain: false,
                delay_s: 0,
            })
        });
        let claim = Claim {
            handle,
            client_id: self.ids[device].as_str().into(),
            version: Version::V5,
            clean_start,
            expiry_s,
            will,
        };
        self.push(proxy, home, ToGroup::Claim(Box::new(claim)));
        self.devices[device].at = Some((proxy, handle));
    }

    fn claimed(&mut self, proxy: usize, home: usize, claimed: &Claimed) {
        let handle = claimed.handle;
        let (client, epoch) = (claimed.client, claimed.epoch);
        let actor = Actor { client, epoch };
        let Some(conn) = self.conns[proxy].get_mut(&handle) else {
            return self.push(proxy, home, disconnect(actor));
        };
        assert_eq!(conn.epochs, None, "the claim is answered once");
        conn.epochs = Some((epoch, claimed.start_epoch));
        let at_home = self.links[proxy][home].connections.get_mut(&handle);
        at_home.expect("entered with the claim").actor = Some(actor);
        for listed in &claimed.groups {
            let at = usize::from(listed.group.0);
            let conn = self.conns[proxy].get_mut(&handle).expect("it is there");
            conn.places.entry(at).or_default().rank = listed.rank;
            conn.awaited.insert(at);
            self.join(proxy, handle, at);
        }
        self.connack(proxy, handle);
    }

    fn join(&mut self, proxy: usize, handle: Handle, group: usize) {
        let conn = self.conns[proxy].get_mut(&handle).expect("it is there");
        let device = conn.device;
        let (epoch, start_epoch) = conn.epochs.expect("claimed");
        let place = conn.places.entry(group).or_default();
        place.joins = true;
        place.ranked = place.rank.is_some();
        let join = Join {
            handle,
            client_id: self.ids[device].as_str().into(),
            epoch,
            start_epoch,
            rank: place.rank,
        };
        self.enter(proxy, group, handle, device);
        self.push(proxy, group, ToGroup::Join(Box::new(join)));
    }

    fn connack(&mut self, proxy: usize, handle: Handle) {
        let conn = self.conns[proxy].get_mut(&handle).expect("it is there");
        if conn.connected || !conn.awaited.is_empty() {
            return;
        }
        conn.connected = true;
        let (device, serial) = (conn.device, conn.serial);
        // A client that has gone has no CONNACK.
        if self.devices[device].at == Some((proxy, handle)) {
            self.devices[device].newest = (serial, self.count);
        }
    }

    fn joined(&mut self, proxy: usize, group: usize, handle: Handle, actor: Actor) {
        let Some(conn) = self.conns[proxy].get_mut(&handle) else {
            return self.push(proxy, group, disconnect(actor));
        };
        conn.awaited.remove(&group);
        let at = self.links[proxy][group].connections.get_mut(&handle);
        at.expect("entered with the join").actor = Some(actor);
        self.connack(proxy, handle);
        self.pursue(proxy, handle, group);
    }

    fn rejoin(&mut self, proxy: usize, group: usize, handle: Handle) {
        let Some(conn) = self.conns[proxy].get_mut(&handle) else {
            return;
        };
        let place = conn.places.entry(group).or_default();
        if group == Self::home(conn.device) || place.unanswered > 0 {
            return self.over(proxy, handle);
        }
        let at = self.links[proxy][group].connections.get_mut(&handle);
        at.expect("it has joined").actor = None;
        self.join(proxy, handle, group);
    }

    /// A connection is over, and every group hears of it.
    fn over(&mut self, proxy: usize, handle: Handle) {
        let Some(conn) = self.conns[proxy].remove(&handle) else {
            return;
        };
        for group in 0..GROUPS {
            let gone = self.links[proxy][group].connections.remove(&handle);
            if let Some(actor) = gone.and_then(|gone| gone.actor) {
                self.push(proxy, group, disconnect(actor));
            }
        }
        if self.devices[conn.device].at == Some((proxy, handle)) {
            self.drop_socket(conn.device);
        }
    }

    pub(super) fn disconnect(&mut self, device: usize) {
        if let Some((proxy, handle)) = self.devices[device].at {
            self.over(proxy, handle);
        }
    }

    fn connected(&mut self, device: usize) -> Option<(usize, Handle, &mut Conn)> {
        let (proxy, handle) = self.devices[device].at?;
        let conn = self.conns[proxy].get_mut(&handle)?;
        conn.connected.then_some((proxy, handle, conn))
    }

    pub(super) fn is_connected(&mut self, device: usize) -> bool {
        self.connected(device).is_some()
    }

    /// Topic n is group n's.
    pub(super) fn subscribe(&mut self, device: usize, topic: usize) {
        self.say(device, topic, Todo::Subscribe(topic));
    }

    pub(super) fn publish(&mut self, device: usize, topic: usize) {
        if self.connected(device).is_none() {
            return;
        }
        self.count += 1;
        let payload = format!("{:06} {device} {topic}", self.count);
        let devices = self.devices.iter().enumerate();
        let to = devices.filter(|(_, to)| to.granted.contains(&topic));
        self.promises.push(Promise {
            payload: payload.clone(),
            to: to.map(|(n, to)| (n, to.session)).collect(),
            acknowledged: false,
        });
        self.say(device, topic, Todo::Publish(topic, payload));
    }

    fn say(&mut self, device: usize, group: usize, todo: Todo) {
        if let Some((proxy, handle, conn)) = self.connected(device) {
            let place = conn.places.entry(group).or_default();
            place.todo.push_back(todo);
            self.pursue(proxy, handle, group);
        }
    }

    /// Says what is to be said to a group, as far as the connection may.
    fn pursue(&mut self, proxy: usize, handle: Handle, group: usize) {
        loop {
            let actor = self.actor(proxy, group, handle);
            let conn = self.conns[proxy].get_mut(&handle).expect("it is there");
            let home = Self::home(conn.device);
            let place = conn.places.entry(group).or_default();
            let Some(next) = place.todo.front() else {
                return;
            };
            let needs_rank = matches!(next, Todo::Subscribe(_)) && group != home && !place.ranked;
            match (needs_rank, place.rank, actor) {
                (true, None, _) if place.listing => return,
                (true, None, _) => {
                    place.listing = true;
                    let actor = self.actor(proxy, home, handle).expect("claimed");
                    let group = GroupNo(group as u8);
                    return self.push(proxy, home, ToGroup::List { actor, group });
                }
                (true, Some(_), _) => self.join(proxy, handle, group),
                (false, _, None) if place.joins => return,
                (false, _, None) => return self.join(proxy, handle, group),
                (false, _, Some(actor)) => {
                    place.unanswered += 1;
                    let todo = place.todo.pop_front().expect("looked at");
                    let frame = self.frame(actor, todo);
                    self.push(proxy, group, frame);
                }
            }
        }
    }

    fn frame(&self, actor: Actor, todo: Todo) -> ToGroup {
        match todo {
            Todo::Subscribe(topic) => ToGroup::Subscribe(Box::new(Subscribe {
                actor,
                packet_id: PacketId::new(topic as u16 + 1).expect("not zero"),
                subscription_id: 0,
                filters: vec![(
                    TopicFilter::new(&self.topics[topic]).expect("a filter"),
                    SubscribeOptions {
                        qos: QoS::AtLeastOnce,
                        ..SubscribeOptions::default()
                    },
                )],
            })),
            Todo::Publish(topic, payload) => {
                let number: u32 = payload[..6].parse().expect("made so");
                ToGroup::Publish(Publish {
                    actor,
                    packet_id: PacketId::new(number as u16),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    message: message(&self.topics[topic], payload.as_bytes()),
                })
            }
        }
    }

    fn answered(&mut self, proxy: usize, group: usize, handle: Handle) -> Option<usize> {
        let conn = self.conns[proxy].get_mut(&handle)?;
        let place = conn.places.get_mut(&group).expect("it was asked");
        place.unanswered = place
            .unanswered
            .checked_sub(1)
            .expect("an answer is awaited");
        let device = conn.device;
        (self.devices[device].at == Some((proxy, handle))).then_some(device)
    }

    fn published(&mut self, proxy: usize, group: usize, handle: Handle, id: PacketId) {
        if self.answered(proxy, group, handle).is_some() {
            self.promises[usize::from(id.get()) - 1].acknowledged = true;
        }
    }

    fn subscribed(
        &mut self,
        proxy: usize,
        group: usize,
        handle: Handle,
        id: PacketId,
        refused: bool,
    ) {
        assert!(!refused, "the connection has its rank");
        if let Some(device) = self.answered(proxy, group, handle) {
            self.devices[device]
                .granted
                .insert(usize::from(id.get()) - 1);
        }
    }

    fn deliver(&mut self, proxy: usize, group: usize, delivery: &Delivery) {
        let Body::Inline(message) = &delivery.body else {
            panic!("read when it was sent")
        };
        let payload = String::from_utf8_lossy(message.payload()).into_owned();
        for receiver in &delivery.receivers {
            let handle = receiver.handle;
            let Some(conn) = self.conns[proxy].get(&handle) else {
                continue;
            };
            let id = receiver.packet_id.expect("QoS 1");
            let rank = Rank::of_packet_id(id).expect("a rank's");
            let home = group == Self::home(conn.device);
            let own = conn.places.get(&group).and_then(|place| place.rank);
            assert_eq!(
                rank,
                if home {
                    Rank::HOME
                } else {
                    own.expect("listed")
                }
            );
            let (newest, publishes) = self.devices[conn.device].newest;
            if let Ok(number) = payload[..6.min(payload.len())].parse::<u32>() {
                // Promise P5.
                let fenced = conn.serial < newest && number > publishes;
                assert!(!fenced, "{payload} reaches an older connection");
            }
            let at = self.links[proxy][group].connections.get_mut(&handle);
            at.expect("it acts there").last = Some(id);
            let device = &mut self.devices[conn.device];
            if device.at == Some((proxy, handle)) {
                device.got.push(payload.clone());
                device.unanswered.push_back((group, id));
            }
        }
    }

    /// A device acknowledges the oldest delivery.
    pub(super) fn answer(&mut self, device: usize) -> bool {
        let Some((proxy, handle)) = self.devices[device].at else {
            return false;
        };
        let Some((group, packet_id)) = self.devices[device].unanswered.pop_front() else {
            return false;
        };
        let kind = AckKind::Ack;
        if let Some(actor) = self.actor(proxy, group, handle) {
            let ack = Ack {
                actor,
                packet_id,
                kind,
            };
            self.push(proxy, group, ToGroup::Ack(ack));
        }
        true
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
