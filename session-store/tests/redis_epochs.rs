//! A record of a higher epoch is never replaced, whoever writes at the same time and whatever the
//! server forgets. And a person can look.

mod common;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::time::Duration;

use common::device;
use common::server::{PATIENCE, Server, block_on, cluster, cluster_config};
use mqtt_fleet_session_store::limits::DELETED_S;
use mqtt_fleet_session_store::{
    EventKind, Record, RedisStore, Saved, SessionStore, Sink as _, StoreError, Write,
};

fn save(record: &Record) -> Write {
    Write::Save {
        client_id: record.client_id.as_str().into(),
        epoch: record.epoch,
        record: record.encode().expect("small"),
    }
}

#[test]
fn the_highest_epoch_stands_among_many_writers() {
    const WRITERS: u64 = 4;
    const CLIENTS: u64 = 20;
    const EPOCHS: u64 = 50;
    let server = Server::start(&[]);
    let start = Barrier::new(WRITERS as usize);
    // Each writer has epochs of its own, in an order of its own; it writes through the outbox, and
    // past it.
    let write = &|writer: u64| {
        let store = server.store();
        start.wait();
        for (round, number) in (0..EPOCHS * CLIENTS).map(|step| (step / CLIENTS, step % CLIENTS)) {
            let epoch = (round * 7 + number) % EPOCHS * WRITERS + writer;
            let record = device(number, epoch);
            if round % 2 == 0 {
                store.write(&save(&record)).expect("room");
            } else {
                block_on(store.save(&record)).expect("a save succeeds");
            }
        }
        assert_eq!(store.close(PATIENCE), 0);
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || write(writer));
        }
    });
    let store = server.store();
    for number in 0..CLIENTS {
        let record = block_on(store.load(&device(number, 0).client_id)).expect("an answer");
        assert_eq!(record, Some(device(number, EPOCHS * WRITERS - 1)));
    }
}

#[test]
fn a_server_that_forgets_scripts_gets_them_again() {
    let server = Server::start(&[]);
    let store = server.store();
    let reloaded = || {
        let figures: BTreeMap<_, _> = store.stats().each().map(|(name, _, n)| (name, n)).collect();
        figures["scripts_reloaded"]
    };
    let mut record = device(1, 5);
    assert_eq!(block_on(store.save(&record)).expect("saved"), Saved::Stored);
    let once = reloaded();
    assert_eq!(block_on(store.save(&record)).expect("saved"), Saved::Stored);
    assert_eq!(reloaded(), once, "known by now");
    server.ask::<()>(&["SCRIPT", "FLUSH", "SYNC"]);
    record.epoch = 4;
    let refused = block_on(store.save(&record)).expect("answered");
    assert_eq!(refused, Saved::Newer { epoch: 5 }, "no less careful");
    server.ask::<()>(&["SCRIPT", "FLUSH", "SYNC"]);
    record.epoch = 6;
    store.write(&save(&record)).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    assert_eq!(
        block_on(store.load("device-000001")).expect("an answer"),
        Some(record)
    );
    server.ask::<()>(&["SCRIPT", "FLUSH", "SYNC"]);
    assert!(block_on(store.delete("device-000001", 6)).expect("answered"));
    assert_eq!(reloaded(), once + 3);
}

#[test]
fn a_write_that_arrives_late_replaces_no_later_one_of_its_writer() {
    let server = Server::start(&[]);
    let store = server.store();
    let mut record = device(1, 5);
    block_on(store.save(&record)).expect("saved");
    let write = server.ask::<String>(&["HGET", "mqtt-fleet:session:{device-000001}", "write"]);
    let (writer, number) = write.rsplit_once('-').expect("writer and number");
    let number: u64 = number.parse().expect("a number");
    // As if a later write of this process had come first over another connection.
    let later = format!("{writer}-{}", number + 100);
    let set = [
        "HSET",
        "mqtt-fleet:session:{device-000001}",
        "write",
        &later,
    ];
    server.ask::<u64>(&set);
    record.node = "late".to_owned();
    let saved = block_on(store.save(&record)).expect("answered");
    assert_eq!(saved, Saved::Newer { epoch: 5 });
    record.epoch = 6;
    let saved = block_on(store.save(&record)).expect("answered");
    assert_eq!(saved, Saved::Stored, "a new epoch is later than all");
    // Another process at the same epoch is not held up by the numbers of this one.
    record.node = "another".to_owned();
    let saved = block_on(server.store().save(&record)).expect("answered");
    assert_eq!(saved, Saved::Stored);
}

/// What became of a fight of two proxies for a client: the loser's write had waited.
fn a_save_after_the_delete(server: &Server, start: impl Fn() -> RedisStore, key: &str) {
    let (loser, winner) = (start(), start());
    let mut ended = device(1, 5);
    ended.user = Some("fleet".to_owned());
    block_on(winner.save(&ended)).expect("saved");
    let delete = |epoch| Write::Delete {
        client_id: "device-000001".into(),
        epoch,
    };
    winner.write(&delete(6)).expect("room");
    assert_eq!(winner.wait_until_written(PATIENCE), 0);
    for epoch in [5, 6] {
        loser.write(&save(&device(1, epoch))).expect("room");
        assert_eq!(loser.wait_until_written(PATIENCE), 0);
    }
    let fields: BTreeMap<String, String> = server.ask(&["HGETALL", key]);
    let text = |text: &str| text.to_owned();
    let left = [("deleted", "yes"), ("epoch", "6")].map(|(name, value)| (text(name), text(value)));
    assert_eq!(fields, left.into(), "no record, nor a part of one");
    let lives: u64 = server.ask(&["TTL", key]);
    assert!((1..=DELETED_S).contains(&lives), "{lives} s");
    for store in [&loser, &winner] {
        let loaded = block_on(store.load("device-000001")).expect("an answer");
        assert_eq!(loaded, None);
        assert_eq!(block_on(store.count()).expect("an answer"), 0);
    }
    // Whoever comes next has a record as if nothing had been, for as long as it lives.
    block_on(loser.save(&device(1, 7))).expect("saved");
    let loaded = block_on(winner.load("device-000001")).expect("an answer");
    assert_eq!(loaded, Some(device(1, 7)));
    assert_eq!(server.ask::<u64>(&["HEXISTS", key, "deleted"]), 0);
    assert_eq!(server.ask::<i64>(&["TTL", key]), -1);
    assert_eq!(block_on(winner.count()).expect("an answer"), 1);
}

#[test]
fn a_save_that_comes_after_the_delete_of_its_session_does_nothing() {
    let server = Server::start(&[]);
    let key = "mqtt-fleet:session:{device-000001}";
    a_save_after_the_delete(&server, || server.store(), key);
}

#[test]
fn nor_does_it_in_a_cluster() {
    let servers = cluster(&[]);
    let start = || RedisStore::start(cluster_config(&servers)).expect("a store starts");
    let key = "mqtt-fleet:session:{device-000001}";
    let slot: u64 = servers[0].ask(&["CLUSTER", "KEYSLOT", key]);
    // Three masters, each with a third of the slots.
    let at = (slot * 3 / 16_384) as usize;
    a_save_after_the_delete(&servers[at], start, key);
}

#[test]
fn a_person_can_read_a_record() {
    let server = Server::start(&[]);
    let store = server.store();
    let mut record = device(42, 7);
    record.push_event(record.connected_at_ms + 5_000, EventKind::LeftWith(0));
    record.disconnected_at_ms = Some(record.connected_at_ms + 5_000);
    block_on(store.save(&record)).expect("saved");
    let key = "mqtt-fleet:session:{device-000042}";
    let mut fields: BTreeMap<String, String> = server.ask(&["HGETALL", key]);
    assert!(fields.remove("write").is_some());
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name} {}", value.trim_end()))
        .collect();
    let expected = [
        "address 10.1.2.3:41000",
        "connected 2026-09-21T14:13:20.042Z",
        "epoch 7",
        "expiry_s 604800",
        "filter:1 qos1 devices/device-000042/cmd",
        "history + 5.000 d00",
        "node node-1",
        "protocol 3.1.1",
        "version 1",
    ];
    assert_eq!(fields, expected);
    // It goes by itself a day after its session, unless the client comes back.
    let lives: u64 = server.ask(&["TTL", key]);
    assert!((604_800..=604_800 + 86_400).contains(&lives), "{lives}");
    record.push_event(record.connected_at_ms + 9_000, EventKind::Connected);
    record.disconnected_at_ms = None;
    record.epoch = 8;
    block_on(store.save(&record)).expect("saved");
    assert_eq!(server.ask::<i64>(&["TTL", key]), -1);
    let odd = device(42, 1).client_id + " {%}";
    record.client_id.clone_from(&odd);
    block_on(store.save(&record)).expect("saved");
    let key = "mqtt-fleet:session:{device-000042%20%7B%25%7D}";
    assert_eq!(server.ask::<u64>(&["EXISTS", key]), 1);
}

#[test]
fn what_is_no_record_is_said_and_left_out_of_scans() {
    let server = Server::start(&[]);
    let store = server.store();
    block_on(store.save(&device(1, 1))).expect("saved");
    let key = |id: &str| format!("mqtt-fleet:session:{{{id}}}");
    server.ask::<u64>(&["HSET", &key("newer"), "version", "9", "epoch", "1"]);
    server.ask::<u64>(&["HSET", &key("broken"), "version", "1", "epoch", "1"]);
    server.ask::<()>(&["SET", &key("text"), "text"]);
    let load = |id: &str| block_on(store.load(id)).expect_err(id);
    assert!(matches!(
        load("newer"),
        StoreError::Unsupported { version: 9 }
    ));
    assert!(
        load("broken").to_string().contains("protocol"),
        "{}",
        load("broken")
    );
    assert!(
        load("text").to_string().contains("WRONGTYPE"),
        "{}",
        load("text")
    );
    server.ask::<u64>(&["DEL", &key("text")]);
    let page = block_on(store.scan(0, 1_000)).expect("an answer");
    assert_eq!((page.records, page.next), (vec![device(1, 1)], None));
    // A write that Redis refuses for good does not stay in the way of others.
    server.ask::<()>(&["SET", &key("device-000002"), "text"]);
    store.write(&save(&device(2, 1))).expect("room");
    store.write(&save(&device(3, 1))).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    let failed = store
        .stats()
        .each()
        .find(|(name, ..)| *name == "writes_failed");
    assert_eq!(failed.map(|(.., n)| n), Some(1));
    let loaded = block_on(store.load("device-000003")).expect("an answer");
    assert_eq!(loaded, Some(device(3, 1)));
}

#[test]
fn a_shard_gets_its_answer_by_a_callback() {
    let server = Server::start(&[]);
    let store: RedisStore = server.store();
    block_on(store.save(&device(1, 1))).expect("saved");
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    let ask = |id: &str| {
        let answer = answer.clone();
        store.load_later(id, PATIENCE, move |loaded| {
            answer
                .send(loaded.expect("an answer"))
                .expect("somebody waits");
        });
        answered.recv_timeout(PATIENCE).expect("called")
    };
    assert_eq!(ask("device-000001"), Some(device(1, 1)));
    assert_eq!(ask("device-000002"), None);
    // After the end nobody waits in vain either.
    store.close(Duration::ZERO);
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    store.load_later("device-000001", PATIENCE, move |loaded| {
        answer.send(loaded).expect("somebody waits");
    });
    let loaded = answered.recv_timeout(PATIENCE).expect("called");
    assert!(loaded.expect_err("closed").to_string().contains("closed"));
    assert!(store.write(&save(&device(1, 2))).is_err());
}
