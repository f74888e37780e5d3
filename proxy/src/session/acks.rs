//! The client's answers to deliveries, and PUBREL to it.

use super::{Context, Session};
use cluster::frame::{AckKind, ToGroup};
use protocol::{Ack, PacketId, ReasonCode, Version};

impl Session {
    /// PUBACK: QoS 1 is complete.
    pub(super) fn puback(&mut self, ack: Ack, cx: &mut Context<'_>) {
        if self.outstanding == 0 {
            return cx.counters().acks_unknown.increment();
        }
        self.outstanding -= 1;
        self.acknowledge(ack.packet_id, AckKind::Ack, cx);
        self.send_waiting(cx);
    }

    /// PUBREC: the client has it, or refuses it (MQTT5 4.3.3).
    pub(super) fn pubrec(&mut self, ack: Ack, cx: &mut Context<'_>) {
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
    pub(super) fn pubcomp(&mut self, ack: Ack, cx: &mut Context<'_>) {
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

    pub(super) fn acknowledge(&self, packet_id: PacketId, kind: AckKind, cx: &mut Context<'_>) {
        let ack = cluster::frame::Ack {
            actor: self.actor,
            packet_id,
            kind,
        };
        cx.frames.push(ToGroup::Ack(ack), 0);
    }
}
