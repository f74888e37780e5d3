//! A shard on a thread, a tiny group on another, and blocking clients.
#![allow(dead_code, reason = "each test uses a part of it")]

use bytes::{Bytes, BytesMut};
use cluster::filters::FilterDigest;
use cluster::frame::{
    AckKind, Body, Claimed, Delivery, FilterOutcome, FromGroup, Join, Joined, Listed, Receiver,
    ToGroup,
};
use cluster::ids::{ClientNo, Epoch, Handle, Rank};
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use mqtt_fleet_proxy::auth::{AcceptAll, Authenticator};
use mqtt_fleet_proxy::counters::ProxyCounters;
use mqtt_fleet_proxy::limits::ProxyLimits;
use mqtt_fleet_proxy::link::{GroupLink, ShardPoll};
use mqtt_fleet_proxy::records::RecordSink;
use mqtt_fleet_proxy::shard::{ListenerConfig, Shard, ShardConfig, ShardHandle};
use protocol::{
    Connect, Decoded, Message, Packet, PacketId, QoS, ReasonCode, Version, decode, encode,
};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running shard with its group.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) counters: Arc<ProxyCounters>,
    /// The first group's.
    pub(crate) link: Arc<GroupLink>,
    pub(crate) handle: ShardHandle,
    pub(crate) groups: Vec<RunningGroup>,
    shard: Option<JoinHandle<io::Result<()>>>,
}

/// A group on its thread.
pub(crate) struct RunningGroup {
    pub(crate) link: Arc<GroupLink>,
    control: Arc<GroupControl>,
    thread: JoinHandle<Group>,
}

impl RunningGroup {
    fn start(poll: &ShardPoll) -> Self {
        let (park, parked) = std::sync::mpsc::sync_channel::<std::thread::Thread>(1);
        let group_thread: Arc<std::sync::OnceLock<std::thread::Thread>> = Arc::default();
        let waked = Arc::clone(&group_thread);
        let wake = Box::new(move || {
            if let Some(thread) = waked.get() {
                thread.unpark();
            }
        });
        let link = Arc::new(GroupLink::new(poll.waker(), wake));
        let control = Arc::new(GroupControl::default());
        let thread = std::thread::spawn({
            let (link, control) = (Arc::clone(&link), Arc::clone(&control));
            move || {
                park.send(std::thread::current())
                    .expect("the starter waits");
                Group::default().run(&link, &control)
            }
        });
        group_thread
            .set(parked.recv().expect("it has started"))
            .expect("set once");
        Self {
            link,
            control,
            thread,
        }
    }

    pub(crate) fn hold(&self, holds: bool) {
        self.control.holds.store(holds, Ordering::Release);
        self.thread.thread().unpark();
    }

    fn stop(self) -> Group {
        self.control.stops.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().expect("no panic")
    }
}

/// What a test may do with the group.
#[derive(Default)]
pub(crate) struct GroupControl {
    /// Takes no frames while set.
    pub(crate) holds: AtomicBool,
    stops: AtomicBool,
}

impl Server {
    pub(crate) fn start(limits: ProxyLimits) -> Self {
        Self::start_with_records(limits, None)
    }

    pub(crate) fn start_with_records(
        limits: ProxyLimits,
        records: Option<Box<dyn RecordSink>>,
    ) -> Self {
        Self::start_as(limits, records, Arc::new(AcceptAll), ListenerConfig::plain)
    }

    /// The same with a listener that is not plain, and somebody who looks at who comes.
    pub(crate) fn start_as(
        limits: ProxyLimits,
        records: Option<Box<dyn RecordSink>>,
        authenticator: Arc<dyn Authenticator>,
        listener_of: impl FnOnce(TcpListener) -> ListenerConfig,
    ) -> Self {
        let routing = Routing::one_group(GroupNo(0));
        Self::start_routed(limits, records, authenticator, listener_of, routing)
    }

    /// A shard with a link to each group of a routing.
    pub(crate) fn start_groups(limits: ProxyLimits, routing: Routing) -> Self {
        let anybody = Arc::new(AcceptAll);
        Self::start_routed(limits, None, anybody, ListenerConfig::plain, routing)
    }

    fn start_routed(
        limits: ProxyLimits,
        records: Option<Box<dyn RecordSink>>,
        authenticator: Arc<dyn Authenticator>,
        listener_of: impl FnOnce(TcpListener) -> ListenerConfig,
        routing: Routing,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let poll = ShardPoll::new().expect("descriptors are left");
        let started = routing.groups().iter().map(|_| RunningGroup::start(&poll));
        let groups: Vec<_> = started.collect();
        let links = routing.groups().iter().copied();
        let links = links.zip(groups.iter().map(|group| Arc::clone(&group.link)));
        let counters = Arc::new(ProxyCounters::default());
        let config = ShardConfig {
            listeners: vec![listener_of(listener)],
            limits,
            links: links.collect(),
            routing: Arc::new(routing),
            authenticator,
            records,
            counters: Arc::clone(&counters),
        };
        let shard = Shard::new(poll, config).expect("the listener is good");
        let handle = shard.handle();
        let thread = std::thread::Builder::new().name("shard".to_owned());
        let shard = Some(thread.spawn(move || shard.run()).expect("threads are left"));
        Self {
            addr,
            counters,
            link: Arc::clone(&groups[0].link),
            handle,
            groups,
            shard,
        }
    }

    pub(crate) fn connect(&self, connect: Connect) -> Client {
        let mut client = self.socket();
        client.version = connect.version;
        client.send(&Packet::Connect(Box::new(connect)));
        let connack = client.receive();
        assert!(
            matches!(&connack, Packet::ConnAck(ack) if ack.reason == ReasonCode::Success),
            "{connack:?}"
        );
        client
    }

    pub(crate) fn client(&self, id: &str) -> Client {
        self.connect(Connect::new(Version::V311, id))
    }

    /// A connection that has sent nothing.
    pub(crate) fn socket(&self) -> Client {
        Client::new(TcpStream::connect(self.addr).expect("the shard listens"))
    }

    pub(crate) fn hold_group(&self, holds: bool) {
        self.groups[0].hold(holds);
    }

    /// Drains the shard, stops the group and says what the group saw.
    pub(crate) fn stop(self) -> Group {
        self.stop_all().swap_remove(0)
    }

    /// The same of all groups.
    pub(crate) fn stop_all(mut self) -> Vec<Group> {
        self.handle.drain();
        self.shard
            .take()
            .expect("it runs")
            .join()
            .expect("no panic")
            .expect("no error of the poll");
        self.groups.into_iter().map(RunningGroup::stop).collect()
    }

    /// Waits for a figure of the shard; it changes at the shard's own pace.
    pub(crate) fn wait_for(&self, what: &str, reached: impl Fn(&ProxyCounters) -> bool) {
        let start = std::time::Instant::now();
        while !reached(&self.counters) {
            assert!(start.elapsed() < PATIENCE, "waited for {what} in vain");
            std::thread::yield_now();
        }
    }
}

/// A group that knows exact filters and `#`, stores nothing and answers at once.
#[derive(Default)]
pub(crate) struct Group {
    clients: HashMap<ClientNo, Handle>,
    subscribers: HashMap<Vec<u8>, Vec<(Handle, QoS)>>,
    next_id: HashMap<Handle, u16>,
    answers: Vec<FromGroup>,
    pub(crate) acks: usize,
    pub(crate) kicked: Vec<Handle>,
    pub(crate) gone: Vec<cluster::frame::Disconnect>,
    pub(crate) resumed: Vec<cluster::frame::Resume>,
    pub(crate) errands: Vec<cluster::frame::Errand>,
    pub(crate) errands_done: Vec<cluster::frame::ErrandDone>,
    pub(crate) joins: Vec<Join>,
    ids: HashMap<Box<str>, Handle>,
    /// Clients by the connection that has joined, and the rank of this group in its session.
    guests: HashMap<Handle, (ClientNo, Rank)>,
    /// The other groups of the sessions that are at home here.
    listed: HashMap<ClientNo, Vec<GroupNo>>,
}

impl Group {
    fn run(mut self, link: &GroupLink, control: &GroupControl) -> Self {
        let mut frames = Vec::new();
        loop {
            let stops = control.stops.load(Ordering::Acquire);
            let holds = control.holds.load(Ordering::Acquire);
            if !stops && (holds || link.to_group.prepare_sleep()) {
                std::thread::park();
                link.to_group.awake();
                continue;
            }
            link.to_group.take(&mut frames);
            if frames.is_empty() && stops {
                return self;
            }
            for frame in frames.drain(..) {
                self.take(frame);
            }
            let bytes = self.answers.len() * 64;
            link.to_shard.send(&mut self.answers, bytes);
        }
    }

    fn take(&mut self, frame: ToGroup) {
        match frame {
            ToGroup::Claim(claim) => self.claim(*claim),
            ToGroup::Publish(publish) => self.publish(publish),
            ToGroup::Release { actor, packet_id } => self.answers.push(FromGroup::Released {
                handle: self.clients[&actor.client],
                packet_id,
                reason: ReasonCode::Success,
            }),
            ToGroup::Ack(ack) => {
                self.acks += 1;
                if ack.kind == AckKind::Received {
                    self.answers.push(FromGroup::Release {
                        handle: self.clients[&ack.actor.client],
                        packet_id: ack.packet_id,
                        reason: ReasonCode::Success,
                    });
                }
            }
            ToGroup::Subscribe(subscribe) => {
                let handle = self.clients[&subscribe.actor.client];
                for (filter, options) in &subscribe.filters {
                    let topic = filter.as_str().as_bytes().to_vec();
                    self.subscribers
                        .entry(topic)
                        .or_default()
                        .push((handle, options.qos));
                }
                let outcomes = subscribe.filters.iter().map(|(_, options)| FilterOutcome {
                    reason: ReasonCode::granted(options.qos),
                    is_new: true,
                });
                self.answers.push(FromGroup::Subscribed {
                    handle,
                    packet_id: subscribe.packet_id,
                    outcomes: outcomes.collect(),
                });
            }
            ToGroup::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            ToGroup::Disconnect(gone) => self.gone.push(*gone),
            ToGroup::Kicked { handle } => self.kicked.push(handle),
            ToGroup::Resume(resume) => self.resumed.push(*resume),
            ToGroup::Number { .. } | ToGroup::ListFilters(_) => {
                panic!("a shard does not count its frames, and no record is compared")
            }
            ToGroup::List { actor, group } => self.list(actor.client, group),
            ToGroup::Join(join) => self.join(*join),
            ToGroup::Errand(errand) => {
                let done = errand.done();
                self.errands.push(*errand);
                self.answers.push(FromGroup::ErrandDone(Box::new(done)));
            }
            ToGroup::ErrandDone(done) => self.errands_done.push(*done),
        }
    }

    fn unsubscribe(&mut self, unsubscribe: &cluster::frame::Unsubscribe) {
        let handle = self.clients[&unsubscribe.actor.client];
        let subscribers = &mut self.subscribers;
        let reason = |filter: &protocol::TopicFilter| {
            let list = subscribers.get_mut(filter.as_str().as_bytes());
            let had = list.is_some_and(|list| {
                let before = list.len();
                list.retain(|(subscriber, _)| *subscriber != handle);
                list.len() < before
            });
            if had {
                ReasonCode::Success
            } else {
                ReasonCode::NoSubscriptionExisted
            }
        };
        let reasons = unsubscribe.filters.iter().map(reason).collect();
        self.answers.push(FromGroup::Unsubscribed {
            handle,
            packet_id: unsubscribe.packet_id,
            reasons,
        });
    }

    fn claim(&mut self, claim: cluster::frame::Claim) {
        let old = self.ids.insert(claim.client_id, claim.handle);
        let groups = old.filter(|_| !claim.clean_start);
        let groups = groups.map_or_else(Vec::new, |old| self.listed_of(old));
        if let Some(old) = old {
            let reason = ReasonCode::SessionTakenOver;
            self.answers.push(FromGroup::Kick {
                handle: old,
                reason,
            });
        }
        let client = ClientNo(self.clients.len() as u32);
        self.clients.insert(client, claim.handle);
        let list = groups.iter().map(|listed| listed.group);
        self.listed.insert(client, list.collect());
        self.answers.push(FromGroup::Claimed(Box::new(Claimed {
            handle: claim.handle,
            client,
            epoch: Epoch(1),
            session_present: false,
            start_epoch: Epoch(1),
            groups: groups.into(),
            digest: FilterDigest::default(),
        })));
    }

    /// The other groups that the session of a connection is at.
    fn listed_of(&self, handle: Handle) -> Vec<Listed> {
        let mut clients = self.clients.iter();
        let client = clients.find(|(_, known)| **known == handle);
        let groups = client.and_then(|(client, _)| self.listed.get(client));
        let ranks = groups.into_iter().flatten().zip(1..);
        ranks
            .map(|(group, rank)| Listed {
                group: *group,
                rank: Some(Rank(rank)),
            })
            .collect()
    }

    fn list(&mut self, client: ClientNo, group: GroupNo) {
        let listed = self.listed.entry(client).or_default();
        let at = listed.iter().position(|known| *known == group);
        let at = at.unwrap_or_else(|| {
            listed.push(group);
            listed.len() - 1
        });
        self.answers.push(FromGroup::Listed {
            handle: self.clients[&client],
            group,
            rank: Some(Rank(at as u8 + 1)),
        });
    }

    fn join(&mut self, join: Join) {
        let next = ClientNo(self.clients.len() as u32);
        let (client, rank) = self.guests.entry(join.handle).or_insert((next, Rank::HOME));
        *rank = join.rank.unwrap_or(*rank);
        self.clients.insert(*client, join.handle);
        self.answers.push(FromGroup::Joined(Box::new(Joined {
            handle: join.handle,
            client: *client,
            epoch: Epoch(1),
            digest: FilterDigest::default(),
        })));
        self.joins.push(join);
    }

    fn publish(&mut self, publish: cluster::frame::Publish) {
        let exact = self.subscribers.get(publish.message.topic_bytes());
        let all = self.subscribers.get(&b"#"[..]);
        let subscribers: Vec<_> = exact.into_iter().chain(all).flatten().collect();
        if !subscribers.is_empty() {
            let (next_id, guests) = (&mut self.next_id, &self.guests);
            let receivers = subscribers.into_iter().map(|&(handle, granted)| {
                let qos = granted.min(publish.qos);
                let packet_id = (qos > QoS::AtMostOnce).then(|| {
                    let next = next_id.entry(handle).or_insert(0);
                    *next = *next % Rank::PACKET_IDS + 1;
                    let rank = guests.get(&handle).map_or(Rank::HOME, |(_, rank)| *rank);
                    PacketId::new(u16::from(rank.0) * Rank::PACKET_IDS + *next).expect("not 0")
                });
                Receiver {
                    handle,
                    packet_id,
                    qos,
                    retain: false,
                    dup: false,
                    subscription_ids: None,
                }
            });
            self.answers.push(FromGroup::Deliver(Delivery {
                receivers: receivers.collect(),
                body: Body::Inline(publish.message),
                expiry_s: None,
            }));
        }
        if let Some(packet_id) = publish.packet_id {
            let reason = ReasonCode::Success;
            self.answers.push(FromGroup::Published {
                handle: self.clients[&publish.actor.client],
                packet_id,
                qos: publish.qos,
                reason,
            });
        }
    }
}

/// A blocking client.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) version: Version,
    unread: BytesMut,
}

impl Client {
    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        socket.set_write_timeout(Some(PATIENCE)).expect("not zero");
        Self {
            socket,
            version: Version::V311,
            unread: BytesMut::new(),
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes).expect("the test's packet can be written");
        self.socket.write_all(&bytes).expect("the shard reads");
    }

    /// The next packet.
    pub(crate) fn receive(&mut self) -> Packet {
        self.receive_or_end().expect("a packet, not the end")
    }

    /// The next packet; `None` when the shard has closed the connection.
    pub(crate) fn receive_or_end(&mut self) -> Option<Packet> {
        loop {
            let chunk: Bytes = self.unread.clone().freeze();
            let decoded = decode(&chunk, 0, self.version, usize::MAX)
                .expect("the shard writes valid packets");
            if let Decoded::Packet { packet, len } = decoded {
                let _ = self.unread.split_to(len);
                return Some(packet);
            }
            let mut buf = vec![0; 65536];
            let len = self
                .socket
                .read(&mut buf)
                .expect("the shard answers in time");
            if len == 0 {
                assert!(self.unread.is_empty(), "the end comes between packets");
                return None;
            }
            self.unread.extend_from_slice(&buf[..len]);
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        let options = protocol::SubscribeOptions {
            qos,
            ..Default::default()
        };
        self.send(&Packet::Subscribe(protocol::Subscribe {
            packet_id: PacketId::MIN,
            subscription_id: None,
            filters: vec![(protocol::TopicFilter::new(filter).expect("valid"), options)],
        }));
        let suback = self.receive();
        assert!(matches!(suback, Packet::SubAck(_)), "{suback:?}");
    }

    pub(crate) fn publish(&mut self, topic: &str, qos: QoS, id: u16, payload: &[u8]) {
        self.send(&publish(topic, qos, id, payload));
    }

    pub(crate) fn receive_publish(&mut self) -> protocol::Publish {
        match self.receive() {
            Packet::Publish(publish) => publish,
            other => panic!("PUBLISH expected, not {other:?}"),
        }
    }

    /// The connection answers.
    pub(crate) fn ping(&mut self) {
        self.send(&Packet::PingReq);
        assert_eq!(self.receive(), Packet::PingResp);
    }
}

pub(crate) fn publish(topic: &str, qos: QoS, id: u16, payload: &[u8]) -> Packet {
    let topic = protocol::TopicName::new(topic).expect("valid");
    Packet::Publish(protocol::Publish {
        dup: false,
        qos,
        retain: false,
        packet_id: PacketId::new(id),
        topic_alias: None,
        subscription_ids: Vec::new(),
        message: Message::new(&topic, &[], payload).expect("valid"),
    })
}
