//! The strings of MQTT: UTF-8 without U+0000 (MQTT 5 section 1.5.4).

use crate::Violation;

/// The bytes as a string of MQTT.
pub(crate) fn mqtt_str(bytes: &[u8]) -> Result<&str, Violation> {
    let text = std::str::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)?;
    if bytes.contains(&0) {
        return Err(Violation::NulCharacter);
    }
    Ok(text)
}

/// Checks that the bytes are a topic name, the empty one included.
///
/// Every PUBLISH passes here. Topics are nearly always ASCII: a pass by eight bytes at a time sees
/// that, and only what stands out is looked at closely.
pub(crate) fn check_topic(bytes: &[u8]) -> Result<(), Violation> {
    const WORD: usize = size_of::<u64>();
    let suspicious = if let Some(last) = bytes.last_chunk::<WORD>() {
        let (words, _) = bytes.as_chunks::<WORD>();
        // The last word overlaps the one before it; what is looked at twice does no harm.
        words
            .iter()
            .chain([last])
            .any(|word| is_suspicious(u64::from_le_bytes(*word)))
    } else {
        let mut word = [b' '; WORD];
        word[..bytes.len()].copy_from_slice(bytes);
        is_suspicious(u64::from_le_bytes(word))
    };
    if suspicious {
        check_topic_closely(bytes)
    } else {
        Ok(())
    }
}

/// Whether one of eight bytes is U+0000, a wildcard, or not ASCII. May say yes without need beside
/// such a byte, never no.
fn is_suspicious(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let has = |byte: u8| {
        let zero_where_equal = word ^ (ONES * u64::from(byte));
        zero_where_equal.wrapping_sub(ONES) & !zero_where_equal
    };
    (word | has(0) | has(b'+') | has(b'#')) & HIGH != 0
}

#[cold]
fn check_topic_closely(bytes: &[u8]) -> Result<(), Violation> {
    let text = mqtt_str(bytes)?;
    if text.contains(['+', '#']) {
        return Err(Violation::TopicNameWildcard);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        assert_eq!(
            mqtt_str("grüße/\u{10FFFF}".as_bytes()),
            Ok("grüße/\u{10FFFF}")
        );
        assert_eq!(mqtt_str(b""), Ok(""));
        assert_eq!(mqtt_str(b"a\0b"), Err(Violation::NulCharacter));
        assert_eq!(mqtt_str(b"\xed\xa0\x80"), Err(Violation::InvalidUtf8));
        assert_eq!(mqtt_str(b"\xc0\x80"), Err(Violation::InvalidUtf8));
    }

    #[test]
    fn topics() {
        assert_eq!(check_topic("grüße/a".as_bytes()), Ok(()));
        assert_eq!(check_topic(b"a/b"), Ok(()));
        assert_eq!(check_topic(b"a/+"), Err(Violation::TopicNameWildcard));
        assert_eq!(check_topic(b"#"), Err(Violation::TopicNameWildcard));
        assert_eq!(check_topic(b"a\0"), Err(Violation::NulCharacter));
        assert_eq!(check_topic(b"a\xff"), Err(Violation::InvalidUtf8));
    }

    #[test]
    fn topics_of_any_length_are_looked_at_whole() {
        for len in 0..40 {
            let topic = vec![b'/'; len];
            assert_eq!(check_topic(&topic), Ok(()));
            for at in 0..len {
                for (byte, violation) in [
                    (0, Violation::NulCharacter),
                    (b'+', Violation::TopicNameWildcard),
                    (b'#', Violation::TopicNameWildcard),
                    (0x80, Violation::InvalidUtf8),
                ] {
                    let mut bad = topic.clone();
                    bad[at] = byte;
                    assert_eq!(check_topic(&bad), Err(violation), "{len} {at}");
                }
            }
        }
    }
}
