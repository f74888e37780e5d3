//! DISCONNECT (MQTT 5 section 3.14).

use compact_str::CompactString;

use crate::ReasonCode;

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
