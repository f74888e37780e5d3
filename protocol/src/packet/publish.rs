//! PUBLISH (MQTT 5 section 3.3).

use std::num::NonZeroU16;

use bytes::Bytes;

use crate::limits::{FIXED_HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, REMAINING_LENGTH_MAX};
use crate::message::{MessageProperties, PUBLISH};
use crate::property::id;
use crate::read::Reader;
use crate::text::check_topic;
use crate::write::{put_u16, put_varint, varint_len};
use crate::{Message, PacketId, QoS, Version, Violation};

const FIRST_BYTE: u8 = 0x30;
const DUP: u8 = 0b1000;

/// An application message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Whether this may be the repetition of an earlier attempt.
    pub dup: bool,
    /// The QoS of this transfer.
    pub qos: QoS,
    /// From a client: replace the retained message. From a server: this is the retained message.
    pub retain: bool,
    /// The packet id; there is one exactly at QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// The topic alias; without one the message's topic is not empty.
    pub topic_alias: Option<NonZeroU16>,
    /// Which of the receiver's subscriptions match. Only a server may send them (MQTT-3.3.4-6).
    pub subscription_ids: Vec<u32>,
    /// The message itself; see there for how long it may be kept.
    pub message: Message,
}

/// How one receiver gets a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishOptions<'a> {
    /// The QoS of this transfer.
    pub qos: QoS,
    /// The retain flag.
    pub retain: bool,
    /// Whether it may have been sent before; only with QoS 1 and 2.
    pub dup: bool,
    /// The packet id: there is one exactly at QoS 1 and 2. A [`PublishTemplate`] ignores it.
    pub packet_id: Option<PacketId>,
    /// Topic alias, and whether the topic is left out because the receiver knows the alias.
    /// Ignored before MQTT 5.
    pub topic_alias: Option<(NonZeroU16, bool)>,
    /// Identifiers of the receiver's subscriptions that match, each 1 to 268,435,455. Ignored
    /// before MQTT 5.
    pub subscription_ids: &'a [u32],
    /// What is left of the message expiry interval, in seconds: not taken from the message, which
    /// knows no clock. Ignored before MQTT 5.
    pub expiry_s: Option<u32>,
}

/// The length in bytes of the packet that [`encode_publish`] would write: what to compare with the
/// receiver's maximum packet size.
pub fn publish_len(version: Version, message: &Message, options: &PublishOptions<'_>) -> usize {
    let remaining = Layout::new(version, message, options).remaining;
    1 + varint_len(remaining) + remaining
}

/// Appends a PUBLISH.
///
/// # Panics
/// If packet id and QoS do not go together, or if the subscription identifiers alone take a
/// mebibyte, which no session's filters can.
pub fn encode_publish(
    out: &mut Vec<u8>,
    version: Version,
    message: &Message,
    options: &PublishOptions<'_>,
) {
    assert_eq!(
        options.qos.has_packet_id(),
        options.packet_id.is_some(),
        "QoS and packet id"
    );
    write(
        out,
        version,
        message,
        options,
        options.packet_id.map_or(0, PacketId::get),
    );
}

/// A PUBLISH encoded once, for many receivers of one version and the same options: each gets a copy
/// with its own packet id and DUP flag.
#[derive(Clone, Debug, Default)]
pub struct PublishTemplate {
    bytes: Vec<u8>,
    /// Where the packet id is; 0 where there is none.
    packet_id_at: usize,
}

impl PublishTemplate {
    /// Encodes the message; the packet id of `options` plays no part.
    pub fn new(
        version: Version,
        message: &Message,
        options: &PublishOptions<'_>,
    ) -> PublishTemplate {
        let mut template = PublishTemplate::default();
        template.fill(version, message, options);
        template
    }

    /// Encodes another message in the same allocation.
    pub fn fill(&mut self, version: Version, message: &Message, options: &PublishOptions<'_>) {
        self.bytes.clear();
        self.packet_id_at = write(&mut self.bytes, version, message, options, 0);
    }

    /// The length of the packet in bytes.
    pub fn packet_len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the packet for one receiver.
    ///
    /// # Panics
    /// If packet id and QoS do not go together.
    pub fn append_to(&self, out: &mut Vec<u8>, packet_id: Option<PacketId>, dup: bool) {
        assert_eq!(
            self.packet_id_at != 0,
            packet_id.is_some(),
            "QoS and packet id"
        );
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(id) = packet_id {
            let at = start + self.packet_id_at;
            out[at..at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
        if dup {
            out[start] |= DUP;
        }
    }
}

/// The lengths inside one PUBLISH, in bytes.
struct Layout {
    topic: usize,
    properties: usize,
    remaining: usize,
}

impl Layout {
    fn new(version: Version, message: &Message, options: &PublishOptions<'_>) -> Layout {
        let omit_topic = matches!(options.topic_alias, Some((_, true)));
        let has_properties = version.has_properties();
        let topic = if omit_topic && has_properties {
            0
        } else {
            message.topic_bytes().len()
        };
        let mut remaining = 2 + topic + message.payload().len();
        if options.qos.has_packet_id() {
            remaining += 2;
        }
        let mut properties = 0;
        if has_properties {
            properties = properties_len(message, options);
            remaining += varint_len(properties) + properties;
        }
        assert!(
            remaining <= REMAINING_LENGTH_MAX,
            "too many subscription identifiers"
        );
        Layout {
            topic,
            properties,
            remaining,
        }
    }
}

fn properties_len(message: &Message, options: &PublishOptions<'_>) -> usize {
    let alias = if options.topic_alias.is_some() { 3 } else { 0 };
    let expiry = if options.expiry_s.is_some() { 5 } else { 0 };
    let ids = options
        .subscription_ids
        .iter()
        .map(|&id| 1 + varint_len(id as usize));
    alias + expiry + ids.sum::<usize>() + message.properties().len()
}

/// Appends the packet and says how far from its start the packet id is; 0 without one.
fn write(
    out: &mut Vec<u8>,
    version: Version,
    message: &Message,
    options: &PublishOptions<'_>,
    packet_id: u16,
) -> usize {
    debug_assert!(options.qos.has_packet_id() || !options.dup);
    let layout = Layout::new(version, message, options);
    let start = out.len();
    out.reserve(FIXED_HEADER_BYTES_MAX + layout.remaining);
    let dup = if options.dup { DUP } else { 0 };
    out.push(FIRST_BYTE | dup | options.qos.as_u8() << 1 | u8::from(options.retain));
    put_varint(out, layout.remaining);
    put_u16(out, layout.topic as u16);
    out.extend_from_slice(&message.topic_bytes()[..layout.topic]);
    let mut packet_id_at = 0;
    if options.qos.has_packet_id() {
        packet_id_at = out.len() - start;
        put_u16(out, packet_id);
    }
    if version.has_properties() {
        put_varint(out, layout.properties);
        write_properties(out, message, options);
    }
    out.extend_from_slice(message.payload());
    packet_id_at
}

fn write_properties(out: &mut Vec<u8>, message: &Message, options: &PublishOptions<'_>) {
    if let Some((alias, _)) = options.topic_alias {
        out.push(id::TOPIC_ALIAS);
        put_u16(out, alias.get());
    }
    if let Some(seconds) = options.expiry_s {
        out.push(id::MESSAGE_EXPIRY);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for &subscription_id in options.subscription_ids {
        out.push(id::SUBSCRIPTION_ID);
        put_varint(out, subscription_id as usize);
    }
    out.extend_from_slice(message.properties());
}

impl Publish {
    /// Reads the packet from behind its fixed header. `reader` reads `chunk`, up to the packet's
    /// end: the message becomes a slice of it.
    #[inline]
    pub(crate) fn read(
        chunk: &Bytes,
        reader: &mut Reader<'_>,
        flags: u8,
        version: Version,
    ) -> Result<Publish, Violation> {
        let qos = QoS::from_u8(flags >> 1 & 0b11).ok_or(Violation::PublishQoSInvalid)?;
        let dup = flags & DUP != 0;
        if dup && !qos.has_packet_id() {
            return Err(Violation::DupWithQoS0);
        }
        let topic = reader.binary()?;
        let topic_at = reader.position() - topic.len();
        check_topic(topic)?;
        let packet_id = if qos.has_packet_id() {
            Some(reader.packet_id()?)
        } else {
            None
        };
        let properties_len = if version.has_properties() {
            reader.varint()? as usize
        } else {
            0
        };
        let section_at = reader.position();
        let section = reader.take(properties_len)?;
        // Most have none: the common way stays short.
        let properties = if section.is_empty() {
            MessageProperties::default()
        } else {
            MessageProperties::read(section, PUBLISH)?
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(Violation::TopicNameEmpty);
        }
        let payload_at = reader.position();
        let payload = reader.rest();
        if topic.len() + section.len() + payload.len() > MESSAGE_BYTES_MAX {
            return Err(Violation::PacketTooLarge);
        }
        let message = if let Some(kept) = properties.kept_in_place() {
            let buf = chunk.slice(topic_at..payload_at + payload.len());
            let offset = section_at - topic_at;
            let kept = kept.start + offset..kept.end + offset;
            let topic_len = topic.len() as u16;
            Message::in_place(
                buf,
                topic_len,
                kept,
                payload_at - topic_at,
                properties.expiry_s,
            )
        } else {
            let kept = MessageProperties::kept_copied(section, PUBLISH)?;
            Message::assemble(topic, &kept, payload, properties.expiry_s)
        };
        Ok(Publish {
            dup,
            qos,
            retain: flags & 1 != 0,
            packet_id,
            topic_alias: properties.topic_alias,
            subscription_ids: properties.subscription_ids,
            message,
        })
    }

    /// Appends the packet.
    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        let topic_is_empty = self.message.topic_bytes().is_empty();
        let options = PublishOptions {
            qos: self.qos,
            retain: self.retain,
            dup: self.dup,
            packet_id: self.packet_id,
            topic_alias: self.topic_alias.map(|alias| (alias, topic_is_empty)),
            subscription_ids: &self.subscription_ids,
            expiry_s: self.message.expiry_s(),
        };
        encode_publish(out, version, &self.message, &options);
    }
}
