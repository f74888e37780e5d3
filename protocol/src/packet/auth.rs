//! AUTH (MQTT 5 section 3.15).

use bytes::Bytes;
use compact_str::CompactString;

use crate::{ReasonCode, UserProperties};

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
