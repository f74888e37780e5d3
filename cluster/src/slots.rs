//! Slots: what routing maps a shard key to, and the table that says which group has each.

use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// How many slots there are. Never changes under a running fleet, and a power of two, so that the
/// remainder of a hash is unbiased.
pub const SLOT_COUNT: u16 = 16_384;

const _: () = assert!(SLOT_COUNT.is_power_of_two());

/// A slot, below [`SLOT_COUNT`]: the unit in which topics move between groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number; `None` at [`SLOT_COUNT`] and above.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOT_COUNT).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }

    /// All slots, ascending.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOT_COUNT).map(Self)
    }
}

/// The slot of a shard key: its 64-bit XXH3 hash (seed 0) modulo [`SLOT_COUNT`].
///
/// The same on every platform and in every release.
pub fn slot_of(shard_key: &[u8]) -> Slot {
    Slot((xxh3_64(shard_key) % u64::from(SLOT_COUNT)) as u16)
}

/// A broker group, below [`GroupNo::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupNo(pub u8);

impl GroupNo {
    /// Groups a fleet has at most (`groups_max`): a list of groups fits in 64 bits.
    pub const MAX: u8 = 64;
}

/// Which group has each slot.
///
/// Tables are numbered; a higher version replaces a lower one.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotTable {
    version: u64,
    groups: Box<[GroupNo]>,
}

impl SlotTable {
    /// A table from the group of each slot, in order of the slots. `None` unless there is exactly one
    /// for each slot and all are below [`GroupNo::MAX`].
    pub fn new(version: u64, groups: impl Into<Box<[GroupNo]>>) -> Option<Self> {
        let groups = groups.into();
        let valid = groups.len() == usize::from(SLOT_COUNT)
            && groups.iter().all(|group| group.0 < GroupNo::MAX);
        valid.then_some(Self { version, groups })
    }

    /// The table of a fleet of one group.
    pub fn of_one_group(version: u64, group: GroupNo) -> Self {
        Self::new(version, vec![group; usize::from(SLOT_COUNT)]).expect("one group for each slot")
    }

    /// The table's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The group that has a slot. One read.
    #[inline]
    pub fn group_of(&self, slot: Slot) -> GroupNo {
        self.groups[usize::from(slot.0)]
    }

    /// The group of each slot, in order of the slots.
    pub fn groups(&self) -> &[GroupNo] {
        &self.groups
    }

    /// Hash of which group has which slot, whatever the version: the 64-bit XXH3 of a byte for each slot.
    pub fn hash(&self) -> u64 {
        let bytes: Vec<u8> = self.groups.iter().map(|group| group.0).collect();
        xxh3_64(&bytes)
    }

    /// How many slots each group has, by group number.
    pub fn slot_counts(&self) -> [u16; GroupNo::MAX as usize] {
        let mut counts = [0; GroupNo::MAX as usize];
        for group in &self.groups {
            counts[usize::from(group.0)] += 1;
        }
        counts
    }
}

impl fmt::Debug for SlotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self
            .slot_counts()
            .into_iter()
            .enumerate()
            .filter(|(_, count)| *count > 0);
        write!(f, "SlotTable(version {}, slots by group ", self.version)?;
        f.debug_map().entries(held).finish()?;
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_one_valid_group_for_each_slot() {
        let full = usize::from(SLOT_COUNT);
        assert!(SlotTable::new(1, vec![GroupNo(63); full]).is_some());
        assert!(SlotTable::new(1, vec![GroupNo(64); full]).is_none());
        assert!(SlotTable::new(1, vec![GroupNo(0); full - 1]).is_none());
        assert!(SlotTable::new(1, vec![GroupNo(0); full + 1]).is_none());
    }

    #[test]
    fn slots_are_bounded() {
        assert_eq!(Slot::new(16_383).map(Slot::number), Some(16_383));
        assert_eq!(Slot::new(16_384), None);
        assert_eq!(Slot::all().count(), 16_384);
    }

    /// 64 keys a slot on average: Poisson with a deviation of 8. More than 8 deviations off would be a
    /// bad hash, not bad luck.
    #[test]
    fn keys_of_a_fleet_spread_evenly_over_the_slots() {
        let mut counts = vec![0_i32; usize::from(SLOT_COUNT)];
        for device in 0..64 * u32::from(SLOT_COUNT) {
            let slot = slot_of(format!("devices/{device:07}").as_bytes());
            counts[usize::from(slot.number())] += 1;
        }
        assert!(counts.iter().all(|count| (count - 64).abs() <= 64));
        let square: i64 = counts
            .iter()
            .map(|count| i64::from(count - 64).pow(2))
            .sum();
        let variance = square as f64 / f64::from(SLOT_COUNT);
        assert!((58.0..70.0).contains(&variance), "{variance}");
    }
}
