//! AUTH (MQTT 5 section 3.15).

use bytes::Bytes;
use compact_str::CompactString;

use crate::property::{Allowed, Property, id, read_properties};
use crate::read::Reader;
use crate::write::{EncodeError, put_properties, put_with_length};
use crate::{ReasonCode, UserProperties, Version, Violation};

const PROPERTIES: Allowed = Allowed::new(&[
    id::AUTH_METHOD,
    id::AUTH_DATA,
    id::REASON_STRING,
    id::USER_PROPERTY,
]);

/// A step of an enhanced authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `Success`, `ContinueAuthentication` or `Reauthenticate`.
    pub reason: ReasonCode,
    /// The method; missing only with `Success` (section 3.15.2.1).
    pub auth_method: Option<CompactString>,
    /// Data of the method.
    pub auth_data: Option<Bytes>,
    /// A text for people.
    pub reason_string: Option<CompactString>,
    /// User properties.
    pub user_properties: UserProperties,
}

impl Auth {
    /// An AUTH with this reason and no more.
    pub const fn new(reason: ReasonCode) -> Auth {
        Auth {
            reason,
            auth_method: None,
            auth_data: None,
            reason_string: None,
            user_properties: UserProperties::new(),
        }
    }

    /// Reads the packet from behind its fixed header.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Auth, Violation> {
        let mut auth = Auth::new(ReasonCode::Success);
        // Only the empty packet leaves out reason and properties (section 3.15.2.1).
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = ReasonCode::from_u8(reader.u8()?)
            .filter(|reason| allows(*reason))
            .ok_or(Violation::ReasonCodeNotAllowed)?;
        read_properties(reader, PROPERTIES, |property| {
            match property {
                Property::AuthMethod(method) => auth.auth_method = Some(method.into()),
                Property::AuthData(data) => auth.auth_data = Some(Bytes::copy_from_slice(data)),
                Property::ReasonString(text) => auth.reason_string = Some(text.into()),
                Property::User(name, value) => {
                    auth.user_properties.push_checked(name, value);
                }
                _ => {}
            }
            Ok(())
        })?;
        reader.finish()?;
        let needs_method = auth.reason != ReasonCode::Success || auth.auth_data.is_some();
        if needs_method && auth.auth_method.is_none() {
            return Err(Violation::AuthMethodMissing);
        }
        Ok(auth)
    }

    /// Appends the packet, in its shortest form.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !version.has_properties() {
            return Err(EncodeError::NotInVersion(version));
        }
        out.push(0xF0);
        put_with_length(out, |out| {
            if *self == Auth::new(ReasonCode::Success) {
                return Ok(());
            }
            out.push(self.reason.as_u8());
            put_properties(out, |properties| {
                properties.binary(id::AUTH_METHOD, self.auth_method.as_ref())?;
                properties.binary(id::AUTH_DATA, self.auth_data.as_ref())?;
                properties.binary(id::REASON_STRING, self.reason_string.as_ref())?;
                properties.raw(self.user_properties.as_bytes());
                Ok(())
            })
        })
    }
}

fn allows(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success | ReasonCode::ContinueAuthentication | ReasonCode::Reauthenticate
    )
}
