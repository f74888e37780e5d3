//! The client's answers to deliveries, and PUBREL to it.

use super::waits::What;
use super::{Context, Session};
use cluster::frame::{AckKind, ToGroup};
use cluster::ids::Rank;
use cluster::slots::GroupNo;
use protocol::{Ack, Packet, PacketId, ReasonCode, Version};

impl Session {
    /// PUBACK: QoS 1 is complete.
    pub(super) fn puback(&mut self, ack: Ack, len: u32, cx: &mut Context<'_>) {
        if let Some(group) = self.is_full_for(ack.packet_id, cx) {
            let what = What::Packet(Packet::PubAck(ack), len);
            return self.delay(group, what, cx.rules.now_s, cx);
        }
        if self.outstanding == 0 {
            return cx.counters().acks_unknown.increment();
        }
        self.outstanding -= 1;
        self.acknowledge(ack.packet_id, AckKind::Ack, cx);
        self.send_waiting(cx);
    }

    /// PUBREC: the client has it, or refuses it (MQTT5 4.3.3).
    pub(super) fn pubrec(&mut self, ack: Ack, len: u32, cx: &mut Context<'_>) {
        if let Some(group) = self.is_full_for(ack.packet_id, cx) {
            let what = What::Packet(Packet::PubRec(ack), len);
            return self.delay(group, what, cx.rules.now_s, cx);
        }
        if self.outstanding == 0 {
            cx.counters().acks_unknown.increment();
            if self.version == Version::V5 && !ack.reason.is_error() {
                let unknown = ReasonCode::PacketIdentifierNotFound;
                self.write_ack(protocol::AckKind::PubRel, ack.packet_id, unknown, cx);
            }
            return;
        }
        if !ack.reason.is_error() {
            self.releases_due = self.releases_due.saturating_add(1);
            return self.acknowledge(ack.packet_id, AckKind::Received, cx);
        }
        self.outstanding -= 1;
        self.acknowledge(ack.packet_id, AckKind::Refused, cx);
        self.send_waiting(cx);
    }

    /// PUBCOMP: QoS 2 is complete. It may belong to a delivery of an earlier connection, of which only PUBREL was
    /// sent again and which this connection's quota never counted (MQTT5 4.9). Which one it is cannot be told from
    /// a count, so those are taken to come first: the quota is then never counted too low, and a PUBREC that is
    /// owed an answer is never taken for an unknown one.
    pub(super) fn pubcomp(&mut self, ack: Ack, len: u32, cx: &mut Context<'_>) {
        if let Some(group) = self.is_full_for(ack.packet_id, cx) {
            let what = What::Packet(Packet::PubComp(ack), len);
            return self.delay(group, what, cx.rules.now_s, cx);
        }
        if self.releases_resumed > 0 {
            self.releases_resumed -= 1;
        } else {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        self.acknowledge(ack.packet_id, AckKind::Complete, cx);
        self.send_waiting(cx);
    }

    /// PUBREL is due: the client's PUBREC is stored, on this connection or on an earlier one.
    pub(super) fn release(
        &mut self,
        packet_id: PacketId,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) {
        if self.releases_due > 0 {
            self.releases_due -= 1;
        } else {
            self.releases_resumed = self.releases_resumed.saturating_add(1);
        }
        self.write_ack(protocol::AckKind::PubRel, packet_id, reason, cx);
    }

    /// The group of a delivery, if it takes no more now. A client can send acknowledgements without end, so what waits
    /// for a group that is away must be bounded for them, too.
    fn is_full_for(&self, packet_id: PacketId, cx: &Context<'_>) -> Option<GroupNo> {
        let group = if self.is_of_home(packet_id) {
            self.home
        } else {
            self.places.as_ref()?.group_of_packet_id(packet_id)?
        };
        cx.frames.is_full(group).then_some(group)
    }

    /// Tells the group of the delivery; its packet id says which that is.
    pub(super) fn acknowledge(&mut self, packet_id: PacketId, kind: AckKind, cx: &mut Context<'_>) {
        let mut ack = cluster::frame::Ack {
            actor: self.actor(),
            packet_id,
            kind,
        };
        let home = self.home;
        if self.is_of_home(packet_id) {
            return cx.frames.push(home, ToGroup::Ack(ack), 0);
        }
        let places = self.places.as_mut();
        let Some(place) = places.and_then(|places| places.of_packet_id(packet_id)) else {
            return cx.counters().acks_unknown.increment();
        };
        let group = place.group;
        match place.actor() {
            // It need not wait behind what waits for a rank.
            Some(actor) => {
                ack.actor = actor;
                cx.frames.push(group, ToGroup::Ack(ack), 0);
            }
            None => self.act(group, ToGroup::Ack(ack), 0, cx),
        }
    }

    /// Whether a delivery's packet id is one of the home.
    pub(super) fn is_of_home(&self, packet_id: PacketId) -> bool {
        self.places.is_none() || Rank::of_packet_id(packet_id) == Some(Rank::HOME)
    }
}
