//! SUBSCRIBE, UNSUBSCRIBE and their answers.

use super::publish::topic_fits;
use super::{Context, Session};
use cluster::frame::{Subscribe, ToGroup, Unsubscribe};
use protocol::{Packet, PacketId, ReasonCode, SubAck, TopicFilter, UnsubAck};

impl Session {
    /// A packet with a filter beyond the limits is refused as a whole, with 0x8F for each filter.
    pub(super) fn subscribe(
        &mut self,
        subscribe: protocol::Subscribe,
        len: u32,
        cx: &mut Context<'_>,
    ) {
        let fits =
            |(filter, _): &(TopicFilter, _)| topic_fits(filter.as_str().as_bytes(), cx.limits());
        if !subscribe.filters.iter().all(fits) {
            let reasons = vec![ReasonCode::TopicFilterInvalid; subscribe.filters.len()];
            return self.write(
                &Packet::SubAck(SubAck {
                    packet_id: subscribe.packet_id,
                    reasons,
                }),
                cx,
            );
        }
        self.requests += 1;
        let frame = Subscribe {
            actor: self.actor,
            packet_id: subscribe.packet_id,
            subscription_id: subscribe.subscription_id.unwrap_or(0),
            filters: subscribe.filters,
        };
        self.remember_subscribe(&frame, cx.rules);
        cx.frames
            .push(ToGroup::Subscribe(Box::new(frame)), len as usize);
    }

    /// The subscriptions are stored: SUBACK is due (promise P1).
    pub(super) fn subscribed(
        &mut self,
        packet_id: PacketId,
        reasons: &[ReasonCode],
        cx: &mut Context<'_>,
    ) {
        if !self.settle_request(cx) {
            return;
        }
        self.record_answer(packet_id, reasons, cx);
        let reasons = reasons.to_vec();
        self.write(&Packet::SubAck(SubAck { packet_id, reasons }), cx);
        self.rest();
    }

    pub(super) fn unsubscribe(
        &mut self,
        unsubscribe: protocol::Unsubscribe,
        len: u32,
        cx: &mut Context<'_>,
    ) {
        self.requests += 1;
        let frame = Unsubscribe {
            actor: self.actor,
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.filters,
        };
        self.remember_unsubscribe(&frame, cx.rules);
        cx.frames
            .push(ToGroup::Unsubscribe(Box::new(frame)), len as usize);
    }

    /// The subscriptions are gone: UNSUBACK is due (promise P1).
    pub(super) fn unsubscribed(
        &mut self,
        packet_id: PacketId,
        reasons: &[ReasonCode],
        cx: &mut Context<'_>,
    ) {
        if !self.settle_request(cx) {
            return;
        }
        self.record_answer(packet_id, reasons, cx);
        let reasons = reasons.to_vec();
        self.write(&Packet::UnsubAck(UnsubAck { packet_id, reasons }), cx);
        self.rest();
    }
}
