//! PUBLISH, PUBREL and the answers to them.

use super::{Context, End, Rule, Session};
use crate::limits::ProxyLimits;
use cluster::frame::{Publish, ToGroup};
use protocol::{Ack, AckKind, Message, PacketId, QoS, ReasonCode, Version, encode_ack};
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
        if let Some(packet_id) = publish.packet_id {
            self.publishes_in = self.publishes_in.saturating_add(1);
            self.busy().answers.owe(packet_id, publish.qos, len);
        }
        let frame = Publish {
            actor: self.actor,
            packet_id: publish.packet_id,
            qos: publish.qos,
            retain: publish.retain,
            message,
        };
        cx.frames.push(ToGroup::Publish(frame), len as usize);
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
                self.publishes_in = self.publishes_in.saturating_add(1);
                let answers = &mut self.busy().answers;
                answers.owe_settled(packet_id, qos, ReasonCode::TopicNameInvalid);
                self.write_answers(cx);
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
            }
            self.write_ack(kind, answer.packet_id, answer.reason, cx);
        }
    }

    /// PUBREL: the group forgets the packet id before PUBCOMP leaves.
    pub(super) fn pubrel(&mut self, ack: Ack, cx: &mut Context<'_>) {
        self.requests += 1;
        cx.frames.push(
            ToGroup::Release {
                actor: self.actor,
                packet_id: ack.packet_id,
            },
            0,
        );
    }

    pub(super) fn released(
        &mut self,
        packet_id: PacketId,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) {
        if !self.settle_request(cx) {
            return;
        }
        self.publishes_in = self.publishes_in.saturating_sub(1);
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
