//! Topic filters: what a client subscribes to, shared subscriptions included.

use std::borrow::Borrow;
use std::fmt;

use compact_str::CompactString;

use crate::Violation;
use crate::limits::FIELD_BYTES_MAX;
use crate::text::mqtt_str;

/// How the members of a shared subscription take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShareKind {
    /// `$share/name/filter` (MQTT 5 section 4.8.2): each message goes to one member.
    Share,
    /// `$oshare/name/filter`: as `$share`, but one topic's messages stay in order.
    Ordered,
    /// `$queue/filter`: as `$share`, with one group that has no name.
    Queue,
}

/// A topic filter, valid by construction: one to 65,535 bytes of UTF-8 without U+0000, wildcards
/// only where they may stand (MQTT-4.7.1-1, -2), and well-formed where it begins with a share
/// prefix (MQTT-4.8.2-1, -2). The share prefixes hold for every protocol version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(CompactString);

impl TopicFilter {
    /// The topic filter, if `filter` is one.
    pub fn new(filter: &str) -> Result<TopicFilter, Violation> {
        if filter.len() > FIELD_BYTES_MAX {
            return Err(Violation::TopicTooLong);
        }
        mqtt_str(filter.as_bytes())?;
        check_wildcards(split_share(filter)?.map_or(filter, |(_, _, inner)| inner))?;
        Ok(TopicFilter(CompactString::new(filter)))
    }

    /// The whole filter as the client wrote it, with a share prefix where it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Kind, share name (empty for `$queue`) and inner filter of a shared subscription.
    pub fn shared(&self) -> Option<(ShareKind, &str, &str)> {
        split_share(&self.0).expect("checked by new()")
    }

    /// The filter that topics are compared with: without the share prefix.
    pub fn inner(&self) -> &str {
        self.shared().map_or(self.as_str(), |(_, _, inner)| inner)
    }

    /// The levels of the inner filter, first to last; empty levels count.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.inner().split('/')
    }

    /// Whether the inner filter can match more than one topic.
    pub fn is_wildcard(&self) -> bool {
        self.inner().contains(['+', '#'])
    }

    /// Whether the inner filter matches the topic; see [`filter_matches`].
    pub fn matches(&self, topic: &str) -> bool {
        filter_matches(self.inner(), topic)
    }
}

/// Whether a filter (without share prefix) matches a topic name (MQTT 5 section 4.7).
///
/// A filter that begins with a wildcard matches no topic that begins with `$` (MQTT-4.7.2-1); `a/#`
/// matches `a` as well. Text that is no valid filter or topic gives some answer, never a panic.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    // Bytes: no character but '/' has its byte, and levels are too short for a string search to pay.
    let mut topic_levels = topic.as_bytes().split(|byte| *byte == b'/');
    for level in filter.as_bytes().split(|byte| *byte == b'/') {
        if level == b"#" {
            return true;
        }
        match topic_levels.next() {
            Some(name) if level == b"+" || level == name => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

/// Takes a share prefix apart; `None` for an ordinary filter.
fn split_share(filter: &str) -> Result<Option<(ShareKind, &str, &str)>, Violation> {
    // The first byte decides for nearly every filter.
    if !filter.starts_with('$') {
        return Ok(None);
    }
    if let Some(inner) = filter.strip_prefix("$queue/") {
        if inner.is_empty() {
            return Err(Violation::ShareNameInvalid);
        }
        return Ok(Some((ShareKind::Queue, "", inner)));
    }
    let (kind, rest) = if let Some(rest) = filter.strip_prefix("$share/") {
        (ShareKind::Share, rest)
    } else if let Some(rest) = filter.strip_prefix("$oshare/") {
        (ShareKind::Ordered, rest)
    } else {
        return Ok(None);
    };
    let (name, inner) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(Violation::ShareNameEmpty);
    }
    if inner.is_empty() || name.contains(['+', '#']) {
        return Err(Violation::ShareNameInvalid);
    }
    Ok(Some((kind, name, inner)))
}

fn check_wildcards(filter: &str) -> Result<(), Violation> {
    if filter.is_empty() {
        return Err(Violation::TopicFilterEmpty);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(Violation::MultiLevelWildcard);
        }
        if level.contains('+') && level != "+" {
            return Err(Violation::SingleLevelWildcard);
        }
    }
    Ok(())
}

impl AsRef<str> for TopicFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for TopicFilter {
    type Error = Violation;

    fn try_from(filter: &str) -> Result<TopicFilter, Violation> {
        TopicFilter::new(filter)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).expect(text)
    }

    #[test]
    fn accepts_filters_only() {
        for good in [
            "a", "/", "+", "#", "a/+/b", "+/+", "a//#", "$SYS/#", "$queue", "$share",
        ] {
            assert_eq!(filter(good).shared(), None, "{good}");
        }
        for (bad, violation) in [
            ("", Violation::TopicFilterEmpty),
            ("a#", Violation::MultiLevelWildcard),
            ("#/a", Violation::MultiLevelWildcard),
            ("a/##", Violation::MultiLevelWildcard),
            ("a+", Violation::SingleLevelWildcard),
            ("+a/b", Violation::SingleLevelWildcard),
            ("a\0", Violation::NulCharacter),
            ("$share/", Violation::ShareNameEmpty),
            ("$share//a", Violation::ShareNameEmpty),
            ("$share/g", Violation::ShareNameInvalid),
            ("$share/g/", Violation::ShareNameInvalid),
            ("$oshare/+/a", Violation::ShareNameInvalid),
            ("$queue/", Violation::ShareNameInvalid),
            ("$share/g/a#", Violation::MultiLevelWildcard),
        ] {
            assert_eq!(TopicFilter::new(bad), Err(violation), "{bad}");
        }
    }

    #[test]
    fn shared_filters_come_apart() {
        let ordered = filter("$oshare/g/a/+");
        assert_eq!(ordered.shared(), Some((ShareKind::Ordered, "g", "a/+")));
        assert_eq!(ordered.levels().collect::<Vec<_>>(), ["a", "+"]);
        assert!(ordered.is_wildcard() && ordered.matches("a/b") && !ordered.matches("b/b"));
        assert_eq!(
            filter("$queue/a/b").shared(),
            Some((ShareKind::Queue, "", "a/b"))
        );
        assert_eq!(
            filter("$share/g//a").shared(),
            Some((ShareKind::Share, "g", "/a"))
        );
        assert!(!filter("$share/g/a").is_wildcard());
    }

    #[test]
    fn matching() {
        for (pattern, topic) in [
            ("a", "a"),
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("#", "/a"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("sport/+", "sport/"),
            ("a/+/c", "a/b/c"),
            ("$SYS/#", "$SYS/x"),
            ("$SYS/+", "$SYS/x"),
            ("+/b", "a/b"),
            ("a/+/#", "a/b"),
        ] {
            assert!(filter_matches(pattern, topic), "{pattern} {topic}");
        }
        for (pattern, topic) in [
            ("a", "A"),
            ("a/+", "a"),
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("a/b", "a/b/c"),
            ("a/b/c", "a/b"),
            ("a/+/#", "a"),
            ("a/#", "ab"),
        ] {
            assert!(!filter_matches(pattern, topic), "{pattern} {topic}");
        }
        assert!(!filter("$share/g/#").matches("$SYS/x"));
    }
}
