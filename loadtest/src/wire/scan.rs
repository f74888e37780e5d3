//! Packets a device receives: framing, and the few fields a device under load looks at.

use super::{Stamp, Version};
use crate::limits::{PACKET_BYTES_MAX, STAMP_BYTES};

/// One look at the front of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan<'a> {
    /// A whole packet.
    Packet(Packet<'a>),
    /// More bytes are needed.
    Incomplete,
    /// The broker broke the framing.
    Malformed(&'static str),
}

/// A whole packet, its body not yet looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    /// First byte: type and flags.
    pub(crate) first: u8,
    /// Everything behind the fixed header.
    pub(crate) body: &'a [u8],
    /// Bytes of the packet with its fixed header.
    pub(crate) len: usize,
}

/// Finds the packet at the front of `bytes`.
#[inline]
pub(crate) fn scan(bytes: &[u8]) -> Scan<'_> {
    let [first, length @ ..] = bytes else {
        return Scan::Incomplete;
    };
    let (body_len, digits) = match length {
        [one, ..] if *one < 0x80 => (usize::from(*one), 1),
        _ => match varint(length) {
            Ok(Some(found)) => found,
            Ok(None) => return Scan::Incomplete,
            Err(wrong) => return Scan::Malformed(wrong),
        },
    };
    if body_len > PACKET_BYTES_MAX {
        return Scan::Malformed("packet longer than anything asked for");
    }
    let start = 1 + digits;
    match bytes.get(start..start + body_len) {
        Some(body) => Scan::Packet(Packet {
            first: *first,
            body,
            len: start + body_len,
        }),
        None => Scan::Incomplete,
    }
}

/// A received PUBLISH: its packet id (0 at `QoS` 0) and the stamp of its payload.
#[inline]
pub(crate) fn delivery(
    packet: &Packet<'_>,
    version: Version,
) -> Result<(u16, Stamp), &'static str> {
    const SHORT: &str = "PUBLISH shorter than its fields";
    let body = packet.body;
    let [high, low, ..] = body else {
        return Err(SHORT);
    };
    let mut at = 2 + usize::from(u16::from_be_bytes([*high, *low]));
    let mut id = 0;
    if packet.first & 0b110 != 0 {
        id = packet_id(body.get(at..).ok_or(SHORT)?).ok_or(SHORT)?;
        at += 2;
    }
    if version == Version::V5 {
        let (properties, digits) = varint(body.get(at..).ok_or(SHORT)?)?.ok_or(SHORT)?;
        at += properties + digits;
    }
    let stamp = body.get(at..).and_then(<[u8]>::first_chunk::<STAMP_BYTES>);
    Ok((
        id,
        Stamp::read(stamp.ok_or("payload shorter than the stamp it was sent with")?),
    ))
}

/// The packet id at the front of a body.
#[inline]
pub(crate) fn packet_id(body: &[u8]) -> Option<u16> {
    let [high, low, ..] = body else { return None };
    Some(u16::from_be_bytes([*high, *low]))
}

/// The reason code of PUBACK, PUBREC, PUBREL and PUBCOMP; success where there is none.
#[inline]
pub(crate) fn reason(body: &[u8]) -> u8 {
    body.get(2).copied().unwrap_or(0)
}

/// What CONNACK says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Connack {
    /// Return code (3.1.1) or reason code (5); 0 is success.
    pub(crate) code: u8,
    /// The broker has a session of this client.
    pub(crate) session_present: bool,
    /// Receive Maximum of the broker; 65,535 unless it says less.
    pub(crate) receive_max: u16,
    /// Server Keep Alive, s: to be used instead of what was asked for.
    pub(crate) server_keep_alive_s: Option<u16>,
    /// Session Expiry Interval, s: to be used instead of what was asked for.
    pub(crate) session_expiry_s: Option<u32>,
}

/// Reads a CONNACK's body.
pub(crate) fn connack(body: &[u8], version: Version) -> Result<Connack, &'static str> {
    let [flags, code, properties @ ..] = body else {
        return Err("CONNACK shorter than its fields");
    };
    let mut found = Connack {
        code: *code,
        session_present: flags & 1 != 0,
        receive_max: u16::MAX,
        server_keep_alive_s: None,
        session_expiry_s: None,
    };
    if version == Version::V5 {
        let (len, digits) = varint(properties)?.ok_or("CONNACK without properties")?;
        let properties = properties
            .get(digits..digits + len)
            .ok_or("CONNACK properties cut")?;
        walk(properties, &mut found)?;
    }
    Ok(found)
}

/// The codes of a SUBACK to a SUBSCRIBE with `filters` filters: granted `QoS`, or 0x80 and up.
pub(crate) fn suback(body: &[u8], filters: usize) -> Option<&[u8]> {
    // Packet id, in v5 properties, and the codes at the end.
    let codes = body
        .len()
        .checked_sub(filters)
        .filter(|start| *start >= 2)?;
    Some(&body[codes..])
}

/// Walks CONNACK's properties (MQTT 5, 3.2.2.3).
fn walk(mut properties: &[u8], found: &mut Connack) -> Result<(), &'static str> {
    const CUT: &str = "CONNACK property cut";
    while let [id, value @ ..] = properties {
        let text = |v: &[u8]| packet_id(v).map(|len| 2 + usize::from(len));
        let len = match id {
            0x21 => {
                found.receive_max = packet_id(value).ok_or(CUT)?;
                2
            }
            0x13 => {
                found.server_keep_alive_s = Some(packet_id(value).ok_or(CUT)?);
                2
            }
            0x11 => {
                let seconds = value.first_chunk().ok_or(CUT)?;
                found.session_expiry_s = Some(u32::from_be_bytes(*seconds));
                4
            }
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x22 => 2,
            0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => text(value).ok_or(CUT)?,
            0x26 => {
                let name = text(value).ok_or(CUT)?;
                name + text(value.get(name..).ok_or(CUT)?).ok_or(CUT)?
            }
            _ => return Err("CONNACK property that CONNACK does not have"),
        };
        properties = value.get(len..).ok_or(CUT)?;
    }
    Ok(())
}

/// A variable byte integer (MQTT 5, 1.5.5) and its length; `None` where bytes are missing.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let mut value = 0;
    for (digit, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * digit);
        if byte & 0x80 == 0 {
            return Ok(Some((value, digit + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err("length of more than four bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Template, ack, kind};
    use super::*;

    fn packets(bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
        let (mut found, mut at) = (Vec::new(), 0);
        loop {
            match scan(&bytes[at..]) {
                Scan::Packet(packet) => {
                    at += packet.len;
                    found.push((packet.first, packet.body.to_vec()));
                }
                Scan::Incomplete => return (found, at),
                Scan::Malformed(wrong) => panic!("{wrong}"),
            }
        }
    }

    #[test]
    fn every_split_point_gives_the_same_packets() {
        let mut bytes = vec![kind::CONNACK, 2, 0, 0];
        ack(&mut bytes, kind::PUBACK, 7);
        Template::new(Version::V4, 1, "load/x/1", 3, 40).append(&mut bytes, 9, 10, 11);
        bytes.extend_from_slice(&[kind::PINGRESP, 0]);
        Template::new(Version::V4, 0, "load/x/1", 3, 300).append(&mut bytes, 0, 12, 13);
        ack(&mut bytes, kind::PUBCOMP, 65_535);
        let (whole, used) = packets(&bytes);
        assert_eq!((whole.len(), used), (6, bytes.len()));
        for split in 0..=bytes.len() {
            let (mut found, used) = packets(&bytes[..split]);
            let mut rest = bytes[used..split].to_vec();
            rest.extend_from_slice(&bytes[split..]);
            found.extend(packets(&rest).0);
            assert_eq!(found, whole, "split at {split}");
        }
    }

    #[test]
    fn a_delivery_is_read_in_both_versions() {
        for (version, qos) in [
            (Version::V4, 0),
            (Version::V4, 1),
            (Version::V5, 0),
            (Version::V5, 2),
        ] {
            let mut bytes = Vec::new();
            Template::new(version, qos, "a/b", 5, 64).append(&mut bytes, 77, 8, 9);
            let Scan::Packet(packet) = scan(&bytes) else {
                panic!("whole")
            };
            let (id, stamp) = delivery(&packet, version).expect("well-formed");
            assert_eq!(id, if qos > 0 { 77 } else { 0 });
            assert_eq!(
                stamp,
                Stamp {
                    sender: 5,
                    seq: 8,
                    time_ns: 9
                }
            );
        }
    }

    #[test]
    fn a_delivery_cut_anywhere_is_an_error() {
        let mut bytes = Vec::new();
        Template::new(Version::V5, 1, "a/b", 5, 20).append(&mut bytes, 77, 8, 9);
        let Scan::Packet(whole) = scan(&bytes) else {
            panic!("whole")
        };
        for cut in 0..whole.body.len() {
            let packet = Packet {
                first: whole.first,
                body: &whole.body[..cut],
                len: cut + 2,
            };
            assert!(delivery(&packet, Version::V5).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn framing_errors_are_told_from_missing_bytes() {
        assert_eq!(scan(&[]), Scan::Incomplete);
        assert_eq!(scan(&[0x30]), Scan::Incomplete);
        assert_eq!(scan(&[0x30, 0x80, 0x80, 0x80]), Scan::Incomplete);
        assert!(matches!(
            scan(&[0x30, 0x80, 0x80, 0x80, 0x80]),
            Scan::Malformed(_)
        ));
        assert!(matches!(
            scan(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
            Scan::Malformed(_)
        ));
    }

    #[test]
    fn connack_is_read_in_both_versions() {
        let refused = Connack {
            code: 5,
            session_present: false,
            receive_max: u16::MAX,
            server_keep_alive_s: None,
            session_expiry_s: None,
        };
        assert_eq!(connack(&[0, 5], Version::V4), Ok(refused));
        let user_property = [0x26, 0, 1, b'k', 0, 1, b'v'];
        let mut body = vec![1, 0, 22, 0x24, 1, 0x11, 0, 0, 2, 3];
        body.extend_from_slice(&user_property);
        body.extend_from_slice(&[0x21, 0, 20, 0x13, 1, 4, 0x29, 1]);
        assert_eq!(
            connack(&body, Version::V5),
            Ok(Connack {
                code: 0,
                session_present: true,
                receive_max: 20,
                server_keep_alive_s: Some(260),
                session_expiry_s: Some(515),
            })
        );
        for cut in 1..body.len() {
            assert!(connack(&body[..cut], Version::V5).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn suback_is_read_in_both_versions() {
        assert_eq!(suback(&[0, 1, 2], 1), Some(&[2][..]));
        assert_eq!(suback(&[0, 1, 0, 0x87], 1), Some(&[0x87][..]));
        assert_eq!(suback(&[0, 1, 0, 2, 1], 2), Some(&[2, 1][..]));
        assert_eq!(suback(&[0, 1], 1), None);
        assert_eq!(suback(&[0, 1, 0], 2), None);
    }
}
