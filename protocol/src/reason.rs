//! The reason codes of MQTT 5 (section 2.4), and what MQTT 3 says instead.

use std::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// The reason codes of MQTT 5 (section 2.4). MQTT 3 answers are derived from them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl ReasonCode {
            /// Every code the standard defines, in order.
            pub const ALL: &[ReasonCode] = &[$(ReasonCode::$name,)*];

            /// The reason with this code; `None` where the standard defines none.
            pub const fn from_u8(code: u8) -> Option<ReasonCode> {
                match code {
                    $($code => Some(ReasonCode::$name),)*
                    _ => None,
                }
            }

            /// The name, as in the standard but in one word.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ReasonCode::$name => stringify!($name),)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; also "normal disconnection" and "granted QoS 0".
    Success = 0x00,
    /// SUBACK: granted QoS 1.
    GrantedQoS1 = 0x01,
    /// SUBACK: granted QoS 2.
    GrantedQoS2 = 0x02,
    /// DISCONNECT: the client wants its will published.
    DisconnectWithWill = 0x04,
    /// PUBACK, PUBREC: accepted, nobody subscribes to the topic.
    NoMatchingSubscribers = 0x10,
    /// UNSUBACK: the client had no such subscription.
    NoSubscriptionExisted = 0x11,
    /// AUTH: go on with the next step.
    ContinueAuthentication = 0x18,
    /// AUTH: the client starts a re-authentication.
    Reauthenticate = 0x19,
    /// Refused without saying why.
    UnspecifiedError = 0x80,
    /// The packet could not be parsed.
    MalformedPacket = 0x81,
    /// The packet could be parsed and is not allowed.
    ProtocolError = 0x82,
    /// Valid, but not accepted by this server.
    ImplementationSpecificError = 0x83,
    /// CONNACK: the protocol version is not supported.
    UnsupportedProtocolVersion = 0x84,
    /// CONNACK: the client id is not allowed.
    ClientIdentifierNotValid = 0x85,
    /// CONNACK: user name or password is not accepted.
    BadUserNameOrPassword = 0x86,
    /// Not authorized.
    NotAuthorized = 0x87,
    /// CONNACK: the server is not available.
    ServerUnavailable = 0x88,
    /// The server is busy; try again later.
    ServerBusy = 0x89,
    /// CONNACK: the client was banned.
    Banned = 0x8A,
    /// DISCONNECT: the server is shutting down.
    ServerShuttingDown = 0x8B,
    /// The authentication method is not supported or does not match.
    BadAuthenticationMethod = 0x8C,
    /// DISCONNECT: nothing was received for one and a half times the keep alive.
    KeepAliveTimeout = 0x8D,
    /// DISCONNECT: another connection uses the same client id.
    SessionTakenOver = 0x8E,
    /// The topic filter is well-formed but not accepted.
    TopicFilterInvalid = 0x8F,
    /// The topic name is well-formed but not accepted.
    TopicNameInvalid = 0x90,
    /// The packet id is already in use.
    PacketIdentifierInUse = 0x91,
    /// PUBREL, PUBCOMP: the packet id is not known.
    PacketIdentifierNotFound = 0x92,
    /// DISCONNECT: more than receive maximum publishes were open.
    ReceiveMaximumExceeded = 0x93,
    /// DISCONNECT: the topic alias is unknown or above the maximum.
    TopicAliasInvalid = 0x94,
    /// The packet is larger than the receiver accepts.
    PacketTooLarge = 0x95,
    /// DISCONNECT: messages come in too fast.
    MessageRateTooHigh = 0x96,
    /// A limit of the implementation or the administrator was reached.
    QuotaExceeded = 0x97,
    /// DISCONNECT: closed by an administrator.
    AdministrativeAction = 0x98,
    /// The payload is not of the format its indicator says.
    PayloadFormatInvalid = 0x99,
    /// The server does not keep retained messages.
    RetainNotSupported = 0x9A,
    /// The QoS is above the maximum of the server.
    QoSNotSupported = 0x9B,
    /// Use another server for now.
    UseAnotherServer = 0x9C,
    /// Use another server from now on.
    ServerMoved = 0x9D,
    /// Shared subscriptions are not supported.
    SharedSubscriptionsNotSupported = 0x9E,
    /// Connections come in too fast.
    ConnectionRateExceeded = 0x9F,
    /// DISCONNECT: the longest time for a connection is over.
    MaximumConnectTime = 0xA0,
    /// Subscription identifiers are not supported.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// Wildcard subscriptions are not supported.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// The code on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the code says that something failed: 0x80 and above.
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// The answer of SUBACK that grants `qos`.
    pub const fn granted(qos: crate::QoS) -> ReasonCode {
        match qos {
            crate::QoS::AtMostOnce => ReasonCode::Success,
            crate::QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            crate::QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// The CONNACK return code of MQTT 3 that says this best (MQTT 3.1.1 section 3.2.2.3).
    pub const fn to_v3_connect_code(self) -> u8 {
        match self {
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => 4,
            ReasonCode::NotAuthorized | ReasonCode::Banned => 5,
            code if code.is_error() => 3,
            _ => 0,
        }
    }

    /// The reason behind a CONNACK return code of MQTT 3; `None` above 5, which is reserved.
    pub const fn from_v3_connect_code(code: u8) -> Option<ReasonCode> {
        match code {
            0 => Some(ReasonCode::Success),
            1 => Some(ReasonCode::UnsupportedProtocolVersion),
            2 => Some(ReasonCode::ClientIdentifierNotValid),
            3 => Some(ReasonCode::ServerUnavailable),
            4 => Some(ReasonCode::BadUserNameOrPassword),
            5 => Some(ReasonCode::NotAuthorized),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.name(), self.as_u8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for &reason in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(reason.as_u8()), Some(reason));
        }
        let known = (0..=u8::MAX).filter_map(ReasonCode::from_u8).count();
        assert_eq!(known, ReasonCode::ALL.len());
    }

    #[test]
    fn v3_connect_codes_survive_the_wire() {
        for code in 0..=5 {
            let reason = ReasonCode::from_v3_connect_code(code).expect("0 to 5 are defined");
            assert_eq!(reason.to_v3_connect_code(), code);
        }
        assert_eq!(ReasonCode::from_v3_connect_code(6), None);
    }
}
