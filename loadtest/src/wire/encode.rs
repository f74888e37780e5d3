//! Packets a device sends.

use super::{Stamp, Version, kind};
use crate::limits::STAMP_BYTES;

/// A PUBLISH laid out once; sending it copies the bytes and patches packet id and stamp.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Box<[u8]>,
    packet_id_at: Option<usize>,
    stamp_at: usize,
}

impl Template {
    /// A PUBLISH to `topic` at `qos` with `size` bytes of payload (at least the stamp).
    pub(crate) fn new(version: Version, qos: u8, topic: &str, sender: u32, size: usize) -> Self {
        let mut body = Vec::with_capacity(size + topic.len() + 8);
        text(&mut body, topic);
        let mut packet_id_at = None;
        if qos > 0 {
            packet_id_at = Some(body.len());
            body.extend_from_slice(&[0, 0]);
        }
        if version == Version::V5 {
            body.push(0);
        }
        let mut stamp_at = body.len();
        body.extend_from_slice(&sender.to_be_bytes());
        body.resize(stamp_at + size.max(STAMP_BYTES), b'.');
        let mut bytes = Vec::with_capacity(body.len() + 5);
        whole(&mut bytes, kind::PUBLISH | (qos << 1), &body);
        let header = bytes.len() - body.len();
        stamp_at += header;
        packet_id_at = packet_id_at.map(|at| at + header);
        Self {
            bytes: bytes.into_boxed_slice(),
            packet_id_at,
            stamp_at,
        }
    }

    /// Appends one message to `out`. The sender is part of the template.
    #[inline]
    pub(crate) fn append(&self, out: &mut Vec<u8>, packet_id: u16, seq: u64, time_ns: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        if let Some(at) = self.packet_id_at {
            packet[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        let at = self.stamp_at + 4;
        packet[at..at + 8].copy_from_slice(&seq.to_be_bytes());
        packet[at + 8..at + 16].copy_from_slice(&time_ns.to_be_bytes());
    }
}

impl Stamp {
    /// Reads the stamp at the start of `payload`, which holds at least [`STAMP_BYTES`].
    #[inline]
    pub(super) fn read(payload: &[u8; STAMP_BYTES]) -> Self {
        let [s0, s1, s2, s3, rest @ ..] = payload;
        let (seq, time) = rest.split_at(8);
        Self {
            sender: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
            seq: u64::from_be_bytes(seq.try_into().expect("split at 8 of 16 bytes")),
            time_ns: u64::from_be_bytes(time.try_into().expect("split at 8 of 16 bytes")),
        }
    }
}

/// How long the broker is to keep a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As long as its connection; it begins anew.
    No,
    /// This many seconds beyond it (3.1.1 has no way to say how many); an older one goes on.
    Seconds(u32),
}

/// What a broker is to publish when a connection ends without DISCONNECT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Testament<'a> {
    /// Topic name.
    pub(crate) topic: &'a str,
    /// 0, 1 or 2.
    pub(crate) qos: u8,
    /// Kept as the topic's retained message.
    pub(crate) retain: bool,
    /// Will Delay Interval, s (version 5 only).
    pub(crate) delay_s: u32,
    /// Payload.
    pub(crate) payload: &'a str,
}

/// CONNECT without credentials and without a will.
pub(crate) fn connect(
    out: &mut Vec<u8>,
    version: Version,
    client_id: &str,
    keep_alive_s: u16,
    keep: Keep,
) {
    connect_with_will(out, version, client_id, keep_alive_s, keep, None);
}

/// CONNECT without credentials.
pub(crate) fn connect_with_will(
    out: &mut Vec<u8>,
    version: Version,
    client_id: &str,
    keep_alive_s: u16,
    keep: Keep,
    will: Option<Testament<'_>>,
) {
    let mut body = Vec::with_capacity(16 + client_id.len());
    text(&mut body, "MQTT");
    body.push(match version {
        Version::V4 => 4,
        Version::V5 => 5,
    });
    let clean = if keep == Keep::No { 0b10 } else { 0 };
    let willed = will.map_or(0, |will| {
        0b100 | (will.qos << 3) | (u8::from(will.retain) << 5)
    });
    body.push(clean | willed);
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    match (version, keep) {
        (Version::V4, _) => {}
        (Version::V5, Keep::No) => body.push(0),
        (Version::V5, Keep::Seconds(seconds)) => expiry(&mut body, seconds),
    }
    text(&mut body, client_id);
    if let Some(will) = will {
        match (version, will.delay_s) {
            (Version::V4, _) => {}
            (Version::V5, 0) => body.push(0),
            (Version::V5, delay_s) => {
                body.extend_from_slice(&[5, 0x18]);
                body.extend_from_slice(&delay_s.to_be_bytes());
            }
        }
        text(&mut body, will.topic);
        text(&mut body, will.payload);
    }
    whole(out, kind::CONNECT, &body);
}

/// SUBSCRIBE to `filters` with packet id 1.
pub(crate) fn subscribe<F: AsRef<str>>(
    out: &mut Vec<u8>,
    version: Version,
    filters: impl IntoIterator<Item = F>,
    qos: u8,
) {
    let filters = filters.into_iter().map(|filter| (filter, qos));
    subscribe_each(out, version, filters);
}

/// SUBSCRIBE to filters, each at its `QoS`, with packet id 1.
pub(crate) fn subscribe_each<F: AsRef<str>>(
    out: &mut Vec<u8>,
    version: Version,
    filters: impl IntoIterator<Item = (F, u8)>,
) {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    for (filter, qos) in filters {
        text(&mut body, filter.as_ref());
        body.push(qos);
    }
    whole(out, kind::SUBSCRIBE | 0b10, &body);
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP meaning success; `first` is the packet's first byte.
#[inline]
pub(crate) fn ack(out: &mut Vec<u8>, first: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// PINGREQ.
pub(crate) fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind::PINGREQ, 0]);
}

/// DISCONNECT, normal.
pub(crate) fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind::DISCONNECT, 0]);
}

/// DISCONNECT that also ends the session (MQTT 5, 3.14.2.2.2; in 3.1.1 it stays).
pub(crate) fn end_session(out: &mut Vec<u8>, version: Version) {
    if version == Version::V4 {
        return disconnect(out);
    }
    let mut body = vec![0];
    expiry(&mut body, 0);
    whole(out, kind::DISCONNECT, &body);
}

/// Properties that are a Session Expiry Interval and nothing else.
fn expiry(out: &mut Vec<u8>, seconds: u32) {
    out.extend_from_slice(&[5, 0x11]);
    out.extend_from_slice(&seconds.to_be_bytes());
}

pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    let length = u16::try_from(value.len()).expect("names made here are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// A packet with its body.
fn whole(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    framed(out, first, body.len());
    out.extend_from_slice(body);
}

/// Fixed header of a packet whose body has so many bytes.
pub(super) fn framed(out: &mut Vec<u8>, first: u8, body_len: usize) {
    out.push(first);
    let mut rest = body_len;
    loop {
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        out.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use mqttbytes::{QoS, v4, v5};

    fn v4_read(bytes: &[u8]) -> v4::Packet {
        v4::read(&mut BytesMut::from(bytes), 1 << 21).expect("an independent codec reads it")
    }

    fn v5_read(bytes: &[u8]) -> v5::Packet {
        v5::read(&mut BytesMut::from(bytes), 1 << 21).expect("an independent codec reads it")
    }

    #[test]
    fn connect_says_what_is_meant() {
        let mut out = Vec::new();
        connect(&mut out, Version::V4, "load-1", 60, Keep::No);
        let v4::Packet::Connect(packet) = v4_read(&out) else {
            panic!("a CONNECT")
        };
        assert_eq!(
            (packet.client_id.as_str(), packet.keep_alive),
            ("load-1", 60)
        );
        assert!(packet.clean_session && packet.last_will.is_none() && packet.login.is_none());
        out.clear();
        connect(&mut out, Version::V5, "load-1", 61, Keep::No);
        let v5::Packet::Connect(packet) = v5_read(&out) else {
            panic!("a CONNECT")
        };
        assert_eq!(
            (packet.client_id.as_str(), packet.keep_alive),
            ("load-1", 61)
        );
        assert!(packet.clean_session);
    }

    #[test]
    fn a_session_is_kept_and_ended_as_asked() {
        let mut out = Vec::new();
        connect(&mut out, Version::V4, "load-1", 60, Keep::Seconds(90));
        let v4::Packet::Connect(packet) = v4_read(&out) else {
            panic!("a CONNECT")
        };
        assert!(!packet.clean_session);
        out.clear();
        connect(&mut out, Version::V5, "load-1", 60, Keep::Seconds(90));
        let v5::Packet::Connect(packet) = v5_read(&out) else {
            panic!("a CONNECT")
        };
        let expiry = packet.properties.expect("given").session_expiry_interval;
        assert_eq!((packet.clean_session, expiry), (false, Some(90)));
        out.clear();
        end_session(&mut out, Version::V5);
        let v5::Packet::Disconnect(packet) = v5_read(&out) else {
            panic!("a DISCONNECT")
        };
        let expiry = packet.properties.expect("given").session_expiry_interval;
        assert_eq!(expiry, Some(0));
        out.clear();
        end_session(&mut out, Version::V4);
        assert_eq!(v4_read(&out), v4::Packet::Disconnect);
    }

    #[test]
    fn a_will_says_what_is_meant() {
        let will = |delay_s| Testament {
            topic: "d/7/gone",
            qos: 1,
            retain: true,
            delay_s,
            payload: "bye",
        };
        let mut out = Vec::new();
        connect_with_will(&mut out, Version::V4, "d7", 60, Keep::No, Some(will(9)));
        let v4::Packet::Connect(packet) = v4_read(&out) else {
            panic!("a CONNECT")
        };
        let read = packet.last_will.expect("given");
        assert_eq!(
            (read.topic.as_str(), &read.message[..]),
            ("d/7/gone", &b"bye"[..])
        );
        assert_eq!((read.qos, read.retain), (QoS::AtLeastOnce, true));
        for delay_s in [0, 9] {
            out.clear();
            connect_with_will(
                &mut out,
                Version::V5,
                "d7",
                60,
                Keep::No,
                Some(will(delay_s)),
            );
            let v5::Packet::Connect(packet) = v5_read(&out) else {
                panic!("a CONNECT")
            };
            let read = packet.last_will.expect("given");
            assert_eq!(
                (read.topic.as_str(), &read.message[..]),
                ("d/7/gone", &b"bye"[..])
            );
            let delay = read.properties.and_then(|given| given.delay_interval);
            assert_eq!(delay.unwrap_or(0), delay_s);
        }
    }

    #[test]
    fn subscribe_says_what_is_meant() {
        let mut out = Vec::new();
        subscribe(&mut out, Version::V4, ["load/1/#"], 1);
        let v4::Packet::Subscribe(packet) = v4_read(&out) else {
            panic!("a SUBSCRIBE")
        };
        assert_eq!(packet.filters[0].path, "load/1/#");
        assert_eq!(packet.filters[0].qos, QoS::AtLeastOnce);
        out.clear();
        subscribe(&mut out, Version::V5, ["spare", "load/1/#"], 2);
        let v5::Packet::Subscribe(packet) = v5_read(&out) else {
            panic!("a SUBSCRIBE")
        };
        assert_eq!((packet.pkid, packet.filters.len()), (1, 2));
        assert_eq!(packet.filters[1].path, "load/1/#");
        assert_eq!(packet.filters[1].qos, QoS::ExactlyOnce);
    }

    #[test]
    fn publish_says_what_is_meant_at_every_length_of_the_header() {
        for (qos, size) in [(0_u8, 20), (1, 64), (2, 200), (1, 20_000), (1, 1 << 20)] {
            let template = Template::new(Version::V4, qos, "load/1/7", 7, size);
            let mut out = Vec::new();
            template.append(&mut out, 513, 9, 11);
            let v4::Packet::Publish(packet) = v4_read(&out) else {
                panic!("a PUBLISH")
            };
            assert_eq!(
                (packet.topic.as_str(), packet.payload.len()),
                ("load/1/7", size)
            );
            assert_eq!(packet.qos as u8, qos);
            assert_eq!(packet.pkid, if qos > 0 { 513 } else { 0 });
            let head = packet.payload[..STAMP_BYTES].try_into().expect("20 bytes");
            assert_eq!(
                Stamp::read(head),
                Stamp {
                    sender: 7,
                    seq: 9,
                    time_ns: 11
                }
            );
        }
    }

    #[test]
    fn answers_say_what_is_meant() {
        let mut out = Vec::new();
        ack(&mut out, kind::PUBACK, 258);
        assert_eq!(v4_read(&out), v4::Packet::PubAck(v4::PubAck::new(258)));
        out.clear();
        ack(&mut out, kind::PUBREL | 0b10, 258);
        assert_eq!(v4_read(&out), v4::Packet::PubRel(v4::PubRel::new(258)));
        out.clear();
        pingreq(&mut out);
        assert_eq!(v4_read(&out), v4::Packet::PingReq);
        out.clear();
        disconnect(&mut out);
        assert_eq!(v4_read(&out), v4::Packet::Disconnect);
    }
}
