//! PUBLISH, PUBREL and the answers to them.

use super::requests::{Kind, Request};
use super::waits::What;
use super::{Context, End, Rule, Session};
use crate::limits::{PUBLISH_WAIT_S, ProxyLimits};
use cluster::frame::{Publish, ToGroup};
use cluster::ids::Actor;
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use protocol::{Ack, AckKind, Message, Packet, PacketId, QoS, ReasonCode, Version, encode_ack};
use std::num::NonZeroU16;

impl Session {
    pub(super) fn publish(&mut self, publish: protocol::Publish, len: u32, cx: &mut Context<'_>) {
        match publish.qos {
            QoS::AtMostOnce => cx.counters().publishes_in_qos0.increment(),
            QoS::AtLeastOnce => cx.counters().publishes_in_qos1.increment(),
            QoS::ExactlyOnce => cx.counters().publishes_in_qos2.increment(),
        }
        if let Err(rule) = self.admit(&publish, cx.limits()) {
            return self.end(End::Rule(rule), cx);
        }
        let message = match publish.topic_alias {
            None => publish.message,
            Some(alias) => match self.resolve_alias(alias, publish.message) {
                Ok(message) => message,
                Err(rule) => return self.end(End::Rule(rule), cx),
            },
        };
        if !topic_fits(message.topic_bytes(), cx.limits()) {
            return self.refuse_topic(publish.qos, publish.packet_id, cx);
        }
        let routing = &cx.rules.routing;
        let group = if routing.is_one_group() {
            self.home
        } else {
            routing.group_of_topic(message.topic())
        };
        let repeated = publish.dup;
        let frame = Publish {
            actor: self.actor(),
            packet_id: publish.packet_id,
            qos: publish.qos,
            retain: publish.retain,
            message,
        };
        if self.needs_full_group(group, frame.qos, cx) && self.may_be_refused(&frame, repeated) {
            return self.refuse_full(&frame, cx);
        }
        if !cx.frames.takes_publishes(group) {
            return self.forward_later(group, frame, len, cx);
        }
        self.forward(group, frame, len, cx.rules.now_s, cx);
    }

    /// Sends a publish, read in second `since_s`, to its group.
    #[inline]
    pub(super) fn forward(
        &mut self,
        group: GroupNo,
        mut frame: Publish,
        len: u32,
        since_s: u32,
        cx: &mut Context<'_>,
    ) {
        if let Some(packet_id) = frame.packet_id {
            self.publishes_in = self.publishes_in.saturating_add(1);
            self.wait_until(since_s + PUBLISH_WAIT_S + 1);
            let busy = self.busy();
            busy.answers.owe(packet_id, frame.qos, len, since_s);
            if frame.qos == QoS::ExactlyOnce && !cx.rules.routing.is_one_group() {
                busy.receipts.insert(packet_id, group);
            }
        } else if group != self.home {
            if self.is_stranger_to(group) {
                // It must not wait for a join: the client may be gone by then, and has no answer to wait for.
                frame.actor = Actor::NOBODY;
                return cx.frames.push(group, ToGroup::Publish(frame), len as usize);
            }
            if self.waits_long_for(group, cx.limits()) {
                return cx.counters().publishes_dropped_away.increment();
            }
        }
        let frame = ToGroup::Publish(frame);
        if group == self.home {
            cx.frames.push(group, frame, len as usize);
        } else {
            self.act(group, frame, len as usize, cx);
        }
    }

    /// Whether a group that can store nothing more would have to: the one that it is for, or the home, which lists it.
    #[inline]
    fn needs_full_group(&mut self, group: GroupNo, qos: QoS, cx: &Context<'_>) -> bool {
        cx.frames.refuses(group)
            || (qos == QoS::ExactlyOnce
                && self.needs_listing(group)
                && cx.frames.refuses(self.home))
    }

    /// Whether the home has not listed the group.
    pub(super) fn needs_listing(&mut self, group: GroupNo) -> bool {
        group != self.home && self.place(group).is_none_or(|place| !place.is_listed())
    }

    /// Only who can be told why is refused; others are held back. What comes again was on its way before and may be
    /// stored, so it must not be refused.
    fn may_be_refused(&self, frame: &Publish, repeated: bool) -> bool {
        frame.packet_id.is_some() && !repeated && self.version == Version::V5
    }

    /// The group can store nothing more: 0x97 in its turn (MQTT5 3.4.2.1, 3.5.2.1).
    fn refuse_full(&mut self, frame: &Publish, cx: &mut Context<'_>) {
        let Some(packet_id) = frame.packet_id else {
            return;
        };
        cx.counters().publishes_refused_full.increment();
        self.answer_now(packet_id, frame.qos, ReasonCode::QuotaExceeded, cx);
    }

    /// A publish is answered without a group, once those before it are.
    fn answer_now(
        &mut self,
        packet_id: PacketId,
        qos: QoS,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) {
        self.publishes_in = self.publishes_in.saturating_add(1);
        self.busy().answers.owe_settled(packet_id, qos, reason);
        self.write_answers(cx);
    }

    /// A group takes no more: QoS 0 is dropped, and what must not be lost stops the reading of this connection.
    fn forward_later(
        &mut self,
        group: GroupNo,
        mut frame: Publish,
        len: u32,
        cx: &mut Context<'_>,
    ) {
        if frame.packet_id.is_none() {
            return cx.counters().publishes_dropped_away.increment();
        }
        // A copy, so that it pins no read block.
        frame.message = frame.message.to_compact();
        let since_s = cx.rules.now_s;
        self.delay(group, What::Publish(frame, len), since_s, cx);
    }

    /// Whether the group does not know the connection and holds nothing of its session.
    fn is_stranger_to(&mut self, group: GroupNo) -> bool {
        let place = self.place(group);
        place.is_none_or(|place| place.actor().is_none() && !place.may_hold())
    }

    /// Whether so much waits to join a group that QoS 0 publishes for it are dropped.
    fn waits_long_for(&mut self, group: GroupNo, limits: &ProxyLimits) -> bool {
        self.place(group).is_some_and(|place| {
            place.waiting() >= usize::from(limits.receive_maximum)
                || place.waiting_bytes() >= limits.unanswered_bytes_max as usize
        })
    }

    fn admit(&self, publish: &protocol::Publish, limits: &ProxyLimits) -> Result<(), Rule> {
        if !publish.subscription_ids.is_empty() {
            return Err(Rule::SubscriptionIdFromClient);
        }
        if publish
            .topic_alias
            .is_some_and(|alias| alias.get() > limits.topic_alias_max)
        {
            return Err(Rule::TopicAliasTooLarge);
        }
        let counts = self.version == Version::V5 && publish.packet_id.is_some();
        if counts && self.publishes_in >= limits.receive_maximum {
            return Err(Rule::ReceiveMaximum);
        }
        Ok(())
    }

    fn resolve_alias(&mut self, alias: NonZeroU16, message: Message) -> Result<Message, Rule> {
        let aliases = &mut self.busy().aliases_in;
        if let Some(topic) = message.topic_name() {
            aliases.set(alias, topic);
            return Ok(message);
        }
        match aliases.get(alias) {
            Some(topic) => Ok(message.with_topic(topic)),
            None => Err(Rule::TopicAliasUnknown),
        }
    }

    /// A topic beyond the limits: 0x90 in its turn. A 3.x client must not get a PUBACK for what nobody took, and
    /// a QoS 0 publish has no answer in which to say it.
    fn refuse_topic(&mut self, qos: QoS, packet_id: Option<PacketId>, cx: &mut Context<'_>) {
        cx.counters().publishes_refused_topic.increment();
        match packet_id {
            Some(packet_id) if self.version == Version::V5 => {
                self.answer_now(packet_id, qos, ReasonCode::TopicNameInvalid, cx);
            }
            _ => self.end(End::Rule(Rule::TopicBeyondLimits), cx),
        }
    }

    /// The group has stored the publish, or nobody needed it stored: PUBACK or PUBREC is due (promise P1).
    pub(super) fn published(
        &mut self,
        packet_id: PacketId,
        qos: QoS,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) {
        let settled = self
            .busy
            .as_mut()
            .is_some_and(|busy| busy.answers.settle(packet_id, qos, reason));
        if settled {
            self.write_answers(cx);
        } else {
            cx.counters().answers_stale.increment();
        }
    }

    /// Writes the answers whose turn it is.
    fn write_answers(&mut self, cx: &mut Context<'_>) {
        while let Some(answer) = self.busy.as_mut().and_then(|busy| busy.answers.next()) {
            if answer.reason.is_error() && self.version != Version::V5 {
                return self.end(End::PublishRefused(answer.reason), cx);
            }
            let kind = match answer.qos {
                QoS::ExactlyOnce => AckKind::PubRec,
                QoS::AtLeastOnce | QoS::AtMostOnce => AckKind::PubAck,
            };
            if kind == AckKind::PubAck || answer.reason.is_error() {
                self.publishes_in = self.publishes_in.saturating_sub(1);
                self.forget_receipt(answer.packet_id);
            }
            self.write_ack(kind, answer.packet_id, answer.reason, cx);
        }
    }

    /// PUBREL: the group forgets the packet id before PUBCOMP leaves.
    pub(super) fn pubrel(&mut self, ack: Ack, len: u32, cx: &mut Context<'_>) {
        let actor = self.actor();
        let packet_id = ack.packet_id;
        let frame = ToGroup::Release { actor, packet_id };
        if cx.rules.routing.is_one_group() {
            self.requests += 1;
            return cx.frames.push(self.home, frame, 0);
        }
        let groups = self.groups_of_receipt(packet_id, &cx.rules.routing);
        let full = |group: &&GroupNo| cx.frames.is_full(**group);
        if let Some(group) = groups.iter().find(full) {
            let what = What::Packet(Packet::PubRel(ack), len);
            return self.delay(*group, what, cx.rules.now_s, cx);
        }
        let mut request = Request::new(Kind::Release, packet_id, Vec::new());
        for group in &groups {
            request.ask(*group, 0);
        }
        let frames = groups.iter().map(|group| (*group, frame.clone()));
        self.ask(request, frames.collect(), 0, cx);
    }

    /// The group that the PUBLISH of this packet id went to. If that was on an earlier connection, every group that may
    /// have it.
    fn groups_of_receipt(&self, packet_id: PacketId, routing: &Routing) -> Vec<GroupNo> {
        let receipts = self.busy.as_ref().map(|busy| &busy.receipts);
        if let Some(group) = receipts.and_then(|receipts| receipts.get(&packet_id)) {
            return vec![*group];
        }
        let groups = routing.groups().iter().copied();
        groups.filter(|group| self.may_hold(*group)).collect()
    }

    fn forget_receipt(&mut self, packet_id: PacketId) {
        if let Some(busy) = &mut self.busy {
            busy.receipts.remove(&packet_id);
        }
    }

    /// PUBCOMP is due: nobody knows the packet id any more.
    pub(super) fn released(
        &mut self,
        packet_id: PacketId,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) {
        self.publishes_in = self.publishes_in.saturating_sub(1);
        self.forget_receipt(packet_id);
        self.write_ack(AckKind::PubComp, packet_id, reason, cx);
    }

    pub(super) fn write_ack(
        &self,
        kind: AckKind,
        packet_id: PacketId,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) {
        encode_ack(cx.bytes, self.version, kind, packet_id, reason);
        cx.counters().packets_out.increment();
    }
}

/// Whether a topic is within the limits of bytes and levels.
pub(super) fn topic_fits(topic: &[u8], limits: &ProxyLimits) -> bool {
    // A topic has at most one level more than bytes, so that short ones need not be counted.
    topic.len() <= limits.topic_bytes_max
        && (topic.len() < limits.topic_levels_max
            || topic.split(|byte| *byte == b'/').count() <= limits.topic_levels_max)
}
