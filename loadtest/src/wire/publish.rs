//! PUBLISH with whatever topic and payload, out and in.

use super::encode::{framed, text};
use super::scan::{Packet, packet_id, varint};
use super::{DUP, Version, kind};

/// A PUBLISH to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publish<'a> {
    /// Version of the connection.
    pub(crate) version: Version,
    /// 0, 1 or 2.
    pub(crate) qos: u8,
    /// Sent before, in this session.
    pub(crate) dup: bool,
    /// Topic name.
    pub(crate) topic: &'a str,
    /// Packet id; not used at `QoS` 0.
    pub(crate) id: u16,
    /// Payload bytes.
    pub(crate) payload_len: usize,
}

impl Publish<'_> {
    /// Appends the packet. `fill` writes the payload, which is all zeros before.
    #[inline]
    pub(crate) fn append(&self, out: &mut Vec<u8>, fill: impl FnOnce(&mut [u8])) {
        let id_len = if self.qos > 0 { 2 } else { 0 };
        let properties_len = usize::from(self.version == Version::V5);
        let body_len = 2 + self.topic.len() + id_len + properties_len + self.payload_len;
        let dup = if self.dup { DUP } else { 0 };
        framed(out, kind::PUBLISH | dup | (self.qos << 1), body_len);
        text(out, self.topic);
        if self.qos > 0 {
            out.extend_from_slice(&self.id.to_be_bytes());
        }
        if self.version == Version::V5 {
            out.push(0);
        }
        let start = out.len();
        out.resize(start + self.payload_len, 0);
        fill(&mut out[start..]);
    }
}

/// A received PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published<'a> {
    /// 0, 1 or 2.
    pub(crate) qos: u8,
    /// The sender says that it may have sent it before.
    pub(crate) dup: bool,
    /// Packet id; 0 at `QoS` 0.
    pub(crate) id: u16,
    /// Topic name as it stands, not checked for being UTF-8.
    pub(crate) topic: &'a [u8],
    /// Payload.
    pub(crate) payload: &'a [u8],
}

/// Reads a PUBLISH. An error: no broker may send this.
#[inline]
pub(crate) fn published<'a>(
    packet: &Packet<'a>,
    version: Version,
) -> Result<Published<'a>, &'static str> {
    const SHORT: &str = "PUBLISH shorter than its fields";
    let qos = (packet.first >> 1) & 0b11;
    let topic_len = usize::from(packet_id(packet.body).ok_or(SHORT)?);
    let (topic, mut rest) = packet.body[2..].split_at_checked(topic_len).ok_or(SHORT)?;
    if qos == 3 {
        return Err("PUBLISH at QoS 3");
    }
    if topic.is_empty() {
        // In version 5 that is a topic alias, which nobody was allowed to use here.
        return Err("PUBLISH without a topic");
    }
    let mut id = 0;
    if qos > 0 {
        id = packet_id(rest).ok_or(SHORT)?;
        rest = &rest[2..];
        if id == 0 {
            return Err("PUBLISH with packet id 0");
        }
    }
    if version == Version::V5 {
        let (properties, digits) = varint(rest)?.ok_or(SHORT)?;
        rest = rest.get(properties + digits..).ok_or(SHORT)?;
    }
    Ok(Published {
        qos,
        dup: packet.first & DUP != 0,
        id,
        topic,
        payload: rest,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Scan, scan};
    use super::*;
    use bytes::BytesMut;
    use mqttbytes::{v4, v5};

    fn packet(version: Version, qos: u8, dup: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let publish = Publish {
            version,
            qos,
            dup,
            topic: "d/7/up",
            id: 300,
            payload_len: 200,
        };
        publish.append(&mut out, |payload| payload[..3].copy_from_slice(b"abc"));
        out
    }

    #[test]
    fn another_codec_reads_what_is_written() {
        for (qos, dup) in [(0, false), (1, false), (1, true), (2, true)] {
            let mut bytes = BytesMut::from(&packet(Version::V4, qos, dup)[..]);
            let Ok(v4::Packet::Publish(read)) = v4::read(&mut bytes, 1 << 20) else {
                panic!("a PUBLISH")
            };
            assert_eq!(
                (read.qos as u8, read.dup, read.topic.as_str()),
                (qos, dup, "d/7/up")
            );
            assert_eq!((read.payload.len(), &read.payload[..3]), (200, &b"abc"[..]));
            assert_eq!(read.pkid, if qos > 0 { 300 } else { 0 });
            let mut bytes = BytesMut::from(&packet(Version::V5, qos, dup)[..]);
            let Ok(v5::Packet::Publish(read)) = v5::read(&mut bytes, 1 << 20) else {
                panic!("a PUBLISH")
            };
            assert_eq!(
                (read.qos as u8, read.dup, read.payload.len()),
                (qos, dup, 200)
            );
        }
    }

    #[test]
    fn it_is_read_back_and_cut_anywhere_it_is_an_error() {
        for (version, qos) in [(Version::V4, 0), (Version::V4, 2), (Version::V5, 1)] {
            let bytes = packet(version, qos, qos == 2);
            let Scan::Packet(whole) = scan(&bytes) else {
                panic!("whole")
            };
            let read = published(&whole, version).expect("well-formed");
            assert_eq!(
                (read.qos, read.dup, read.topic),
                (qos, qos == 2, &b"d/7/up"[..])
            );
            assert_eq!(
                (read.id, read.payload.len()),
                (if qos > 0 { 300 } else { 0 }, 200)
            );
            for cut in 0..whole.body.len() - 200 {
                let body = &whole.body[..cut];
                let packet = Packet {
                    first: whole.first,
                    body,
                    len: cut + 2,
                };
                assert!(published(&packet, version).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_a_broker_must_not_send_is_named() {
        let read = |first, body: &[u8]| {
            let packet = Packet {
                first,
                body,
                len: body.len() + 2,
            };
            published(&packet, Version::V4).expect_err("wrong")
        };
        assert_eq!(read(0x36, &[0, 1, b'a', 0, 1]), "PUBLISH at QoS 3");
        assert_eq!(read(0x32, &[0, 1, b'a', 0, 0]), "PUBLISH with packet id 0");
        assert_eq!(read(0x30, &[0, 0]), "PUBLISH without a topic");
    }
}
