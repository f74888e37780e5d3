//! What a device costs Redis: memory, and commands in its lifetime.

mod common;

use common::device;
use common::server::{PATIENCE, Server, block_on};
use mqtt_fleet_session_store::{EventKind, Record, RedisStore, SessionStore, WriteBehind};

const DEVICES: u64 = 10_000;

/// Lets a fleet's shards write records as of a moment, and returns what Redis holds per device.
fn bytes_each(
    server: &Server,
    store: &RedisStore,
    before: u64,
    record: impl Fn(u64) -> Record,
) -> u64 {
    let mut shard = WriteBehind::default();
    for number in 0..DEVICES {
        shard.save(0, &record(number)).expect("small");
    }
    shard.flush(store).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    assert_eq!(block_on(store.count()).expect("an answer"), DEVICES);
    (server.info("used_memory") - before) / DEVICES
}

fn ended(mut record: Record) -> Record {
    record.push_event(record.connected_at_ms + 60_000, EventKind::LeftWith(0));
    record.disconnected_at_ms = Some(record.connected_at_ms + 60_000);
    record
}

/// Bytes of the pages that Redis' memory is in, gaps between records included. (What INFO has may be older.)
fn bytes_of_pages(server: &Server) -> u64 {
    let stats: String = server.ask(&["MEMORY", "MALLOC-STATS"]);
    let figure = stats
        .split_once(", active: ")
        .and_then(|(_, rest)| rest.split(',').next());
    let figure = figure.expect("Redis with jemalloc");
    figure.parse().expect("a number of bytes")
}

#[test]
fn a_device_with_one_subscription_costs_at_most_700_bytes() {
    let server = Server::start(&[]);
    let store = server.store();
    // Connection and scripts are not the devices'.
    let mut first = device(0, 1);
    block_on(store.save(&first)).expect("saved");
    block_on(store.delete(&first.client_id, 1)).expect("deleted");
    let before = server.info("used_memory");
    let connected = bytes_each(&server, &store, before, |number| device(number, 1 << 40));
    let left = bytes_each(&server, &store, before, |number| {
        ended(device(number, 1 << 40))
    });
    let full = bytes_each(&server, &store, before, |number| {
        let mut record = ended(ended(ended(device(number, 2 << 40))));
        record.user = Some("fleet".to_owned());
        record
    });
    println!(
        "bytes a device: {connected} connected, {left} left, {full} left with four events and a user"
    );
    let ended_each = {
        let mut shard = WriteBehind::default();
        for number in 0..DEVICES {
            shard.delete(0, &device(number, 0).client_id, 2 << 40);
        }
        shard.flush(&store).expect("room");
        assert_eq!(store.wait_until_written(PATIENCE), 0);
        assert_eq!(block_on(store.count()).expect("an answer"), 0);
        (server.info("used_memory") - before) / DEVICES
    };
    println!("bytes of an ended session, for a while: {ended_each}");
    assert!(ended_each <= 350, "{ended_each} bytes of an ended session");
    for bytes in [connected, left, full] {
        assert!((150..=700).contains(&bytes), "{bytes} bytes a device");
    }
    // The cost hangs on the encoding in one piece.
    block_on(store.save(&device(1, 3 << 40))).expect("saved");
    let key = "mqtt-fleet:session:{device-000001}";
    assert_eq!(
        server.ask::<String>(&["OBJECT", "ENCODING", key]),
        "listpack"
    );
    first.filters[0].filter = "long/".repeat(20);
    first.epoch = 3 << 40;
    block_on(store.save(&first)).expect("saved");
    let key = "mqtt-fleet:session:{device-000000}";
    assert_eq!(
        server.ask::<String>(&["OBJECT", "ENCODING", key]),
        "hashtable"
    );
    let long: u64 = server.ask(&["MEMORY", "USAGE", key]);
    println!("with a filter of 100 bytes, by default settings: {long} bytes");
    server.ask::<()>(&["CONFIG", "SET", "hash-max-listpack-value", "256"]);
    block_on(store.save(&first)).expect("saved");
    let long: u64 = server.ask(&["MEMORY", "USAGE", key]);
    println!("with hash-max-listpack-value 256: {long} bytes");
    assert!(long <= 700, "{long} bytes with a long filter");
}

/// All lose their connections at once and come back, in an order of their own. Whoever's record needs another place in memory leaves a
/// gap between others: then Redis would need the double for a while.
#[test]
fn records_stay_in_their_place_when_all_devices_lose_their_connections() {
    let server = Server::start(&[]);
    let store = server.store();
    block_on(store.save(&device(0, 1))).expect("saved");
    let before = bytes_of_pages(&server);
    let mut records: Vec<_> = (0..DEVICES).map(|number| device(number, 1 << 40)).collect();
    let mut shard = WriteBehind::default();
    let mut write = |records: &mut [Record], change: &dyn Fn(&mut Record)| {
        for number in 0..records.len() {
            let record = &mut records[number * 7_919 % DEVICES as usize];
            change(record);
            shard.save(0, record).expect("small");
        }
        shard.flush(&store).expect("room");
        assert_eq!(store.wait_until_written(PATIENCE), 0);
    };
    let usage = || {
        let all = (0..DEVICES).step_by(997).map(|number| {
            let key = format!("mqtt-fleet:session:{{device-{number:06}}}");
            server.ask::<u64>(&["MEMORY", "USAGE", &key])
        });
        all.collect::<Vec<_>>()
    };
    write(&mut records, &|_| {});
    let (steady, young) = (bytes_of_pages(&server) - before, usage());
    for storm in 1..4 {
        write(&mut records, &|record| {
            let at_ms = record.connected_at_ms + storm * 77_777;
            record.push_event(at_ms, EventKind::Lost);
            record.disconnected_at_ms = Some(at_ms);
        });
        assert_eq!(usage(), young, "lost for the {storm}. time");
        let grown = bytes_of_pages(&server) - before;
        println!("storm {storm}: from {steady} to {grown} bytes");
        // The times at which Redis lets them go are a table of their own.
        assert!(grown * 5 <= steady * 6, "from {steady} to {grown} bytes");
        write(&mut records, &|record| {
            record.connected_at_ms = record.disconnected_at_ms.expect("it was lost") + 12_345;
            record.disconnected_at_ms = None;
            record.push_event(record.connected_at_ms, EventKind::Connected);
        });
        assert_eq!(usage(), young, "back for the {storm}. time");
    }
}

#[test]
fn a_life_takes_three_commands() {
    let server = Server::start(&[]);
    let store = server.store();
    // The first of all has to bring the script along.
    block_on(store.save(&device(0, 1))).expect("saved");
    let sent = || server.calls("evalsha") + server.calls("eval") + server.calls("hgetall");
    let before = sent();
    let devices = 1..=100;
    let mut shard = WriteBehind::default();
    for number in devices.clone() {
        let mut record = device(number, 1);
        let filters = std::mem::take(&mut record.filters);
        shard.save(0, &record).expect("small");
        record.filters = filters;
        shard.save(20, &record).expect("small");
    }
    shard.flush(&store).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    assert_eq!(sent() - before, 100, "CONNECT and SUBSCRIBE: one");
    for number in devices.clone() {
        shard.save(0, &ended(device(number, 1))).expect("small");
    }
    shard.flush(&store).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    assert_eq!(sent() - before, 200, "an orderly end: another one");
    for number in devices {
        let record = block_on(store.load(&device(number, 1).client_id)).expect("an answer");
        assert_eq!(record, Some(ended(device(number, 1))));
    }
    assert_eq!(sent() - before, 300, "and one for a resume");
}
