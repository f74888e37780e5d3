//! What a peer can do wrong on the wire: one name per rule of the standard.

use std::fmt;

use crate::{ReasonCode, Version};

macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident, $clause:literal, $reason:ident, $text:literal;)*) => {
        /// A rule of the standard that received bytes break. Each has one name, the clause it comes
        /// from, and the reason code to answer with before the connection is closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Violation {
            $($(#[$doc])* $name,)*
        }

        impl Violation {
            /// Every violation, in the order of declaration: for counters by name.
            pub const ALL: &[Violation] = &[$(Violation::$name,)*];

            /// The name in one word, fit for a metric label.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Violation::$name => stringify!($name),)*
                }
            }

            /// The clause of MQTT 5 that is broken, such as `MQTT-3.3.2-2`; `section` where the
            /// standard gives the rule no number; with the prefix `3.1.1` where only that version
            /// has it.
            pub const fn clause(self) -> &'static str {
                match self {
                    $(Violation::$name => $clause,)*
                }
            }

            /// The reason code to answer with.
            pub const fn reason(self) -> ReasonCode {
                match self {
                    $(Violation::$name => ReasonCode::$reason,)*
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Violation::$name => $text,)*
                }
            }
        }
    };
}

violations! {
    /// A packet type the version does not define: 0 everywhere, 15 before MQTT 5.
    ReservedPacketType, "section 2.1.2", MalformedPacket, "reserved packet type";
    /// Flags of the fixed header that are not those the standard demands.
    ReservedFlags, "MQTT-2.1.3-1", MalformedPacket, "reserved flags of the fixed header are set";
    /// A variable byte integer of more than four bytes.
    VariableIntegerTooLong, "section 1.5.5", MalformedPacket, "variable byte integer of more than four bytes";
    /// A variable byte integer that could be shorter.
    VariableIntegerOverlong, "MQTT-1.5.5-1", MalformedPacket, "variable byte integer is not in its shortest form";
    /// The packet is larger than the receiver accepts.
    PacketTooLarge, "MQTT-3.1.2-24", PacketTooLarge, "packet is larger than the limit";
    /// A field reaches beyond the packet, or is missing.
    FieldBeyondPacket, "section 1.2", MalformedPacket, "a field reaches beyond the end of the packet";
    /// Bytes are left after the last field.
    TrailingBytes, "section 1.2", MalformedPacket, "bytes are left after the last field";
    /// A string that is not well-formed UTF-8 (surrogates included).
    InvalidUtf8, "MQTT-1.5.4-1", MalformedPacket, "string is not well-formed UTF-8";
    /// A string with U+0000.
    NulCharacter, "MQTT-1.5.4-2", MalformedPacket, "string contains U+0000";
    /// Packet id 0 where one is needed.
    ZeroPacketId, "MQTT-2.2.1-3", MalformedPacket, "packet id is zero";
    /// A property the packet may not have, or that does not exist.
    PropertyNotAllowed, "section 2.2.2.2", MalformedPacket, "property is unknown or not allowed in this packet";
    /// A property twice that is allowed once.
    DuplicateProperty, "section 2.2.2.2", ProtocolError, "property is given more than once";
    /// A property reaches beyond the length of the properties.
    PropertyBeyondLength, "section 2.2.2.1", MalformedPacket, "a property reaches beyond the property length";
    /// A property with a value that is not allowed, such as receive maximum 0.
    PropertyValue, "section 2.2.2.2", ProtocolError, "property has a value that is not allowed";
    /// A reason code the packet may not have, or that does not exist.
    ReasonCodeNotAllowed, "section 2.4", MalformedPacket, "reason code is unknown or not allowed in this packet";
    /// The first packet of a connection is not CONNECT.
    ConnectExpected, "MQTT-3.1.0-1", ProtocolError, "first packet is not CONNECT";
    /// A protocol name that is neither `MQTT` nor `MQIsdp`.
    ProtocolName, "MQTT-3.1.2-1", UnsupportedProtocolVersion, "unknown protocol name";
    /// A protocol level below 3.1's, or not that of its protocol name: answer as MQTT 3.
    ProtocolLevelTooLow, "MQTT-3.1.2-2", UnsupportedProtocolVersion, "unsupported protocol level of MQTT 3";
    /// A protocol level above 5: answer as MQTT 5.
    ProtocolLevelTooHigh, "MQTT-3.1.2-2", UnsupportedProtocolVersion, "unsupported protocol level above 5";
    /// The lowest connect flag is set.
    ConnectReservedFlag, "MQTT-3.1.2-3", MalformedPacket, "reserved connect flag is set";
    /// Will QoS without a will.
    WillQoSWithoutWill, "MQTT-3.1.2-11", MalformedPacket, "will QoS without a will";
    /// Will QoS 3.
    WillQoSInvalid, "MQTT-3.1.2-12", MalformedPacket, "will QoS is 3";
    /// Will retain without a will.
    WillRetainWithoutWill, "MQTT-3.1.2-13", MalformedPacket, "will retain without a will";
    /// A password without a user name, which MQTT 3 does not allow.
    PasswordWithoutUserName, "3.1.1 MQTT-3.1.2-22", MalformedPacket, "password without a user name";
    /// Authentication data without a method, or AUTH without one.
    AuthMethodMissing, "section 3.1.2.11.10", ProtocolError, "authentication data without an authentication method";
    /// CONNACK acknowledge flags other than session present, or session present with an error.
    ConnAckFlags, "MQTT-3.2.2-1", MalformedPacket, "CONNACK flags are not allowed";
    /// QoS 3 in PUBLISH.
    PublishQoSInvalid, "MQTT-3.3.1-4", MalformedPacket, "PUBLISH with QoS 3";
    /// DUP with QoS 0.
    DupWithQoS0, "MQTT-3.3.1-2", MalformedPacket, "DUP is set at QoS 0";
    /// An empty topic name (in MQTT 5: without a topic alias).
    TopicNameEmpty, "MQTT-4.7.3-1", ProtocolError, "topic name is empty";
    /// A wildcard in a topic name.
    TopicNameWildcard, "MQTT-3.3.2-2", TopicNameInvalid, "topic name contains a wildcard";
    /// A topic or filter of more than 65,535 bytes.
    TopicTooLong, "MQTT-4.7.3-3", MalformedPacket, "topic is longer than 65,535 bytes";
    /// Topic alias 0.
    TopicAliasZero, "MQTT-3.3.2-8", TopicAliasInvalid, "topic alias is zero";
    /// A wildcard in a response topic.
    ResponseTopicWildcard, "MQTT-3.3.2-14", ProtocolError, "response topic contains a wildcard";
    /// Subscription identifier 0.
    SubscriptionIdZero, "section 3.8.2.1.2", ProtocolError, "subscription identifier is zero";
    /// SUBSCRIBE or UNSUBSCRIBE without a topic filter, or their answers without a code.
    NoTopicFilter, "MQTT-3.8.3-2", ProtocolError, "no topic filter in the packet";
    /// An empty topic filter.
    TopicFilterEmpty, "MQTT-4.7.3-1", MalformedPacket, "topic filter is empty";
    /// `#` that is not a level of its own at the end.
    MultiLevelWildcard, "MQTT-4.7.1-1", TopicFilterInvalid, "'#' must be a level of its own at the end of a filter";
    /// `+` that is not a level of its own.
    SingleLevelWildcard, "MQTT-4.7.1-2", TopicFilterInvalid, "'+' must be a level of its own";
    /// A shared subscription with an empty share name.
    ShareNameEmpty, "MQTT-4.8.2-1", TopicFilterInvalid, "share name is empty";
    /// A share name with a wildcard, or without a filter after it.
    ShareNameInvalid, "MQTT-4.8.2-2", TopicFilterInvalid, "share name must be free of wildcards and followed by a topic filter";
    /// No Local on a shared subscription.
    NoLocalOnShared, "MQTT-3.8.3-4", ProtocolError, "no local on a shared subscription";
    /// Reserved bits of the subscription options.
    SubscribeOptionsReserved, "MQTT-3.8.3-5", MalformedPacket, "reserved subscription options are set";
    /// QoS 3 in the subscription options.
    SubscribeQoSInvalid, "section 3.8.3.1", ProtocolError, "subscription with QoS 3";
    /// Retain handling 3.
    RetainHandlingInvalid, "section 3.8.3.1", ProtocolError, "retain handling is 3";
}

impl Violation {
    /// The version in which the peer can read an answer, where the violation itself says it:
    /// `Some` for an unsupported protocol level only. Otherwise answer in the connection's version;
    /// for a malformed CONNECT see [`connect_version`](crate::connect_version).
    pub const fn answer_version(self) -> Option<Version> {
        match self {
            Violation::ProtocolLevelTooLow => Some(Version::V311),
            Violation::ProtocolLevelTooHigh => Some(Version::V5),
            _ => None,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.clause())
    }
}

impl std::error::Error for Violation {}
