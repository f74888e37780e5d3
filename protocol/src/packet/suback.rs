//! SUBACK (MQTT 5 section 3.9).

use super::ack::{ANSWER_PROPERTIES, read_codes, write_answer_header};
use crate::property::read_properties;
use crate::read::Reader;
use crate::write::{EncodeError, put_with_length};
use crate::{PacketId, ReasonCode, Version, Violation};

/// The answer to SUBSCRIBE. A reason string and user properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The packet id of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One answer per filter, in its order: the granted QoS or an error. MQTT 3 knows one error,
    /// 0x80, which stands for all.
    pub reasons: Vec<ReasonCode>,
}

impl SubAck {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(reader: &mut Reader<'_>, version: Version) -> Result<SubAck, Violation> {
        let packet_id = reader.packet_id()?;
        let reasons = if version.has_properties() {
            read_properties(reader, ANSWER_PROPERTIES, |_| Ok(()))?;
            read_codes(reader, |code| {
                ReasonCode::from_u8(code).filter(|code| allows(*code))
            })?
        } else {
            read_codes(reader, v3_code)?
        };
        Ok(SubAck { packet_id, reasons })
    }

    /// Appends the packet.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(0x90);
        put_with_length(out, |out| {
            write_answer_header(out, version, self.packet_id);
            out.extend(self.reasons.iter().map(|reason| match reason {
                error if error.is_error() && !version.has_properties() => V3_FAILURE,
                other => other.as_u8(),
            }));
            Ok(())
        })
    }
}

/// The one error of MQTT 3.1.1 (section 3.9.3). MQTT 3.1 has none, and its clients know this one.
const V3_FAILURE: u8 = 0x80;

fn v3_code(code: u8) -> Option<ReasonCode> {
    ReasonCode::from_u8(code).filter(|_| code <= 2 || code == V3_FAILURE)
}

fn allows(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::GrantedQoS1
            | ReasonCode::GrantedQoS2
            | ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::PacketIdentifierInUse
            | ReasonCode::QuotaExceeded
            | ReasonCode::SharedSubscriptionsNotSupported
            | ReasonCode::SubscriptionIdentifiersNotSupported
            | ReasonCode::WildcardSubscriptionsNotSupported
    )
}
