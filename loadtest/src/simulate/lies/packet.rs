//! Packets of both versions on an independent codec, as the server sees them: what tells the versions apart ends here.

use bytes::{Bytes, BytesMut};
use mqttbytes::Error as Malformed;
use mqttbytes::{v4, v5};

use crate::wire::Version;

/// What a client says.
#[derive(Debug)]
pub(super) enum Packet {
    Connect(Connect),
    Subscribe {
        id: u16,
        /// Each with the `QoS` asked for.
        filters: Vec<(String, u8)>,
    },
    Publish {
        id: u16,
        message: Message,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: first byte without flags, packet id.
    Flow(u8, u16),
    PingReq,
    Disconnect {
        /// The session is to end with the connection, whatever CONNECT has said.
        ends_session: bool,
    },
}

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) client_id: String,
    /// An older session is to be forgotten.
    pub(super) clean: bool,
    pub(super) ends_with_connection: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: u8,
}

/// Which version a stream speaks that begins with `bytes`; `None` where more of them are needed.
pub(super) fn version(bytes: &[u8]) -> Option<Version> {
    let length_end = bytes.iter().skip(1).position(|byte| byte & 0x80 == 0)? + 2;
    match bytes.get(length_end + 6)? {
        4 => Some(Version::V4),
        5 => Some(Version::V5),
        level => panic!("the load simulator speaks version {level}"),
    }
}

/// Takes the packet at the front.
pub(super) fn read(bytes: &mut BytesMut, version: Version) -> Result<Packet, Malformed> {
    const LONGEST: usize = 1 << 20;
    match version {
        Version::V4 => v4::read(bytes, LONGEST).map(of_v4),
        Version::V5 => v5::read(bytes, LONGEST).map(of_v5),
    }
}

fn of_v4(packet: v4::Packet) -> Packet {
    match packet {
        v4::Packet::Connect(connect) => Packet::Connect(Connect {
            client_id: connect.client_id,
            clean: connect.clean_session,
            ends_with_connection: connect.clean_session,
        }),
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: {
                let filters = subscribe.filters.into_iter();
                filters.map(|one| (one.path, one.qos as u8)).collect()
            },
        },
        v4::Packet::Publish(publish) => Packet::Publish {
            id: publish.pkid,
            message: Message {
                topic: publish.topic,
                payload: publish.payload,
                qos: publish.qos as u8,
            },
        },
        v4::Packet::PubAck(ack) => Packet::Flow(0x40, ack.pkid),
        v4::Packet::PubRec(ack) => Packet::Flow(0x50, ack.pkid),
        v4::Packet::PubRel(ack) => Packet::Flow(0x60, ack.pkid),
        v4::Packet::PubComp(ack) => Packet::Flow(0x70, ack.pkid),
        v4::Packet::PingReq => Packet::PingReq,
        v4::Packet::Disconnect => Packet::Disconnect {
            ends_session: false,
        },
        other => panic!("the load simulator sent {other:?}"),
    }
}

fn of_v5(packet: v5::Packet) -> Packet {
    match packet {
        v5::Packet::Connect(connect) => {
            let properties = connect.properties.as_ref();
            let expiry = properties.and_then(|given| given.session_expiry_interval);
            Packet::Connect(Connect {
                client_id: connect.client_id,
                clean: connect.clean_session,
                ends_with_connection: expiry.unwrap_or(0) == 0,
            })
        }
        v5::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: {
                let filters = subscribe.filters.into_iter();
                filters.map(|one| (one.path, one.qos as u8)).collect()
            },
        },
        v5::Packet::Publish(publish) => Packet::Publish {
            id: publish.pkid,
            message: Message {
                topic: publish.topic,
                payload: publish.payload,
                qos: publish.qos as u8,
            },
        },
        v5::Packet::PubAck(ack) => Packet::Flow(0x40, ack.pkid),
        v5::Packet::PubRec(ack) => Packet::Flow(0x50, ack.pkid),
        v5::Packet::PubRel(ack) => Packet::Flow(0x60, ack.pkid),
        v5::Packet::PubComp(ack) => Packet::Flow(0x70, ack.pkid),
        v5::Packet::PingReq => Packet::PingReq,
        v5::Packet::Disconnect(disconnect) => Packet::Disconnect {
            ends_session: disconnect
                .properties
                .is_some_and(|given| given.session_expiry_interval == Some(0)),
        },
        other => panic!("the load simulator sent {other:?}"),
    }
}

/// CONNACK with success.
pub(super) fn connack(version: Version, present: bool) -> Vec<u8> {
    let body = [&[u8::from(present), 0], no_properties(version)].concat();
    whole(0x20, &body)
}

pub(super) fn suback(version: Version, id: u16, granted: &[u8]) -> Vec<u8> {
    let body = [&id.to_be_bytes(), no_properties(version), granted].concat();
    whole(0x90, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with success.
pub(super) fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

pub(super) fn publish(version: Version, message: &Message, id: u16, dup: bool) -> Vec<u8> {
    let topic_len = (message.topic.len() as u16).to_be_bytes();
    let mut body = [&topic_len, message.topic.as_bytes()].concat();
    if message.qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(no_properties(version));
    body.extend_from_slice(&message.payload);
    whole(0x30 | (u8::from(dup) << 3) | (message.qos << 1), &body)
}

fn no_properties(version: Version) -> &'static [u8] {
    match version {
        Version::V4 => &[],
        Version::V5 => &[0],
    }
}

fn whole(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = match body.len() {
        short @ 0..128 => vec![first, short as u8],
        long => vec![
            first,
            (long % 128) as u8 | 0x80,
            u8::try_from(long / 128).expect("short payloads"),
        ],
    };
    packet.extend_from_slice(body);
    packet
}
