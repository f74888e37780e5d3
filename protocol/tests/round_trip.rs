//! What is written is read as it was; what is cut off is incomplete, never malformed; and no bytes
//! at all make the decoder contradict itself.

#[allow(dead_code, reason = "each test binary uses its part")]
mod support;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{
    Decoded, Message, Packet, PublishOptions, PublishTemplate, TopicName, Version, decode,
    decode_first, encode, encode_publish, publish_len,
};
use support::MAX_PACKET;
use support::arbitrary::{filter, message, packet, publish, topic, version};

fn versioned() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| (Just(version), packet(version)))
}

fn encoded(packet: &Packet, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, version, &mut out).expect("short fields");
    out
}

proptest! {
    #[test]
    fn packets_survive((version, packet) in versioned(), before in 0_usize..20, after in 0_usize..20) {
        let mut bytes = vec![0xFF; before];
        let frame = encoded(&packet, version);
        bytes.extend_from_slice(&frame);
        bytes.resize(bytes.len() + after, 0xFF);
        let answer = decode(&Bytes::from(bytes), before, version, MAX_PACKET);
        prop_assert_eq!(answer, Ok(Decoded::Packet { packet, len: frame.len() }));
    }

    #[test]
    fn every_cut_is_incomplete((version, packet) in versioned()) {
        let frame = Bytes::from(encoded(&packet, version));
        let cuts = (0..frame.len()).step_by(1 + frame.len() / 500);
        for cut in cuts {
            let answer = decode(&frame.slice(..cut), 0, version, MAX_PACKET);
            match answer {
                Ok(Decoded::Incomplete { need: Some(need) }) => prop_assert_eq!(need, frame.len()),
                Ok(Decoded::Incomplete { need: None }) => prop_assert!(cut < 5),
                other => prop_assert!(false, "cut at {} of {}: {:?}", cut, frame.len(), other),
            }
        }
    }

    #[test]
    fn damaged_packets_are_judged_alone(
        (version, packet) in versioned(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut frame = encoded(&packet, version);
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        judge(&Bytes::from(frame), version)?;
    }

    #[test]
    fn any_bytes_are_judged_alone(
        version in version(),
        first in any::<u8>(),
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut frame = vec![first, rest.len() as u8];
        frame.extend_from_slice(&rest);
        judge(&Bytes::from(frame), version)?;
    }

    #[test]
    fn a_template_gives_what_encoding_gives(
        (version, publish) in version().prop_flat_map(|v| (Just(v), publish(v))),
        omit_topic in any::<bool>(),
    ) {
        let options = PublishOptions {
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            topic_alias: publish.topic_alias.map(|alias| (alias, omit_topic)),
            subscription_ids: &publish.subscription_ids,
            expiry_s: publish.message.expiry_s(),
        };
        let mut once = b"before".to_vec();
        encode_publish(&mut once, version, &publish.message, &options);
        prop_assert_eq!(once.len() - 6, publish_len(version, &publish.message, &options));
        let plain = PublishOptions { dup: false, packet_id: None, ..options };
        let template = PublishTemplate::new(version, &publish.message, &plain);
        let mut patched = b"before".to_vec();
        template.append_to(&mut patched, publish.packet_id, publish.dup);
        prop_assert_eq!(&once, &patched);
        prop_assert_eq!(template.packet_len(), once.len() - 6);
    }

    #[test]
    fn stored_messages_survive(message in message(Version::V5)) {
        let mut stored = Vec::new();
        message.write_to(&mut stored);
        prop_assert_eq!(stored.len(), message.encoded_len());
        prop_assert_eq!(Message::read_from(&Bytes::from(stored)), Ok(message.clone()));
        prop_assert_eq!(message.to_compact(), message);
    }

    #[test]
    fn filters_match_as_their_definition(filter in filter(), topic in topic()) {
        let expected = definition(filter.inner(), &topic);
        prop_assert_eq!(filter.matches(&topic), expected);
    }

    #[test]
    fn topics_match_themselves(topic in topic()) {
        prop_assert!(protocol::filter_matches(&topic, &topic));
        let children = format!("{topic}/#");
        prop_assert!(protocol::filter_matches(&children, &topic));
    }
}

/// The bytes are one packet, or not; whatever the answer, it is the same for longer input, and what
/// was accepted means the same after it was written again.
fn judge(frame: &Bytes, version: Version) -> Result<(), TestCaseError> {
    let answer = decode(frame, 0, version, MAX_PACKET);
    let mut longer = frame.to_vec();
    longer.extend_from_slice(&[0; 8]);
    let answer_longer = decode(&Bytes::from(longer), 0, version, MAX_PACKET);
    match answer {
        Ok(Decoded::Packet { packet, len }) => {
            prop_assert!(len <= frame.len());
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => version,
            };
            let mut again = Vec::new();
            encode(&packet, version, &mut again).expect("what was read can be written");
            let len_again = again.len();
            let read = decode(&Bytes::from(again), 0, version, MAX_PACKET);
            prop_assert_eq!(
                read,
                Ok(Decoded::Packet {
                    packet: packet.clone(),
                    len: len_again
                })
            );
            prop_assert_eq!(answer_longer, Ok(Decoded::Packet { packet, len }));
        }
        Ok(Decoded::Incomplete { need }) => {
            prop_assert!(need.is_none_or(|need| need > frame.len()));
        }
        Err(violation) => {
            prop_assert_eq!(answer_longer, Err(violation));
            prop_assert!(violation.reason().is_error());
        }
    }
    Ok(())
}

/// Section 4.7 word by word, level by level.
fn definition(filter: &str, topic: &str) -> bool {
    fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels_match(filter, topic),
            ([level, filter @ ..], [name, topic @ ..]) => {
                level == name && levels_match(filter, topic)
            }
            _ => false,
        }
    }
    let filter: Vec<_> = filter.split('/').collect();
    let topic_levels: Vec<_> = topic.split('/').collect();
    let begins_with_wildcard = matches!(filter[0], "#" | "+");
    !(topic.starts_with('$') && begins_with_wildcard) && levels_match(&filter, &topic_levels)
}

#[test]
fn the_first_packet_is_connect() {
    let ping = Bytes::from_static(&[0xC0, 0]);
    assert_eq!(
        decode_first(&ping, 0, MAX_PACKET),
        Err(protocol::Violation::ConnectExpected)
    );
    let nothing = decode_first(&Bytes::new(), 0, MAX_PACKET);
    assert_eq!(nothing, Ok(Decoded::Incomplete { need: None }));
    let connect = protocol::Connect::new(Version::V31, "c");
    let packet = Packet::Connect(Box::new(connect));
    let frame = Bytes::from(encoded(&packet, Version::V5));
    let len = frame.len();
    assert_eq!(
        decode_first(&frame, 0, MAX_PACKET),
        Ok(Decoded::Packet { packet, len })
    );
}

#[test]
fn unsupported_levels_say_how_to_answer() {
    for (connect, answer) in [
        (&b"\x10\x07\x00\x04MQTT\x06"[..], Some(Version::V5)),
        (b"\x10\x07\x00\x04MQTT\x03", Some(Version::V311)),
        (b"\x10\x07\x00\x04MQTT\x84", Some(Version::V311)),
        (b"\x10\x09\x00\x06MQIsdp\x04", Some(Version::V311)),
        (b"\x10\x07\x00\x04MQTX\x04", None),
    ] {
        let violation = decode_first(&Bytes::from_static(connect), 0, MAX_PACKET)
            .expect_err("an unsupported version");
        assert_eq!(violation.answer_version(), answer, "{connect:?}");
        assert_eq!(protocol::connect_version(connect, 0), answer, "{connect:?}");
        assert_eq!(
            violation.reason(),
            protocol::ReasonCode::UnsupportedProtocolVersion
        );
    }
    assert_eq!(
        protocol::connect_version(b"\x10\x07\x00\x04MQTT\x05", 0),
        Some(Version::V5)
    );
    assert_eq!(protocol::connect_version(b"\x10\x07\x00\x04MQ", 0), None);
}

#[test]
fn a_publish_is_a_slice_of_its_chunk() {
    // User property, alias, expiry: what travels on lies in one piece.
    let chunk = Bytes::from_static(
        b"\x32\x18\x00\x01a\x00\x01\x0f\x26\x00\x01k\x00\x01v\x23\x00\x07\x02\x00\x00\x00\x09xyz",
    );
    let publish = read_publish(&chunk);
    assert_eq!(publish.message.payload().as_ptr(), chunk[23..].as_ptr());
    assert_eq!(publish.message.properties(), b"\x26\x00\x01k\x00\x01v");
    assert_eq!(publish.message.expiry_s(), Some(9));
    assert_eq!(publish.topic_alias.map(std::num::NonZeroU16::get), Some(7));

    // Alias between them: only then is it copied together.
    let chunk =
        Bytes::from_static(b"\x30\x13\x00\x01a\x0c\x01\x01\x23\x00\x07\x26\x00\x01k\x00\x01vxyz");
    let publish = read_publish(&chunk);
    assert_eq!(
        publish.message.properties(),
        b"\x01\x01\x26\x00\x01k\x00\x01v"
    );
    let topic = TopicName::new("a").expect("a topic");
    let copy = Message::new(&topic, publish.message.properties(), b"xyz");
    assert_eq!(copy, Ok(publish.message));
}

fn read_publish(chunk: &Bytes) -> protocol::Publish {
    match decode(chunk, 0, Version::V5, MAX_PACKET) {
        Ok(Decoded::Packet {
            packet: Packet::Publish(publish),
            len,
        }) if len == chunk.len() => publish,
        other => panic!("{other:?}"),
    }
}
