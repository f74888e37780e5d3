//! Why a connection came to its end.

use std::fmt;

/// Why a connection came to its end. In words it is the reason that reports count it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// The system says so, or TLS does.
    Failed {
        /// What was tried.
        what: &'static str,
        /// What was said.
        why: String,
    },
    /// The broker closed, without a word.
    Closed,
    /// CONNACK said no.
    Refused(u8),
    /// SUBACK said no.
    SubscribeRefused(u8),
    /// SUBACK grants another `QoS` than asked for: what is owed to the device would be another thing.
    Granted {
        /// By the scenario.
        asked: u8,
        /// By the broker.
        granted: u8,
    },
    /// The broker does not answer this packet.
    Silent(&'static str),
    /// The broker said DISCONNECT.
    Goodbye(u8),
    /// The broker sent what it must not send.
    Violation(&'static str),
    /// The device has left, and the broker did not close.
    Left,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { what, why } => write!(f, "{what}: {why}"),
            Self::Closed => f.write_str("closed by the broker"),
            Self::Refused(code) => write!(f, "CONNACK 0x{code:02x}"),
            Self::SubscribeRefused(code) => write!(f, "SUBACK 0x{code:02x}"),
            Self::Granted { asked, granted } => {
                write!(f, "SUBACK grants QoS {granted}, asked for {asked}")
            }
            Self::Silent(packet) => write!(f, "no answer to {packet}"),
            Self::Goodbye(code) => write!(f, "DISCONNECT 0x{code:02x}"),
            Self::Violation(what) => write!(f, "violation: {what}"),
            Self::Left => f.write_str("not closed by the broker after DISCONNECT"),
        }
    }
}
