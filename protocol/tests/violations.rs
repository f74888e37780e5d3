//! Each rule that can be broken on the wire has a packet here that breaks it, and no other.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::Version::{V5, V31, V311};
use protocol::{TopicFilter, TopicName, Version, Violation, decode, decode_first};

const MAX_PACKET: usize = 1 << 20;

/// Rule, version of the connection, and bytes.
const BROKEN: &[(Violation, Version, &[u8])] = &[
    (Violation::ReservedPacketType, V5, b"\x00\x00"),
    (Violation::ReservedPacketType, V311, b"\xf0\x00"),
    (Violation::ReservedFlags, V311, b"\x60\x02\0\x01"),
    (Violation::ReservedFlags, V31, b"\x83\x06\0\x01\0\x01a\0"),
    (
        Violation::VariableIntegerTooLong,
        V311,
        b"\x30\x80\x80\x80\x80\x01",
    ),
    (
        Violation::VariableIntegerOverlong,
        V311,
        b"\x40\x82\0\0\x01",
    ),
    (
        Violation::VariableIntegerOverlong,
        V5,
        b"\x30\x06\0\x01a\x80\0x",
    ),
    (Violation::PacketTooLarge, V311, b"\x30\xff\xff\xff\x7f"),
    (Violation::FieldBeyondPacket, V311, b"\x30\x03\0\xc8a"),
    (Violation::FieldBeyondPacket, V311, b"\x40\x00"),
    (Violation::TrailingBytes, V311, b"\xc0\x01\0"),
    (Violation::InvalidUtf8, V5, b"\x30\x06\0\x03\xed\xa0\x80\0"),
    (Violation::NulCharacter, V311, b"\x30\x03\0\x01\0"),
    (Violation::ZeroPacketId, V5, b"\x40\x02\0\0"),
    (
        Violation::PropertyNotAllowed,
        V5,
        b"\x30\x09\0\x01a\x05\x11\0\0\0\0",
    ),
    (
        Violation::PropertyNotAllowed,
        V5,
        b"\x30\x05\0\x01a\x01\x7f",
    ),
    (
        Violation::DuplicateProperty,
        V5,
        b"\x30\x08\0\x01a\x04\x01\0\x01\0",
    ),
    (
        Violation::PropertyBeyondLength,
        V5,
        b"\x30\x08\0\x01a\x02\x23\0\x01x",
    ),
    (Violation::PropertyValue, V5, b"\x30\x06\0\x01a\x02\x01\x02"),
    (Violation::ReasonCodeNotAllowed, V5, b"\x40\x03\0\x01\x01"),
    (Violation::ReasonCodeNotAllowed, V311, b"\x20\x02\0\x06"),
    (Violation::ReasonCodeNotAllowed, V311, b"\x90\x03\0\x01\x03"),
    (
        Violation::ProtocolName,
        V5,
        b"\x10\x0c\0\x04MQTX\x04\x02\0\0\0\0",
    ),
    (
        Violation::ProtocolLevelTooLow,
        V5,
        b"\x10\x0c\0\x04MQTT\x03\x02\0\0\0\0",
    ),
    (
        Violation::ProtocolLevelTooHigh,
        V5,
        b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\0\0",
    ),
    (
        Violation::ConnectReservedFlag,
        V5,
        b"\x10\x0c\0\x04MQTT\x04\x03\0\0\0\0",
    ),
    (
        Violation::WillQoSWithoutWill,
        V5,
        b"\x10\x0c\0\x04MQTT\x04\x0a\0\0\0\0",
    ),
    (
        Violation::WillQoSInvalid,
        V5,
        b"\x10\x11\0\x04MQTT\x04\x1e\0\0\0\0\0\x01w\0\0",
    ),
    (
        Violation::WillRetainWithoutWill,
        V5,
        b"\x10\x0c\0\x04MQTT\x04\x22\0\0\0\0",
    ),
    (
        Violation::PasswordWithoutUserName,
        V5,
        b"\x10\x0e\0\x04MQTT\x04\x42\0\0\0\0\0\0",
    ),
    (Violation::AuthMethodMissing, V5, b"\xf0\x02\x18\0"),
    (
        Violation::AuthMethodMissing,
        V5,
        b"\x10\x10\0\x04MQTT\x05\x02\0\0\x03\x16\0\0\0\0",
    ),
    (Violation::ConnAckFlags, V5, b"\x20\x03\x02\0\0"),
    (Violation::ConnAckFlags, V311, b"\x20\x02\x01\x01"),
    (Violation::PublishQoSInvalid, V311, b"\x36\x05\0\x01a\0\x01"),
    (Violation::DupWithQoS0, V311, b"\x38\x03\0\x01a"),
    (Violation::TopicNameEmpty, V311, b"\x30\x02\0\0"),
    (Violation::TopicNameEmpty, V5, b"\x30\x03\0\0\0"),
    (Violation::TopicNameWildcard, V311, b"\x30\x05\0\x03a/+"),
    (
        Violation::TopicAliasZero,
        V5,
        b"\x30\x07\0\x01a\x03\x23\0\0",
    ),
    (
        Violation::ResponseTopicWildcard,
        V5,
        b"\x30\x08\0\x01a\x04\x08\0\x01#",
    ),
    (
        Violation::SubscriptionIdZero,
        V5,
        b"\x82\x09\0\x01\x02\x0b\0\0\x01a\0",
    ),
    (Violation::NoTopicFilter, V311, b"\x82\x02\0\x01"),
    (Violation::NoTopicFilter, V5, b"\xb0\x03\0\x01\0"),
    (Violation::TopicFilterEmpty, V311, b"\xa2\x04\0\x01\0\0"),
    (
        Violation::MultiLevelWildcard,
        V311,
        b"\xa2\x07\0\x01\0\x03#/a",
    ),
    (
        Violation::SingleLevelWildcard,
        V311,
        b"\xa2\x06\0\x01\0\x02a+",
    ),
    (
        Violation::ShareNameEmpty,
        V5,
        b"\x82\x0f\0\x01\0\0\x09$share//a\0",
    ),
    (
        Violation::ShareNameInvalid,
        V5,
        b"\x82\x0e\0\x01\0\0\x08$share/g\0",
    ),
    (
        Violation::NoLocalOnShared,
        V5,
        b"\x82\x10\0\x01\0\0\x0a$share/g/a\x04",
    ),
    (
        Violation::SubscribeOptionsReserved,
        V5,
        b"\x82\x07\0\x01\0\0\x01a\x40",
    ),
    (
        Violation::SubscribeOptionsReserved,
        V311,
        b"\x82\x06\0\x01\0\x01a\x04",
    ),
    (
        Violation::SubscribeQoSInvalid,
        V5,
        b"\x82\x07\0\x01\0\0\x01a\x03",
    ),
    (
        Violation::RetainHandlingInvalid,
        V5,
        b"\x82\x07\0\x01\0\0\x01a\x30",
    ),
];

#[test]
fn every_rule_is_enforced() {
    for (violation, version, bytes) in BROKEN {
        let answer = decode(&Bytes::from_static(bytes), 0, *version, MAX_PACKET);
        assert_eq!(answer, Err(*violation), "{version} {bytes:02x?}");
    }
}

#[test]
fn no_rule_is_without_a_case() {
    let elsewhere = [
        // Below.
        Violation::ConnectExpected,
        // No field on the wire is that long.
        Violation::TopicTooLong,
    ];
    let covered: BTreeSet<_> = BROKEN.iter().map(|row| row.0).chain(elsewhere).collect();
    let all: BTreeSet<_> = Violation::ALL.iter().copied().collect();
    assert_eq!(covered, all);
}

#[test]
fn connect_comes_first() {
    let ping = Bytes::from_static(b"\xc0\x00");
    assert_eq!(
        decode_first(&ping, 0, MAX_PACKET),
        Err(Violation::ConnectExpected)
    );
}

#[test]
fn topics_and_filters_have_a_length() {
    let long = "x".repeat(65_536);
    assert_eq!(TopicName::new(&long), Err(Violation::TopicTooLong));
    assert_eq!(TopicFilter::new(&long), Err(Violation::TopicTooLong));
}

#[test]
fn a_violation_says_where_it_comes_from() {
    for violation in Violation::ALL {
        assert!(violation.reason().is_error(), "{violation:?}");
        let clause = violation.clause();
        assert!(
            clause.contains("MQTT-") || clause.starts_with("section "),
            "{violation:?}"
        );
        assert!(
            violation.to_string().ends_with(&format!("({clause})")),
            "{violation:?}"
        );
    }
    assert_eq!(Violation::TopicNameWildcard.clause(), "MQTT-3.3.2-2");
    assert_eq!(Violation::TopicNameWildcard.name(), "TopicNameWildcard");
}
