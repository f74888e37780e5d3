//! The subscribers of one filter, in order of [`Subscriber::order`].
//!
//! One subscriber, by far the most common case, is held in place. More are held in sorted chunks of at
//! most [`CHUNK_MAX`], so that insert and remove among 100,000 subscribers move a few kilobytes and not
//! all of them, while a fan-out still reads plain memory in order.

use super::subscriptions::{Subscriber, SubscriberKey};
use smallvec::{SmallVec, smallvec};
use std::ops::ControlFlow;

/// Subscribers in a chunk: 3 KiB, the most that one insert or remove moves.
const CHUNK_MAX: usize = 256;

/// The subscribers of one filter, each key at most once.
#[derive(Debug, Default)]
pub(super) enum SubscriberList {
    /// None: the filter is about to be forgotten.
    #[default]
    Empty,
    /// Exactly one.
    One(Subscriber),
    /// Two or more.
    Many(Box<Chunks>),
}

// A table entry of 40 bytes (a topic of up to 24 bytes in place, and this) is what keeps one exact
// subscription below 100 bytes.
const _: () = assert!(size_of::<SubscriberList>() == 16);

impl SubscriberList {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Adds a subscriber; returns the one with the same key that it replaces.
    pub(super) fn insert(&mut self, subscriber: Subscriber) -> Option<Subscriber> {
        match self {
            Self::Empty => {
                *self = Self::One(subscriber);
                None
            }
            Self::One(held) if held.key() == subscriber.key() => {
                Some(std::mem::replace(held, subscriber))
            }
            Self::One(held) => {
                let mut pair = vec![*held, subscriber];
                pair.sort_unstable_by_key(Subscriber::order);
                *self = Self::Many(Box::new(Chunks {
                    chunks: smallvec![pair],
                }));
                None
            }
            Self::Many(chunks) => chunks.insert(subscriber),
        }
    }

    /// Takes out the subscriber with this key.
    pub(super) fn remove(&mut self, key: SubscriberKey) -> Option<Subscriber> {
        match self {
            Self::One(held) if held.key() == key => {
                let removed = *held;
                *self = Self::Empty;
                Some(removed)
            }
            Self::Empty | Self::One(_) => None,
            Self::Many(chunks) => {
                let removed = chunks.remove(key.order())?;
                if let Some(last) = chunks.only() {
                    *self = Self::One(last);
                }
                Some(removed)
            }
        }
    }

    /// The subscriber with this key.
    pub(super) fn get(&self, key: SubscriberKey) -> Option<&Subscriber> {
        match self {
            Self::Empty => None,
            Self::One(held) => (held.key() == key).then_some(held),
            Self::Many(chunks) => chunks.get(key.order()),
        }
    }

    /// Shows every subscriber, in order, until `visit` breaks.
    #[inline]
    pub(super) fn try_for_each(
        &self,
        mut visit: impl FnMut(&Subscriber) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::Empty => ControlFlow::Continue(()),
            Self::One(held) => visit(held),
            Self::Many(chunks) => chunks.chunks.iter().flatten().try_for_each(visit),
        }
    }
}

/// Sorted runs: every subscriber of a chunk comes before every subscriber of the next; no chunk is empty.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: SmallVec<[Vec<Subscriber>; 1]>,
}

impl Chunks {
    /// The chunk that holds `order`, or where it belongs.
    fn chunk_of(&self, order: u64) -> usize {
        let at = self
            .chunks
            .partition_point(|chunk| chunk.last().expect("no chunk is empty").order() < order);
        at.min(self.chunks.len() - 1)
    }

    fn find(&self, order: u64) -> (usize, Result<usize, usize>) {
        let at = self.chunk_of(order);
        (
            at,
            self.chunks[at].binary_search_by_key(&order, Subscriber::order),
        )
    }

    fn get(&self, order: u64) -> Option<&Subscriber> {
        let (at, found) = self.find(order);
        found.ok().map(|slot| &self.chunks[at][slot])
    }

    fn insert(&mut self, subscriber: Subscriber) -> Option<Subscriber> {
        let (at, found) = self.find(subscriber.order());
        let slot = match found {
            Ok(slot) => return Some(std::mem::replace(&mut self.chunks[at][slot], subscriber)),
            Err(slot) => slot,
        };
        let is_last = at + 1 == self.chunks.len();
        let chunk = &mut self.chunks[at];
        if chunk.len() < CHUNK_MAX {
            chunk.insert(slot, subscriber);
        } else if is_last && slot == CHUNK_MAX {
            // Numbers mostly come in ascending order: leave full chunks behind, not half-full ones.
            self.chunks.push(vec![subscriber]);
        } else {
            let mut upper = chunk.split_off(CHUNK_MAX / 2);
            match slot.checked_sub(CHUNK_MAX / 2) {
                Some(slot) => upper.insert(slot, subscriber),
                None => chunk.insert(slot, subscriber),
            }
            self.chunks.insert(at + 1, upper);
        }
        None
    }

    fn remove(&mut self, order: u64) -> Option<Subscriber> {
        let (at, found) = self.find(order);
        let removed = self.chunks[at].remove(found.ok()?);
        self.tidy(at);
        Some(removed)
    }

    /// Drops an empty chunk, joins small neighbours, and gives memory back after many removals.
    fn tidy(&mut self, at: usize) {
        if self.chunks[at].is_empty() {
            self.chunks.remove(at);
            return;
        }
        let next_len = self.chunks.get(at + 1).map_or(CHUNK_MAX, Vec::len);
        if self.chunks[at].len() + next_len <= CHUNK_MAX / 2 {
            let next = self.chunks.remove(at + 1);
            self.chunks[at].extend(next);
        }
        let chunk = &mut self.chunks[at];
        if chunk.capacity() > 8 && chunk.len() * 4 < chunk.capacity() {
            chunk.shrink_to(chunk.len() * 2);
        }
    }

    /// The only subscriber, when just one is left.
    fn only(&self) -> Option<Subscriber> {
        match self.chunks.as_slice() {
            [chunk] if chunk.len() == 1 => chunk.first().copied(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::ids::ClientNo;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn subscriber(client: u32, subscription_id: u32) -> Subscriber {
        let options = super::super::subscriptions::Options::default();
        Subscriber::Client {
            client: ClientNo(client),
            options,
            subscription_id,
        }
    }

    fn listed(list: &SubscriberList) -> Vec<Subscriber> {
        let mut all = Vec::new();
        let flow = list.try_for_each(|subscriber| {
            all.push(*subscriber);
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        all
    }

    fn assert_shape(list: &SubscriberList) {
        let SubscriberList::Many(chunks) = list else {
            return;
        };
        assert!(chunks.chunks.iter().map(Vec::len).sum::<usize>() >= 2);
        for chunk in &chunks.chunks {
            assert!((1..=CHUNK_MAX).contains(&chunk.len()));
        }
    }

    proptest! {
        /// Random inserts and removals, with runs long enough to split and join chunks, against a map.
        #[test]
        fn behaves_like_a_sorted_map(
            runs in prop::collection::vec((any::<bool>(), 0..2_000u32, 1..700u32, 1..4u32), 1..20)
        ) {
            let mut list = SubscriberList::default();
            let mut model = BTreeMap::new();
            for (run, (insert, first, count, step)) in runs.into_iter().enumerate() {
                for client in (0..count).map(|n| first + n * step) {
                    let new = subscriber(client, run as u32);
                    if insert {
                        prop_assert_eq!(list.insert(new), model.insert(client, new));
                    } else {
                        prop_assert_eq!(list.remove(new.key()), model.remove(&client));
                    }
                    prop_assert_eq!(list.get(new.key()), model.get(&client));
                }
                assert_shape(&list);
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(listed(&list), model.values().copied().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn one_and_empty_hold_no_allocation() {
        let mut list = SubscriberList::default();
        list.insert(subscriber(2, 0));
        assert!(matches!(list, SubscriberList::One(_)));
        list.insert(subscriber(1, 0));
        assert!(matches!(list, SubscriberList::Many(_)));
        list.remove(SubscriberKey::Client(ClientNo(2)));
        assert!(matches!(list, SubscriberList::One(_)));
        list.remove(SubscriberKey::Client(ClientNo(1)));
        assert!(list.is_empty());
    }

    #[test]
    fn ascending_inserts_leave_full_chunks() {
        let mut list = SubscriberList::default();
        for client in 0..10 * CHUNK_MAX as u32 {
            list.insert(subscriber(client, 0));
        }
        let SubscriberList::Many(chunks) = &list else {
            panic!("many subscribers")
        };
        assert_eq!(chunks.chunks.len(), 10);
    }

    #[test]
    fn a_visitor_that_breaks_sees_no_more() {
        let mut list = SubscriberList::default();
        for client in 0..1_000 {
            list.insert(subscriber(client, 0));
        }
        let mut seen = 0;
        let flow = list.try_for_each(|_| {
            seen += 1;
            if seen == 300 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(flow.is_break());
        assert_eq!(seen, 300);
    }
}
