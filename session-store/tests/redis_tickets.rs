//! Keys of TLS session tickets in Redis: all processes have the same, and nothing that happens to Redis takes them away.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use common::device;
use common::server::{PATIENCE, Server, block_on, cluster, cluster_config, eventually};
use mqtt_fleet_session_store::{
    RedisStore, SessionStore, StoredTicketKeys, TICKET_KEY_BYTES, TicketKeyring, TicketRules,
};

const KEY: &str = "mqtt-fleet:tickets";

const RULES: TicketRules = TicketRules {
    rotate_s: 3600,
    keep_s: 10_000,
    keys_max: 4,
    ask_every: Duration::from_millis(20),
};

/// Proposes a new key each time, and sends on what it is given.
struct Keyring(SyncSender<StoredTicketKeys>);

static NEXT: AtomicU64 = AtomicU64::new(1);

impl TicketKeyring for Keyring {
    fn propose(&mut self) -> Option<[u8; TICKET_KEY_BYTES]> {
        let number: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0xab; TICKET_KEY_BYTES];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Some(bytes)
    }

    fn take(&mut self, keys: StoredTicketKeys) {
        // Where one waits, or nobody does, nothing is missed.
        drop(self.0.try_send(keys));
    }
}

/// A process: its store, and the keys it was given.
struct Process {
    store: RedisStore,
    given: Receiver<StoredTicketKeys>,
}

impl Process {
    fn of(store: RedisStore, rules: TicketRules) -> Self {
        let (given, received) = sync_channel(1);
        let keyring = Keyring(given);
        store.share_ticket_keys(rules, Box::new(keyring));
        Self {
            store,
            given: received,
        }
    }

    /// The next keys it is given that were asked for from now on.
    fn next(&self) -> StoredTicketKeys {
        // One may wait here, one may be on its way.
        for _ in 0..2 {
            let keys = self.given.recv_timeout(PATIENCE);
            keys.expect("keys");
        }
        self.given.recv_timeout(PATIENCE).expect("keys")
    }

    fn await_keys(&self, what: &str, holds: impl Fn(&StoredTicketKeys) -> bool) {
        eventually(what, || holds(&self.next()));
    }

    fn figure(&self, name: &str) -> u64 {
        let mut figures = self.store.stats().each();
        let (_, _, value) = figures.find(|(of, _, _)| *of == name).expect("a figure");
        value
    }
}

fn entries(server: &Server) -> Vec<String> {
    server.ask(&["ZRANGE", KEY, "0", "-1"])
}

#[test]
fn all_have_the_key_that_one_made() {
    let server = Server::start(&[]);
    let processes: Vec<_> = (0..4).map(|_| Process::of(server.store(), RULES)).collect();
    let all: Vec<_> = processes
        .iter()
        .map(|process| process.next().keys)
        .collect();
    assert!(all.iter().all(|keys| *keys == all[0] && keys.len() == 1));
    let made: u64 = processes.iter().map(|p| p.figure("ticket_keys_made")).sum();
    assert_eq!(made, 1, "the others found it");
    assert_eq!(entries(&server)[0].len(), 64, "hexadecimal, for people");
}

#[test]
fn an_old_key_gets_one_successor_whoever_finds_it() {
    let server = Server::start(&[]);
    let rules = TicketRules {
        rotate_s: 1,
        ..RULES
    };
    let processes: Vec<_> = (0..3).map(|_| Process::of(server.store(), rules)).collect();
    processes[0].await_keys("four keys", |keys| keys.keys.len() == 4);
    let keys = processes[1].next().keys;
    assert_eq!(keys.len(), 4, "and never more");
    let times: Vec<_> = keys.iter().map(|key| key.made_s).collect();
    assert!(times.windows(2).all(|pair| pair[0] > pair[1]), "{times:?}");
    let oldest = keys[3].clone();
    processes[2].await_keys("the oldest goes", |keys| !keys.keys.contains(&oldest));
}

/// Keys are dropped by age, also those that stayed while nobody asked, and those of a clock that was ahead.
#[test]
fn what_is_too_old_or_from_the_future_goes() {
    let server = Server::start(&[]);
    let now: Vec<String> = server.ask(&["TIME"]);
    let now_s: u64 = now[0].parse().expect("seconds");
    let (old, live, future) = ("01".repeat(32), "02".repeat(32), "03".repeat(32));
    let add = |key: &str, at_s: u64| {
        let _: i64 = server.ask(&["ZADD", KEY, &at_s.to_string(), key]);
    };
    add(&old, now_s - RULES.keep_s - 60);
    add(&live, now_s - 60);
    add(&future, now_s + RULES.rotate_s + 60);
    let process = Process::of(server.store(), RULES);
    let keys = process.next();
    assert!(keys.now_s >= now_s);
    let [key] = &keys.keys[..] else {
        panic!("{keys:?}")
    };
    assert_eq!((key.bytes, key.made_s), ([2; 32], now_s - 60));
    assert!(!format!("{keys:?}").contains("2, 2"), "no key in a log");
    assert_eq!(entries(&server), [live]);
}

#[test]
fn what_is_no_key_is_left_out_and_counted() {
    let server = Server::start(&[]);
    let now: Vec<String> = server.ask(&["TIME"]);
    let _: i64 = server.ask(&["ZADD", KEY, &now[0], "rubbish"]);
    let process = Process::of(server.store(), RULES);
    eventually("refused", || process.figure("ticket_keys_failed") > 0);
    assert!(process.figure("malformed") > 0);
    let good = "0A".repeat(32);
    let _: i64 = server.ask(&["ZADD", KEY, &now[0], &good]);
    process.await_keys("the key", |keys| {
        keys.keys.len() == 1 && keys.keys[0].bytes == [0x0a; 32]
    });
}

/// What is wrong with the keys is not wrong with the store: records are written on, over the same connection.
#[test]
fn a_set_that_is_none_or_forbidden_hurts_nothing_else() {
    let server = Server::start(&[]);
    let _: String = server.ask(&["SET", KEY, "a text"]);
    let process = Process::of(server.store(), RULES);
    eventually("refused", || process.figure("ticket_keys_failed") > 0);
    block_on(process.store.save(&device(1, 1))).expect("it saves");
    assert_eq!(process.figure("connects"), 1);
    assert_eq!(process.figure("up"), 1);
    let _: i64 = server.ask(&["DEL", KEY]);
    assert_eq!(process.next().keys.len(), 1, "by itself");

    let acl = "ACL SETUSER records on >secret ~mqtt-fleet:session:* +@all";
    let _: String = server.ask(&acl.split(' ').collect::<Vec<_>>());
    let mut config = server.config();
    config.user = Some("records".to_owned());
    config.password = Some("secret".to_owned());
    let process = Process::of(RedisStore::start(config).expect("it starts"), RULES);
    eventually("forbidden", || process.figure("ticket_keys_failed") > 1);
    block_on(process.store.save(&device(2, 1))).expect("it saves");
    assert_eq!((process.figure("connects"), process.figure("up")), (1, 1));
}

#[test]
fn a_server_that_was_away_and_has_forgotten_gets_new_keys() {
    let mut server = Server::start(&[]);
    let processes: Vec<_> = (0..2).map(|_| Process::of(server.store(), RULES)).collect();
    let before = processes[0].next().keys;
    server.kill();
    server.restart();
    for process in &processes {
        process.await_keys("new keys", |keys| keys.keys != before);
    }
    assert_eq!(processes[0].next().keys, processes[1].next().keys);
    let _: String = server.ask(&["FLUSHALL"]);
    let keys = processes[0].next().keys;
    assert_eq!((keys.len(), keys), (1, processes[1].next().keys));
}

/// The server is there later than the process, and the end of the store is the end of the questions.
#[test]
fn it_waits_for_the_server_and_ends_with_the_store() {
    let mut server = Server::start(&[]);
    server.kill();
    let process = Process::of(server.store(), RULES);
    server.restart();
    process.next();
    assert_eq!(process.store.close(PATIENCE), 0);
    // One may wait here.
    let waiting = process.given.recv_timeout(PATIENCE);
    let end = waiting.and_then(|_| process.given.recv_timeout(PATIENCE));
    assert_eq!(end, Err(RecvTimeoutError::Disconnected), "it is dropped");
}

#[test]
fn in_a_cluster_too() {
    let mut masters = cluster(&[]);
    let start = || RedisStore::start(cluster_config(&masters)).expect("it starts");
    let processes: Vec<_> = (0..2).map(|_| Process::of(start(), RULES)).collect();
    let keys = processes[0].next().keys;
    assert_eq!((keys.len(), &keys), (1, &processes[1].next().keys));
    let holder = masters.iter_mut().find(|master| {
        let there: redis::RedisResult<i64> = redis::Client::open(master.url())
            .and_then(|client| client.get_connection())
            .and_then(|mut connection| redis::cmd("EXISTS").arg(KEY).query(&mut connection));
        there == Ok(1)
    });
    let holder = holder.expect("a master has it");
    holder.kill();
    eventually("noticed", || processes[0].figure("ticket_keys_failed") > 0);
    holder.restart();
    for process in &processes {
        assert_eq!(process.next().keys.len(), 1, "again");
    }
}
