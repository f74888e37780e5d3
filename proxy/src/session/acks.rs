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
            return self.acknowledge(ack.packet_id, AckKind::Received, cx);
        }
        self.outstanding -= 1;
        self.acknowledge(ack.packet_id, AckKind::Refused, cx);
        self.send_waiting(cx);
    }

    /// PUBCOMP: QoS 2 is complete. One may belong to a delivery of an earlier connection, of which only PUBREL was
    /// sent again; then the quota is already whole and stays so (MQTT5 4.9).
    pub(super) fn pubcomp(&mut self, ack: Ack, cx: &mut Context<'_>) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.acknowledge(ack.packet_id, AckKind::Complete, cx);
        self.send_waiting(cx);
    }

    /// The client's PUBREC is stored: PUBREL is due.
    pub(super) fn release(
        &mut self,
        packet_id: PacketId,
        reason: ReasonCode,
        cx: &mut Context<'_>,
    ) {
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
