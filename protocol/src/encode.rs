//! From packets to bytes.

use crate::packet::{AckKind, Packet};
use crate::{EncodeError, Version};

/// Appends a packet as a connection of `version` carries it; CONNECT in its own version. What the
/// version has no place for is left out, as each packet's documentation says. On an error `out` is
/// as before.
///
/// # Panics
/// As [`encode_publish`](crate::encode_publish) does.
pub fn encode(packet: &Packet, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    write_packet(packet, version, out).inspect_err(|_| out.truncate(start))
}

fn write_packet(packet: &Packet, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => connect.write(out)?,
        Packet::ConnAck(connack) => connack.write(version, out)?,
        Packet::Publish(publish) => publish.write(version, out),
        Packet::PubAck(ack) => ack.write(version, AckKind::PubAck, out),
        Packet::PubRec(ack) => ack.write(version, AckKind::PubRec, out),
        Packet::PubRel(ack) => ack.write(version, AckKind::PubRel, out),
        Packet::PubComp(ack) => ack.write(version, AckKind::PubComp, out),
        Packet::Subscribe(subscribe) => subscribe.write(version, out)?,
        Packet::SubAck(suback) => suback.write(version, out)?,
        Packet::Unsubscribe(unsubscribe) => unsubscribe.write(version, out)?,
        Packet::UnsubAck(unsuback) => unsuback.write(version, out)?,
        Packet::PingReq => out.extend_from_slice(&[0xC0, 0]),
        Packet::PingResp => out.extend_from_slice(&[0xD0, 0]),
        Packet::Disconnect(disconnect) => disconnect.write(version, out)?,
        Packet::Auth(auth) => auth.write(version, out)?,
    }
    Ok(())
}
