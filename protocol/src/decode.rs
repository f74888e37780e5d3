//! From bytes to packets: the fixed header (MQTT 5 section 2.1), then the packet's own file.

use bytes::Bytes;

use crate::packet::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, UnsubAck,
    Unsubscribe,
};
use crate::read::{Reader, varint};
use crate::{Version, Violation};

/// What [`decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A packet.
    Packet {
        /// The packet; a PUBLISH keeps the chunk alive.
        packet: Packet,
        /// Its length in bytes: the next one begins that much later.
        len: usize,
    },
    /// The packet goes on beyond the chunk, and nothing is wrong with it so far.
    Incomplete {
        /// The length of the whole packet in bytes, where its fixed header is complete.
        need: Option<usize>,
    },
}

/// Decodes the packet that begins at `at`, from either direction of a connection of `version`.
/// CONNECT says its own version. Whether the peer may send such a packet now is for the session to
/// judge.
///
/// A packet of more than `max_packet` bytes is a violation as soon as its fixed header is there.
/// The violations of a packet's fields are found once it is complete.
pub fn decode(
    chunk: &Bytes,
    at: usize,
    version: Version,
    max_packet: usize,
) -> Result<Decoded, Violation> {
    let bytes = chunk.get(at..).unwrap_or_default();
    let Some((&first, after)) = bytes.split_first() else {
        return Ok(Decoded::Incomplete { need: None });
    };
    check_first_byte(first, version)?;
    let Some((remaining, length_len)) = varint(after)? else {
        return Ok(Decoded::Incomplete { need: None });
    };
    let body_at = 1 + length_len;
    let len = body_at + remaining as usize;
    if len > max_packet {
        return Err(Violation::PacketTooLarge);
    }
    if bytes.len() < len {
        return Ok(Decoded::Incomplete { need: Some(len) });
    }
    let mut reader = Reader::new(&chunk[..at + len], at + body_at);
    let packet = read_packet(chunk, &mut reader, first, version)?;
    Ok(Decoded::Packet { packet, len })
}

/// Decodes the first packet of a connection, which must be CONNECT (MQTT-3.1.0-1).
pub fn decode_first(chunk: &Bytes, at: usize, max_packet: usize) -> Result<Decoded, Violation> {
    match chunk.get(at) {
        Some(first) if first >> 4 != 1 => Err(Violation::ConnectExpected),
        // CONNECT is read the same in every version.
        _ => decode(chunk, at, Version::V5, max_packet),
    }
}

/// Packet type and flags (sections 2.1.2 and 2.1.3).
fn check_first_byte(first: u8, version: Version) -> Result<(), Violation> {
    let flags = first & 0x0F;
    let demanded = match first >> 4 {
        3 => return Ok(()),
        0 => return Err(Violation::ReservedPacketType),
        15 if !version.has_properties() => return Err(Violation::ReservedPacketType),
        6 | 8 | 10 => 0b0010,
        _ => 0,
    };
    // MQTT 3.1 sets DUP when it repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE (its section 2.1).
    let may_be_dup = version == Version::V31 && demanded != 0;
    let ignored = if may_be_dup { 0b1000 } else { 0 };
    if flags & !ignored == demanded {
        Ok(())
    } else {
        Err(Violation::ReservedFlags)
    }
}

fn read_packet(
    chunk: &Bytes,
    reader: &mut Reader<'_>,
    first: u8,
    version: Version,
) -> Result<Packet, Violation> {
    Ok(match first >> 4 {
        3 => Packet::Publish(Publish::read(chunk, reader, first, version)?),
        4 => Packet::PubAck(Ack::read(reader, version, AckKind::PubAck)?),
        5 => Packet::PubRec(Ack::read(reader, version, AckKind::PubRec)?),
        6 => Packet::PubRel(Ack::read(reader, version, AckKind::PubRel)?),
        7 => Packet::PubComp(Ack::read(reader, version, AckKind::PubComp)?),
        1 => Packet::Connect(Box::new(Connect::read(reader)?)),
        2 => Packet::ConnAck(Box::new(ConnAck::read(reader, version)?)),
        8 => Packet::Subscribe(Subscribe::read(reader, version)?),
        9 => Packet::SubAck(SubAck::read(reader, version)?),
        10 => Packet::Unsubscribe(Unsubscribe::read(reader, version)?),
        11 => Packet::UnsubAck(UnsubAck::read(reader, version)?),
        12 => reader.finish().map(|()| Packet::PingReq)?,
        13 => reader.finish().map(|()| Packet::PingResp)?,
        14 => Packet::Disconnect(Disconnect::read(reader, version)?),
        15 => Packet::Auth(Box::new(Auth::read(reader)?)),
        _ => return Err(Violation::ReservedPacketType),
    })
}
