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
/// Every PUBLISH passes here. Topics are nearly always ASCII: one branch-free pass sees that, and
/// only what stands out is looked at closely.
pub(crate) fn check_topic(bytes: &[u8]) -> Result<(), Violation> {
    let suspicious = bytes.iter().fold(false, |suspicious, &byte| {
        suspicious | (byte == 0) | (byte == b'+') | (byte == b'#') | (byte >= 0x80)
    });
    if suspicious {
        check_topic_closely(bytes)
    } else {
        Ok(())
    }
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
}
