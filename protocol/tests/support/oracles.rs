//! Other people's decoders, behind one signature: a whole packet in, the packet as they would write
//! it out, or `None` where they refuse it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use mqttbytes::v4;

/// `mqtt-proto`: MQTT 3.1 and 3.1.1.
pub(crate) fn mqtt_proto_v3(frame: &[u8]) -> Option<Vec<u8>> {
    let mut reader = frame;
    let mut state = mqtt_proto::v3::PollPacketState::default();
    let read = at_once(mqtt_proto::v3::PollPacket::new(&mut state, &mut reader));
    let (_, _, packet) = read.ok()?;
    let out = packet.encode().expect("what it read it can write");
    Some(out.as_ref().to_vec())
}

/// A future that has no reason to wait: it reads from memory.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("reading from memory does not wait"),
    }
}

/// `mqttbytes`: MQTT 3.1.1.
pub(crate) fn mqttbytes_v4(frame: &[u8]) -> Option<Vec<u8>> {
    let mut stream = BytesMut::from(frame);
    let packet = v4::read(&mut stream, frame.len()).ok()?;
    let mut out = BytesMut::new();
    let written = match packet {
        v4::Packet::Connect(packet) => packet.write(&mut out),
        v4::Packet::ConnAck(packet) => packet.write(&mut out),
        v4::Packet::Publish(packet) => packet.write(&mut out),
        v4::Packet::PubAck(packet) => packet.write(&mut out),
        v4::Packet::PubRec(packet) => packet.write(&mut out),
        v4::Packet::PubRel(packet) => packet.write(&mut out),
        v4::Packet::PubComp(packet) => packet.write(&mut out),
        v4::Packet::Subscribe(packet) => packet.write(&mut out),
        v4::Packet::SubAck(packet) => packet.write(&mut out),
        v4::Packet::Unsubscribe(packet) => packet.write(&mut out),
        v4::Packet::UnsubAck(packet) => packet.write(&mut out),
        v4::Packet::PingReq => v4::PingReq.write(&mut out),
        v4::Packet::PingResp => v4::PingResp.write(&mut out),
        v4::Packet::Disconnect => v4::Disconnect.write(&mut out),
    };
    written.expect("what it read it can write");
    Some(out.to_vec())
}

/// Reads a body with one of `mqtt-protocol-core`'s parsers, which must use it up, and writes the
/// packet again.
macro_rules! core_parse {
    ($packet:ty, $body:expr) => {{
        let (packet, used) = <$packet>::parse($body).ok()?;
        (used == $body.len()).then(|| packet.to_continuous_buffer())
    }};
}

/// `mqtt-protocol-core`: MQTT 3.1.1. It leaves the flags of the fixed header to its connection: only
/// packets whose flags are right belong here.
pub(crate) fn mqtt_protocol_core_v3(frame: &[u8]) -> Option<Vec<u8>> {
    let (first, body) = (frame[0], body(frame));
    match first >> 4 {
        1 => core_parse!(v3_1_1::Connect, body),
        2 => core_parse!(v3_1_1::Connack, body),
        3 => {
            let (packet, _) = v3_1_1::Publish::parse(first & 0x0F, body.into()).ok()?;
            Some(packet.to_continuous_buffer())
        }
        4 => core_parse!(v3_1_1::Puback, body),
        5 => core_parse!(v3_1_1::Pubrec, body),
        6 => core_parse!(v3_1_1::Pubrel, body),
        7 => core_parse!(v3_1_1::Pubcomp, body),
        8 => core_parse!(v3_1_1::Subscribe, body),
        9 => core_parse!(v3_1_1::Suback, body),
        10 => core_parse!(v3_1_1::Unsubscribe, body),
        11 => core_parse!(v3_1_1::Unsuback, body),
        12 => core_parse!(v3_1_1::Pingreq, body),
        13 => core_parse!(v3_1_1::Pingresp, body),
        14 => core_parse!(v3_1_1::Disconnect, body),
        _ => None,
    }
}

/// `mqtt-protocol-core`: MQTT 5. The same goes for flags.
pub(crate) fn mqtt_protocol_core_v5(frame: &[u8]) -> Option<Vec<u8>> {
    let (first, body) = (frame[0], body(frame));
    match first >> 4 {
        1 => core_parse!(v5_0::Connect, body),
        2 => core_parse!(v5_0::Connack, body),
        3 => {
            let (packet, _) = v5_0::Publish::parse(first & 0x0F, body.into()).ok()?;
            Some(packet.to_continuous_buffer())
        }
        4 => core_parse!(v5_0::Puback, body),
        5 => core_parse!(v5_0::Pubrec, body),
        6 => core_parse!(v5_0::Pubrel, body),
        7 => core_parse!(v5_0::Pubcomp, body),
        8 => core_parse!(v5_0::Subscribe, body),
        9 => core_parse!(v5_0::Suback, body),
        10 => core_parse!(v5_0::Unsubscribe, body),
        11 => core_parse!(v5_0::Unsuback, body),
        12 => core_parse!(v5_0::Pingreq, body),
        13 => core_parse!(v5_0::Pingresp, body),
        14 => core_parse!(v5_0::Disconnect, body),
        15 => core_parse!(v5_0::Auth, body),
        _ => None,
    }
}

/// What is behind the fixed header.
fn body(frame: &[u8]) -> &[u8] {
    let length_len = 1 + frame[1..].iter().take_while(|byte| **byte >= 0x80).count();
    &frame[1 + length_len..]
}

/// The signature they share.
pub(crate) type Oracle = fn(&[u8]) -> Option<Vec<u8>>;
