//! Groups, proxies with the sessions of this crate and a link to each group, and devices.

use super::broker::Broker;
use super::device::{Device, Outgoing, Phase, ack};
use super::link::Link;
use super::proxy::{Conn, Proxy};
use crate::records::in_memory::{InMemoryRecords, Stored};
use crate::session::{Context, End, Session};
use broker::command::Producer;
use broker::leader::Routes;
use bytes::{Bytes, BytesMut};
use cluster::ids::{Epoch, Handle};
use cluster::ring::GroupWeight;
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::{GroupNo, SlotTable};
use cluster::topology::{FixedPart, Routing};
use protocol::{
    Connect, Decoded, Message, Packet, PacketId, Publish, QoS, Subscribe, SubscribeOptions,
    TopicFilter, TopicName, Version, decode, encode,
};
use std::sync::Arc;

pub(super) const GROUPS: usize = 3;
pub(super) const PROXIES: usize = 2;
pub(super) const DEVICES: usize = 3;
/// The filter `#`, at every group; those below are one group's topic each.
pub(super) const EVERYTHING: usize = GROUPS;

/// A link with something on it that moves for so long is dead, and cut.
const LINK_DEAD_MS: u64 = 2_000;

/// A message that somebody was promised.
pub(super) struct Promise {
    pub(super) payload: String,
    pub(super) topic: usize,
    pub(super) qos: QoS,
    /// Who had subscribed, in which session, with which QoS at least.
    pub(super) to: Vec<(usize, u32, QoS)>,
    pub(super) acknowledged: bool,
}

pub(super) struct Fleet {
    pub(super) brokers: Vec<Broker>,
    routing: Arc<Routing>,
    pub(super) proxies: Vec<Proxy>,
    pub(super) devices: Vec<Device>,
    pub(super) ids: Vec<String>,
    pub(super) topics: Vec<String>,
    pub(super) promises: Vec<Promise>,
    handles: u32,
    count: u32,
    now_ms: u64,
    /// The session records, if any are kept.
    pub(super) stored: Option<Stored>,
}

fn routing() -> Routing {
    let fixed = FixedPart {
        cluster_id: "fleet".to_owned(),
        rules: ShardKeyRules::default(),
        home_key: HomeKey::ClientId,
    };
    let weight = |group| GroupWeight {
        group: GroupNo(group as u8),
        weight: 1,
    };
    let weights: Vec<_> = (0..GROUPS).map(weight).collect();
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
    /// A fleet that keeps no session records.
    pub(super) fn new() -> Self {
        Self::start(None)
    }

    pub(super) fn with_records() -> Self {
        Self::start(Some(Stored::default()))
    }

    fn start(stored: Option<Stored>) -> Self {
        let routing = Arc::new(routing());
        let broker = |group| {
            let (own, routing) = (GroupNo(group as u8), Arc::clone(&routing));
            Broker::new(Routes { own, routing })
        };
        let mut fleet = Self {
            brokers: (0..GROUPS).map(broker).collect(),
            proxies: Vec::new(),
            devices: (0..DEVICES).map(|_| Device::default()).collect(),
            ids: names("device", |id| routing.home_of(id)),
            topics: names("topic", |topic| routing.group_of_topic(topic)),
            promises: Vec::new(),
            handles: 0,
            count: 0,
            now_ms: 0,
            routing,
            stored,
        };
        fleet.proxies = (0..PROXIES).map(|it| fleet.new_proxy(it, 0)).collect();
        fleet.all_up();
        fleet.flow();
        fleet
    }

    /// Device n has its home at group n.
    pub(super) fn home(device: usize) -> usize {
        device % GROUPS
    }

    pub(super) fn up(&mut self, proxy: usize, group: usize) {
        let at = &mut self.proxies[proxy];
        if at.links[group].at.is_some() {
            return;
        }
        let producer = Producer {
            node: proxy as u32 + 1,
            shard: 0,
            incarnation: at.incarnation,
        };
        let up = self.brokers[group].leader.session_up(producer);
        let resume = at.resume_of(group);
        at.links[group].up(up.expect("it serves").0, resume);
    }

    pub(super) fn all_up(&mut self) {
        for proxy in 0..PROXIES {
            for group in 0..GROUPS {
                self.up(proxy, group);
            }
        }
    }

    pub(super) fn cut(&mut self, proxy: usize, group: usize) {
        if let Some(link) = self.proxies[proxy].links[group].cut() {
            self.brokers[group].leader.session_lost(link);
        }
    }

    pub(super) fn kill_proxy(&mut self, proxy: usize) {
        for group in 0..GROUPS {
            self.cut(proxy, group);
        }
        let incarnation = self.proxies[proxy].incarnation + 1;
        self.proxies[proxy] = self.new_proxy(proxy, incarnation);
        for device in &mut self.devices {
            if device.at.is_some_and(|(at, _)| at == proxy) {
                device.drop_socket();
            }
        }
    }

    /// Whether nothing is forgotten in so many milliseconds more: groups remember ended sessions for ten minutes, and no
    /// link is to be away for longer in these schedules.
    pub(super) fn is_remembered_for(&self, ms: u64) -> bool {
        self.now_ms + ms < broker::limits::PRODUCER_MEMORY_MS - 60_000
    }

    fn new_proxy(&self, proxy: usize, incarnation: u64) -> Proxy {
        let node = format!("proxy-{proxy}");
        let stored = self.stored.as_ref();
        let records = stored.map(|stored| InMemoryRecords::new(stored, &node, &self.routing));
        Proxy::new(&self.routing, incarnation, self.now_s()).with_records(records)
    }

    /// Records that were built again from what groups hold.
    pub(super) fn records_rebuilt(&self) -> u64 {
        let counters = self.proxies.iter().map(|it| &it.rules.counters);
        counters.map(|it| it.store_records_rebuilt.get()).sum()
    }

    fn now_s(&self) -> u32 {
        (self.now_ms / 1000) as u32
    }

    pub(super) fn wait(&mut self, ms: u64) {
        if ms >= LINK_DEAD_MS {
            self.cut_silent();
        }
        self.now_ms += ms;
        for group in 0..GROUPS {
            self.brokers[group].wait(ms);
            self.collect(group);
        }
        let now_s = self.now_s();
        for proxy in 0..PROXIES {
            let at = &mut self.proxies[proxy];
            at.rules.now_s = now_s;
            at.conns.retain(|_, conn| conn.session.ended().is_none());
            let due = at.conns.iter().filter(|it| it.1.session.due_s() <= now_s);
            for handle in due.map(|(handle, _)| *handle).collect::<Vec<_>>() {
                self.proxies[proxy].with(handle, Session::overdue);
                self.after(proxy, handle);
            }
            self.proxies[proxy].keep_records(self.now_ms);
        }
    }

    /// Links on which nothing has moved.
    fn cut_silent(&mut self) {
        for proxy in 0..PROXIES {
            for group in 0..GROUPS {
                let link = &self.proxies[proxy].links[group];
                if !link.to_group.is_empty() || !link.from_group.is_empty() {
                    self.cut(proxy, group);
                }
            }
        }
    }

    pub(super) fn store(&mut self, group: usize, entries: usize) {
        self.brokers[group].store(entries);
        self.collect(group);
    }

    pub(super) fn flow_up(&mut self, proxy: usize, group: usize, frames: usize) -> bool {
        let mut moved = false;
        for _ in 0..frames {
            let link = &mut self.proxies[proxy].links[group];
            let leader = &mut self.brokers[group].leader;
            let Some(at) = link.at.filter(|at| leader.is_ready(*at)) else {
                break;
            };
            let Some(frame) = link.to_group.pop_front() else {
                break;
            };
            leader.frame(at, frame);
            moved = true;
        }
        self.collect(group);
        moved
    }

    /// Takes the effects of a turn to the wires, where there are any.
    fn collect(&mut self, group: usize) {
        for (at, frames) in self.brokers[group].take_effects() {
            let mut links = self.proxies.iter_mut().map(|proxy| &mut proxy.links[group]);
            if let Some(link) = links.find(|link| link.at == Some(at)) {
                link.from_group.extend(frames);
            }
        }
    }

    pub(super) fn flow_down(&mut self, proxy: usize, group: usize, frames: usize) -> bool {
        let mut moved = false;
        for _ in 0..frames {
            let Some(unit) = self.proxies[proxy].links[group].next_unit() else {
                break;
            };
            for frame in unit {
                self.proxies[proxy].take(group, frame);
            }
            moved = true;
        }
        for handle in self.handles_of(proxy) {
            self.after(proxy, handle);
        }
        moved
    }

    fn handles_of(&self, proxy: usize) -> Vec<Handle> {
        self.proxies[proxy].conns.keys().copied().collect()
    }

    /// Everything that can move does, and the logs store it.
    pub(super) fn flow(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            self.wait(100);
            for group in 0..GROUPS {
                self.store(group, usize::MAX);
                for proxy in 0..PROXIES {
                    moved |= self.flow_up(proxy, group, usize::MAX);
                    moved |= self.flow_down(proxy, group, usize::MAX);
                }
            }
        }
    }

    /// Everything is there again, and has had its time.
    pub(super) fn settle(&mut self) {
        self.all_up();
        for proxy in 0..PROXIES {
            for group in 0..GROUPS {
                self.fill(proxy, group, false);
                self.refuse(proxy, group, false);
            }
        }
        for _ in 0..2 {
            self.flow();
            self.wait(4_000);
        }
        self.flow();
    }

    pub(super) fn kept_is_done(&self) -> bool {
        let links = self.proxies.iter().flat_map(|proxy| &proxy.links);
        links.into_iter().all(Link::is_settled)
    }

    /// After something was done for a connection: what it has written goes to its device.
    pub(super) fn after(&mut self, proxy: usize, handle: Handle) {
        loop {
            self.proxies[proxy].read(handle);
            let Some(conn) = self.proxies[proxy].conns.get_mut(&handle) else {
                return;
            };
            let chunk = Bytes::from(std::mem::take(&mut conn.bytes));
            if chunk.is_empty() {
                break;
            }
            let mut at = 0;
            while at < chunk.len() {
                let decoded = decode(&chunk, at, Version::V5, usize::MAX);
                match decoded.expect("the session writes valid packets") {
                    Decoded::Packet { packet, len } => {
                        at += len;
                        self.hear(proxy, handle, packet);
                    }
                    Decoded::Incomplete { .. } => panic!("the session wrote a part of a packet"),
                }
            }
        }
        let conn = self.proxies[proxy].conns.get(&handle);
        if let Some(conn) = conn.filter(|conn| conn.session.ended().is_some()) {
            let device = &mut self.devices[conn.device];
            if device.at == Some((proxy, handle)) {
                device.drop_socket();
            }
        }
    }

    /// A packet comes out of a connection. It reaches the device if that is still there.
    fn hear(&mut self, proxy: usize, handle: Handle, packet: Packet) {
        let conn = &self.proxies[proxy].conns[&handle];
        let (number, epoch) = (conn.device, conn.session.epoch);
        let device = &mut self.devices[number];
        if let Packet::Publish(publish) = &packet {
            // Promise P5.
            let payload = String::from_utf8_lossy(publish.message.payload());
            let count: u32 = payload[..6].parse().expect("made so");
            let (newest, publishes) = device.newest;
            let fenced = epoch < newest && count > publishes;
            assert!(!fenced, "{payload} reaches an older connection");
        }
        if device.at != Some((proxy, handle)) {
            return;
        }
        match packet {
            Packet::ConnAck(connack) if connack.reason.is_error() => device.drop_socket(),
            Packet::ConnAck(connack) => self.connected(number, connack.session_present, epoch),
            Packet::Publish(publish) => device.take_publish(&publish),
            Packet::PubRel(rel) => device.take_release(rel.packet_id),
            Packet::PubAck(it) | Packet::PubRec(it) if it.reason.is_error() => {
                device.is_refused(it.packet_id);
            }
            Packet::PubAck(it) => self.published(number, it.packet_id, QoS::AtLeastOnce),
            Packet::PubRec(it) => {
                self.published(number, it.packet_id, QoS::ExactlyOnce);
                self.send(number, &Packet::PubRel(ack(it.packet_id)));
            }
            Packet::PubComp(it) => device.completed(it.packet_id),
            Packet::SubAck(suback) => {
                let (id, filter, qos) = device.asked.take().expect("SUBACK is awaited");
                assert_eq!(id, suback.packet_id);
                if !suback.reasons[0].is_error() {
                    device.granted.insert(filter, qos);
                }
            }
            Packet::Disconnect(_) => device.drop_socket(),
            other => panic!("{other:?} was not asked for"),
        }
    }

    /// Promise P6, and what is not completed goes on.
    fn connected(&mut self, number: usize, session_present: bool, epoch: Epoch) {
        let device = &mut self.devices[number];
        if device.clean || device.has_session {
            assert_eq!(session_present, device.has_session, "device {number}");
        }
        device.clean = false;
        device.has_session = true;
        device.connected = true;
        if device.newest.0 < epoch {
            device.newest = (epoch, self.count);
        }
        for outgoing in self.devices[number].outgoing.clone() {
            let packet = match outgoing.phase {
                Phase::Sent => Packet::Publish(Publish {
                    dup: true,
                    ..self.packet_of(&outgoing)
                }),
                Phase::Released => Packet::PubRel(ack(outgoing.id)),
            };
            self.send(number, &packet);
        }
    }

    fn packet_of(&self, outgoing: &Outgoing) -> Publish {
        let topic = TopicName::new(&self.topics[outgoing.topic]).expect("valid");
        Publish {
            dup: false,
            qos: outgoing.qos,
            retain: false,
            packet_id: Some(outgoing.id),
            topic_alias: None,
            subscription_ids: Vec::new(),
            message: Message::new(&topic, &[], outgoing.payload.as_bytes()).expect("valid"),
        }
    }

    fn published(&mut self, device: usize, id: PacketId, qos: QoS) {
        let payload = self.devices[device].published(id, qos);
        let mut promises = self.promises.iter_mut();
        let promise = promises.find(|promise| promise.payload == payload);
        promise.expect("made when it was published").acknowledged = true;
    }

    /// A device writes to its socket.
    fn send(&mut self, device: usize, packet: &Packet) {
        let Some((proxy, handle)) = self.devices[device].at else {
            return;
        };
        let mut bytes = Vec::new();
        encode(packet, Version::V5, &mut bytes).expect("the test's packet can be written");
        if let Some(conn) = self.proxies[proxy].conns.get_mut(&handle) {
            conn.unread.extend_from_slice(&bytes);
        }
    }

    fn say(&mut self, device: usize, packet: &Packet) {
        self.send(device, packet);
        if let Some((proxy, handle)) = self.devices[device].at {
            self.after(proxy, handle);
        }
    }

    /// Connects a device through a proxy. A connection that it had is left as it is; but a device that waits for CONNACK
    /// goes on waiting, or closes its socket where there is no link to its home.
    pub(super) fn connect(&mut self, device: usize, proxy: usize, clean: bool, expiry_s: u32) {
        if let Some((at, _)) = self.devices[device].at
            && !self.devices[device].connected
        {
            if self.proxies[at].links[Self::home(device)].at.is_some() {
                return;
            }
            self.disconnect(device);
        }
        let it = &mut self.devices[device];
        it.drop_socket();
        if clean && !it.clean {
            it.start_clean();
        }
        let clean = it.clean;
        self.handles += 1;
        let handle = Handle {
            index: self.handles,
            generation: 1,
        };
        it.at = Some((proxy, handle));
        let conn = Conn {
            session: Session::new(handle),
            device,
            unread: BytesMut::new(),
            bytes: Vec::new(),
        };
        self.proxies[proxy].conns.insert(handle, conn);
        let connect = Connect {
            clean_start: clean,
            session_expiry_s: Some(expiry_s),
            ..Connect::new(Version::V5, &self.ids[device])
        };
        self.say(device, &Packet::Connect(Box::new(connect)));
    }

    /// A device's socket is closed.
    pub(super) fn disconnect(&mut self, device: usize) {
        if let Some((proxy, handle)) = self.devices[device].at {
            let end = |session: &mut Session, cx: &mut Context<'_>| {
                session.end(End::SocketClosed, cx);
            };
            self.proxies[proxy].with(handle, end);
            self.proxies[proxy].conns.remove(&handle);
            self.devices[device].drop_socket();
        }
    }

    /// Filter n is the topic of group n, the last one is `#`.
    pub(super) fn subscribe(&mut self, device: usize, filter: usize, qos: QoS) {
        let it = &mut self.devices[device];
        if !it.connected || it.asked.is_some() {
            return;
        }
        it.requests = it.requests % 1_000 + 1;
        let packet_id = PacketId::new(30_000 + it.requests).expect("not zero");
        it.asked = Some((packet_id, filter, qos));
        self.may_grant(device, filter, qos);
        let text = self.topics.get(filter).map_or("#", String::as_str);
        let options = SubscribeOptions {
            qos,
            ..SubscribeOptions::default()
        };
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            filters: vec![(TopicFilter::new(text).expect("valid"), options)],
        });
        self.say(device, &subscribe);
    }

    /// A subscription may be replaced though SUBACK never comes, or is a refusal: no more is promised than the lesser of
    /// both.
    fn may_grant(&mut self, device: usize, filter: usize, qos: QoS) {
        if let Some(granted) = self.devices[device].granted.get_mut(&filter) {
            *granted = qos.min(*granted);
        }
        let promises = self.promises.iter_mut();
        let of_filter = promises.filter(|it| filter == EVERYTHING || it.topic == filter);
        let to = of_filter.flat_map(|promise| &mut promise.to);
        for (_, _, granted) in to.filter(|(to, ..)| *to == device) {
            *granted = qos.min(*granted);
        }
    }

    pub(super) fn publish(&mut self, device: usize, topic: usize, qos: QoS) {
        if !self.devices[device].connected {
            return;
        }
        self.count += 1;
        let payload = format!("{:06} {device} {topic} {}", self.count, qos as u8);
        let devices = self.devices.iter().enumerate();
        let to = devices.filter_map(|(n, it)| {
            let granted = it.granted_for(topic, EVERYTHING)?;
            Some((n, it.session, granted))
        });
        self.promises.push(Promise {
            payload: payload.clone(),
            topic,
            qos,
            to: to.collect(),
            acknowledged: false,
        });
        let outgoing = Outgoing {
            id: self.devices[device].free_id(),
            topic,
            qos,
            payload,
            phase: Phase::Sent,
        };
        self.devices[device].outgoing.push(outgoing.clone());
        let packet = Packet::Publish(self.packet_of(&outgoing));
        self.say(device, &packet);
    }

    /// A device answers the oldest thing it has not answered. Whether there was any.
    pub(super) fn answer(&mut self, device: usize) -> bool {
        let Some(answer) = self.devices[device].unanswered.pop_front() else {
            return false;
        };
        self.say(device, &answer);
        true
    }
}
