//! Deliveries to the client.

use super::aliases::AliasOut;
use super::context::FRAME_BYTES;
use super::{Context, Session, State};
use crate::limits::POOL_BUFFER_BYTES_MAX;
use cluster::frame::{AckKind, Receiver};
use protocol::{
    Message, PacketId, PublishOptions, PublishTemplate, QoS, Version, encode_publish, publish_len,
};
use std::collections::VecDeque;

/// A message on its way out, as all its receivers get it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The message.
    pub message: &'a Message,
    /// Message expiry left, in seconds (MQTT-3.3.2-6).
    pub expiry_s: Option<u32>,
}

/// A delivery that waits for the client's receive maximum: a copy, so that it pins no read block.
#[derive(Debug)]
pub(super) struct Waiting {
    message: Message,
    expiry_s: Option<u32>,
    since_s: u32,
    receiver: Receiver,
}

/// One message encoded for many receivers: once per shape, then copied and patched.
#[derive(Debug, Default)]
pub struct Fanout {
    templates: Vec<(Shape, PublishTemplate)>,
    /// Templates that are of the message at hand.
    used: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    version: Version,
    qos: QoS,
    retain: bool,
}

impl Fanout {
    /// Forgets the last message.
    pub fn begin(&mut self) {
        self.used = 0;
        // Large ones are not kept for the next time.
        self.templates
            .retain(|(_, template)| template.packet_len() <= POOL_BUFFER_BYTES_MAX);
    }

    fn template(&mut self, shape: Shape, outgoing: Outgoing<'_>) -> &PublishTemplate {
        let known = self.templates[..self.used]
            .iter()
            .position(|(known, _)| *known == shape);
        let index = known.unwrap_or_else(|| self.fill(shape, outgoing));
        &self.templates[index].1
    }

    fn fill(&mut self, shape: Shape, outgoing: Outgoing<'_>) -> usize {
        if self.used == self.templates.len() {
            self.templates.push((shape, PublishTemplate::default()));
        }
        let options = PublishOptions {
            qos: shape.qos,
            retain: shape.retain,
            expiry_s: outgoing.expiry_s,
            ..PublishOptions::default()
        };
        let (known, template) = &mut self.templates[self.used];
        *known = shape;
        template.fill(shape.version, outgoing.message, &options);
        self.used += 1;
        self.used - 1
    }
}

impl Session {
    /// Sends a message to the client, or keeps it until the client's receive maximum allows.
    ///
    /// QoS 0 is dropped and counted when the socket has more to take than its limit; QoS 1 and 2 never are.
    pub fn deliver(
        &mut self,
        outgoing: Outgoing<'_>,
        receiver: &Receiver,
        fanout: Option<&mut Fanout>,
        cx: &mut Context<'_>,
    ) {
        if !self.is_connected() {
            return self.deliver_early(outgoing, receiver, cx);
        }
        let Some(packet_id) = receiver.packet_id else {
            return self.deliver_unacknowledged(outgoing, receiver, fanout, cx);
        };
        if !self.note_delivery(packet_id, receiver.dup) {
            return cx.counters().deliveries_repeated.increment();
        }
        if self.outstanding >= self.receive_maximum || self.has_waiting() {
            return self.keep_waiting(outgoing, receiver, cx);
        }
        self.deliver_acknowledged(outgoing, receiver, packet_id, fanout, cx);
    }

    /// What comes before CONNACK waits for it: some groups know the connection sooner than others.
    fn deliver_early(&mut self, outgoing: Outgoing<'_>, receiver: &Receiver, cx: &mut Context<'_>) {
        if self.state != State::Attaching {
            return cx.counters().deliveries_stale.increment();
        }
        match receiver.packet_id {
            Some(packet_id) if !self.note_delivery(packet_id, receiver.dup) => {
                return cx.counters().deliveries_repeated.increment();
            }
            Some(_) => {}
            None => {
                let opening = self.opening();
                if opening.early_bytes > cx.limits().out_bytes_max {
                    return cx.counters().dropped_slow_consumer.increment();
                }
                opening.early_bytes += FRAME_BYTES + outgoing.message.byte_len();
            }
        }
        self.keep_waiting(outgoing, receiver, cx);
    }

    /// Remembers the newest delivery of its group. `false`: the client has had it.
    fn note_delivery(&mut self, packet_id: PacketId, dup: bool) -> bool {
        if self.is_of_home(packet_id) {
            // The window is smaller than the range of packet ids, so the next entry never has the id of the last one.
            return self.last.replace(packet_id) != Some(packet_id);
        }
        let places = self.places.as_mut();
        let place = places.and_then(|places| places.of_packet_id(packet_id));
        place.is_none_or(|place| place.note_delivery(packet_id, dup))
    }

    fn keep_waiting(&mut self, outgoing: Outgoing<'_>, receiver: &Receiver, cx: &Context<'_>) {
        let waiting = Waiting {
            message: outgoing.message.to_compact(),
            expiry_s: outgoing.expiry_s,
            since_s: cx.rules.now_s,
            receiver: receiver.clone(),
        };
        self.busy().waiting.push_back(waiting);
    }

    fn deliver_unacknowledged(
        &mut self,
        outgoing: Outgoing<'_>,
        receiver: &Receiver,
        fanout: Option<&mut Fanout>,
        cx: &mut Context<'_>,
    ) {
        if cx.bytes.len() > cx.limits().out_bytes_max {
            return cx.counters().dropped_slow_consumer.increment();
        }
        if self.write_publish(outgoing, receiver, fanout, cx) {
            cx.counters().publishes_out_qos0.increment();
        } else {
            cx.counters().dropped_packet_too_large.increment();
        }
    }

    fn deliver_acknowledged(
        &mut self,
        outgoing: Outgoing<'_>,
        receiver: &Receiver,
        packet_id: PacketId,
        fanout: Option<&mut Fanout>,
        cx: &mut Context<'_>,
    ) {
        if !self.write_publish(outgoing, receiver, fanout, cx) {
            // As if the client had completed it (MQTT-3.1.2-25).
            cx.counters().dropped_packet_too_large.increment();
            return self.complete_unsent(receiver.qos, packet_id, cx);
        }
        self.outstanding += 1;
        match receiver.qos {
            QoS::ExactlyOnce => cx.counters().publishes_out_qos2.increment(),
            QoS::AtLeastOnce | QoS::AtMostOnce => cx.counters().publishes_out_qos1.increment(),
        }
    }

    /// Tells the group that a delivery is done with, though the client never had it.
    fn complete_unsent(&mut self, qos: QoS, packet_id: PacketId, cx: &mut Context<'_>) {
        let kind = if qos == QoS::ExactlyOnce {
            AckKind::Refused
        } else {
            AckKind::Ack
        };
        self.acknowledge(packet_id, kind, cx);
    }

    /// Sends the QoS 0 deliveries that came before CONNACK and still wait: the receive maximum is not for them, and
    /// those that come from now on must not overtake them (promise P4).
    pub(super) fn send_early(&mut self, cx: &mut Context<'_>) {
        let Some(busy) = &mut self.busy else { return };
        let (early, waiting) = std::mem::take(&mut busy.waiting)
            .into_iter()
            .partition(|waiting| waiting.receiver.packet_id.is_none());
        busy.waiting = waiting;
        let early: VecDeque<Waiting> = early;
        for waiting in early {
            let waited_s = cx.rules.now_s - waiting.since_s;
            let expiry_s = waiting
                .expiry_s
                .map(|expiry_s| expiry_s.saturating_sub(waited_s));
            if expiry_s == Some(0) && waited_s > 0 {
                cx.counters().dropped_expired.increment();
                continue;
            }
            let outgoing = Outgoing {
                message: &waiting.message,
                expiry_s,
            };
            self.deliver_unacknowledged(outgoing, &waiting.receiver, None, cx);
        }
    }

    /// Sends what waits, as far as the client's receive maximum allows.
    pub(super) fn send_waiting(&mut self, cx: &mut Context<'_>) {
        while self.outstanding < self.receive_maximum {
            let Some(waiting) = self.busy.as_mut().and_then(|busy| busy.waiting.pop_front()) else {
                return;
            };
            let waited_s = cx.rules.now_s - waiting.since_s;
            let left_s = waiting
                .expiry_s
                .map(|expiry_s| expiry_s.saturating_sub(waited_s));
            if left_s == Some(0) && waited_s > 0 {
                cx.counters().dropped_expired.increment();
                if let Some(packet_id) = waiting.receiver.packet_id {
                    self.complete_unsent(waiting.receiver.qos, packet_id, cx);
                }
                continue;
            }
            let outgoing = Outgoing {
                message: &waiting.message,
                expiry_s: left_s,
            };
            let receiver = &waiting.receiver;
            match receiver.packet_id {
                Some(packet_id) => {
                    self.deliver_acknowledged(outgoing, receiver, packet_id, None, cx);
                }
                // It came before CONNACK.
                None => self.deliver_unacknowledged(outgoing, receiver, None, cx),
            }
        }
    }

    fn has_waiting(&self) -> bool {
        self.busy
            .as_ref()
            .is_some_and(|busy| !busy.waiting.is_empty())
    }

    /// Writes PUBLISH. `false`: it is larger than the client takes.
    fn write_publish(
        &mut self,
        outgoing: Outgoing<'_>,
        receiver: &Receiver,
        fanout: Option<&mut Fanout>,
        cx: &mut Context<'_>,
    ) -> bool {
        let plain = receiver.subscription_ids.is_none() && self.aliases_out_maximum == 0;
        let written = match fanout {
            Some(fanout) if plain => self.write_copy(outgoing, receiver, fanout, cx),
            _ => self.write_own(outgoing, receiver, cx),
        };
        if written {
            cx.counters().packets_out.increment();
        }
        written
    }

    fn write_copy(
        &self,
        outgoing: Outgoing<'_>,
        receiver: &Receiver,
        fanout: &mut Fanout,
        cx: &mut Context<'_>,
    ) -> bool {
        let shape = Shape {
            version: self.version,
            qos: receiver.qos,
            retain: receiver.retain,
        };
        let template = fanout.template(shape, outgoing);
        let fits = template.packet_len() <= self.packet_bytes_max as usize;
        if fits {
            template.append_to(cx.bytes, receiver.packet_id, receiver.dup);
        }
        fits
    }

    fn write_own(
        &mut self,
        outgoing: Outgoing<'_>,
        receiver: &Receiver,
        cx: &mut Context<'_>,
    ) -> bool {
        let message = outgoing.message;
        let alias = self.find_alias(message.topic_bytes());
        let options = PublishOptions {
            qos: receiver.qos,
            retain: receiver.retain,
            dup: receiver.dup,
            packet_id: receiver.packet_id,
            topic_alias: match alias {
                AliasOut::Known(alias) => Some((alias, true)),
                AliasOut::New(alias) => Some((alias, false)),
                AliasOut::None => None,
            },
            subscription_ids: receiver.subscription_ids.as_deref().unwrap_or_default(),
            expiry_s: outgoing.expiry_s,
        };
        let bounded = self.packet_bytes_max != u32::MAX;
        if bounded && publish_len(self.version, message, &options) > self.packet_bytes_max as usize
        {
            return false;
        }
        encode_publish(cx.bytes, self.version, message, &options);
        if let AliasOut::New(alias) = alias {
            self.busy().aliases_out.note(message.topic_bytes(), alias);
        }
        true
    }

    fn find_alias(&mut self, topic: &[u8]) -> AliasOut {
        match self.aliases_out_maximum {
            0 => AliasOut::None,
            maximum => self.busy().aliases_out.find(topic, maximum),
        }
    }
}
