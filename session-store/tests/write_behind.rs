//! Writes of one client become one, none overtakes a newer one, and what is dropped is counted.

mod common;

use std::sync::Mutex;

use common::device;
use mqtt_fleet_session_store::{EmbeddedStore, Flushed, Journal, StoreError, Write, WriteBehind};

/// Keeps what it is given.
#[derive(Default)]
struct Kept(Mutex<Vec<Vec<u8>>>);

impl Journal for &Kept {
    fn append(&self, op: &[u8]) -> Result<(), StoreError> {
        self.0.lock().expect("nobody panics").push(op.to_vec());
        Ok(())
    }
}

#[test]
fn connect_and_subscribe_are_one_write() {
    let kept = Kept::default();
    let store = EmbeddedStore::new(&kept);
    let mut waiting = WriteBehind::new(10, 10_000, 50);
    let mut connected = device(1, 1);
    let filters = std::mem::take(&mut connected.filters);
    waiting.save(1_000, &connected).expect("encodes");
    connected.filters = filters;
    waiting.save(1_030, &connected).expect("encodes");
    waiting.save(1_040, &device(2, 1)).expect("encodes");
    assert_eq!(
        waiting.deadline_ms(),
        Some(1_050),
        "the first write's wait counts"
    );
    assert_eq!(
        waiting.flush_due(1_049, &store).expect("taken"),
        Flushed::default()
    );
    let flushed = waiting.flush_due(1_050, &store).expect("taken");
    assert_eq!(
        flushed,
        Flushed {
            written: 1,
            without_effect: 0
        }
    );
    assert_eq!(kept.0.lock().expect("nobody panics").len(), 1);
    assert_eq!(
        store.load_now(&connected.client_id).expect("readable"),
        Some(connected)
    );
    assert_eq!((waiting.len(), waiting.stats().coalesced), (1, 1));
    assert_eq!(
        waiting.flush(&store).expect("taken").written,
        1,
        "due or not"
    );
    assert_eq!(
        (waiting.len(), waiting.byte_len(), waiting.deadline_ms()),
        (0, 0, None)
    );
}

#[test]
fn the_newer_write_waits_on() {
    let mut waiting = WriteBehind::default();
    waiting.save(0, &device(1, 5)).expect("encodes");
    waiting.save(1, &device(1, 4)).expect("encodes");
    waiting.delete(2, "device-000001", 3);
    assert_eq!(waiting.get("device-000001").map(Write::epoch), Some(5));
    assert_eq!(waiting.stats().outdated, 2);
    waiting.delete(3, "device-000001", 5);
    assert!(matches!(
        waiting.get("device-000001"),
        Some(Write::Delete { epoch: 5, .. })
    ));
    waiting.save(4, &device(1, 5)).expect("encodes");
    assert_eq!(waiting.stats().outdated, 3, "what was deleted stays so");
    let store = EmbeddedStore::new(());
    store.save_now(&device(1, 6)).expect("room");
    let flushed = waiting.flush(&store).expect("taken");
    assert_eq!(
        flushed,
        Flushed {
            written: 0,
            without_effect: 1
        },
        "the store has a newer one"
    );
    assert!(store.load_now("device-000001").expect("readable").is_some());
}

#[test]
fn at_the_limit_the_longest_waiting_write_is_dropped() {
    let mut waiting = WriteBehind::new(3, 1_000_000, 50);
    for number in 0..5 {
        waiting.save(number, &device(number, 1)).expect("encodes");
    }
    assert_eq!((waiting.len(), waiting.stats().dropped), (3, 2));
    assert!(waiting.get("device-000001").is_none() && waiting.get("device-000002").is_some());
    let bytes = waiting.byte_len() / 3;
    let mut waiting = WriteBehind::new(1_000, bytes * 2 + 1, 50);
    for number in 0..5 {
        waiting.save(number, &device(number, 1)).expect("encodes");
        assert!(waiting.byte_len() <= bytes * 2 + 1);
    }
    assert_eq!((waiting.len(), waiting.stats().dropped), (2, 3));
}

#[test]
fn a_failed_write_stays() {
    struct Refuses;
    impl Journal for Refuses {
        fn append(&self, _op: &[u8]) -> Result<(), StoreError> {
            Err(StoreError::journal(std::io::Error::other("no")))
        }
    }
    let mut waiting = WriteBehind::default();
    waiting.save(0, &device(1, 1)).expect("encodes");
    waiting.save(0, &device(2, 1)).expect("encodes");
    assert!(waiting.flush(&EmbeddedStore::new(Refuses)).is_err());
    assert_eq!(waiting.len(), 2);
    let store = EmbeddedStore::new(());
    assert_eq!(waiting.flush(&store).expect("taken").written, 2);
}

#[test]
fn writes_leave_in_the_order_their_wait_began() {
    let mut waiting = WriteBehind::new(10, 10_000, 50);
    for number in [3, 1, 2] {
        waiting
            .save(number * 10, &device(number, 1))
            .expect("encodes");
    }
    waiting.save(99, &device(3, 2)).expect("encodes");
    let mut order = Vec::new();
    while let Some(write) = waiting.pop_due(80) {
        order.push(write.client_id().to_string());
    }
    assert_eq!(order, ["device-000003", "device-000001", "device-000002"]);
    assert!(waiting.is_empty() && waiting.byte_len() == 0);
}

#[test]
fn a_write_may_be_taken_out_before_it_is_due() {
    let mut waiting = WriteBehind::new(10, 10_000, 50);
    for number in [1, 2, 3] {
        waiting.save(number, &device(number, 1)).expect("encodes");
    }
    let bytes = waiting.byte_len() / 3;
    let taken = waiting.take("device-000001").expect("it waits");
    assert_eq!(&**taken.client_id(), "device-000001");
    assert!(waiting.take("device-000001").is_none());
    assert_eq!(waiting.deadline_ms(), Some(52), "the next one's");
    assert_eq!((waiting.len(), waiting.byte_len()), (2, bytes * 2));
    waiting.take("device-000003").expect("it waits");
    waiting.save(9, &device(3, 1)).expect("encodes");
    assert!(waiting.first_due(51).is_none());
    for due in ["device-000002", "device-000003"] {
        assert_eq!(waiting.first_due(59).map(|w| &**w.client_id()), Some(due));
        assert_eq!(
            waiting.pop_due(59).map(|w| w.client_id().to_string()),
            Some(due.into())
        );
    }
    assert!(waiting.is_empty() && waiting.byte_len() == 0 && waiting.deadline_ms().is_none());
}

#[test]
fn taking_out_and_in_again_leaves_nothing_behind() {
    let mut waiting = WriteBehind::new(10, 10_000, 50);
    waiting.save(0, &device(0, 1)).expect("encodes");
    for round in 0..10_000 {
        waiting.save(round, &device(1, 1)).expect("encodes");
        waiting.take("device-000001").expect("it waits");
    }
    let held = format!("{waiting:?}").matches("device-").count();
    assert!(held < 200, "{held} names are kept");
    assert_eq!(
        waiting.pop_due(50).map(|w| w.client_id().to_string()),
        Some("device-000000".into())
    );
}
