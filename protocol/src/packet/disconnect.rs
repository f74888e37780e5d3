//! DISCONNECT (MQTT 5 section 3.14).

use compact_str::CompactString;

use crate::property::{Allowed, Property, id, read_properties};
use crate::read::Reader;
use crate::write::{EncodeError, put_properties, put_with_length};
use crate::{ReasonCode, Version, Violation};

const PROPERTIES: Allowed = Allowed::new(&[
    id::SESSION_EXPIRY,
    id::REASON_STRING,
    id::USER_PROPERTY,
    id::SERVER_REFERENCE,
]);

/// The sender is about to close the connection. Before MQTT 5 only clients send it, and nothing in
/// it travels: a server just closes. User properties are checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; `Success` for a normal end. A will is published unless it is that (MQTT-3.14.4-3).
    pub reason: ReasonCode,
    /// From a client: the session expiry in seconds from now on.
    pub session_expiry_s: Option<u32>,
    /// A text for people.
    pub reason_string: Option<CompactString>,
    /// From a server: another server to use.
    pub server_reference: Option<CompactString>,
}

impl Disconnect {
    /// A DISCONNECT that says why and no more.
    pub const fn new(reason: ReasonCode) -> Disconnect {
        Disconnect {
            reason,
            session_expiry_s: None,
            reason_string: None,
            server_reference: None,
        }
    }
}

impl Disconnect {
    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(reader: &mut Reader<'_>, version: Version) -> Result<Disconnect, Violation> {
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        if version.has_properties() && !reader.is_empty() {
            disconnect.reason = ReasonCode::from_u8(reader.u8()?)
                .filter(|reason| allows(*reason))
                .ok_or(Violation::ReasonCodeNotAllowed)?;
            if !reader.is_empty() {
                disconnect.read_properties(reader)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    fn read_properties(&mut self, reader: &mut Reader<'_>) -> Result<(), Violation> {
        read_properties(reader, PROPERTIES, |property| {
            match property {
                Property::SessionExpiry(seconds) => self.session_expiry_s = Some(seconds),
                Property::ReasonString(text) => self.reason_string = Some(text.into()),
                Property::ServerReference(text) => self.server_reference = Some(text.into()),
                _ => {}
            }
            Ok(())
        })
    }

    /// Appends the packet, in its shortest form.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(0xE0);
        put_with_length(out, |out| {
            if !version.has_properties() || *self == Disconnect::new(ReasonCode::Success) {
                return Ok(());
            }
            out.push(self.reason.as_u8());
            if *self == Disconnect::new(self.reason) {
                return Ok(());
            }
            put_properties(out, |properties| {
                properties.u32(id::SESSION_EXPIRY, self.session_expiry_s);
                properties.binary(id::REASON_STRING, self.reason_string.as_ref())?;
                properties.binary(id::SERVER_REFERENCE, self.server_reference.as_ref())
            })
        })
    }
}

/// Section 3.14.2.1, and 0x8C, which section 2.4 allows here.
fn allows(reason: ReasonCode) -> bool {
    reason == ReasonCode::Success
        || reason == ReasonCode::DisconnectWithWill
        || (reason.is_error()
            && !matches!(
                reason,
                ReasonCode::UnsupportedProtocolVersion
                    | ReasonCode::ClientIdentifierNotValid
                    | ReasonCode::BadUserNameOrPassword
                    | ReasonCode::ServerUnavailable
                    | ReasonCode::Banned
                    | ReasonCode::PacketIdentifierInUse
                    | ReasonCode::PacketIdentifierNotFound
            ))
}
