//! The retained messages as they were at one moment, written a slice at a time while they change.
//!
//! A topic that changes before it was written leaves what was retained for it; nothing is there twice.

use super::super::snapshot::put::{put_text, put_u32, put_u64};
use super::{Retained, RetainedEntry, TopicKey};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What is still to be written.
#[derive(Debug)]
pub(super) struct Cut {
    /// How many topics there were, until that is written.
    topics: Option<u32>,
    /// The last topic that is written.
    last: Option<TopicKey>,
    /// What was retained for topics behind it that have changed since.
    before: BTreeMap<TopicKey, Option<RetainedEntry>>,
    before_bytes: usize,
}

impl Retained {
    /// From here on [`Retained::put_cut`] writes what is retained now.
    pub(in crate::machine) fn cut(&mut self) {
        self.cut = Some(Cut {
            topics: Some(self.entries.len() as u32),
            last: None,
            before: BTreeMap::new(),
            before_bytes: 0,
        });
    }

    /// Nobody writes the rest of the cut.
    pub(in crate::machine) fn end_cut(&mut self) {
        self.cut = None;
    }

    /// Appends topics of the cut until `out` has `full` bytes. Whether that was all.
    pub(in crate::machine) fn put_cut(&mut self, out: &mut Vec<u8>, full: usize) -> bool {
        let Some(cut) = &mut self.cut else {
            return true;
        };
        if let Some(topics) = cut.topics.take() {
            put_u32(topics, out);
        }
        let from = cut.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut living = self.entries.range((from, Bound::Unbounded)).peekable();
        while out.len() < full {
            let changed = cut.before.first_key_value().map(|(key, _)| key);
            let is_changed = match (living.peek(), changed) {
                (None, None) => {
                    self.cut = None;
                    return true;
                }
                (Some((key, _)), Some(changed)) => changed <= *key,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            if !is_changed {
                let (key, entry) = living.next().expect("peeked at");
                put(key, *entry, out);
                last = Some(Cow::Borrowed(key));
                continue;
            }
            let (key, before) = cut.before.pop_first().expect("looked at");
            living.next_if(|(living, _)| **living == key);
            cut.before_bytes -= bytes_of(&key);
            if let Some(entry) = before {
                put(&key, entry, out);
            }
            last = Some(Cow::Owned(key));
        }
        if let Some(last) = last {
            cut.last = Some(last.into_owned());
        }
        false
    }

    /// Memory for what changed topics had at the cut, in bytes.
    pub(in crate::machine) fn cut_bytes(&self) -> usize {
        self.cut.as_ref().map_or(0, |cut| cut.before_bytes)
    }

    /// What is retained for the topic may change now.
    pub(super) fn keep(&mut self, topic: &str) {
        let Some(cut) = &mut self.cut else {
            return;
        };
        let key = TopicKey::of(topic);
        if cut.last.as_ref().is_some_and(|last| key <= *last) || cut.before.contains_key(&key) {
            return;
        }
        cut.before_bytes += bytes_of(&key);
        let before = self.entries.get(&key).copied();
        cut.before.insert(key, before);
    }
}

fn put(key: &TopicKey, entry: RetainedEntry, out: &mut Vec<u8>) {
    put_text(&key.to_topic(), out);
    put_u32(entry.message, out);
    put_u64(entry.index, out);
}

/// In memory, about.
fn bytes_of(key: &TopicKey) -> usize {
    size_of::<(TopicKey, Option<RetainedEntry>)>() + key.0.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A topic, what to retain for it, and how many bytes of the cut to write then.
    type Step = (usize, Option<u32>, usize);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec((0..12_usize, any::<Option<u32>>(), 0..40_usize), 0..40)
    }

    fn change(retained: &mut Retained, (topic, message, _): Step) {
        // Their order is another one than that of the texts: `/` sorts before all else.
        let topics = [
            "a", "a/b", "a!", "a!/b", "a/b/c", "ab", "b", "/", "//", "$a", "a b", "c/d",
        ];
        let topic = topics[topic];
        if let Some(message) = message {
            let index = u64::from(message) + 1;
            retained.set(topic, RetainedEntry { message, index });
        } else {
            retained.remove(topic);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_cut_is_what_was_retained(before in steps(), after in steps()) {
            let mut retained = Retained::new();
            for step in before {
                change(&mut retained, step);
            }
            let mut at_once = Vec::new();
            retained.cut();
            prop_assert!(retained.put_cut(&mut at_once, usize::MAX));
            retained.cut();
            let (mut written, mut whole) = (Vec::new(), false);
            for step in after {
                let full = written.len() + step.2;
                whole = whole || retained.put_cut(&mut written, full);
                change(&mut retained, step);
            }
            if !whole {
                prop_assert!(retained.put_cut(&mut written, usize::MAX));
            }
            prop_assert_eq!(written, at_once);
            prop_assert_eq!(retained.cut_bytes(), 0);
        }
    }
}
