//! What a proxy does for its connections: what they say and hear at each group.

use super::{Conn, Fleet, GROUPS, PROXIES, Promise, Todo};
use crate::leader::tests::fleet::proxy::{Connection, disconnect};
use crate::leader::tests::{handle, message};
use cluster::frame::{
    Ack, AckKind, Body, Claim, Claimed, Delivery, FromGroup, Join, Publish, Subscribe, ToGroup,
};
use cluster::ids::{Actor, Handle, Rank};
use cluster::slots::GroupNo;
use protocol::{PacketId, QoS, SubscribeOptions, TopicFilter, Version, Will};
use std::collections::{BTreeMap, BTreeSet};

impl Fleet {
    pub(in crate::leader::tests::groups) fn take(
        &mut self,
        proxy: usize,
        group: usize,
        frame: FromGroup,
    ) {
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
                self.links[proxy][group].void.remove(&handle);
                self.over(proxy, handle);
                self.push(proxy, group, ToGroup::Kicked { handle });
            }
            FromGroup::ClaimRefused { handle, .. } => {
                let was_void = self.links[proxy][group].void.remove(&handle);
                assert!(was_void, "no other claim is refused");
            }
            FromGroup::Deliver(delivery) => self.deliver(proxy, group, &delivery),
            FromGroup::Published {
                handle, packet_id, ..
            } => self.published(proxy, group, handle, packet_id),
            FromGroup::Subscribed {
                handle,
                packet_id,
                outcomes,
            } => {
                let refused = outcomes[0].reason.is_error();
                self.subscribed(proxy, group, handle, packet_id, refused);
            }
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

    pub(in crate::leader::tests::groups) fn drop_socket(&mut self, device: usize) {
        self.devices[device].at = None;
        self.devices[device].unanswered.clear();
    }

    /// Connects a device through a proxy; a connection that it had is left as it is, if it came as far as CONNACK.
    /// (A proxy gives up on a CONNECT whose home does not answer, and devices on the proxy.)
    pub(in crate::leader::tests::groups) fn connect(
        &mut self,
        device: usize,
        proxy: usize,
        clean: bool,
        expiry_s: u32,
    ) {
        self.connect_with(device, proxy, clean, expiry_s, None);
    }

    pub(in crate::leader::tests::groups) fn connect_with(
        &mut self,
        device: usize,
        proxy: usize,
        clean_start: bool,
        expiry_s: u32,
        will_topic: Option<usize>,
    ) {
        self.drop_socket(device);
        for at in 0..PROXIES {
            let conns = self.conns[at].iter();
            let unanswered =
                conns.filter(|(_, conn)| conn.device == device && conn.epochs.is_none());
            for handle in unanswered.map(|(handle, _)| *handle).collect::<Vec<_>>() {
                self.over(at, handle);
            }
        }
        self.handles += 1;
        let handle = handle(self.handles);
        let conn = Conn {
            device,
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
        self.links[proxy][home].void.remove(&handle);
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
        let (epoch, _) = conn.epochs.expect("claimed");
        let device = &mut self.devices[conn.device];
        if device.newest.0 < epoch {
            device.newest = (epoch, self.count);
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
        if conn.epochs.is_none() {
            let home = Self::home(conn.device);
            self.links[proxy][home].void.insert(handle);
        }
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

    pub(in crate::leader::tests::groups) fn disconnect(&mut self, device: usize) {
        if let Some((proxy, handle)) = self.devices[device].at {
            self.over(proxy, handle);
        }
    }

    fn connected(&mut self, device: usize) -> Option<(usize, Handle, &mut Conn)> {
        let (proxy, handle) = self.devices[device].at?;
        let conn = self.conns[proxy].get_mut(&handle)?;
        conn.connected.then_some((proxy, handle, conn))
    }

    pub(in crate::leader::tests::groups) fn is_connected(&mut self, device: usize) -> bool {
        self.connected(device).is_some()
    }

    /// Topic n is group n's.
    pub(in crate::leader::tests::groups) fn subscribe(&mut self, device: usize, topic: usize) {
        self.say(device, topic, Todo::Subscribe(topic));
    }

    pub(in crate::leader::tests::groups) fn publish(&mut self, device: usize, topic: usize) {
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
                let (epoch, _) = conn.epochs.expect("it acts");
                let fenced = epoch < newest && number > publishes;
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
    pub(in crate::leader::tests::groups) fn answer(&mut self, device: usize) -> bool {
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
}
