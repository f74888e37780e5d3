//! What a device says while it is connected, and how it takes what it hears.

use super::session::{Asked, Outgoing, Phase as Sending, ack};
use super::{Device, OPEN_MAX, Phase, Stale, message};
use crate::env::Env;
use crate::ledger::{Fate, Kind, Receipt, Sent};
use crate::net::{ConnId, Piece};
use crate::queue::Event;
use crate::stored::number_in;
use bytes::Bytes;
use protocol::{
    ConnAck, Decoded, Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, SubscribeOptions,
    TopicFilter, Unsubscribe, Version, decode, encode,
};

impl Device {
    pub(super) fn publish(&mut self, env: &mut Env) {
        let qos = *env.rng.pick(&[
            QoS::AtMostOnce,
            QoS::AtLeastOnce,
            QoS::AtLeastOnce,
            QoS::ExactlyOnce,
            QoS::ExactlyOnce,
        ]);
        if qos != QoS::AtMostOnce && self.session.outgoing.len() >= OPEN_MAX {
            return;
        }
        let topic = env.rng.below(env.names.topics.len());
        let v5 = self.plan.version == Version::V5;
        let sent = Sent {
            retain: env.rng.chance(80),
            expiry_s: (v5 && env.rng.chance(60)).then_some(3),
            to: env.judge.ledger.targets(topic, env.now),
            shared: env.judge.ledger.shared(topic, env.now),
            ..self.sent(topic, qos, Kind::Publish)
        };
        let number = env.judge.sent(sent);
        let bytes = env.rng.skewed(10, 2_000) as usize;
        env.say(format_args!(
            "device {}: PUBLISH m{number}. {qos:?} topic {topic}",
            self.id
        ));
        let id = (qos != QoS::AtMostOnce).then(|| self.session.free_id());
        if let Some(id) = id {
            self.session.outgoing.push(Outgoing {
                id,
                number,
                qos,
                phase: Sending::Sent,
                bytes,
            });
        }
        let publish = packet_of(env, number, (qos, id), bytes, false);
        self.send(env, &publish);
    }

    /// Publishes over a connection that it has left behind.
    pub(super) fn publish_stale(&mut self, env: &mut Env) {
        let home = env.names.homes[self.id];
        let topics: Vec<usize> = (0..env.names.topics.len())
            .filter(|topic| env.names.topic_group[*topic] == home)
            .collect();
        let topic = *env.rng.pick(&topics);
        let which = env.rng.below(self.stale.len());
        let Stale { conn, sent, .. } = &mut self.stale[which];
        if sent.len() >= OPEN_MAX {
            return;
        }
        let conn = *conn;
        let id = 40_000 + sent.len() as u16;
        let qos = QoS::AtLeastOnce;
        let entry = Sent {
            conn,
            to: env.judge.ledger.targets(topic, env.now),
            shared: env.judge.ledger.shared(topic, env.now),
            ..self.sent(topic, qos, Kind::Stale)
        };
        let number = env.judge.sent(entry);
        self.stale[which].sent.push((id, number));
        env.say(format_args!(
            "device {}: PUBLISH m{number}. over the stale connection {conn}",
            self.id
        ));
        let packet = packet_of(env, number, (qos, PacketId::new(id)), 0, false);
        let mut bytes = Vec::new();
        encode(&packet, self.plan.version, &mut bytes).expect("a device's packets can be written");
        env.send(conn, 0, bytes);
    }

    pub(super) fn subscribe(&mut self, env: &mut Env) {
        if self.session.asked.is_some() {
            return;
        }
        let filter = env.rng.below(env.names.filters.len());
        let qos = *env.rng.pick(&[
            QoS::AtMostOnce,
            QoS::AtLeastOnce,
            QoS::AtLeastOnce,
            QoS::ExactlyOnce,
            QoS::ExactlyOnce,
            QoS::ExactlyOnce,
        ]);
        let is_shared = env.names.is_shared(filter);
        if is_shared && !self.lasts() {
            return;
        }
        // What is shared at QoS 0 is promised to nobody.
        let least = if is_shared {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let qos = qos.max(least);
        let id = self.session.request_id();
        self.session.asked = Some(Asked {
            id,
            filter,
            qos: Some(qos),
        });
        env.judge.ledger.may_grant(self.id, filter, qos);
        env.say(format_args!(
            "device {}: SUBSCRIBE filter {filter} {qos:?}",
            self.id
        ));
        let options = SubscribeOptions {
            qos,
            ..SubscribeOptions::default()
        };
        let packet = Packet::Subscribe(Subscribe {
            packet_id: id,
            subscription_id: None,
            filters: vec![(filter_of(env, filter), options)],
        });
        self.send(env, &packet);
    }

    pub(super) fn unsubscribe(&mut self, env: &mut Env) {
        let granted = &env.judge.ledger.devices[self.id].granted;
        let held: Vec<usize> = granted.keys().copied().collect();
        if self.session.asked.is_some() || held.is_empty() {
            return;
        }
        let filter = *env.rng.pick(&held);
        let id = self.session.request_id();
        self.session.asked = Some(Asked {
            id,
            filter,
            qos: None,
        });
        env.judge.ledger.withdraw(self.id, filter);
        env.say(format_args!(
            "device {}: UNSUBSCRIBE filter {filter}",
            self.id
        ));
        let packet = Packet::Unsubscribe(Unsubscribe {
            packet_id: id,
            filters: vec![filter_of(env, filter)],
        });
        self.send(env, &packet);
    }

    /// Sends some of the answers that it has to send.
    pub(crate) fn answer(&mut self, env: &mut Env) {
        self.session.answers_soon = false;
        let count = 1 + env.rng.below(3);
        for _ in 0..count {
            if let Some(answer) = self.session.unanswered.pop_front() {
                self.send(env, &answer);
            }
        }
        self.answer_soon(env);
    }

    fn answer_soon(&mut self, env: &mut Env) {
        if self.session.unanswered.is_empty() || self.session.answers_soon {
            return;
        }
        self.session.answers_soon = true;
        let longest = if env.calm_since.is_some() {
            2_000
        } else {
            self.plan.answer_us
        };
        let wait = env.rng.skewed(0, longest);
        env.after(wait, Event::DeviceAnswer { device: self.id });
    }

    /// Something has come over one of its connections.
    pub(crate) fn hears(&mut self, env: &mut Env, conn: ConnId, piece: &Piece) {
        let is_current = self.at.as_ref().is_some_and(|at| at.conn == conn);
        match piece {
            Piece::End if is_current => {
                env.say(format_args!(
                    "device {}: connection {conn} is over",
                    self.id
                ));
                env.close(conn, 0, false);
                self.lost(env, true);
            }
            Piece::End => {
                env.close(conn, 0, false);
                self.stale.retain(|stale| stale.conn != conn);
            }
            Piece::Bytes(bytes) if is_current => {
                let at = self.at.as_mut().expect("looked at");
                at.inbox.extend_from_slice(bytes);
                at.heard = env.now;
                let mut inbox = std::mem::take(&mut at.inbox);
                for packet in packets_in(&mut inbox, self.plan.version) {
                    self.hear(env, conn, packet);
                }
                if let Some(at) = self.at.as_mut().filter(|at| at.conn == conn) {
                    at.inbox = inbox;
                }
                self.answer_soon(env);
            }
            Piece::Bytes(bytes) => self.hear_stale(env, conn, bytes),
        }
    }

    fn hear_stale(&mut self, env: &mut Env, conn: ConnId, bytes: &Bytes) {
        let stale = self.stale.iter_mut().find(|stale| stale.conn == conn);
        let Some(stale) = stale else { return };
        stale.inbox.extend_from_slice(bytes);
        for packet in packets_in(&mut stale.inbox, self.plan.version) {
            match packet {
                Packet::Publish(publish) => {
                    let number = number_in(publish.message.payload());
                    let number = number.expect("all messages have a number");
                    env.judge.delivered(self.id, conn, number);
                }
                Packet::PubAck(ack) if !ack.reason.is_error() => {
                    let sent = stale.sent.iter().find(|(id, _)| *id == ack.packet_id.get());
                    if let Some((_, number)) = sent {
                        env.say(format_args!("device {}: PUBACK m{number}. stale", self.id));
                        env.judge.acked(env.now, *number);
                    }
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, env: &mut Env, conn: ConnId, packet: Packet) {
        match packet {
            Packet::ConnAck(connack) => self.hear_connack(env, conn, &connack),
            Packet::Publish(publish) => self.hear_publish(env, conn, &publish),
            Packet::PubRel(rel) => {
                self.session.open.remove(&rel.packet_id);
                self.session
                    .unanswered
                    .push_back(Packet::PubComp(ack(rel.packet_id)));
            }
            Packet::PubAck(it) => {
                let refused = it.reason.is_error();
                self.hear_published(env, it.packet_id, QoS::AtLeastOnce, refused);
            }
            Packet::PubRec(it) => {
                let refused = it.reason.is_error();
                self.hear_published(env, it.packet_id, QoS::ExactlyOnce, refused);
                if !refused {
                    self.send(env, &Packet::PubRel(ack(it.packet_id)));
                }
            }
            Packet::PubComp(it) => self.session.completed(it.packet_id),
            Packet::SubAck(suback) => self.hear_suback(env, suback.packet_id, suback.reasons[0]),
            Packet::UnsubAck(unsuback) => {
                let is_it = |asked: &mut Asked| asked.id == unsuback.packet_id;
                if let Some(asked) = self.session.asked.take_if(is_it)
                    && unsuback.reasons.iter().all(|reason| !reason.is_error())
                {
                    env.judge.ledger.withdrawn(self.id, asked.filter);
                }
            }
            Packet::Disconnect(disconnect) => {
                env.say(format_args!(
                    "device {}: is sent away: {:?}",
                    self.id, disconnect.reason
                ));
            }
            _ => {}
        }
    }

    fn hear_connack(&mut self, env: &mut Env, conn: ConnId, connack: &ConnAck) {
        let present = connack.session_present;
        let reason = connack.reason;
        env.say(format_args!(
            "device {}: CONNACK {reason:?}, session present {present}",
            self.id
        ));
        let Some(at) = &mut self.at else { return };
        if reason.is_error() || at.phase != Phase::Greeting {
            return;
        }
        at.phase = Phase::Connected;
        let (known, clean) = (at.known, at.clean);
        let epoch = env.net.epochs.get(&conn).copied().unwrap_or_default();
        env.judge
            .connected(env.now, self.id, (conn, epoch), (known, clean, present));
        self.wants_clean = false;
        self.dropped_will = None;
        if let Some((number, until)) = self.stale_will.take() {
            env.judge.will(number, Fate::Due, until);
        }
        if !present {
            self.session.forget();
        }
        for outgoing in self.session.outgoing.clone() {
            let packet = match outgoing.phase {
                Sending::Sent => packet_of(
                    env,
                    outgoing.number,
                    (outgoing.qos, Some(outgoing.id)),
                    outgoing.bytes,
                    true,
                ),
                Sending::Released => Packet::PubRel(ack(outgoing.id)),
            };
            self.send(env, &packet);
        }
    }

    fn hear_publish(&mut self, env: &mut Env, conn: ConnId, publish: &Publish) {
        let number = number_in(publish.message.payload()).expect("all messages have a number");
        let (qos, dup, retain) = (publish.qos, publish.dup, publish.retain);
        env.say(format_args!(
            "device {}: gets m{number}. {qos:?} dup {dup} retain {retain}",
            self.id
        ));
        let fresh = match (qos, publish.packet_id) {
            (QoS::ExactlyOnce, Some(id)) => {
                self.session.unanswered.push_back(Packet::PubRec(ack(id)));
                self.session.open.insert(id)
            }
            (_, Some(id)) => {
                self.session.unanswered.push_back(Packet::PubAck(ack(id)));
                true
            }
            (_, None) => true,
        };
        if fresh {
            let receipt = Receipt {
                number,
                session: env.judge.ledger.devices[self.id].session,
                conn,
                qos,
                dup,
                retain,
            };
            env.judge.received(self.id, receipt);
        }
    }

    fn hear_published(&mut self, env: &mut Env, id: PacketId, qos: QoS, refused: bool) {
        let Some(number) = self.session.published(id, qos, refused) else {
            return;
        };
        env.say(format_args!(
            "device {}: ack of m{number}. refused {refused}",
            self.id
        ));
        if !refused {
            env.judge.acked(env.now, number);
        }
    }

    fn hear_suback(&mut self, env: &mut Env, id: PacketId, reason: ReasonCode) {
        let asked = self.session.asked.take_if(|asked| asked.id == id);
        let Some(Asked {
            filter,
            qos: Some(_),
            ..
        }) = asked
        else {
            return;
        };
        env.say(format_args!(
            "device {}: SUBACK filter {filter} {reason:?}",
            self.id
        ));
        if !reason.is_error()
            && let Some(qos) = QoS::from_u8(reason.as_u8())
        {
            env.judge.ledger.grant(env.now, self.id, filter, qos);
        }
    }
}

fn filter_of(env: &Env, filter: usize) -> TopicFilter {
    TopicFilter::new(&env.names.filters[filter]).expect("filters are valid")
}

/// The message as its publisher sends it, the first time or again.
fn packet_of(
    env: &mut Env,
    number: u32,
    (qos, packet_id): (QoS, Option<PacketId>),
    bytes: usize,
    dup: bool,
) -> Packet {
    let sent = &env.judge.ledger.sent[number as usize];
    let (topic, retain, expiry_s) = (sent.topic, sent.retain, sent.expiry_s);
    Packet::Publish(Publish {
        dup,
        qos,
        retain,
        packet_id,
        topic_alias: None,
        subscription_ids: Vec::new(),
        message: message(env, topic, number, bytes).with_expiry_s(expiry_s),
    })
}

/// Takes the whole packets out of what has come.
fn packets_in(inbox: &mut Vec<u8>, version: Version) -> Vec<Packet> {
    let chunk = Bytes::copy_from_slice(inbox);
    let (mut packets, mut at) = (Vec::new(), 0);
    while at < chunk.len() {
        let decoded = decode(&chunk, at, version, usize::MAX);
        match decoded.expect("the proxy writes valid packets") {
            Decoded::Packet { packet, len } => {
                at += len;
                packets.push(packet);
            }
            Decoded::Incomplete { .. } => break,
        }
    }
    inbox.drain(..at);
    packets
}
