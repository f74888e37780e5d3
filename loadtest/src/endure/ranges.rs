//! A set of message numbers, kept as ranges: in a run that goes well it is one range.

use std::collections::BTreeMap;

use crate::limits::RANGES_MAX;

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is a member now.
    New,
    /// It was a member before.
    Known,
    /// It would have opened one range too many, and is not a member.
    Full,
}

/// A set of numbers.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    /// First number of each range and the number behind its last. Ranges never touch.
    ends: BTreeMap<u64, u64>,
    count: u64,
}

impl Ranges {
    /// Adds `number`.
    #[inline]
    pub(crate) fn insert(&mut self, number: u64) -> Inserted {
        let before = self.ends.range_mut(..=number).next_back();
        let mut joins = None;
        if let Some((&start, end)) = before {
            if number < *end {
                return Inserted::Known;
            }
            if number == *end {
                *end += 1;
                joins = Some(start);
            }
        }
        let behind = self.ends.remove(&(number + 1));
        match (joins, behind) {
            (Some(start), Some(end)) => {
                self.ends.insert(start, end);
            }
            (None, Some(end)) => {
                self.ends.insert(number, end);
            }
            (Some(_), None) => {}
            (None, None) if self.ends.len() >= RANGES_MAX => return Inserted::Full,
            (None, None) => {
                self.ends.insert(number, number + 1);
            }
        }
        self.count += 1;
        Inserted::New
    }

    /// True if `number` is a member.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let before = self.ends.range(..=number).next_back();
        before.is_some_and(|(_, end)| number < *end)
    }

    /// Members.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Members that `other` has not.
    pub(crate) fn missing_in(&self, other: &Self) -> u64 {
        let shared: u64 = self
            .ends
            .iter()
            .map(|(&start, &end)| other.within(start, end))
            .sum();
        self.count - shared
    }

    /// Members from `start` to below `end`.
    fn within(&self, start: u64, end: u64) -> u64 {
        let before = self.ends.range(..start).next_back();
        before
            .into_iter()
            .chain(self.ends.range(start..end))
            .map(|(&from, &to)| to.min(end).saturating_sub(from.max(start)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn random_sets_agree_with_a_model() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut draw = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for _ in 0..200 {
            let (mut a, mut b) = (Ranges::default(), Ranges::default());
            let (mut model_a, mut model_b) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..80 {
                let number = draw(64);
                let new = model_a.insert(number);
                assert_eq!(a.insert(number) == Inserted::New, new);
                let number = draw(64);
                model_b.insert(number);
                b.insert(number);
            }
            assert_eq!(a.count(), model_a.len() as u64);
            assert_eq!(
                a.missing_in(&b),
                model_a.difference(&model_b).count() as u64
            );
            assert!((0..64).all(|n| a.contains(n) == model_a.contains(&n)));
        }
    }

    #[test]
    fn a_stream_without_gaps_is_one_range() {
        let mut ranges = Ranges::default();
        for number in 0..10_000 {
            assert_eq!(ranges.insert(number), Inserted::New);
        }
        assert_eq!(ranges.ends.len(), 1);
    }

    #[test]
    fn at_the_limit_a_number_is_refused_and_not_forgotten_silently() {
        let mut ranges = Ranges::default();
        for number in 0..RANGES_MAX as u64 {
            ranges.insert(number * 2);
        }
        assert_eq!(ranges.insert(RANGES_MAX as u64 * 4), Inserted::Full);
        assert_eq!(ranges.insert(1), Inserted::New, "it closes a gap");
        assert_eq!(ranges.insert(RANGES_MAX as u64 * 4), Inserted::New);
    }
}
