//! A shard on a thread, a tiny group on another, and blocking clients.
#![allow(dead_code, reason = "each test uses a part of it")]

use bytes::{Bytes, BytesMut};
use cluster::frame::{AckKind, Body, Claimed, Delivery, FromGroup, Receiver, ToGroup};
use cluster::ids::{ClientNo, Epoch, Handle};
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
    pub(crate) link: Arc<GroupLink>,
    pub(crate) handle: ShardHandle,
    pub(crate) group: Arc<GroupControl>,
    shard: Option<JoinHandle<io::Result<()>>>,
    group_thread: Option<JoinHandle<Group>>,
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let poll = ShardPoll::new().expect("descriptors are left");
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
        let group = std::thread::spawn({
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
        let counters = Arc::new(ProxyCounters::default());
        let config = ShardConfig {
            listeners: vec![listener_of(listener)],
            limits,
            links: vec![(GroupNo(0), Arc::clone(&link))],
            routing: Arc::new(Routing::one_group(GroupNo(0))),
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
            link,
            handle,
            group: control,
            shard,
            group_thread: Some(group),
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
        self.group.holds.store(holds, Ordering::Release);
        self.group_thread
            .as_ref()
            .expect("it runs")
            .thread()
            .unpark();
    }

    /// Drains the shard, stops the group and says what the group saw.
    pub(crate) fn stop(mut self) -> Group {
        self.handle.drain();
        self.shard
            .take()
            .expect("it runs")
            .join()
            .expect("no panic")
            .expect("no error of the poll");
        self.stop_group()
    }

    fn stop_group(&mut self) -> Group {
        self.group.stops.store(true, Ordering::Release);
        let thread = self.group_thread.take().expect("it runs");
        thread.thread().unpark();
        thread.join().expect("no panic")
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

/// A group that keeps exact filters, stores nothing and answers at once.
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
    ids: HashMap<Box<str>, Handle>,
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
            ToGroup::Claim(claim) => {
                if let Some(old) = self.ids.insert(claim.client_id, claim.handle) {
                    let reason = ReasonCode::SessionTakenOver;
                    self.answers.push(FromGroup::Kick {
                        handle: old,
                        reason,
                    });
                }
                let client = ClientNo(self.clients.len() as u32);
                self.clients.insert(client, claim.handle);
                self.answers.push(FromGroup::Claimed(Box::new(Claimed {
                    handle: claim.handle,
                    client,
                    epoch: Epoch(1),
                    session_present: false,
                    start_epoch: Epoch(1),
                    groups: Box::default(),
                })));
            }
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
                let reasons = subscribe
                    .filters
                    .iter()
                    .map(|(_, o)| ReasonCode::granted(o.qos));
                self.answers.push(FromGroup::Subscribed {
                    handle,
                    packet_id: subscribe.packet_id,
                    reasons: reasons.collect(),
                });
            }
            ToGroup::Unsubscribe(_) => {}
            ToGroup::Disconnect(gone) => self.gone.push(*gone),
            ToGroup::Kicked { handle } => self.kicked.push(handle),
            ToGroup::Resume(resume) => self.resumed.push(*resume),
            ToGroup::Number { .. } => panic!("a shard does not count its frames"),
            ToGroup::List { .. }
            | ToGroup::Join(_)
            | ToGroup::Errand(_)
            | ToGroup::ErrandDone(_) => panic!("there is one group"),
        }
    }

    fn publish(&mut self, publish: cluster::frame::Publish) {
        let handle = self.clients[&publish.actor.client];
        if let Some(subscribers) = self.subscribers.get(publish.message.topic_bytes()) {
            let next_id = &mut self.next_id;
            let receivers = subscribers.iter().map(|&(handle, granted)| {
                let qos = granted.min(publish.qos);
                let packet_id = (qos > QoS::AtMostOnce).then(|| {
                    let next = next_id.entry(handle).or_insert(0);
                    *next = *next % 1023 + 1;
                    PacketId::new(*next).expect("1 to 1023")
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
                handle,
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
    fn new(socket: TcpStream) -> Self {
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
