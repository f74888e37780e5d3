//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 sections 3.4 to 3.7): they differ in their first byte
//! and in the reasons they may give.

use crate::property::{Allowed, id, read_properties};
use crate::read::Reader;
use crate::write::put_u16;
use crate::{PacketId, ReasonCode, Version, Violation};

/// Which of the four acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckKind {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
}

/// The contents of an acknowledgement. A reason string and user properties are checked when they
/// come in, and dropped: nothing acts on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The packet id that is acknowledged.
    pub packet_id: PacketId,
    /// The answer; `Success` always, before MQTT 5.
    pub reason: ReasonCode,
}

/// What all packets may have that only answer (sections 3.4.2.2 and its like).
pub(super) const ANSWER_PROPERTIES: Allowed = Allowed::new(&[id::REASON_STRING, id::USER_PROPERTY]);

impl AckKind {
    /// Packet type and flags.
    const fn first_byte(self) -> u8 {
        match self {
            AckKind::PubAck => 0x40,
            AckKind::PubRec => 0x50,
            AckKind::PubRel => 0x62,
            AckKind::PubComp => 0x70,
        }
    }

    /// Whether the packet may give this reason (sections 3.4.2.1 to 3.7.2.1).
    pub const fn allows(self, reason: ReasonCode) -> bool {
        match self {
            AckKind::PubAck | AckKind::PubRec => matches!(
                reason,
                ReasonCode::Success
                    | ReasonCode::NoMatchingSubscribers
                    | ReasonCode::UnspecifiedError
                    | ReasonCode::ImplementationSpecificError
                    | ReasonCode::NotAuthorized
                    | ReasonCode::TopicNameInvalid
                    | ReasonCode::PacketIdentifierInUse
                    | ReasonCode::QuotaExceeded
                    | ReasonCode::PayloadFormatInvalid
            ),
            AckKind::PubRel | AckKind::PubComp => {
                matches!(
                    reason,
                    ReasonCode::Success | ReasonCode::PacketIdentifierNotFound
                )
            }
        }
    }
}

/// Appends an acknowledgement in its shortest form: without a reason before MQTT 5, and where the
/// reason is success. Allocates nothing beyond the room in `out`.
pub fn encode_ack(
    out: &mut Vec<u8>,
    version: Version,
    kind: AckKind,
    packet_id: PacketId,
    reason: ReasonCode,
) {
    debug_assert!(kind.allows(reason), "{kind:?} {reason}");
    let [high, low] = packet_id.get().to_be_bytes();
    if reason == ReasonCode::Success || !version.has_properties() {
        out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
    } else {
        out.extend_from_slice(&[kind.first_byte(), 3, high, low, reason.as_u8()]);
    }
}

impl Ack {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        version: Version,
        kind: AckKind,
    ) -> Result<Ack, Violation> {
        let packet_id = reader.packet_id()?;
        let mut reason = ReasonCode::Success;
        if version.has_properties() && !reader.is_empty() {
            reason = ReasonCode::from_u8(reader.u8()?)
                .filter(|reason| kind.allows(*reason))
                .ok_or(Violation::ReasonCodeNotAllowed)?;
            if !reader.is_empty() {
                read_properties(reader, ANSWER_PROPERTIES, |_| Ok(()))?;
            }
        }
        reader.finish()?;
        Ok(Ack { packet_id, reason })
    }

    /// Appends the packet.
    pub(crate) fn write(self, version: Version, kind: AckKind, out: &mut Vec<u8>) {
        encode_ack(out, version, kind, self.packet_id, self.reason);
    }
}

/// Reads the codes of SUBACK and UNSUBACK: all that is left.
pub(super) fn read_codes(
    reader: &mut Reader<'_>,
    code: impl Fn(u8) -> Option<ReasonCode>,
) -> Result<Vec<ReasonCode>, Violation> {
    let codes = reader.rest();
    if codes.is_empty() {
        return Err(Violation::NoTopicFilter);
    }
    codes
        .iter()
        .map(|&byte| code(byte).ok_or(Violation::ReasonCodeNotAllowed))
        .collect()
}

/// Appends packet id and empty properties: how SUBACK and UNSUBACK begin.
pub(super) fn write_answer_header(out: &mut Vec<u8>, version: Version, packet_id: PacketId) {
    put_u16(out, packet_id.get());
    if version.has_properties() {
        out.push(0);
    }
}
