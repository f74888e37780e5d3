//! The consistent-hash ring, from which a fleet's first slot table is made.
//!
//! The ring is built, asked once for each slot and dropped: at run time routing is one table read.
//!
//! The crate hashes through [`std::hash::Hash`], which writes integers in the platform's byte order
//! and widths and text with a terminator, and may change. So everything that is hashed is one of the two
//! newtypes below, which write bytes that we chose, into a hash that we chose. Golden files in the
//! crate's tests hold the result fast.

use crate::slots::{GroupNo, Slot, SlotTable};
use consistent_hash::{Node, RingHash, StaticHashRing};
use std::hash::{Hash, Hasher};
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

/// Virtual nodes of a group with weight 1. With eight groups the fullest has some 3 % more slots than
/// the mean; with 160 it would be 9 %.
pub const VIRTUAL_NODES: usize = 640;

/// The most that a group weighs: bounds the ring at 2.6 million virtual nodes.
pub const WEIGHT_MAX: u16 = 64;

/// A group and its share of the slots, relative to the other groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupWeight {
    /// The group.
    pub group: GroupNo,
    /// Its weight, 1 to [`WEIGHT_MAX`].
    pub weight: u16,
}

/// Why no table can be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RingError {
    /// There is no group.
    #[error("no group is given: a slot table needs at least one")]
    NoGroup,
    /// A group's number is too high.
    #[error("group {0} is not below {max}: number the groups from 0", max = GroupNo::MAX)]
    GroupNumber(u8),
    /// A group is given twice.
    #[error("group {0} is given twice: give each group once, with its whole weight")]
    Duplicate(u8),
    /// A weight is out of range.
    #[error("group {group} has weight {weight}: give it one from 1 to {WEIGHT_MAX}")]
    Weight {
        /// The group's number.
        group: u8,
        /// Its weight.
        weight: u16,
    },
}

impl SlotTable {
    /// The table that a ring of these groups gives. Their order does not matter.
    pub fn from_ring(version: u64, groups: &[GroupWeight]) -> Result<Self, RingError> {
        check(groups)?;
        let nodes = groups.iter().map(|&GroupWeight { group, weight }| {
            Node::new(RingGroup(group)).quantity(VIRTUAL_NODES * usize::from(weight))
        });
        let ring = StaticHashRing::new(FixedHash, nodes);
        let group_of = |slot| {
            let first = ring.calc_candidates(&RingSlot(slot)).next();
            first
                .expect("a ring of at least one group has a candidate")
                .key
                .0
        };
        let table: Vec<_> = Slot::all().map(group_of).collect();
        Ok(Self::new(version, table).expect("one checked group for each slot"))
    }
}

fn check(groups: &[GroupWeight]) -> Result<(), RingError> {
    if groups.is_empty() {
        return Err(RingError::NoGroup);
    }
    let mut seen = 0_u64;
    for &GroupWeight {
        group: GroupNo(group),
        weight,
    } in groups
    {
        if group >= GroupNo::MAX {
            return Err(RingError::GroupNumber(group));
        }
        if seen & (1 << group) != 0 {
            return Err(RingError::Duplicate(group));
        }
        if !(1..=WEIGHT_MAX).contains(&weight) {
            return Err(RingError::Weight { group, weight });
        }
        seen |= 1 << group;
    }
    Ok(())
}

/// A group as the ring hashes it: `group:` and its number in 8 bytes, little endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RingGroup(GroupNo);

impl Hash for RingGroup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(b"group:");
        state.write(&u64::from(self.0.0).to_le_bytes());
    }
}

/// A slot as the ring hashes it: `slot:` and its number in 8 bytes, little endian.
struct RingSlot(Slot);

impl Hash for RingSlot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(b"slot:");
        state.write(&u64::from(self.0.number()).to_le_bytes());
    }
}

/// XXH3 with 64 bits and seed 0. A virtual node is its group and then its number in 8 bytes, little
/// endian.
struct FixedHash;

impl RingHash for FixedHash {
    fn hash_item<T: Hash>(&self, item: &T) -> u64 {
        let mut state = BytesOnly::default();
        item.hash(&mut state);
        state.finish()
    }

    fn hash_vnode<K: Hash>(&self, node_key: &K, vnode_seq: usize) -> u64 {
        let mut state = BytesOnly::default();
        node_key.hash(&mut state);
        state.write(&(vnode_seq as u64).to_le_bytes());
        state.finish()
    }
}

/// Hashes bytes as they come: no lengths, terminators or byte orders of somebody else's choice.
#[derive(Default)]
struct BytesOnly(Xxh3);

impl Hasher for BytesOnly {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn equal(groups: impl IntoIterator<Item = u8>) -> Vec<GroupWeight> {
        groups
            .into_iter()
            .map(|group| GroupWeight {
                group: GroupNo(group),
                weight: 1,
            })
            .collect()
    }

    fn table(groups: &[GroupWeight]) -> SlotTable {
        SlotTable::from_ring(1, groups).expect("valid groups")
    }

    /// The ring again, without the crate: the first virtual node at or after the slot's hash.
    fn plain_ring(groups: &[GroupWeight]) -> Vec<GroupNo> {
        let mut ring = Vec::new();
        for &GroupWeight { group, weight } in groups {
            for number in 0..VIRTUAL_NODES as u64 * u64::from(weight) {
                let mut bytes = b"group:".to_vec();
                bytes.extend(u64::from(group.0).to_le_bytes());
                bytes.extend(number.to_le_bytes());
                ring.push((xxh3_64(&bytes), group));
            }
        }
        ring.sort_unstable();
        let group_of = |slot: Slot| {
            let mut bytes = b"slot:".to_vec();
            bytes.extend(u64::from(slot.number()).to_le_bytes());
            let hash = xxh3_64(&bytes);
            let at = ring.partition_point(|(node, _)| *node < hash);
            ring[at % ring.len()].1
        };
        Slot::all().map(group_of).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_table_is_that_of_a_plain_ring(
            weights in prop::collection::btree_map(0..64_u8, 1..4_u16, 1..9)
        ) {
            let groups: Vec<_> = weights
                .into_iter()
                .map(|(group, weight)| GroupWeight { group: GroupNo(group), weight })
                .collect();
            let made = table(&groups);
            prop_assert_eq!(made.groups(), plain_ring(&groups));
            let backwards: Vec<_> = groups.iter().rev().copied().collect();
            prop_assert_eq!(made, table(&backwards));
        }
    }

    #[test]
    fn impossible_groups_are_refused() {
        let refused = |groups: &[GroupWeight]| SlotTable::from_ring(1, groups).unwrap_err();
        assert_eq!(refused(&[]), RingError::NoGroup);
        assert_eq!(refused(&equal([0, 64])), RingError::GroupNumber(64));
        assert_eq!(refused(&equal([3, 1, 3])), RingError::Duplicate(3));
        for weight in [0, WEIGHT_MAX + 1] {
            let groups = [GroupWeight {
                group: GroupNo(2),
                weight,
            }];
            assert_eq!(refused(&groups), RingError::Weight { group: 2, weight });
        }
    }

    /// Slots of the fullest group, relative to the mean.
    fn skew(groups: u8) -> f64 {
        let table = table(&equal(0..groups));
        let most = table.slot_counts().into_iter().max().expect("64 counts");
        f64::from(most) * f64::from(groups) / f64::from(crate::slots::SLOT_COUNT)
    }

    #[test]
    fn groups_get_nearly_the_same_number_of_slots() {
        for (groups, bound) in [(2, 1.05), (3, 1.05), (8, 1.10), (16, 1.15), (64, 1.25)] {
            let skew = skew(groups);
            assert!((1.0..bound).contains(&skew), "{groups} groups: {skew}");
        }
    }

    #[test]
    fn a_group_of_double_weight_gets_double_the_slots() {
        let mut groups = equal(0..4);
        groups[2].weight = 2;
        let counts = table(&groups).slot_counts();
        let share = f64::from(counts[2]) / f64::from(crate::slots::SLOT_COUNT);
        assert!((0.36..0.44).contains(&share), "{share}");
    }

    /// The ninth group takes about a ninth, only takes, and takes from everyone.
    #[test]
    fn a_new_group_moves_no_slot_between_the_old_ones() {
        let (eight, nine) = (table(&equal(0..8)), table(&equal(0..9)));
        let mut taken = [0; 8];
        for slot in Slot::all() {
            let (old, new) = (eight.group_of(slot), nine.group_of(slot));
            if old != new {
                assert_eq!(new, GroupNo(8));
                taken[usize::from(old.0)] += 1;
            }
        }
        assert!(taken.iter().all(|count| *count > 100), "{taken:?}");
        let share = f64::from(taken.iter().sum::<u16>()) / f64::from(crate::slots::SLOT_COUNT);
        assert!((0.095..0.13).contains(&share), "{share}");
    }
}
