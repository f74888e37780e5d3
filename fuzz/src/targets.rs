//! The targets. Each takes any bytes, panics where a promise is broken, and says by a number what
//! kind of input it was, so that a driver can keep one of each kind.

use bytes::Bytes;
use protocol::{
    Decoded, Message, Packet, PublishOptions, PublishTemplate, TopicFilter, TopicName, Version,
    Violation, connect_version, decode, decode_first, encode, encode_publish, publish_len,
};

use crate::allocation::peak_of;

/// The largest packet the targets accept, in bytes.
const MAX_PACKET: usize = 1 << 16;

/// What decoding may hold per byte of the packet: a SUBSCRIBE of the shortest filters turns four
/// bytes into an entry of 32.
const HELD_PER_BYTE: usize = 8;

/// What decoding may hold whatever the packet: the fields of a CONNECT or CONNACK, and an error.
const HELD_ALWAYS: usize = 1024;

/// A target: bytes in, kind of input out.
pub type Target = fn(&[u8]) -> u64;

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("decode_v3", decode_v3),
    ("decode_v5", decode_v5),
    ("decode_connect", decode_connect),
    ("topic_filter", topic_filter),
    ("message_read_from", message_read_from),
    ("roundtrip", roundtrip),
];

/// A stream of MQTT 3.1 (if the first byte is odd) or 3.1.1.
pub fn decode_v3(data: &[u8]) -> u64 {
    let Some((&choice, stream)) = data.split_first() else {
        return 0;
    };
    let version = if choice % 2 == 1 {
        Version::V31
    } else {
        Version::V311
    };
    decode_stream(stream, version)
}

/// A stream of MQTT 5.
pub fn decode_v5(data: &[u8]) -> u64 {
    decode_stream(data, Version::V5)
}

/// The first packet of a connection.
pub fn decode_connect(data: &[u8]) -> u64 {
    let chunk = Bytes::copy_from_slice(data);
    let (answer, held) = peak_of(|| decode_first(&chunk, 0, MAX_PACKET));
    let kind = check_answer(&answer, &chunk, 0, held);
    match answer {
        Ok(Decoded::Packet {
            packet: Packet::Connect(connect),
            ..
        }) => {
            assert_eq!(connect_version(&chunk, 0), Some(connect.version));
            check_written_again(&Packet::Connect(connect), Version::V5);
        }
        Ok(Decoded::Packet { packet, .. }) => panic!("a first packet {}", packet.name()),
        Ok(Decoded::Incomplete { .. }) => {}
        Err(violation) => {
            let answered = connect_version(&chunk, 0);
            let in_version = violation.answer_version();
            assert!(
                in_version.is_none() || in_version == answered,
                "{violation}"
            );
        }
    }
    kind
}

/// A filter, a line feed, and a topic.
pub fn topic_filter(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    let (filter, topic) = text.split_once('\n').unwrap_or((&text, ""));
    let loosely = protocol::filter_matches(filter, topic);
    let (filter, topic) = match (TopicFilter::new(filter), TopicName::new(topic)) {
        (Ok(filter), Ok(topic)) => (filter, topic),
        (Err(violation), _) => return kind_of(&violation),
        (_, Err(violation)) => return 100 + kind_of(&violation),
    };
    let matches = filter.matches(&topic);
    if filter.shared().is_none() {
        assert_eq!(matches, loosely);
        assert_eq!(filter.inner(), filter.as_str());
    }
    if !filter.is_wildcard() {
        assert_eq!(matches, filter.inner() == topic.as_str());
    }
    assert_eq!(
        filter.levels().collect::<Vec<_>>().join("/"),
        filter.inner()
    );
    assert!(protocol::filter_matches(&topic, &topic));
    200 + u64::from(matches) * 2 + u64::from(filter.shared().is_some())
}

/// The stored form of a message.
pub fn message_read_from(data: &[u8]) -> u64 {
    let stored = Bytes::copy_from_slice(data);
    let (answer, held) = peak_of(|| Message::read_at(&stored, 0));
    assert!(held <= HELD_ALWAYS, "{held} bytes held: not a slice");
    match answer {
        Ok((message, len)) => {
            assert_eq!(message.encoded_len(), len);
            assert_eq!(
                Message::read_from(&stored.slice(..len)),
                Ok(message.clone())
            );
            check_message(&message);
            let mut out = Vec::new();
            message.write_to(&mut out);
            assert_eq!(out, stored[..len], "a message has one stored form");
            1
        }
        Err(corrupt) => 2 + kind_of(&corrupt),
    }
}

/// Packets carried from one version to the other, and a PUBLISH by way of a template.
pub fn roundtrip(data: &[u8]) -> u64 {
    let Some((&choice, frame)) = data.split_first() else {
        return 0;
    };
    let versions = [Version::V5, Version::V311, Version::V31];
    let (from, to) = (
        versions[choice as usize % 3],
        versions[choice as usize / 3 % 3],
    );
    let chunk = Bytes::copy_from_slice(frame);
    let Ok(Decoded::Packet { packet, .. }) = decode(&chunk, 0, from, MAX_PACKET) else {
        return 1;
    };
    match &packet {
        // Its topic is known to one connection only.
        Packet::Publish(publish) if publish.message.topic_bytes().is_empty() => return 2,
        Packet::Publish(publish) => check_template(publish, to),
        // Before MQTT 5 it carries no answers to hand on.
        Packet::UnsubAck(unsuback) if unsuback.reasons.is_empty() => return 3,
        _ => {}
    }
    let mut out = Vec::new();
    if encode(&packet, to, &mut out).is_err() {
        assert!(matches!(packet, Packet::Auth(_)) && to != Version::V5);
        return 4;
    }
    let len = out.len();
    match decode(&Bytes::from(out), 0, to, usize::MAX) {
        Ok(Decoded::Packet {
            packet: carried,
            len: read,
        }) => {
            assert_eq!((carried.name(), read), (packet.name(), len));
            if from == to {
                assert_eq!(carried, packet);
            }
        }
        other => panic!("{packet:?} in {to} is {other:?}"),
    }
    10 + u64::from(choice % 9) * 20 + kind_of(&packet.name())
}

fn decode_stream(stream: &[u8], version: Version) -> u64 {
    let chunk = Bytes::copy_from_slice(stream);
    let mut at = 0;
    let mut kind = 0_u64;
    for _ in 0..4 {
        let (answer, held) = peak_of(|| decode(&chunk, at, version, MAX_PACKET));
        kind = kind.wrapping_mul(1021) ^ check_answer(&answer, &chunk, at, held);
        let Ok(Decoded::Packet { packet, len }) = answer else {
            return kind;
        };
        check_written_again(&packet, version);
        at += len;
    }
    kind
}

/// What holds for every answer of the decoder.
fn check_answer(answer: &Result<Decoded, Violation>, chunk: &Bytes, at: usize, held: usize) -> u64 {
    let available = chunk.len() - at;
    match answer {
        Ok(Decoded::Packet { packet, len }) => {
            assert!((2..=available.min(MAX_PACKET)).contains(len));
            let bound = match packet {
                Packet::Publish(publish) if publish.subscription_ids.is_empty() => *len,
                _ => len * HELD_PER_BYTE,
            };
            assert!(
                held <= bound + HELD_ALWAYS,
                "{held} held for {len}: {packet:?}"
            );
            kind_of(&packet.name())
        }
        Ok(Decoded::Incomplete { need }) => {
            assert!(need.is_none_or(|need| need > available && need <= MAX_PACKET));
            assert!(
                need.is_some() || available < 5,
                "the fixed header is complete"
            );
            assert_eq!(held, 0, "nothing is held for a packet that is not complete");
            1000
        }
        Err(violation) => {
            let packet = available.min(MAX_PACKET);
            assert!(
                held <= packet * HELD_PER_BYTE + HELD_ALWAYS,
                "{held} held for {violation}"
            );
            assert!(violation.reason().is_error());
            let first = u64::from(chunk.get(at).map_or(0, |first| first >> 4));
            2000 + first * 100 + kind_of(violation)
        }
    }
}

fn check_written_again(packet: &Packet, version: Version) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    if let Packet::Publish(publish) = packet {
        check_message(&publish.message);
    }
    let mut out = Vec::new();
    encode(packet, version, &mut out).expect("what was read can be written");
    let len = out.len();
    match decode(&Bytes::from(out), 0, version, usize::MAX) {
        Ok(Decoded::Packet {
            packet: again,
            len: read,
        }) => {
            assert_eq!((&again, read), (packet, len));
        }
        other => panic!("{packet:?} again is {other:?}"),
    }
}

fn check_message(message: &Message) {
    let parts = [
        message.topic_bytes(),
        message.properties(),
        message.payload(),
    ];
    assert_eq!(
        message.byte_len(),
        parts.iter().map(|part| part.len()).sum::<usize>()
    );
    assert_eq!(message.topic().as_bytes(), message.topic_bytes());
    assert_eq!(message.to_compact(), *message);
    assert_eq!(message.payload_bytes(), message.payload());
    if let Some(topic) = message.topic_name() {
        let copy = Message::new(&topic, message.properties(), message.payload());
        let copy = copy.map(|copy| copy.with_expiry_s(message.expiry_s()));
        assert_eq!(copy.as_ref(), Ok(message));
        assert_eq!(message.with_topic(&topic), *message);
    }
}

fn check_template(publish: &protocol::Publish, version: Version) {
    let options = PublishOptions {
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        packet_id: publish.packet_id,
        topic_alias: publish.topic_alias.map(|alias| (alias, publish.dup)),
        subscription_ids: &publish.subscription_ids,
        expiry_s: publish.message.expiry_s(),
    };
    let mut once = Vec::new();
    encode_publish(&mut once, version, &publish.message, &options);
    assert_eq!(publish_len(version, &publish.message, &options), once.len());
    let plain = PublishOptions {
        dup: false,
        ..options
    };
    let mut patched = Vec::new();
    let template = PublishTemplate::new(version, &publish.message, &plain);
    template.append_to(&mut patched, publish.packet_id, publish.dup);
    assert_eq!(once, patched);
}

/// A small number for a value's name.
fn kind_of(value: &impl std::fmt::Debug) -> u64 {
    let name = format!("{value:?}");
    name.bytes()
        .fold(7, |hash: u64, byte| (hash * 31 + u64::from(byte)) % 97)
}
