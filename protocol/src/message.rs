//! The application message, as it travels everywhere after decoding.

mod properties;
mod stored;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

pub(crate) use properties::{MessageProperties, PUBLISH, WILL};
pub use stored::CorruptMessage;

use crate::limits::{FIELD_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::text::check_topic;
use crate::{TopicName, Violation};

/// An application message: topic, properties, payload and message expiry.
///
/// Everything lies in one [`Bytes`]: of a received PUBLISH it is the slice of the block it was read
/// into, nothing is copied. Such a slice keeps the whole block alive; what stays for longer than
/// the turn takes [`to_compact`](Message::to_compact). A clone counts a reference, no more.
///
/// The properties are those that travel with a message, as on the wire: payload format, content
/// type, response topic, correlation data and user properties (MQTT 5 section 3.3.2.3). Topic
/// alias, subscription identifiers and message expiry are never among them.
#[derive(Clone)]
pub struct Message {
    /// Topic first; properties and payload after it, perhaps with a packet id between.
    buf: Bytes,
    topic_len: u16,
    properties_at: u32,
    properties_len: u32,
    payload_at: u32,
    expiry_s: Option<u32>,
}

impl Message {
    /// A message with properties in wire form, without their length.
    ///
    /// Fails if `properties` are not valid ones of a message (see the type), or if the whole is
    /// larger than [`MESSAGE_BYTES_MAX`].
    pub fn new(topic: &TopicName, properties: &[u8], payload: &[u8]) -> Result<Message, Violation> {
        properties::check(properties)?;
        if topic.len() + properties.len() + payload.len() > MESSAGE_BYTES_MAX {
            return Err(Violation::PacketTooLarge);
        }
        Ok(Message::assemble(
            topic.as_bytes(),
            properties,
            payload,
            None,
        ))
    }

    /// The same message with a message expiry interval in seconds (section 3.3.2.3.3).
    #[must_use]
    pub fn with_expiry_s(mut self, expiry_s: Option<u32>) -> Message {
        self.expiry_s = expiry_s;
        self
    }

    /// The same message to another topic, copied: how a topic alias is resolved.
    #[must_use]
    pub fn with_topic(&self, topic: &TopicName) -> Message {
        Message::assemble(
            topic.as_bytes(),
            self.properties(),
            self.payload(),
            self.expiry_s,
        )
    }

    /// The topic name; empty only in a PUBLISH that names its topic by an alias.
    pub fn topic(&self) -> &str {
        std::str::from_utf8(self.topic_bytes()).expect("checked when the message was made")
    }

    /// The topic name as bytes, without the check that [`topic`](Message::topic) repeats.
    pub fn topic_bytes(&self) -> &[u8] {
        &self.buf[..usize::from(self.topic_len)]
    }

    /// The topic as a value of its own; `None` where it is empty.
    pub fn topic_name(&self) -> Option<TopicName> {
        (self.topic_len > 0).then(|| TopicName::from_checked(self.topic()))
    }

    /// The properties in wire form, without their length; empty before MQTT 5.
    pub fn properties(&self) -> &[u8] {
        &self.buf[self.properties_range()]
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.buf[self.payload_at as usize..]
    }

    /// The payload as a slice of the same block.
    pub fn payload_bytes(&self) -> Bytes {
        self.buf.slice(self.payload_at as usize..)
    }

    /// The message expiry interval as the publisher gave it, in seconds.
    pub fn expiry_s(&self) -> Option<u32> {
        self.expiry_s
    }

    /// Topic, properties and payload together, in bytes: what the message costs to keep.
    pub fn byte_len(&self) -> usize {
        usize::from(self.topic_len) + self.properties_len as usize + self.payload_len()
    }

    /// A copy in an allocation of exactly its size, for what is kept.
    #[must_use]
    pub fn to_compact(&self) -> Message {
        Message::assemble(
            self.topic_bytes(),
            self.properties(),
            self.payload(),
            self.expiry_s,
        )
    }

    /// The user properties among the properties, in order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&str, &str)> {
        properties::user_properties(self.properties())
    }

    /// A message that lies in `buf` already. `properties` and `payload_at` are positions there, the
    /// topic is at its start; topic and properties must have been checked.
    pub(crate) fn in_place(
        buf: Bytes,
        topic_len: u16,
        properties: Range<usize>,
        payload_at: usize,
        expiry_s: Option<u32>,
    ) -> Message {
        debug_assert!(usize::from(topic_len) <= properties.start);
        debug_assert!(properties.start <= properties.end && properties.end <= payload_at);
        debug_assert!(payload_at <= buf.len());
        debug_assert!(u32::try_from(buf.len()).is_ok());
        Message {
            buf,
            topic_len,
            properties_at: properties.start as u32,
            properties_len: properties.len() as u32,
            payload_at: payload_at as u32,
            expiry_s,
        }
    }

    /// A message copied together from checked parts.
    pub(crate) fn assemble(
        topic: &[u8],
        properties: &[u8],
        payload: &[u8],
        expiry_s: Option<u32>,
    ) -> Message {
        debug_assert!(topic.len() <= FIELD_BYTES_MAX && check_topic(topic).is_ok());
        let payload_at = topic.len() + properties.len();
        let mut buf = Vec::with_capacity(payload_at + payload.len());
        buf.extend_from_slice(topic);
        buf.extend_from_slice(properties);
        buf.extend_from_slice(payload);
        let properties = topic.len()..payload_at;
        Message::in_place(
            buf.into(),
            topic.len() as u16,
            properties,
            payload_at,
            expiry_s,
        )
    }

    fn properties_range(&self) -> Range<usize> {
        let start = self.properties_at as usize;
        start..start + self.properties_len as usize
    }

    fn payload_len(&self) -> usize {
        self.buf.len() - self.payload_at as usize
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.topic_bytes() == other.topic_bytes()
            && self.properties() == other.properties()
            && self.payload() == other.payload()
            && self.expiry_s == other.expiry_s
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("properties", &self.properties())
            .field("payload_len", &self.payload_len())
            .field("expiry_s", &self.expiry_s)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
