//! The mapping from keys to slots and from slots to groups never changes, on no platform and in no
//! release: a fleet's data lies where it says.
//!
//! A failure here means that routing changed. Do not update the golden files: find what changed.

use mqtt_fleet_cluster::ring::GroupWeight;
use mqtt_fleet_cluster::slots::{GroupNo, SlotTable, slot_of};
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_64;

const SLOTS: &str = include_str!("golden/slots.tsv");
const TABLES: &str = include_str!("golden/tables.tsv");

/// Lines of a golden file, less comments, cut at tabs.
fn rows(golden: &str) -> impl Iterator<Item = Vec<&str>> {
    golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
}

#[test]
fn slots_of_keys_are_those_of_the_golden_file() {
    let mut count = 0;
    for row in rows(SLOTS) {
        let [slot, key] = row[..] else {
            panic!("a slot and a key: {row:?}")
        };
        assert_eq!(
            slot_of(key.as_bytes()).number().to_string(),
            slot,
            "{key:?}"
        );
        count += 1;
    }
    assert_eq!(count, 40);
}

#[test]
fn tables_of_rings_are_those_of_the_golden_file() {
    let mut count = 0;
    for row in rows(TABLES) {
        let [weights, hash, counts, first] = row[..] else {
            panic!("four columns: {row:?}")
        };
        let groups: Vec<_> = weights.split(' ').map(weight).collect();
        let table = SlotTable::from_ring(1, &groups).expect("valid groups");
        let numbers: Vec<u8> = table.groups().iter().map(|group| group.0).collect();
        assert_eq!(join(&numbers[..32]), first, "{weights}");
        let held = table.slot_counts();
        let held: Vec<_> = groups
            .iter()
            .map(|one| held[usize::from(one.group.0)])
            .collect();
        assert_eq!(join(&held), counts, "{weights}");
        assert_eq!(format!("{:016x}", xxh3_64(&numbers)), hash, "{weights}");
        count += 1;
    }
    assert_eq!(count, 7);
}

/// `3:2` is group 3 with weight 2.
fn weight(text: &str) -> GroupWeight {
    let (group, weight) = text.split_once(':').expect("group:weight");
    GroupWeight {
        group: GroupNo(group.parse().expect("a group number")),
        weight: weight.parse().expect("a weight"),
    }
}

fn join(numbers: &[impl ToString]) -> String {
    numbers.iter().fold(String::new(), |mut text, number| {
        let space = if text.is_empty() { "" } else { " " };
        write!(text, "{space}{}", number.to_string()).expect("a String takes all");
        text
    })
}
