//! A session's topic filters with their options, packed into one allocation.
//!
//! Most sessions have one or two filters; a list of a thousand is copied at each change, which stays in microseconds.

use protocol::{SubscribeOptions, TopicFilter};

/// Bytes of a record before the filter's text: options, subscription id, length of the text.
const HEAD: usize = 7;

/// Filters in the order in which they were first subscribed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FilterList(Box<[u8]>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldFilter<'a> {
    pub(super) text: &'a str,
    pub(super) options: SubscribeOptions,
    /// 0 where there is none.
    pub(super) subscription_id: u32,
}

impl HeldFilter<'_> {
    /// The filter as a value that can be taken apart.
    pub(super) fn to_filter(self) -> TopicFilter {
        TopicFilter::new(self.text).expect("it was one when it was subscribed")
    }

    pub(super) fn is_shared(&self) -> bool {
        self.text.starts_with('$') && self.to_filter().shared().is_some()
    }
}

impl FilterList {
    pub(super) fn iter(&self) -> impl Iterator<Item = HeldFilter<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (filter, len) = read(rest)?;
            rest = &rest[len..];
            Some(filter)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    /// Adds a filter, or replaces the one with the same text in its place.
    pub(super) fn set(&mut self, filter: HeldFilter<'_>) {
        let (at, len) = self.position(filter.text).unwrap_or((self.0.len(), 0));
        let mut bytes = Vec::with_capacity(self.0.len() - len + HEAD + filter.text.len());
        bytes.extend_from_slice(&self.0[..at]);
        bytes.push(filter.options.as_u8());
        bytes.extend_from_slice(&filter.subscription_id.to_le_bytes());
        let text_len = u16::try_from(filter.text.len()).expect("a filter has at most 65,535 bytes");
        bytes.extend_from_slice(&text_len.to_le_bytes());
        bytes.extend_from_slice(filter.text.as_bytes());
        bytes.extend_from_slice(&self.0[at + len..]);
        self.0 = bytes.into_boxed_slice();
    }

    /// Removes a filter; whether it was there.
    pub(super) fn remove(&mut self, text: &str) -> bool {
        let Some((at, len)) = self.position(text) else {
            return false;
        };
        self.0 = [&self.0[..at], &self.0[at + len..]]
            .concat()
            .into_boxed_slice();
        true
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        self.position(text).is_some()
    }

    fn position(&self, text: &str) -> Option<(usize, usize)> {
        let mut at = 0;
        while let Some((filter, len)) = read(&self.0[at..]) {
            if filter.text == text {
                return Some((at, len));
            }
            at += len;
        }
        None
    }
}

/// The record at the start of `bytes`, and its length.
fn read(bytes: &[u8]) -> Option<(HeldFilter<'_>, usize)> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let [options, i0, i1, i2, i3, l0, l1] = *head;
    let len = usize::from(u16::from_le_bytes([l0, l1]));
    let text = std::str::from_utf8(&rest[..len]).expect("written from a str");
    let subscription_id = u32::from_le_bytes([i0, i1, i2, i3]);
    let options = SubscribeOptions::from_u8(options).expect("written by as_u8");
    Some((
        HeldFilter {
            text,
            options,
            subscription_id,
        },
        HEAD + len,
    ))
}
