//! What the journal has is there after a restart, with or without a snapshot, wherever the crash.

mod common;

use std::collections::BTreeMap;

use common::{FileJournal, device, replay};
use mqtt_fleet_session_store::{EmbeddedStore, Journal, Record, Saved, StoreError};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Save { number: u64, epoch: u64 },
    Delete { number: u64, epoch: u64 },
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = (0..6_u64, 0..5_u64);
    let step = prop_oneof![
        6 => client.clone().prop_map(|(number, epoch)| Step::Save { number, epoch }),
        3 => client.prop_map(|(number, epoch)| Step::Delete { number, epoch }),
        1 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 1..60)
}

/// The naive store: records, and the highest epochs that were deleted.
#[derive(Default, Clone)]
struct Model(BTreeMap<u64, Record>, BTreeMap<u64, u64>);

impl Model {
    fn newer(&self, number: u64, epoch: u64) -> bool {
        self.0.get(&number).is_some_and(|there| there.epoch > epoch)
    }

    fn check<J: Journal>(&self, store: &EmbeddedStore<J>) {
        for number in 0..6 {
            let found = store
                .load_now(&device(number, 0).client_id)
                .expect("readable");
            assert_eq!(found.as_ref(), self.0.get(&number));
        }
        let held = store
            .stats()
            .records
            .load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(held, self.0.len() as u64);
        let bytes = store
            .stats()
            .bytes
            .load(std::sync::atomic::Ordering::Relaxed);
        let expected: usize = self
            .0
            .values()
            .map(|record| record.encode().expect("small").len())
            .sum();
        assert_eq!(bytes, expected as u64);
    }
}

/// Carries a step out on both. The journal's length afterwards goes with the model's state.
fn take(step: &Step, at: u64, model: &mut Model, store: &EmbeddedStore<FileJournal>) {
    match *step {
        Step::Save { number, epoch } => {
            let mut record = device(number, epoch);
            record.connected_at_ms += at;
            let saved = store.save_now(&record).expect("room");
            let deleted = model
                .1
                .get(&number)
                .is_some_and(|deleted| *deleted >= epoch);
            let late = model.newer(number, epoch) || deleted;
            assert_eq!(saved == Saved::Stored, !late);
            if saved == Saved::Stored {
                model.0.insert(number, record);
            }
        }
        Step::Delete { number, epoch } => {
            let there = model.0.contains_key(&number) && !model.newer(number, epoch);
            let client_id = device(number, epoch).client_id;
            assert_eq!(store.delete_now(&client_id, epoch).expect("room"), there);
            if there {
                model.0.remove(&number);
            }
            if !model.newer(number, epoch) {
                let deleted = model.1.entry(number).or_default();
                *deleted = epoch.max(*deleted);
            }
        }
        Step::Snapshot => {}
    }
}

proptest! {
    #[test]
    fn at_any_byte(steps in steps(), cut in any::<prop::sample::Index>(), early in 0..4_usize) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let store = EmbeddedStore::new(FileJournal::open(&path));
        let length = || std::fs::metadata(&path).map_or(0, |meta| meta.len());
        let mut model = Model::default();
        let mut states = vec![(0, model.clone())];
        let mut snapshot = None;
        for (at, step) in steps.iter().enumerate() {
            if matches!(step, Step::Snapshot) {
                let mut bytes = Vec::new();
                store.snapshot(&mut bytes).expect("a vector takes it");
                // As if the place had been noted some operations before the records were read.
                let from = states[states.len().saturating_sub(early + 1)].0;
                snapshot = Some((length(), from, bytes));
            }
            take(step, at as u64, &mut model, &store);
            model.check(&store);
            states.push((length(), model.clone()));
        }
        let cut = cut.index(length() as usize + 1) as u64;
        let file = std::fs::File::options().write(true).open(&path).expect("opens");
        file.set_len(cut).expect("shorter");
        let restarted = EmbeddedStore::new(());
        let mut from = 0;
        if let Some((taken_at, start, bytes)) = snapshot && cut >= taken_at {
            restarted.restore(&mut &bytes[..]).expect("whole");
            from = start;
        }
        replay(&path, from, &restarted);
        let expected = states.iter().rev().find(|(length, _)| *length <= cut).expect("the first");
        expected.1.check(&restarted);
    }
}

#[test]
fn a_snapshot_is_whole_or_refused() {
    let store = EmbeddedStore::new(());
    for number in 0..20 {
        store.save_now(&device(number, number)).expect("room");
    }
    let mut bytes = Vec::new();
    assert_eq!(store.snapshot(&mut bytes).expect("a vector takes it"), 20);
    for cut in 0..bytes.len() {
        assert!(
            EmbeddedStore::new(()).restore(&mut &bytes[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    let restored = EmbeddedStore::new(());
    assert_eq!(restored.restore(&mut &bytes[..]).expect("whole"), 20);
    assert_eq!(
        restored.load_now("device-000007").expect("readable"),
        Some(device(7, 7))
    );
    bytes[7] = 9;
    let refused = EmbeddedStore::new(()).restore(&mut &bytes[..]);
    assert!(matches!(
        refused,
        Err(StoreError::Unsupported { version: 9 })
    ));
}

/// A journal that has had enough after some operations.
struct Full(std::sync::atomic::AtomicI32);

impl Journal for Full {
    fn append(&self, _op: &[u8]) -> Result<(), StoreError> {
        if self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(StoreError::journal(std::io::Error::other(
            "the disk is full",
        )))
    }
}

#[test]
fn what_the_journal_refuses_does_not_happen() {
    let store = EmbeddedStore::new(Full(1.into()));
    store.save_now(&device(1, 1)).expect("taken");
    for refused in [store.save_now(&device(1, 2)), store.save_now(&device(2, 1))] {
        let error = refused.expect_err("refused");
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
    assert!(store.delete_now("device-000001", 1).is_err());
    assert_eq!(
        store.load_now("device-000001").expect("readable"),
        Some(device(1, 1))
    );
    assert_eq!(store.load_now("device-000002").expect("readable"), None);
}

#[test]
fn a_full_store_takes_what_does_not_grow_it() {
    let store = EmbeddedStore::with_limits((), 2, 10_000);
    store.save_now(&device(1, 1)).expect("room");
    store.save_now(&device(2, 1)).expect("room");
    assert!(matches!(
        store.save_now(&device(3, 1)),
        Err(StoreError::Full { records: 2, .. })
    ));
    store.save_now(&device(2, 2)).expect("the same size");
    let mut large = device(1, 3);
    large.node = "n".repeat(10_000);
    assert!(matches!(
        store.save_now(&large),
        Err(StoreError::Full { .. })
    ));
    assert_eq!(
        store
            .stats()
            .full
            .load(std::sync::atomic::Ordering::Relaxed),
        2
    );
    store.delete_now("device-000001", 1).expect("fine");
    store.save_now(&device(3, 1)).expect("room again");
}
