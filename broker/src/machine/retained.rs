//! The retained messages of a group, in the order of their topics' levels.
//!
//! A key is the topic with each `/` written as the byte 0, which no topic contains (MQTT-1.5.4-2). So
//! a level sorts before all its longer siblings' children, everything below a topic is one range, and
//! a filter is answered by seeking: a literal level seeks to its place, `+` takes the next level there
//! is, `#` takes the range. What lies between two possible matches is never looked at.

mod cut;

use compact_str::CompactString;
use cut::Cut;
use smallvec::SmallVec;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

/// What is retained for one topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetainedEntry {
    /// The caller's key of the message.
    pub message: u32,
    /// Log index of the topic's last change, to tell what came after a subscription.
    pub index: u64,
}

/// All retained messages of a group.
#[derive(Debug, Default)]
pub struct Retained {
    entries: BTreeMap<TopicKey, RetainedEntry>,
    topic_bytes: u64,
    /// What a snapshot still has to write.
    cut: Option<Cut>,
}

/// Where a page ended: the least key that the next page may match. Stays valid under any change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor(Box<[u8]>);

impl Cursor {
    /// The cursor as bytes, for a snapshot.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The cursor that [`Cursor::as_bytes`] gave. Any bytes are a valid cursor.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// How much one page may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLimits {
    /// Matches of a page, at least 1.
    pub matches_max: usize,
    /// Topics looked at for a page, at least 1; bounds a page whose filter matches little.
    pub steps_max: usize,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self {
            matches_max: 64,
            steps_max: 4096,
        }
    }
}

/// A topic in key form. In place up to 24 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct TopicKey(CompactString);

impl TopicKey {
    fn of(topic: &str) -> Self {
        let key = topic.chars().map(|c| if c == '/' { '\0' } else { c });
        Self(key.collect())
    }

    fn to_topic(&self) -> String {
        self.0.replace('\0', "/")
    }
}

// Looks a key up by its bytes: text and bytes sort and compare alike.
impl Borrow<[u8]> for TopicKey {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A key under construction or for one look-up; on the stack for all but very long topics.
type KeyBytes = SmallVec<[u8; 128]>;

const LEVEL_END: u8 = 0;

fn key_of(topic: &str) -> KeyBytes {
    topic
        .bytes()
        .map(|byte| if byte == b'/' { LEVEL_END } else { byte })
        .collect()
}

impl Retained {
    /// Nothing retained.
    pub fn new() -> Self {
        Self::default()
    }

    /// Topics with a retained message.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all topics together.
    pub fn topic_bytes(&self) -> u64 {
        self.topic_bytes
    }

    /// What is retained for exactly this topic.
    pub fn get(&self, topic: &str) -> Option<RetainedEntry> {
        self.entries.get(key_of(topic).as_slice()).copied()
    }

    /// Sets what is retained for a topic; returns what was.
    pub fn set(&mut self, topic: &str, entry: RetainedEntry) -> Option<RetainedEntry> {
        self.keep(topic);
        let key = key_of(topic);
        if let Some(held) = self.entries.get_mut(key.as_slice()) {
            return Some(std::mem::replace(held, entry));
        }
        self.topic_bytes += topic.len() as u64;
        self.entries.insert(TopicKey::of(topic), entry)
    }

    /// Forgets what is retained for a topic; returns what was.
    pub fn remove(&mut self, topic: &str) -> Option<RetainedEntry> {
        self.keep(topic);
        let removed = self.entries.remove(key_of(topic).as_slice())?;
        self.topic_bytes -= topic.len() as u64;
        Some(removed)
    }

    /// Every topic and what is retained for it, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (String, RetainedEntry)> {
        let entries = self.entries.iter();
        entries.map(|(key, entry)| (key.to_topic(), *entry))
    }

    /// Appends the next matches of `filter` to `out`, in key order.
    ///
    /// `filter` is a valid filter (for a shared subscription there are no retained messages to send).
    /// `from` is where the page before ended, `None` for the first. Returns where this page ended, or
    /// `None` when there is nothing further. Topics that change between two pages are seen as they are
    /// when their page is taken; a topic is never given twice.
    pub fn page(
        &self,
        filter: &str,
        from: Option<&Cursor>,
        limits: PageLimits,
        out: &mut Vec<RetainedEntry>,
    ) -> Option<Cursor> {
        let filter = Filter::new(filter);
        let matches_end = out.len() + limits.matches_max;
        let mut steps = 0;
        let mut seek = filter.first_key();
        if let Some(Cursor(from)) = from
            && seek.as_slice() < from.as_ref()
        {
            seek = SmallVec::from_slice(from);
        }
        let mut entries = self.range_from(&seek);
        while let Some((key, entry)) = entries.next() {
            let key = key.borrow();
            if out.len() == matches_end || steps == limits.steps_max {
                return Some(Cursor::from_bytes(key));
            }
            steps += 1;
            match filter.judge(key) {
                Verdict::MatchThenNext => out.push(*entry),
                Verdict::Match(next) => {
                    out.push(*entry);
                    entries = self.range_from(&next?);
                }
                Verdict::Skip(next) => entries = self.range_from(&next?),
            }
        }
        None
    }

    fn range_from(&self, key: &[u8]) -> Range<'_, TopicKey, RetainedEntry> {
        self.entries
            .range::<[u8], _>((Bound::Included(key), Bound::Unbounded))
    }
}

/// What a filter says to a key. Where to look next: the least key above this one that may match.
enum Verdict {
    /// It matches, and the key after it may.
    MatchThenNext,
    /// It matches; look on there, or nowhere.
    Match(Option<KeyBytes>),
    /// It does not match; look on there, or nowhere.
    Skip(Option<KeyBytes>),
}

/// A filter, cut into levels.
struct Filter<'a> {
    levels: SmallVec<[&'a [u8]; 16]>,
    /// Whether `#` follows the levels.
    multi: bool,
}

impl<'a> Filter<'a> {
    fn new(filter: &'a str) -> Self {
        let mut levels: SmallVec<[&[u8]; 16]> = filter.split('/').map(str::as_bytes).collect();
        let multi = levels.last() == Some(&b"#".as_slice());
        if multi {
            levels.pop();
        }
        Self { levels, multi }
    }

    /// The least key that may match.
    fn first_key(&self) -> KeyBytes {
        let mut key = KeyBytes::new();
        self.push_literals(&mut key, 0);
        key
    }

    /// Appends the levels from `level` up to the first wildcard, separated; `key` ends where the level
    /// begins.
    fn push_literals(&self, key: &mut KeyBytes, level: usize) {
        for (at, literal) in self.levels[level..].iter().enumerate() {
            if *literal == b"+" {
                return;
            }
            if at > 0 {
                key.push(LEVEL_END);
            }
            key.extend_from_slice(literal);
        }
    }

    fn judge(&self, key: &[u8]) -> Verdict {
        let leads_wild = self
            .levels
            .first()
            .map_or(self.multi, |level| *level == b"+");
        if leads_wild && key.first() == Some(&b'$') {
            // MQTT-4.7.2-1. All `$` topics are one range.
            return Verdict::Skip(Some(SmallVec::from_slice(&[b'$' + 1])));
        }
        // Where the key's level begins; one beyond the end when the key has no such level.
        let mut at = 0;
        // Where the last level so far that `+` took ends.
        let mut plus_end = None;
        for (number, wanted) in self.levels.iter().enumerate() {
            if at > key.len() {
                return Verdict::Skip(Some(self.below(key, number)));
            }
            let end = key[at..].iter().position(|&byte| byte == LEVEL_END);
            let end = end.map_or(key.len(), |length| at + length);
            if *wanted == b"+" {
                plus_end = Some(end);
            } else {
                match key[at..end].cmp(wanted) {
                    Ordering::Equal => {}
                    Ordering::Less => {
                        let mut next = SmallVec::from_slice(&key[..at]);
                        self.push_literals(&mut next, number);
                        return Verdict::Skip(Some(next));
                    }
                    Ordering::Greater => return Verdict::Skip(after(key, plus_end)),
                }
            }
            at = end + 1;
        }
        match (self.multi, at > key.len()) {
            (true, _) => Verdict::MatchThenNext,
            (false, true) => Verdict::Match(after(key, plus_end)),
            // The filter is done, the key is not: so is all that lies below the filter's last level.
            (false, false) => Verdict::Skip(after(key, plus_end)),
        }
    }

    /// The least key below `key`, whose levels all match, that has the filter's level `number`.
    fn below(&self, key: &[u8], number: usize) -> KeyBytes {
        let mut next = SmallVec::from_slice(key);
        next.push(LEVEL_END);
        self.push_literals(&mut next, number);
        next
    }
}

/// The least key after everything that begins with the levels up to `plus_end`: the only way on is
/// another text for the last `+`, and without one there is none.
fn after(key: &[u8], plus_end: Option<usize>) -> Option<KeyBytes> {
    let mut next = KeyBytes::from_slice(&key[..plus_end?]);
    next.push(LEVEL_END + 1);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::filter_matches;

    fn entry(message: u32) -> RetainedEntry {
        RetainedEntry {
            message,
            index: u64::from(message) * 10,
        }
    }

    fn with_topics<T: AsRef<str>>(topics: &[T]) -> Retained {
        let mut retained = Retained::new();
        for (number, topic) in topics.iter().enumerate() {
            retained.set(topic.as_ref(), entry(number as u32));
        }
        retained
    }

    /// The messages of all pages, and the number of pages.
    fn all(retained: &Retained, filter: &str, limits: PageLimits) -> (Vec<u32>, usize) {
        let (mut out, mut pages, mut cursor) = (Vec::new(), 0, None);
        loop {
            let before = out.len();
            cursor = retained.page(filter, cursor.as_ref(), limits, &mut out);
            pages += 1;
            assert!(out.len() - before <= limits.matches_max);
            if cursor.is_none() {
                return (out.iter().map(|entry| entry.message).collect(), pages);
            }
        }
    }

    /// Names around every byte that the order of keys depends on: the least byte of a topic (U+0001),
    /// the bytes beside `/` and `$`, the last code point, an empty level.
    fn level() -> impl Strategy<Value = &'static str> {
        let names = vec![
            "a",
            "b",
            "ab",
            "",
            "$",
            "$s",
            "%",
            "\u{1}",
            "a\u{1}",
            ".",
            "0",
            "\u{10fffd}",
        ];
        prop::sample::select(names)
    }

    fn topic() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic is not empty", |topic| !topic.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let levels = prop::collection::vec(prop_oneof![1 => level(), 1 => Just("+")], 0..5);
        (levels, any::<bool>())
            .prop_map(|(mut levels, multi)| {
                levels.extend(multi.then_some("#"));
                levels.join("/")
            })
            .prop_filter("a filter is not empty", |filter| !filter.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Pages of any size give exactly the matching topics, once each, in key order.
        #[test]
        fn pages_give_what_a_full_scan_gives(
            topics in prop::collection::btree_set(topic(), 0..60),
            filters in prop::collection::vec(filter(), 1..12),
            matches_max in 1..6usize,
            steps_max in 1..6usize,
        ) {
            let topics: Vec<_> = topics.into_iter().collect();
            let retained = with_topics(&topics);
            for filter in &filters {
                let mut expected: Vec<_> = (0..topics.len())
                    .filter(|&number| filter_matches(filter, &topics[number]))
                    .collect();
                expected.sort_by_key(|&number| key_of(&topics[number]));
                let expected: Vec<_> = expected.into_iter().map(|number| number as u32).collect();
                for limits in [PageLimits::default(), PageLimits { matches_max, steps_max }] {
                    let (found, _) = all(&retained, filter, limits);
                    prop_assert_eq!(&found, &expected, "{}", filter);
                }
            }
        }

        /// Set, remove and get are those of a map, and the byte count stays true.
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec((topic(), any::<Option<u32>>()), 1..200)) {
            let mut retained = Retained::new();
            let mut model = BTreeMap::new();
            for (topic, message) in ops {
                if let Some(message) = message {
                    let old = retained.set(&topic, entry(message));
                    prop_assert_eq!(old, model.insert(topic.clone(), entry(message)));
                } else {
                    prop_assert_eq!(retained.remove(&topic), model.remove(&topic));
                }
                prop_assert_eq!(retained.get(&topic), model.get(&topic).copied());
                prop_assert_eq!(retained.len(), model.len());
            }
            let bytes: usize = model.keys().map(String::len).sum();
            prop_assert_eq!(retained.topic_bytes(), bytes as u64);
            let mut listed: Vec<_> = retained.iter().collect();
            prop_assert!(listed.is_sorted_by_key(|(topic, _)| key_of(topic)));
            listed.sort_by(|left, right| left.0.cmp(&right.0));
            prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
        }

        /// What is removed or added behind the cursor does not disturb the pages to come.
        #[test]
        fn a_cursor_survives_changes(
            topics in prop::collection::btree_set(topic(), 2..40),
            filter in filter(),
            removed in any::<prop::sample::Index>(),
        ) {
            let topics: Vec<_> = topics.into_iter().collect();
            let mut retained = with_topics(&topics);
            let limits = PageLimits { matches_max: 1, steps_max: 4096 };
            let mut out = Vec::new();
            let Some(cursor) = retained.page(&filter, None, limits, &mut out) else { return Ok(()) };
            let removed = removed.index(topics.len());
            retained.remove(&topics[removed]);
            let cursor = Cursor::from_bytes(cursor.as_bytes());
            prop_assert!(retained.page(&filter, Some(&cursor), PageLimits::default(), &mut out).is_none());
            let mut found: Vec<_> = out.iter().map(|entry| entry.message as usize).collect();
            found.sort_unstable();
            found.retain(|&number| number != removed);
            let expected: Vec<_> = (0..topics.len())
                .filter(|&number| number != removed && filter_matches(&filter, &topics[number]))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn leading_wildcards_skip_dollar_topics_in_one_step() {
        let mut topics: Vec<_> = (0..10_000).map(|n| format!("$SYS/{n}")).collect();
        topics.extend(["!", "%", "a/b"].map(String::from));
        let retained = with_topics(&topics);
        let limits = PageLimits {
            matches_max: 64,
            steps_max: 5,
        };
        assert_eq!(
            all(&retained, "#", limits),
            (vec![10_000, 10_001, 10_002], 1)
        );
        assert_eq!(all(&retained, "+/b", limits).0, [10_002]);
        assert_eq!(
            all(&retained, "$SYS/#", PageLimits::default()).0.len(),
            10_000
        );
    }

    /// A million topics (fewer where code is not optimised); each filter takes at most the given number of topics a match, and the one
    /// that matches nothing is done in a few.
    #[test]
    fn steps_a_match_are_bounded_by_the_shape_of_the_filter() {
        let kinds = [
            "battery", "cmd", "config", "gps", "humidity", "power", "status", "temp", "up", "wifi",
        ];
        let mut topics = Vec::new();
        let devices: usize = if cfg!(debug_assertions) {
            5_000
        } else {
            50_000
        };
        for device in 0..devices {
            for kind in kinds {
                topics.push(format!("devices/{device}/{kind}"));
                topics.push(format!("{device}/{kind}/x"));
            }
        }
        let retained = with_topics(&topics);
        let pages = |filter: &str, steps_max: usize| {
            all(
                &retained,
                filter,
                PageLimits {
                    matches_max: 64,
                    steps_max,
                },
            )
        };
        let full_pages = devices.div_ceil(64);
        // Each page of 64 fits in its steps: so no page ended by steps.
        for (filter, steps_a_page) in [
            ("devices/+/status", 129),
            ("devices/+/battery", 129),
            ("+/status/x", 131),
            ("+/status/#", 195),
            ("devices/+/gps/#", 195),
        ] {
            let (found, pages) = pages(filter, steps_a_page);
            assert_eq!((found.len(), pages), (devices, full_pages), "{filter}");
        }
        for filter in [
            "devices/77/status",
            "no/such/topic",
            "devices/77/status/x",
            "zzz/#",
            "$SYS/#",
        ] {
            let (found, pages) = pages(filter, 3);
            assert_eq!(
                (found.len(), pages),
                (usize::from(filter == "devices/77/status"), 1),
                "{filter}"
            );
        }
        assert_eq!(
            pages("devices/77/#", 11),
            ((770..780).map(|n| n * 2).collect(), 1)
        );
        assert_eq!(pages("#", 64).0.len(), topics.len());
    }
}
