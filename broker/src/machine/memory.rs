//! What is remembered for a while, so that it is not done twice or undone.

use crate::limits::{ERRAND_MEMORIES, ERRAND_MEMORY_MS, ERRAND_MEMORY_STEP_MS};
use std::collections::{BTreeMap, BTreeSet};

/// A bounded table whose entries are forgotten after [`ERRAND_MEMORY_MS`], the oldest earlier if there are too many.
#[derive(Debug)]
pub(super) struct Memory<K, V> {
    kept: BTreeMap<K, (V, u64)>,
    order: BTreeSet<(u64, K)>,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone, V: Copy> Memory<K, V> {
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.kept.get(key).map(|(value, _)| *value)
    }

    /// Remembers from now on. Says whether another one had to be forgotten for it.
    #[must_use]
    pub(super) fn remember(&mut self, key: K, value: V, now_ms: u64) -> bool {
        let step = ERRAND_MEMORY_STEP_MS;
        self.put(
            key,
            value,
            (now_ms + ERRAND_MEMORY_MS).div_ceil(step) * step,
        );
        let full = self.kept.len() > ERRAND_MEMORIES;
        if full && let Some((_, oldest)) = self.order.pop_first() {
            self.kept.remove(&oldest);
        }
        full
    }

    /// As it was remembered earlier.
    pub(super) fn put(&mut self, key: K, value: V, forget_at_ms: u64) {
        if let Some((_, at)) = self.kept.insert(key.clone(), (value, forget_at_ms)) {
            self.order.remove(&(at, key.clone()));
        }
        self.order.insert((forget_at_ms, key));
    }

    /// In the order of the keys, with when each is forgotten.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&K, V, u64)> {
        self.kept
            .iter()
            .map(|(key, (value, at))| (key, *value, *at))
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn forget_due(&mut self, now_ms: u64) {
        while self.next_ms().is_some_and(|at| at <= now_ms)
            && let Some((_, key)) = self.order.pop_first()
        {
            self.kept.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_ends_after_its_time_or_when_there_are_too_many() {
        let mut memory = Memory::default();
        assert!(!memory.remember(1, 10, 5));
        assert!(!memory.remember(1, 11, ERRAND_MEMORY_STEP_MS));
        memory.forget_due(ERRAND_MEMORY_MS + ERRAND_MEMORY_STEP_MS - 1);
        assert_eq!(memory.get(&1), Some(11), "remembered again, it lives on");
        memory.forget_due(ERRAND_MEMORY_MS + ERRAND_MEMORY_STEP_MS);
        assert_eq!((memory.get(&1), memory.next_ms()), (None, None));
        for key in 0..ERRAND_MEMORIES {
            assert!(!memory.remember(key, 0, 0));
        }
        assert!(memory.remember(ERRAND_MEMORIES, 0, 0));
        assert_eq!((memory.get(&0), memory.get(&1)), (None, Some(0)));
    }
}
