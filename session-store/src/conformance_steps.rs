//! The rules of [`SessionStore`], each with its name in the message of the panic when it is broken.

use std::collections::BTreeSet;
use std::future::Future;

use crate::{Event, EventKind, Filter, FilterOptions, Record, Saved, SessionStore};

/// Runs all rules, each on a store of its own that `make` gives, empty. Panics with the rule that
/// is broken.
pub async fn suite<S, F>(mut make: impl FnMut() -> F)
where
    S: SessionStore,
    F: Future<Output = S>,
{
    what_is_saved_is_loaded(&make().await).await;
    clients_are_told_apart(&make().await).await;
    a_lower_epoch_never_replaces_a_higher_one(&make().await).await;
    the_same_epoch_replaces(&make().await).await;
    a_delete_spares_what_is_newer(&make().await).await;
    count_counts(&make().await).await;
    a_delete_stands_against_late_saves(&make().await).await;
    a_delete_of_nothing_stands_as_well(&make().await).await;
    a_scan_has_every_record_once(&make().await).await;
}

/// A record with something in every field.
fn full(client_id: &str, epoch: u64) -> Record {
    let filter = |filter: &str, byte, subscription_id| Filter {
        filter: filter.to_owned(),
        options: FilterOptions::from_byte(byte).expect("valid options"),
        subscription_id,
    };
    Record {
        client_id: client_id.to_owned(),
        epoch,
        protocol_version: 5,
        user: Some("fleet".to_owned()),
        node: "node-1".to_owned(),
        address: Some(([192, 0, 2, 7], 40_001).into()),
        clean_start: true,
        expiry_s: u32::MAX,
        connected_at_ms: 1_700_000_000_000,
        disconnected_at_ms: Some(1_700_000_123_456),
        history: vec![
            Event {
                at_ms: 1_699_999_999_000,
                kind: EventKind::Refused(0x87),
            },
            Event {
                at_ms: 1_700_000_000_000,
                kind: EventKind::Connected,
            },
            Event {
                at_ms: 1_700_000_123_456,
                kind: EventKind::ClosedFor(0x8D),
            },
        ],
        filters: vec![
            filter("devices/42/#", 0b0001, None),
            filter("$share/g/a/+/ü", 0b10_1110, Some(268_435_455)),
        ],
    }
}

async fn save(store: &impl SessionStore, record: &Record) -> Saved {
    store.save(record).await.expect("a save succeeds")
}

async fn load(store: &impl SessionStore, client_id: &str) -> Option<Record> {
    store.load(client_id).await.expect("a load succeeds")
}

async fn what_is_saved_is_loaded(store: &impl SessionStore) {
    let rule = "what is saved is loaded, field by field";
    assert_eq!(load(store, "a").await, None, "{rule}: nothing at first");
    let mut record = full("a", 3);
    assert_eq!(save(store, &record).await, Saved::Stored, "{rule}");
    assert_eq!(load(store, "a").await.as_ref(), Some(&record), "{rule}");
    record.user = None;
    record.address = None;
    record.disconnected_at_ms = None;
    record.history.clear();
    record.filters.clear();
    record.clean_start = false;
    assert_eq!(save(store, &record).await, Saved::Stored, "{rule}");
    assert_eq!(
        load(store, "a").await,
        Some(record),
        "{rule}: also what is empty"
    );
}

async fn clients_are_told_apart(store: &impl SessionStore) {
    let rule = "client ids are told apart, to the last byte";
    let long = "x".repeat(65_535);
    let ids = [
        "a", "A", "a ", "a/b", "a:b", "", "ä", "{a}", "*", "a\u{1}", &long,
    ];
    for (at, id) in ids.iter().enumerate() {
        save(store, &full(id, at as u64 + 1)).await;
    }
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(
            load(store, id).await,
            Some(full(id, at as u64 + 1)),
            "{rule}: {id:?}"
        );
    }
    assert_eq!(load(store, "b").await, None, "{rule}");
}

async fn a_lower_epoch_never_replaces_a_higher_one(store: &impl SessionStore) {
    let rule = "a lower epoch never replaces a higher one";
    // Beyond 2^53 two epochs are one number to whoever compares as floating point, and beyond 2^63
    // the higher one is the lower to whoever compares as signed.
    let close = (1 << 60) + 1;
    for (high, low) in [
        (2, 1),
        (10, 9),
        (close, close - 1),
        (1 << 63, 1),
        (u64::MAX, 1 << 63),
    ] {
        let id = format!("client-{high}");
        save(store, &full(&id, high)).await;
        let answer = save(store, &full(&id, low)).await;
        assert_eq!(
            answer,
            Saved::Newer { epoch: high },
            "{rule}: {low} after {high}"
        );
        assert_eq!(
            load(store, &id).await,
            Some(full(&id, high)),
            "{rule}: {low} after {high}"
        );
    }
}

async fn the_same_epoch_replaces(store: &impl SessionStore) {
    let rule = "the owner may write again, and a new owner after it";
    save(store, &full("a", 5)).await;
    let mut again = full("a", 5);
    again.filters.pop();
    assert_eq!(save(store, &again).await, Saved::Stored, "{rule}");
    assert_eq!(load(store, "a").await.as_ref(), Some(&again), "{rule}");
    again.epoch = 6;
    assert_eq!(save(store, &again).await, Saved::Stored, "{rule}");
    assert_eq!(load(store, "a").await, Some(again), "{rule}");
}

async fn a_delete_spares_what_is_newer(store: &impl SessionStore) {
    let rule = "a delete spares what is newer";
    save(store, &full("a", 5)).await;
    assert!(!store.delete("a", 4).await.expect("answers"), "{rule}");
    assert!(load(store, "a").await.is_some(), "{rule}");
    assert!(
        !store.delete("b", 9).await.expect("answers"),
        "{rule}: of nothing"
    );
    assert!(
        store.delete("a", 5).await.expect("answers"),
        "{rule}: not newer"
    );
    assert_eq!(load(store, "a").await, None, "{rule}");
    assert!(
        !store.delete("a", 5).await.expect("answers"),
        "{rule}: it is gone"
    );
    save(store, &full("a", 6)).await;
    assert!(
        store.delete("a", 7).await.expect("answers"),
        "{rule}: older"
    );
}

/// Saves of these epochs do nothing after a delete, nobody sees that there was one, and a save of
/// the next epoch is stored.
async fn deleted_up_to(store: &impl SessionStore, id: &str, epoch: u64, late: &[u64], rule: &str) {
    for late in late {
        let answer = save(store, &full(id, *late)).await;
        assert_eq!(answer, Saved::Newer { epoch }, "{rule}: {late}");
        assert_eq!(load(store, id).await, None, "{rule}: {late}");
    }
    assert_eq!(store.count().await.expect("answers"), 0, "{rule}: no count");
    let mut from = Some(0);
    while let Some(at) = from {
        let page = store.scan(at, 100).await.expect("a scan succeeds");
        assert_eq!(page.records, [], "{rule}: no scan");
        from = page.next;
    }
    let next = full(id, epoch + 1);
    assert_eq!(save(store, &next).await, Saved::Stored, "{rule}: a new one");
    assert_eq!(load(store, id).await, Some(next), "{rule}: a new one");
    assert_eq!(
        store.count().await.expect("answers"),
        1,
        "{rule}: a new one"
    );
    assert!(
        store.delete(id, epoch + 1).await.expect("answers"),
        "{rule}"
    );
}

async fn a_delete_stands_against_late_saves(store: &impl SessionStore) {
    let rule = "a save does nothing after a delete of its epoch or a higher one";
    let close = (1 << 60) + 1;
    for (saved, deleted, late) in [
        (9, 9, [1, 9]),
        (5, 10, [9, 10]),
        (1, close, [close - 1, close]),
        (1 << 63, 1 << 63, [1, (1 << 63) - 1]),
    ] {
        let id = format!("client-{deleted}");
        save(store, &full(&id, saved)).await;
        assert!(store.delete(&id, deleted).await.expect("answers"), "{rule}");
        deleted_up_to(store, &id, deleted, &late, rule).await;
    }
}

async fn a_delete_of_nothing_stands_as_well(store: &impl SessionStore) {
    let rule = "a delete of nothing stands against late saves as well";
    for epoch in [7, 4] {
        let deleted = store.delete("a", epoch).await.expect("answers");
        assert!(!deleted, "{rule}: the highest counts");
    }
    deleted_up_to(store, "a", 7, &[4, 7], rule).await;
    let rule = "each delete stands: the next one too";
    assert!(!store.delete("a", 12).await.expect("answers"), "{rule}");
    deleted_up_to(store, "a", 12, &[8, 11, 12], rule).await;
}

async fn a_scan_has_every_record_once(store: &impl SessionStore) {
    let rule = "a scan has every record, and ends";
    let ids: BTreeSet<_> = (0..1_000)
        .map(|number| format!("device-{number}"))
        .collect();
    for id in &ids {
        save(store, &full(id, 1)).await;
    }
    for limit in [1, 100, 5_000] {
        let mut seen = BTreeSet::new();
        let mut from = Some(0);
        let mut pages = 0;
        while let Some(at) = from {
            let page = store.scan(at, limit).await.expect("a scan succeeds");
            for record in page.records {
                assert_eq!(
                    record,
                    full(&record.client_id, 1),
                    "{rule}: as it was saved"
                );
                assert!(
                    seen.insert(record.client_id),
                    "{rule}: once, as nothing changes"
                );
            }
            from = page.next;
            pages += 1;
            assert!(pages <= 10_000, "{rule}");
        }
        assert_eq!(seen, ids, "{rule}: limit {limit}");
    }
}

async fn count_counts(store: &impl SessionStore) {
    let rule = "count is the number of records";
    for number in 0..10 {
        assert_eq!(store.count().await.expect("answers"), number, "{rule}");
        save(store, &full(&format!("{number}"), 1)).await;
        save(store, &full(&format!("{number}"), 2)).await;
        save(store, &full(&format!("{number}"), 1)).await;
    }
    store.delete("3", 1).await.expect("answers");
    assert_eq!(store.count().await.expect("answers"), 10, "{rule}: newer");
    store.delete("3", 2).await.expect("answers");
    assert_eq!(store.count().await.expect("answers"), 9, "{rule}");
}
