//! The properties of PUBLISH and of a will: those of the message, and those of the transfer.

use std::num::NonZeroU16;
use std::ops::Range;

use crate::Violation;
use crate::property::{Allowed, Property, beyond_length, id};
use crate::read::Reader;

/// What travels with a message.
const MESSAGE: Allowed = Allowed::new(&[
    id::PAYLOAD_FORMAT,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::USER_PROPERTY,
]);

/// What PUBLISH may have (section 3.3.2.3).
pub(crate) const PUBLISH: Allowed = Allowed::new(&[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::SUBSCRIPTION_ID,
    id::TOPIC_ALIAS,
    id::USER_PROPERTY,
])
.repeating(id::SUBSCRIPTION_ID);

/// What a will may have (section 3.1.3.2).
pub(crate) const WILL: Allowed = Allowed::new(&[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::WILL_DELAY,
    id::USER_PROPERTY,
]);

/// The properties of one PUBLISH or will, taken apart.
#[derive(Debug, Default)]
pub(crate) struct MessageProperties {
    pub(crate) topic_alias: Option<NonZeroU16>,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) will_delay_s: u32,
    pub(crate) subscription_ids: Vec<u32>,
    /// From the first to the last property that travels with the message.
    kept: Range<usize>,
    /// Others lie between them.
    scattered: bool,
}

impl MessageProperties {
    /// Reads a section of properties, without its length.
    pub(crate) fn read(section: &[u8], allowed: Allowed) -> Result<MessageProperties, Violation> {
        let mut found = MessageProperties::default();
        let mut reader = Reader::new(section, 0);
        let mut seen = 0;
        while !reader.is_empty() {
            let start = reader.position();
            let property = allowed
                .next(&mut reader, &mut seen)
                .map_err(beyond_length)?;
            if !found.take_apart(property) {
                found.keep(start..reader.position());
            }
        }
        Ok(found)
    }

    /// What travels with the message, where it lies in one piece of the section.
    pub(crate) fn kept_in_place(&self) -> Option<Range<usize>> {
        (!self.scattered).then(|| self.kept.clone())
    }

    /// What travels with the message, copied from a section that was read before.
    pub(crate) fn kept_copied(section: &[u8], allowed: Allowed) -> Result<Vec<u8>, Violation> {
        let mut kept = Vec::with_capacity(section.len());
        let mut others = MessageProperties::default();
        let mut reader = Reader::new(section, 0);
        let mut seen = 0;
        while !reader.is_empty() {
            let start = reader.position();
            let property = allowed
                .next(&mut reader, &mut seen)
                .map_err(beyond_length)?;
            if !others.take_apart(property) {
                kept.extend_from_slice(&section[start..reader.position()]);
            }
        }
        Ok(kept)
    }

    /// Whether the property belongs to the transfer, not to the message; notes its value.
    fn take_apart(&mut self, property: Property<'_>) -> bool {
        match property {
            Property::TopicAlias(alias) => self.topic_alias = Some(alias),
            Property::MessageExpiry(seconds) => self.expiry_s = Some(seconds),
            Property::WillDelay(seconds) => self.will_delay_s = seconds,
            Property::SubscriptionId(id) => self.subscription_ids.push(id),
            _ => return false,
        }
        true
    }

    fn keep(&mut self, range: Range<usize>) {
        if self.kept.is_empty() {
            self.kept = range;
        } else {
            self.scattered |= self.kept.end != range.start;
            self.kept.end = range.end;
        }
    }
}

/// Whether the section holds properties of a message and no others.
pub(super) fn check(section: &[u8]) -> Result<(), Violation> {
    if section.is_empty() {
        return Ok(());
    }
    MessageProperties::read(section, MESSAGE).map(|_| ())
}

/// The user properties of a checked section.
pub(super) fn user_properties(section: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut reader = Reader::new(section, 0);
    let mut seen = 0;
    std::iter::from_fn(move || {
        while !reader.is_empty() {
            let property = MESSAGE.next(&mut reader, &mut seen).ok()?;
            if let Property::User(name, value) = property {
                return Some((name, value));
            }
        }
        None
    })
}
