//! While Redis is away writes wait and loads come back in time; when it is back nothing of what
//! waited is lost, and the log has one line for each.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::device;
use common::server::{PATIENCE, Server, block_on, eventually};
use mqtt_fleet_session_store::{
    Record, RedisConfig, RedisStore, SessionStore, Sink as _, StoreError, Write,
};

fn save(record: &Record) -> Write {
    Write::Save {
        client_id: record.client_id.as_str().into(),
        epoch: record.epoch,
        record: record.encode().expect("small"),
    }
}

fn figure(store: &RedisStore, name: &str) -> u64 {
    let mut figures = store.stats().each();
    let figure = figures.find(|(there, ..)| *there == name);
    figure.unwrap_or_else(|| panic!("{name} is counted")).2
}

/// Each answer is on disk before it is given.
const SAFE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

#[test]
fn the_last_record_of_each_client_survives_kills_of_the_server() {
    const CLIENTS: u64 = 200;
    const ROUNDS: u64 = 5;
    let mut server = Server::start(&SAFE);
    let store = server.store();
    for round in 1..=ROUNDS {
        let stored = figure(&store, "saves");
        for number in 0..CLIENTS {
            store
                .write(&save(&device(number, round * 2)))
                .expect("room");
        }
        // In the middle of them.
        eventually("some are stored", || figure(&store, "saves") > stored);
        server.kill();
        for number in (0..CLIENTS).step_by(2) {
            store
                .write(&save(&device(number, round * 2 + 1)))
                .expect("room");
        }
        server.restart();
        assert_eq!(
            store.wait_until_written(PATIENCE),
            0,
            "back without a restart"
        );
        for number in 0..CLIENTS {
            let newest = device(number, round * 2 + u64::from(number % 2 == 0));
            let stored = block_on(store.load(&newest.client_id)).expect("an answer");
            assert_eq!(stored, Some(newest), "round {round}");
        }
    }
    assert!(figure(&store, "outages") >= 1 && figure(&store, "writes_failed") == 0);
}

#[test]
fn loads_come_back_in_time_while_redis_is_away() {
    let mut server = Server::start(&[]);
    let store = server.store();
    block_on(store.save(&device(1, 1))).expect("saved");
    server.kill();
    let load = |id: &str, wait| {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let asked = Instant::now();
        store.load_later(id, wait, move |loaded| {
            answer.send(loaded).expect("somebody waits");
        });
        let loaded = answered.recv_timeout(PATIENCE).expect("called");
        (loaded, asked.elapsed())
    };
    let wait = Duration::from_millis(200);
    let (loaded, took) = load("device-000001", wait);
    assert!(
        matches!(loaded, Err(StoreError::Unavailable(_))),
        "{loaded:?}"
    );
    assert!(took < PATIENCE / 4, "{took:?} for a wait of {wait:?}");
    // Known to be away for longer than that: no need to wait again.
    eventually("an outage of 200 ms", || {
        load("device-000001", wait).1 < wait / 2
    });
    // What waits to be written is seen all the same.
    store.write(&save(&device(2, 1))).expect("room");
    let (loaded, _) = load("device-000002", wait);
    assert_eq!(loaded.expect("it waits here"), Some(device(2, 1)));
    store
        .write(&Write::Delete {
            client_id: "device-000002".into(),
            epoch: 1,
        })
        .expect("room");
    let (loaded, _) = load("device-000002", wait);
    assert_eq!(loaded.expect("its deletion waits here"), None);
    server.restart();
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    let (loaded, _) = load("device-000001", PATIENCE);
    assert_eq!(
        loaded.expect("an answer"),
        None,
        "the server keeps nothing on disk"
    );
}

/// An answer that comes on a connection just given up is no sign that there is a connection.
#[test]
fn a_late_answer_does_not_end_an_outage() {
    let server = Server::start(&[]);
    let config = RedisConfig {
        response_timeout: Duration::from_secs(1),
        // The late answer comes before the next attempt.
        retry_min: Duration::from_secs(3),
        retry_max: Duration::from_secs(3),
        ..server.config()
    };
    let store = RedisStore::start(config).expect("a store starts");
    store.write(&save(&device(0, 1))).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    server.signal("-STOP");
    let stopped = Instant::now();
    store.write(&save(&device(1, 1))).expect("room");
    eventually("half of what a command may take", || {
        stopped.elapsed() > Duration::from_millis(500)
    });
    store.write(&save(&device(2, 1))).expect("room");
    eventually("the first is given up", || figure(&store, "outages") == 1);
    server.signal("-CONT");
    store.write(&save(&device(3, 1))).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0, "a new connection");
    for number in 0..4 {
        let device = device(number, 1);
        let stored = block_on(store.load(&device.client_id)).expect("an answer");
        assert_eq!(stored, Some(device));
    }
}

#[test]
fn at_the_bound_new_clients_are_refused_and_counted() {
    let mut server = Server::start(&[]);
    let config = RedisConfig {
        waiting_entries_max: 10,
        ..server.config()
    };
    let store = RedisStore::start(config).expect("a store starts");
    server.kill();
    for number in 0..10 {
        store.write(&save(&device(number, 1))).expect("room");
    }
    let refused = store.write(&save(&device(10, 1))).expect_err("full");
    assert!(
        matches!(refused, StoreError::Waiting { writes: 10, .. }),
        "{refused}"
    );
    assert!(store.write(&save(&device(9, 2))).expect("in its place"));
    assert!(!store.write(&save(&device(9, 1))).expect("left out"));
    assert_eq!(figure(&store, "writes_refused_full"), 1);
    assert_eq!(figure(&store, "writes_waiting"), 10);
    server.restart();
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    assert_eq!(server.ask::<u64>(&["DBSIZE"]), 10);
    store.write(&save(&device(10, 1))).expect("room again");
}

#[test]
fn a_server_that_does_not_answer_is_given_up_and_tried_again() {
    let server = Server::start(&[]);
    let config = RedisConfig {
        response_timeout: Duration::from_millis(100),
        ..server.config()
    };
    let store = RedisStore::start(config).expect("a store starts");
    block_on(store.save(&device(1, 1))).expect("saved");
    server.signal("-STOP");
    for epoch in 2..50 {
        store.write(&save(&device(1, epoch))).expect("room");
    }
    eventually("the outage is seen", || figure(&store, "up") == 0);
    store.write(&save(&device(1, 50))).expect("room");
    server.signal("-CONT");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    let stored = block_on(store.load("device-000001")).expect("an answer");
    assert_eq!(stored, Some(device(1, 50)));
}

#[test]
fn a_wiped_server_is_filled_again_by_what_changes() {
    let server = Server::start(&[]);
    let store = server.store();
    block_on(store.save(&device(1, 9))).expect("saved");
    server.ask::<()>(&["FLUSHALL"]);
    assert_eq!(
        block_on(store.load("device-000001")).expect("an answer"),
        None
    );
    store.write(&save(&device(1, 3))).expect("room");
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    let stored = block_on(store.load("device-000001")).expect("an answer");
    assert_eq!(
        stored,
        Some(device(1, 3)),
        "nothing is left of a higher epoch"
    );
    assert_eq!(figure(&store, "outages"), 0);
}

#[test]
fn a_full_server_takes_known_clients_and_the_others_once_there_is_room() {
    let server = Server::start(&[]);
    let store = server.store();
    block_on(store.save(&device(1, 1))).expect("saved");
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    store.write(&save(&device(1, 2))).expect("room");
    assert_eq!(
        store.wait_until_written(PATIENCE),
        0,
        "it takes the place of another"
    );
    store.write(&save(&device(2, 1))).expect("room");
    eventually("it is noticed", || figure(&store, "up") == 0);
    assert_eq!(server.ask::<u64>(&["DBSIZE"]), 1);
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    assert_eq!(figure(&store, "outages"), 1);
    assert_eq!(figure(&store, "up"), 1);
}

/// Keeps what is logged by stores on a certain address.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_outage_is_one_line_and_its_end_another() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole process: the store logs on its own thread. Lines of other tests name other
    // ports.
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let lines = |word: &str| -> Vec<String> {
        let text = log.0.lock().expect("nobody panics").clone();
        let text = String::from_utf8(text).expect("text");
        text.lines()
            .filter(|line| line.contains(word))
            .map(str::to_owned)
            .collect()
    };
    let mut server = Server::start(&[]);
    let port = format!("127.0.0.1:{}", server.port());
    let store = server.store();
    block_on(store.save(&device(1, 1))).expect("saved");
    for outage in 1..=2 {
        server.kill();
        for number in 0..1_000 {
            store
                .write(&save(&device(number, outage + 1)))
                .expect("room");
        }
        let failed = figure(&store, "connects_failed");
        eventually("it is tried some times", || {
            figure(&store, "connects_failed") > failed + 5
        });
        server.restart();
        assert_eq!(store.wait_until_written(PATIENCE), 0);
        let warnings: Vec<_> = lines(&port)
            .into_iter()
            .filter(|line| line.contains("WARN"))
            .collect();
        assert_eq!(warnings.len() as u64, outage, "{warnings:#?}");
        assert!(
            warnings[0].contains("Clients are served on"),
            "{}",
            warnings[0]
        );
    }
    assert!(!lines("session records are written again").is_empty());
    assert_eq!(figure(&store, "outages"), 2);
}
