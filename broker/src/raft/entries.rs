//! Where each entry is that the log still has. Pure.
//!
//! Indexes are the group's, from 1. Some thirty bytes an entry; an entry holds many commands.

use super::record::{Kind, Slot};
use std::collections::VecDeque;
use std::ops::Range;

/// The entries from behind the last purged one to the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    /// Index and term of the entry before the first one here; (0, 0): there is none.
    before: (u64, u64),
    slots: VecDeque<Slot>,
}

impl Entries {
    /// No entries yet behind this one.
    pub(super) fn behind(index: u64, term: u64) -> Self {
        Self {
            before: (index, term),
            slots: VecDeque::new(),
        }
    }

    /// Index and term of the last entry that is here no more; (0, 0): there is none.
    pub(super) fn purged(&self) -> (u64, u64) {
        self.before
    }

    /// Index and term of the last entry, or what [`Entries::purged`] says.
    pub(super) fn last(&self) -> (u64, u64) {
        let index = self.before.0 + self.slots.len() as u64;
        (
            index,
            self.slots.back().map_or(self.before.1, |slot| slot.term),
        )
    }

    pub(super) fn get(&self, index: u64) -> Option<&Slot> {
        let place = index.checked_sub(self.before.0 + 1)?;
        self.slots.get(usize::try_from(place).ok()?)
    }

    /// The term of an entry that is here, or the last that was.
    pub(super) fn term(&self, index: u64) -> Option<u64> {
        if index == self.before.0 && index > 0 {
            return Some(self.before.1);
        }
        self.get(index).map(|slot| slot.term)
    }

    /// The entries of these indexes that are here, with their indexes.
    pub(super) fn range(&self, indexes: Range<u64>) -> impl Iterator<Item = (u64, &Slot)> {
        let first = self.before.0 + 1;
        let place = |index: u64| (index.max(first) - first).min(self.slots.len() as u64) as usize;
        let start = place(indexes.start);
        let end = place(indexes.end).max(start);
        self.slots
            .range(start..end)
            .enumerate()
            .map(move |(at, slot)| (first + (start + at) as u64, slot))
    }

    /// Index and term of a change of members that was agreed on for sure: a leader proposes the next one, which is here too,
    /// only when the last one was.
    pub(super) fn agreed_membership(&self) -> Option<(u64, u64)> {
        let changes = self.range(0..u64::MAX);
        let mut changes = changes.filter(|(_, slot)| slot.kind == Kind::Members);
        let first = changes.next()?;
        let last_two = changes.fold((None, first), |(_, last), next| (Some(last), next));
        last_two.0.map(|(index, slot)| (index, slot.term))
    }

    /// The next entry.
    pub(super) fn push(&mut self, slot: Slot) {
        self.slots.push_back(slot);
    }

    /// Forgets the entries from this one on.
    pub(super) fn truncate(&mut self, from: u64) {
        assert!(from > self.before.0, "what was purged was agreed on");
        self.slots.truncate((from - self.before.0 - 1) as usize);
    }

    /// Forgets the entries up to and with this one, which may be beyond the last.
    pub(super) fn purge(&mut self, index: u64, term: u64) {
        if index <= self.before.0 {
            return;
        }
        let gone = (index - self.before.0).min(self.slots.len() as u64);
        self.slots.drain(..gone as usize);
        self.slots.shrink_to(2 * self.slots.len() + 64);
        self.before = (index, term);
    }
}

/// Which entries are durable: those up to an index, counted by the log's sequence numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Durability {
    index: u64,
    /// Sequence number and last index of appends that were not durable when last looked at, in order.
    waiting: VecDeque<(u64, u64)>,
}

impl Durability {
    /// All up to this index is durable.
    pub(super) fn up_to(index: u64) -> Self {
        Self {
            index,
            waiting: VecDeque::new(),
        }
    }

    /// Entries up to `index` will be durable when the log has reached `sequence`.
    pub(super) fn appended(&mut self, sequence: u64, index: u64) {
        self.waiting.push_back((sequence, index));
    }

    /// The entries up to this one are in a snapshot.
    pub(super) fn covered(&mut self, index: u64) {
        self.index = self.index.max(index);
    }

    /// The entries from this one on are no more; others may come in their place.
    pub(super) fn truncated(&mut self, from: u64) {
        let last = from.saturating_sub(1);
        self.index = self.index.min(last);
        for (_, index) in &mut self.waiting {
            *index = (*index).min(last);
        }
    }

    /// The last durable entry, now that the log has reached `sequence`.
    pub(super) fn advance(&mut self, sequence: u64) -> u64 {
        while let Some((at, index)) = self.waiting.front() {
            if *at > sequence {
                break;
            }
            self.index = self.index.max(*index);
            self.waiting.pop_front();
        }
        self.index
    }

    /// What the log has to reach for this entry to be durable; `None`: it is.
    pub(super) fn wanted(&self, index: u64) -> Option<u64> {
        if index <= self.index {
            return None;
        }
        let append = self.waiting.iter().find(|(_, last)| *last >= index);
        append.map(|(sequence, _)| *sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Location;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn slot(term: u64) -> Slot {
        Slot {
            term,
            at: Location {
                segment: 1,
                offset: 8,
            },
            len: 0,
            kind: Kind::Blank,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Truncate(u64),
        Purge(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1_u64..5).prop_map(Step::Push),
            1 => (1_u64..20).prop_map(Step::Truncate),
            1 => (1_u64..30).prop_map(Step::Purge),
        ];
        vec(step, 0..40)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_list_would(steps in steps()) {
            let mut entries = Entries::behind(0, 0);
            // Index and term of all that was ever kept, and how much of it is purged.
            let (mut model, mut purged): (Vec<u64>, usize) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Push(term) => {
                        entries.push(slot(term));
                        model.push(term);
                    }
                    Step::Truncate(from) if from as usize > purged => {
                        entries.truncate(from);
                        model.truncate(from as usize - 1);
                    }
                    Step::Truncate(_) => {}
                    Step::Purge(index) => {
                        let index = index as usize;
                        if index > model.len() {
                            model.resize(index, 9);
                        }
                        entries.purge(index as u64, model[index - 1]);
                        purged = purged.max(index);
                    }
                }
                let last = model.last().map_or((0, 0), |term| (model.len() as u64, *term));
                prop_assert_eq!(entries.last(), last);
                for index in 1..=model.len() + 1 {
                    let here = (index > purged).then(|| model.get(index - 1)).flatten();
                    prop_assert_eq!(entries.get(index as u64).map(|slot| slot.term), here.copied());
                }
                let all: Vec<_> = entries.range(0..100).map(|(index, slot)| (index, slot.term)).collect();
                let expected: Vec<_> = (1..).zip(model.iter().copied()).skip(purged).collect();
                prop_assert_eq!(all, expected);
            }
        }
    }

    #[test]
    fn the_last_but_one_membership_is_agreed_on() {
        let mut entries = Entries::behind(3, 1);
        let change = |term| Slot {
            kind: Kind::Members,
            ..slot(term)
        };
        entries.push(slot(2));
        assert_eq!(entries.agreed_membership(), None);
        entries.push(change(3));
        assert_eq!(entries.agreed_membership(), None);
        entries.push(slot(4));
        entries.push(change(5));
        assert_eq!(entries.agreed_membership(), Some((5, 3)));
        entries.push(change(6));
        entries.push(slot(7));
        assert_eq!(entries.agreed_membership(), Some((7, 5)));
    }

    #[test]
    fn an_entry_is_durable_when_its_append_is_and_not_when_one_it_replaced_was() {
        let mut durability = Durability::up_to(4);
        assert_eq!(durability.wanted(4), None);
        durability.appended(10, 6);
        durability.appended(12, 9);
        assert_eq!(durability.wanted(5), Some(10));
        assert_eq!(durability.wanted(7), Some(12));
        assert_eq!(durability.advance(11), 6);
        durability.truncated(6);
        assert_eq!(durability.advance(11), 5);
        durability.appended(20, 8);
        assert_eq!(
            durability.wanted(6),
            Some(20),
            "the one at 12 is not this one"
        );
        assert_eq!(durability.advance(12), 5);
        assert_eq!(durability.advance(20), 8);
    }
}
