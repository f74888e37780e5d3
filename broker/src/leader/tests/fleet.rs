//! Two proxies, their links with a wire that can be cut anywhere, a log that can lose what was not stored, and
//! devices that know what they have been promised.

pub(super) mod broker;
pub(super) mod proxy;
mod verdict;

use super::{handle, message};
use crate::command::Producer;
use crate::limits::MachineLimits;
use broker::Broker;
use cluster::frame::{
    Ack, AckKind, Body, Claim, Claimed, Delivery, FromGroup, Publish, Receiver, Subscribe, ToGroup,
};
use cluster::ids::{Actor, Handle, LinkNo};
use protocol::{Message, PacketId, QoS, SubscribeOptions, TopicFilter, Version};
use proxy::{Connection, Proxy, disconnect};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const DEVICES: usize = 3;
pub(super) const PROXIES: usize = 2;
pub(super) const TOPICS: [&str; 2] = ["t", "u"];

/// How far a publish of a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Sent,
    Released,
}

/// A publish of a device that is not completed.
#[derive(Clone, Debug)]
struct Outgoing {
    id: PacketId,
    topic: usize,
    qos: QoS,
    payload: String,
    phase: Phase,
}

/// A client with a session that never expires.
#[derive(Default)]
pub(super) struct Device {
    pub(super) at: Option<(usize, Handle)>,
    outgoing: Vec<Outgoing>,
    /// Topics with the QoS that SUBACK granted.
    pub(super) granted: BTreeMap<usize, QoS>,
    asked: Option<(usize, QoS)>,
    /// What it has to answer: PUBLISH or PUBREL.
    unanswered: VecDeque<(PacketId, AckKind)>,
    /// QoS 2 packet ids that it has had and whose PUBREL has not come.
    open: BTreeSet<PacketId>,
    /// Payloads, as the application got them.
    pub(super) got: Vec<String>,
    /// The same, of this connection.
    got_here: BTreeSet<String>,
}

/// A message that somebody was promised.
struct Promise {
    payload: String,
    qos: QoS,
    /// Who had subscribed, with the granted QoS.
    to: Vec<(usize, QoS)>,
    acknowledged: bool,
}

pub(super) struct Fleet {
    pub(super) broker: Broker,
    pub(super) proxies: Vec<Proxy>,
    pub(super) devices: Vec<Device>,
    promises: Vec<Promise>,
    count: u32,
}

impl Fleet {
    pub(super) fn new(limits: MachineLimits) -> Self {
        let mut fleet = Self {
            broker: Broker::new(limits),
            proxies: (0..PROXIES).map(|_| Proxy::default()).collect(),
            devices: (0..DEVICES).map(|_| Device::default()).collect(),
            promises: Vec::new(),
            count: 0,
        };
        for proxy in 0..PROXIES {
            fleet.up(proxy);
        }
        fleet.flow();
        fleet
    }

    fn producer(&self, proxy: usize) -> Producer {
        Producer {
            node: proxy as u32 + 1,
            shard: 0,
            incarnation: self.proxies[proxy].incarnation,
        }
    }

    /// A link session begins, if there is none.
    pub(super) fn up(&mut self, proxy: usize) {
        if self.proxies[proxy].link.is_some() {
            return;
        }
        let producer = self.producer(proxy);
        let (link, _) = self.broker.leader.session_up(producer).expect("it serves");
        self.proxies[proxy].link = Some(link);
        self.proxies[proxy].resume();
    }

    /// The wire is cut: what is on it is gone.
    pub(super) fn cut(&mut self, proxy: usize) {
        let Some(link) = self.proxies[proxy].link.take() else {
            return;
        };
        let proxy = &mut self.proxies[proxy];
        proxy.to_group.clear();
        proxy.from_group.clear();
        proxy.unit.clear();
        self.broker.leader.session_lost(link);
    }

    pub(super) fn crash(&mut self) {
        for proxy in &mut self.proxies {
            proxy.link = None;
            proxy.to_group.clear();
            proxy.from_group.clear();
            proxy.unit.clear();
        }
        self.broker.crash();
        self.collect();
    }

    /// The proxy is killed and another life of its node begins.
    pub(super) fn kill_proxy(&mut self, proxy: usize) {
        self.cut(proxy);
        let gone = std::mem::take(&mut self.proxies[proxy]);
        self.proxies[proxy].incarnation = gone.incarnation + 1;
        for device in 0..DEVICES {
            if self.devices[device].at.is_some_and(|(at, _)| at == proxy) {
                self.drop_socket(device);
            }
        }
    }

    /// Lets some frames of a proxy reach the group.
    pub(super) fn flow_up(&mut self, proxy: usize, frames: usize) -> bool {
        let Some(link) = self.proxies[proxy].link else {
            return false;
        };
        let mut moved = false;
        for _ in 0..frames {
            if !self.broker.leader.is_ready(link) {
                break;
            }
            let Some(frame) = self.proxies[proxy].to_group.pop_front() else {
                break;
            };
            self.broker.leader.frame(link, frame);
            moved = true;
        }
        self.collect();
        moved
    }

    /// Takes the effects of a turn to the wires, where there are any.
    pub(super) fn collect(&mut self) {
        self.broker.leader.end_units(|_| false);
        let links = std::mem::take(&mut self.broker.leader.effects().links);
        for (at, frames) in links.into_iter().enumerate() {
            let link = LinkNo(at as u16);
            if !self.broker.leader.is_live(link) {
                continue;
            }
            let mut proxies = self.proxies.iter_mut();
            let proxy = proxies.find(|proxy| proxy.link == Some(link));
            let Some(proxy) = proxy else { continue };
            for mut frame in frames {
                if let FromGroup::Deliver(Delivery { body, .. }) = &mut frame
                    && let Body::Stored(at) = *body
                {
                    *body = Body::Inline(self.broker.read(at));
                }
                proxy.from_group.push_back(frame);
            }
        }
    }

    /// Lets some frames of the group reach a proxy, which takes whole units.
    pub(super) fn flow_down(&mut self, proxy: usize, frames: usize) -> bool {
        let mut moved = false;
        for _ in 0..frames {
            let Some(frame) = self.proxies[proxy].from_group.pop_front() else {
                break;
            };
            moved = true;
            let FromGroup::Done { number } = frame else {
                self.proxies[proxy].unit.push(frame);
                continue;
            };
            for frame in std::mem::take(&mut self.proxies[proxy].unit) {
                self.take(proxy, frame);
            }
            let kept = &mut self.proxies[proxy].kept;
            while kept.front().is_some_and(|(first, _)| *first <= number) {
                kept.pop_front();
            }
        }
        moved
    }

    /// Everything that can move does, and the log stores it.
    pub(super) fn flow(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            self.broker.wait(super::LAZY_MS_MAX);
            self.broker.store(usize::MAX);
            self.collect();
            for proxy in 0..PROXIES {
                moved |= self.flow_up(proxy, usize::MAX);
                moved |= self.flow_down(proxy, usize::MAX);
            }
        }
    }

    fn take(&mut self, proxy: usize, frame: FromGroup) {
        match frame {
            FromGroup::Claimed(claimed) => self.claimed(proxy, &claimed),
            FromGroup::ClaimRefused { handle, .. } => {
                self.proxies[proxy].connections.remove(&handle);
            }
            FromGroup::Kick { handle, .. } => self.kick(proxy, handle),
            FromGroup::Deliver(delivery) => {
                let Body::Inline(message) = delivery.body else {
                    panic!("read when it was sent")
                };
                for receiver in &delivery.receivers {
                    self.deliver(proxy, &message, receiver);
                }
            }
            FromGroup::Published {
                handle,
                packet_id,
                qos,
                reason,
            } => self.published(proxy, handle, packet_id, qos, reason.is_error()),
            FromGroup::Released {
                handle, packet_id, ..
            } => self.released(proxy, handle, packet_id),
            FromGroup::Release {
                handle, packet_id, ..
            } => self.release(proxy, handle, packet_id),
            FromGroup::Subscribed {
                handle, outcomes, ..
            } => self.subscribed(proxy, handle, outcomes[0].reason.is_error()),
            FromGroup::Unsubscribed { .. }
            | FromGroup::Resume
            | FromGroup::Done { .. }
            | FromGroup::Listed { .. }
            | FromGroup::Joined(_)
            | FromGroup::Filters(_)
            | FromGroup::Rejoin { .. }
            | FromGroup::Errand(_)
            | FromGroup::ErrandDone(_) => {
                panic!("{frame:?} was not asked for")
            }
        }
    }

    /// The device of a connection, if it is still the device's.
    fn device_at(&self, proxy: usize, handle: Handle) -> Option<usize> {
        let connection = self.proxies[proxy].connections.get(&handle)?;
        let device = connection.device;
        (self.devices[device].at == Some((proxy, handle))).then_some(device)
    }

    fn claimed(&mut self, proxy: usize, claimed: &Claimed) {
        let Claimed {
            handle,
            client,
            epoch,
            ..
        } = *claimed;
        let actor = Actor { client, epoch };
        let Some(connection) = self.proxies[proxy].connections.get_mut(&handle) else {
            return self.proxies[proxy].push(disconnect(actor));
        };
        assert_eq!(connection.actor, None, "CONNACK comes once");
        connection.actor = Some(actor);
        let Some(device) = self.device_at(proxy, handle) else {
            return;
        };
        // What QoS 2 has not completed goes on; QoS 1 without an answer is given up, to make each payload unique.
        self.devices[device]
            .outgoing
            .retain(|outgoing| outgoing.qos == QoS::ExactlyOnce);
        for outgoing in self.devices[device].outgoing.clone() {
            self.send(device, &outgoing);
        }
    }

    fn kick(&mut self, proxy: usize, handle: Handle) {
        let device = self.device_at(proxy, handle);
        self.proxies[proxy].connections.remove(&handle);
        self.proxies[proxy].push(ToGroup::Kicked { handle });
        if let Some(device) = device {
            self.drop_socket(device);
        }
    }

    fn drop_socket(&mut self, device: usize) {
        let device = &mut self.devices[device];
        device.at = None;
        device.asked = None;
        device.unanswered.clear();
        device.got_here.clear();
    }

    fn deliver(&mut self, proxy: usize, message: &Message, receiver: &Receiver) {
        let Some(connection) = self.proxies[proxy].connections.get_mut(&receiver.handle) else {
            return;
        };
        assert!(connection.actor.is_some(), "CONNACK comes first");
        let Some(id) = receiver.packet_id else {
            return;
        };
        connection.last = Some(id);
        let Some(device) = self.device_at(proxy, receiver.handle) else {
            return;
        };
        let payload = String::from_utf8_lossy(message.payload()).into_owned();
        let device = &mut self.devices[device];
        assert!(
            device.got_here.insert(payload.clone()),
            "{payload} came twice over one connection"
        );
        if receiver.qos == QoS::AtLeastOnce {
            device.got.push(payload);
            device.unanswered.push_back((id, AckKind::Ack));
            return;
        }
        if device.open.insert(id) {
            device.got.push(payload);
        }
        device.unanswered.push_back((id, AckKind::Received));
    }

    fn published(&mut self, proxy: usize, handle: Handle, id: PacketId, qos: QoS, refused: bool) {
        let Some(device) = self.device_at(proxy, handle) else {
            return;
        };
        let outgoing = &mut self.devices[device].outgoing;
        let place = outgoing
            .iter()
            .position(|o| o.id == id && o.qos == qos && o.phase == Phase::Sent);
        let place = place.expect("an answer is awaited");
        let payload = outgoing[place].payload.clone();
        if refused {
            outgoing.remove(place);
            return;
        }
        let promise = self.promises.iter_mut().find(|p| p.payload == payload);
        promise.expect("made when it was published").acknowledged = true;
        if qos == QoS::AtLeastOnce {
            outgoing.remove(place);
        } else {
            outgoing[place].phase = Phase::Released;
            let released = outgoing[place].clone();
            self.send(device, &released);
        }
    }

    fn released(&mut self, proxy: usize, handle: Handle, id: PacketId) {
        let Some(device) = self.device_at(proxy, handle) else {
            return;
        };
        let outgoing = &mut self.devices[device].outgoing;
        let place = outgoing
            .iter()
            .position(|o| o.id == id && o.phase == Phase::Released);
        outgoing.remove(place.expect("PUBCOMP is awaited"));
    }

    fn release(&mut self, proxy: usize, handle: Handle, id: PacketId) {
        let Some(connection) = self.proxies[proxy].connections.get_mut(&handle) else {
            return;
        };
        assert!(connection.released.insert(id), "PUBREL {id:?} comes once");
        if let Some(device) = self.device_at(proxy, handle) {
            let device = &mut self.devices[device];
            device.open.remove(&id);
            device.unanswered.push_back((id, AckKind::Complete));
        }
    }

    fn subscribed(&mut self, proxy: usize, handle: Handle, refused: bool) {
        let Some(device) = self.device_at(proxy, handle) else {
            return;
        };
        let device = &mut self.devices[device];
        let (topic, qos) = device.asked.take().expect("SUBACK is awaited");
        if !refused {
            device.granted.insert(topic, qos);
        }
    }

    /// Connects a device through a proxy; a connection that it had is left as it is.
    pub(super) fn connect(&mut self, device: usize, proxy: usize) {
        self.drop_socket(device);
        let at = &mut self.proxies[proxy];
        at.handles += 1;
        let handle = handle(at.handles);
        let connection = Connection {
            device,
            actor: None,
            last: None,
            released: BTreeSet::new(),
        };
        at.connections.insert(handle, connection);
        at.push(ToGroup::Claim(Box::new(Claim {
            handle,
            client_id: format!("device {device}").into(),
            version: Version::V5,
            clean_start: false,
            expiry_s: u32::MAX,
            will: None,
        })));
        self.devices[device].at = Some((proxy, handle));
    }

    pub(super) fn disconnect(&mut self, device: usize) {
        let Some((proxy, handle)) = self.devices[device].at else {
            return;
        };
        let gone = self.proxies[proxy].connections.remove(&handle);
        if let Some(actor) = gone.and_then(|connection| connection.actor) {
            self.proxies[proxy].push(disconnect(actor));
        }
        self.drop_socket(device);
    }

    fn actor(&self, device: usize) -> Option<(usize, Actor)> {
        let (proxy, handle) = self.devices[device].at?;
        let connection = self.proxies[proxy].connections.get(&handle)?;
        Some((proxy, connection.actor?))
    }

    pub(super) fn subscribe(&mut self, device: usize, topic: usize, qos: QoS) {
        let Some((proxy, actor)) = self.actor(device) else {
            return;
        };
        if self.devices[device].asked.is_some() {
            return;
        }
        self.devices[device].asked = Some((topic, qos));
        self.may_grant(device, topic, qos);
        let options = SubscribeOptions {
            qos,
            ..SubscribeOptions::default()
        };
        let filter = TopicFilter::new(TOPICS[topic]).expect("a filter");
        self.proxies[proxy].push(ToGroup::Subscribe(Box::new(Subscribe {
            actor,
            packet_id: PacketId::MIN,
            subscription_id: 0,
            filters: vec![(filter, options)],
        })));
    }

    /// A subscription may be replaced though SUBACK never comes: no more is promised than the lesser of both.
    fn may_grant(&mut self, device: usize, topic: usize, qos: QoS) {
        let lessen = |granted: &mut QoS| *granted = qos.min(*granted);
        self.devices[device].granted.get_mut(&topic).map(lessen);
        let name = topic.to_string();
        let of_topic = |p: &&mut Promise| p.payload.split(' ').nth(2) == Some(&name);
        let to = self
            .promises
            .iter_mut()
            .filter(of_topic)
            .flat_map(|p| &mut p.to);
        for (_, granted) in to.filter(|(to, _)| *to == device) {
            *granted = qos.min(*granted);
        }
    }

    /// Publishes with the lowest packet id that is free, as many clients do.
    pub(super) fn publish(&mut self, device: usize, topic: usize, qos: QoS) {
        if self.actor(device).is_none() {
            return;
        }
        self.count += 1;
        let payload = format!("{:06} {device} {topic} {}", self.count, qos as u8);
        let in_use = |id: u16| {
            self.devices[device]
                .outgoing
                .iter()
                .any(|o| o.id.get() == id)
        };
        let id = (1..=u16::MAX)
            .find(|id| !in_use(*id))
            .and_then(PacketId::new);
        let outgoing = Outgoing {
            id: id.expect("few are open"),
            topic,
            qos,
            payload: payload.clone(),
            phase: Phase::Sent,
        };
        let to = self.devices.iter().enumerate().filter_map(|(n, device)| {
            let granted = *device.granted.get(&topic)?;
            (granted.min(qos) > QoS::AtMostOnce).then_some((n, granted))
        });
        let to = to.collect();
        self.promises.push(Promise {
            payload,
            qos,
            to,
            acknowledged: false,
        });
        if qos > QoS::AtMostOnce {
            self.devices[device].outgoing.push(outgoing.clone());
        }
        self.send(device, &outgoing);
    }

    fn send(&mut self, device: usize, outgoing: &Outgoing) {
        let Some((proxy, actor)) = self.actor(device) else {
            return;
        };
        let frame = match outgoing.phase {
            Phase::Sent => ToGroup::Publish(Publish {
                actor,
                packet_id: (outgoing.qos > QoS::AtMostOnce).then_some(outgoing.id),
                qos: outgoing.qos,
                retain: false,
                message: message(TOPICS[outgoing.topic], outgoing.payload.as_bytes()),
            }),
            Phase::Released => ToGroup::Release {
                actor,
                packet_id: outgoing.id,
            },
        };
        self.proxies[proxy].push(frame);
    }

    /// A device answers the oldest thing it has not answered. Whether there was any.
    pub(super) fn answer(&mut self, device: usize) -> bool {
        let Some((proxy, actor)) = self.actor(device) else {
            return false;
        };
        let Some((packet_id, kind)) = self.devices[device].unanswered.pop_front() else {
            return false;
        };
        self.proxies[proxy].push(ToGroup::Ack(Ack {
            actor,
            packet_id,
            kind,
        }));
        true
    }
}
