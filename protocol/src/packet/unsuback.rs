//! UNSUBACK (MQTT 5 section 3.11).

use super::ack::{ANSWER_PROPERTIES, read_codes, write_answer_header};
use crate::property::read_properties;
use crate::read::Reader;
use crate::write::{EncodeError, put_with_length};
use crate::{PacketId, ReasonCode, Version, Violation};

/// The answer to UNSUBSCRIBE. A reason string and user properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// The packet id of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One answer per filter, in its order. Before MQTT 5 they do not travel: empty on receipt.
    pub reasons: Vec<ReasonCode>,
}

impl UnsubAck {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(reader: &mut Reader<'_>, version: Version) -> Result<UnsubAck, Violation> {
        let packet_id = reader.packet_id()?;
        let mut reasons = Vec::new();
        if version.has_properties() {
            read_properties(reader, ANSWER_PROPERTIES, |_| Ok(()))?;
            let code = |byte| ReasonCode::from_u8(byte).filter(|reason| allows(*reason));
            reasons = read_codes(reader, code)?;
        }
        reader.finish()?;
        Ok(UnsubAck { packet_id, reasons })
    }

    /// Appends the packet.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(0xB0);
        put_with_length(out, |out| {
            write_answer_header(out, version, self.packet_id);
            if version.has_properties() {
                out.extend(self.reasons.iter().map(|reason| reason.as_u8()));
            }
            Ok(())
        })
    }
}

fn allows(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::NoSubscriptionExisted
            | ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::PacketIdentifierInUse
    )
}
