//! Topic names: what a message is published to.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use compact_str::CompactString;

use crate::Violation;
use crate::limits::FIELD_BYTES_MAX;
use crate::text::check_topic;

/// A topic name, valid by construction: one to 65,535 bytes of UTF-8 without U+0000 and without
/// wildcards (MQTT-3.3.2-2, MQTT-4.7.3-1 to -3). Up to 24 bytes are held without an allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(CompactString);

impl TopicName {
    /// The topic name, if `topic` is one.
    pub fn new(topic: &str) -> Result<TopicName, Violation> {
        if topic.is_empty() {
            return Err(Violation::TopicNameEmpty);
        }
        if topic.len() > FIELD_BYTES_MAX {
            return Err(Violation::TopicTooLong);
        }
        check_topic(topic.as_bytes())?;
        Ok(TopicName(CompactString::new(topic)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels of the name, first to last; empty levels count.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// For text that a `Message` has checked already.
    pub(crate) fn from_checked(topic: &str) -> TopicName {
        debug_assert_eq!(check_topic(topic.as_bytes()), Ok(()));
        TopicName(CompactString::new(topic))
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for TopicName {
    type Error = Violation;

    fn try_from(topic: &str) -> Result<TopicName, Violation> {
        TopicName::new(topic)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_only() {
        assert_eq!(TopicName::new("a//b").map(|t| t.levels().count()), Ok(3));
        assert_eq!(TopicName::new(""), Err(Violation::TopicNameEmpty));
        assert_eq!(TopicName::new("a/#"), Err(Violation::TopicNameWildcard));
        assert_eq!(TopicName::new("a\0"), Err(Violation::NulCharacter));
        assert!(TopicName::new(&"x".repeat(65_535)).is_ok());
        assert_eq!(
            TopicName::new(&"x".repeat(65_536)),
            Err(Violation::TopicTooLong)
        );
    }
}
