//! How evenly the slots lie on the groups.

use super::GroupMembers;
use crate::slots::{GroupNo, SLOT_COUNT, SlotTable};

/// From this skew on a node warns: the fullest group then has half as much again as its share.
pub const SKEW_WARNING: f64 = 1.5;

/// The group that has the most slots for its weight.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SlotSkew {
    /// The group.
    pub group: GroupNo,
    /// Its slots.
    pub slots: u16,
    /// Its slots relative to its share by weight; 1 is even.
    pub ratio: f64,
}

impl SlotSkew {
    /// The skew of a table over these groups; `None` without groups.
    pub fn of(table: &SlotTable, groups: &[GroupMembers]) -> Option<Self> {
        let weights: u32 = groups.iter().map(|g| u32::from(g.weight.weight)).sum();
        let counts = table.slot_counts();
        let skews = groups.iter().map(|group| {
            let slots = counts[usize::from(group.weight.group.0)];
            let share = f64::from(SLOT_COUNT) * f64::from(group.weight.weight) / f64::from(weights);
            Self {
                group: group.weight.group,
                slots,
                ratio: f64::from(slots) / share,
            }
        });
        skews.max_by(|one, other| one.ratio.total_cmp(&other.ratio))
    }

    /// Whether it is worth a warning.
    pub fn is_large(&self) -> bool {
        self.ratio >= SKEW_WARNING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::GroupWeight;
    use crate::slots::Slot;

    fn groups(weights: &[u16]) -> Vec<GroupMembers> {
        let weight = |(group, &weight)| GroupMembers {
            weight: GroupWeight {
                group: GroupNo(group),
                weight,
            },
            members: Vec::new(),
        };
        (0_u8..).zip(weights).map(weight).collect()
    }

    #[test]
    fn one_group_and_the_ring_are_even() {
        let one = SlotTable::of_one_group(1, GroupNo(0));
        let skew = SlotSkew::of(&one, &groups(&[1])).expect("a group");
        assert_eq!((skew.slots, skew.ratio), (SLOT_COUNT, 1.0));
        let three = groups(&[1, 1, 2]);
        let weights: Vec<_> = three.iter().map(|group| group.weight).collect();
        let ring = SlotTable::from_ring(1, &weights).expect("valid");
        let skew = SlotSkew::of(&ring, &three).expect("groups");
        assert!(
            (1.0..1.1).contains(&skew.ratio) && !skew.is_large(),
            "{skew:?}"
        );
        assert_eq!(SlotSkew::of(&ring, &[]), None);
    }

    #[test]
    fn the_fullest_by_weight_is_named() {
        let owner = |slot: Slot| GroupNo(u8::from(slot.number() < 4_096));
        let table: Vec<_> = Slot::all().map(owner).collect();
        let table = SlotTable::new(1, table).expect("complete");
        let skew = SlotSkew::of(&table, &groups(&[1, 1])).expect("groups");
        assert_eq!(
            (skew.group, skew.slots, skew.ratio),
            (GroupNo(0), 12_288, 1.5)
        );
        assert!(skew.is_large());
        let fair = SlotSkew::of(&table, &groups(&[3, 1])).expect("groups");
        assert!((fair.ratio - 1.0).abs() < 1e-9, "{fair:?}");
    }
}
