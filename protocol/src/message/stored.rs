//! The form in which a message is kept in a log: it says its own length, and is read without a copy.
//!
//! ```text
//! u8   0x10 | 1 with properties | 2 with expiry     u16  topic length
//! u32  payload length                               u32  properties length, with properties
//! u32  expiry in seconds, with expiry               topic, properties, payload
//! ```
//! Integers are little endian. 0x10 is the version of the form. A message has one such form.

use std::fmt;

use bytes::Bytes;

use super::{Message, properties};
use crate::Violation;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::text::check_topic;

const FORM: u8 = 0x10;
const WITH_PROPERTIES: u8 = 1;
const WITH_EXPIRY: u8 = 2;
const FIXED_BYTES: usize = 1 + 2 + 4;

/// Why stored bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorruptMessage {
    /// They end before the message does.
    Truncated,
    /// They go on after the message.
    TrailingBytes,
    /// They begin with a form this release does not know.
    UnknownForm(u8),
    /// They are larger than a message can be.
    TooLarge,
    /// They announce properties and have none, which is written otherwise.
    EmptyProperties,
    /// Topic or properties are not valid.
    Invalid(Violation),
}

impl Message {
    /// The length of the stored form, in bytes.
    pub fn encoded_len(&self) -> usize {
        let properties = if self.properties_len > 0 { 4 } else { 0 };
        let expiry = if self.expiry_s.is_some() { 4 } else { 0 };
        FIXED_BYTES + properties + expiry + self.byte_len()
    }

    /// Appends the stored form.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let properties = if self.properties_len > 0 {
            WITH_PROPERTIES
        } else {
            0
        };
        let expiry = if self.expiry_s.is_some() {
            WITH_EXPIRY
        } else {
            0
        };
        out.reserve(self.encoded_len());
        out.push(FORM | properties | expiry);
        out.extend_from_slice(&self.topic_len.to_le_bytes());
        out.extend_from_slice(&(self.payload_len() as u32).to_le_bytes());
        if self.properties_len > 0 {
            out.extend_from_slice(&self.properties_len.to_le_bytes());
        }
        if let Some(seconds) = self.expiry_s {
            out.extend_from_slice(&seconds.to_le_bytes());
        }
        out.extend_from_slice(self.topic_bytes());
        out.extend_from_slice(self.properties());
        out.extend_from_slice(self.payload());
    }

    /// Reads a stored form that fills `stored`. The message is a slice of it, not a copy.
    pub fn read_from(stored: &Bytes) -> Result<Message, CorruptMessage> {
        let (message, len) = Message::read_at(stored, 0)?;
        if len == stored.len() {
            Ok(message)
        } else {
            Err(CorruptMessage::TrailingBytes)
        }
    }

    /// Reads the stored form that begins at `at`, and says its length in bytes.
    pub fn read_at(stored: &Bytes, at: usize) -> Result<(Message, usize), CorruptMessage> {
        let mut fields = Fields(stored.get(at..).ok_or(CorruptMessage::Truncated)?);
        let [form] = fields.take()?;
        if form & !(WITH_PROPERTIES | WITH_EXPIRY) != FORM {
            return Err(CorruptMessage::UnknownForm(form));
        }
        let topic_len = u16::from_le_bytes(fields.take()?);
        let payload_len = fields.u32()? as usize;
        let properties_len = if form & WITH_PROPERTIES == 0 {
            0
        } else {
            fields.u32()? as usize
        };
        let expiry_s = if form & WITH_EXPIRY == 0 {
            None
        } else {
            Some(fields.u32()?)
        };

        if form & WITH_PROPERTIES != 0 && properties_len == 0 {
            return Err(CorruptMessage::EmptyProperties);
        }
        let properties_at = usize::from(topic_len);
        let lens = [properties_at, properties_len, payload_len];
        let len = lens
            .iter()
            .try_fold(0, |sum: usize, len| sum.checked_add(*len));
        let len = len
            .filter(|len| *len <= MESSAGE_BYTES_MAX)
            .ok_or(CorruptMessage::TooLarge)?;
        let bytes = fields.0.get(..len).ok_or(CorruptMessage::Truncated)?;
        let payload_at = properties_at + properties_len;
        if topic_len == 0 {
            return Err(CorruptMessage::Invalid(Violation::TopicNameEmpty));
        }
        check_topic(&bytes[..properties_at]).map_err(CorruptMessage::Invalid)?;
        properties::check(&bytes[properties_at..payload_at]).map_err(CorruptMessage::Invalid)?;

        let start = stored.len() - fields.0.len();
        let buf = stored.slice(start..start + len);
        let range = properties_at..payload_at;
        let message = Message::in_place(buf, topic_len, range, payload_at, expiry_s);
        Ok((message, start + len - at))
    }
}

/// The bytes not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CorruptMessage> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or(CorruptMessage::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, CorruptMessage> {
        Ok(u32::from_le_bytes(self.take()?))
    }
}

impl fmt::Display for CorruptMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CorruptMessage::Truncated => f.write_str("stored message ends early"),
            CorruptMessage::TrailingBytes => f.write_str("bytes after the stored message"),
            CorruptMessage::UnknownForm(form) => {
                write!(f, "stored message has the unknown form 0x{form:02X}")
            }
            CorruptMessage::TooLarge => f.write_str("stored message is larger than any can be"),
            CorruptMessage::EmptyProperties => f.write_str("stored message has empty properties"),
            CorruptMessage::Invalid(violation) => write!(f, "stored message: {violation}"),
        }
    }
}

impl std::error::Error for CorruptMessage {}
