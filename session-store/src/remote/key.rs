//! The name of a client's record in Redis: `mqtt-fleet:session:{CLIENT}`.
//!
//! The braces are a hash tag: in Redis Cluster they alone say which node has the key, so that
//! whatever is kept about a client can stand beside its record. A client id that could end the tag
//! early, or that nobody could type, is escaped:
//!
//! | in the client id | in the key |
//! |---|---|
//! | `%` `{` `}` `"` `'` `\`, space, control characters | `%` and two hexadecimal digits, as in URLs |
//! | nothing at all (the empty id) | a single `%` |
//! | anything else, also beyond ASCII | as it is |
//!
//! The escape is one to one, so two clients never share a key.

use std::fmt::Write as _;

use crate::StoreError;

/// What every key begins with.
const PREFIX: &str = "mqtt-fleet:session:{";
/// What every key ends with.
const SUFFIX: char = '}';
/// Stands for the empty client id: an empty tag would not count as one.
const EMPTY: &str = "%";

/// Pattern for SCAN that all keys match.
pub(super) const PATTERN: &str = "mqtt-fleet:session:{*}";

/// The key of a client.
pub(super) fn of(client_id: &str) -> String {
    let mut key = String::with_capacity(PREFIX.len() + client_id.len() + 1);
    key.push_str(PREFIX);
    if client_id.is_empty() {
        key.push_str(EMPTY);
    }
    for c in client_id.chars() {
        if is_escaped(c) {
            write!(key, "%{:02X}", c as u32).expect("a string grows");
        } else {
            key.push(c);
        }
    }
    key.push(SUFFIX);
    key
}

/// The client of a key; refuses what [`of`] never makes.
pub(super) fn client_of(key: &[u8]) -> Result<String, StoreError> {
    let malformed = || StoreError::Malformed {
        what: "the key of a session record",
    };
    let key = std::str::from_utf8(key).map_err(|_| malformed())?;
    let escaped = key
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX))
        .ok_or_else(malformed)?;
    if escaped == EMPTY {
        return Ok(String::new());
    }
    let mut client_id = String::with_capacity(escaped.len());
    let mut parts = escaped.split('%');
    client_id.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (digits, plain) = part.split_at_checked(2).ok_or_else(malformed)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        client_id.push(char::from(byte));
        client_id.push_str(plain);
    }
    // One key for one client: an escape that was not needed, or in small letters, is none of ours.
    if of(&client_id) == key {
        Ok(client_id)
    } else {
        Err(malformed())
    }
}

fn is_escaped(c: char) -> bool {
    c.is_ascii_control() || matches!(c, ' ' | '%' | '{' | '}' | '"' | '\'' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The part of a key that Redis Cluster hashes, by its rule: from the first `{` to the first
    /// `}` behind it, if something stands between; otherwise all of it.
    fn hash_tag(key: &str) -> &str {
        let Some((_, behind)) = key.split_once('{') else {
            return key;
        };
        match behind.split_once('}') {
            Some((tag, _)) if !tag.is_empty() => tag,
            _ => key,
        }
    }

    #[test]
    fn most_ids_stand_as_they_are() {
        for id in ["device-000001", "a/b:c", "ä", "*", "x.y_z~", "#+$"] {
            assert_eq!(of(id), format!("mqtt-fleet:session:{{{id}}}"));
        }
        assert_eq!(of(""), "mqtt-fleet:session:{%}");
        assert_eq!(of("%"), "mqtt-fleet:session:{%25}");
        assert_eq!(of("{a}"), "mqtt-fleet:session:{%7Ba%7D}");
        assert_eq!(of("a b\u{1}"), "mqtt-fleet:session:{a%20b%01}");
    }

    #[test]
    fn what_is_none_of_our_keys_is_refused() {
        for key in [
            "",
            "mqtt-fleet:session:",
            "mqtt-fleet:session:{a",
            "mqtt-fleet:session:{}",
            "mqtt-fleet:session:{a%2}",
            "mqtt-fleet:session:{%61}",
            "mqtt-fleet:session:{%7b}",
            "mqtt-fleet:session:{a b}",
            "mqtt-fleet:session:{%+1}",
            "mqtt-fleet:session:{%é1}",
            "other:{a}",
        ] {
            assert!(client_of(key.as_bytes()).is_err(), "{key}");
        }
        assert!(client_of(b"mqtt-fleet:session:{\xFF}").is_err());
    }

    proptest! {
        #[test]
        fn a_key_gives_its_client_back(id in "(.|[{}%\\\\ \"'\u{0}-\u{1F}\u{7F}]){0,20}") {
            let key = of(&id);
            prop_assert_eq!(client_of(key.as_bytes()).expect("ours"), id);
            let tag = key.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
            prop_assert_eq!(Some(hash_tag(&key)), tag, "the tag is all that stands for the client");
        }
    }
}
