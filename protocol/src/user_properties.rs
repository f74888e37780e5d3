//! User properties (MQTT 5 section 2.2.2.2): pairs of names and values the application defines.

use std::fmt;

use crate::Violation;
use crate::limits::FIELD_BYTES_MAX;
use crate::property::id;
use crate::read::Reader;
use crate::text::mqtt_str;

/// Pairs of name and value in their order; a name may stand more than once. Held as on the wire, so
/// a packet full of short pairs costs no more memory than it had bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserProperties(Vec<u8>);

impl UserProperties {
    /// No pairs.
    pub const fn new() -> UserProperties {
        UserProperties(Vec::new())
    }

    /// Appends a pair. Fails if either contains U+0000 or is longer than 65,535 bytes.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), Violation> {
        for text in [name, value] {
            if text.len() > FIELD_BYTES_MAX {
                return Err(Violation::FieldBeyondPacket);
            }
            mqtt_str(text.as_bytes())?;
        }
        self.push_checked(name, value);
        Ok(())
    }

    /// The pairs, first to last.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut reader = Reader::new(&self.0, 0);
        std::iter::from_fn(move || {
            reader.u8().ok()?;
            Some((reader.str().ok()?, reader.str().ok()?))
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As on the wire: each pair with its identifier.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends a pair that was read from a packet.
    pub(crate) fn push_checked(&mut self, name: &str, value: &str) {
        self.0.push(id::USER_PROPERTY);
        for text in [name, value] {
            self.0.extend_from_slice(&(text.len() as u16).to_be_bytes());
            self.0.extend_from_slice(text.as_bytes());
        }
    }
}

impl fmt::Debug for UserProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_their_order() {
        let mut pairs = UserProperties::new();
        assert!(pairs.is_empty());
        for (name, value) in [("b", "1"), ("a", ""), ("b", "2")] {
            pairs.push(name, value).expect("valid text");
        }
        assert_eq!(
            pairs.iter().collect::<Vec<_>>(),
            [("b", "1"), ("a", ""), ("b", "2")]
        );
        assert_eq!(pairs.push("a\0", ""), Err(Violation::NulCharacter));
    }
}
