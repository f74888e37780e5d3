//! A Redis Cluster that loses a master serves the rest, and takes what waited when it is back.

mod common;

use std::time::{Duration, Instant};

use common::device;
use common::server::{
    IN_A_CLUSTER, PATIENCE, PERMISSIONS, Server, block_on, cluster, cluster_config, eventually,
};
use mqtt_fleet_session_store::{Record, RedisConfig, RedisStore, SessionStore, Sink as _, Write};

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

/// Time that a load may take.
const WAIT: Duration = Duration::from_secs(2);

/// Asks for some records that nobody has written, all at once; says how many are answered in time.
fn answered_loads(store: &RedisStore, clients: u64) -> u64 {
    let (answer, answers) = std::sync::mpsc::sync_channel(clients as usize);
    for number in 0..clients {
        let answer = answer.clone();
        store.load_later(&format!("other-{number}"), WAIT, move |loaded| {
            answer.send(loaded.is_ok()).expect("there is room");
        });
    }
    let answers = (0..clients).map(|_| answers.recv_timeout(PATIENCE).expect("called"));
    answers.filter(|in_time| *in_time).count() as u64
}

#[test]
fn one_master_away_and_back() {
    const CLIENTS: u64 = 300;
    // What a master has taken is on its disk.
    let mut servers = cluster(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = RedisStore::start(cluster_config(&servers)).expect("a store starts");
    for number in 0..CLIENTS {
        store.write(&save(&device(number, 1))).expect("room");
    }
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    servers[1].kill();
    for number in 0..CLIENTS {
        store.write(&save(&device(number, 2))).expect("room");
    }
    // A third of them waits, the others are written.
    let written = |server: &Server| server.calls("hset") > 150;
    eventually("two masters take their part", || {
        written(&servers[0]) && written(&servers[2])
    });
    eventually("the outage is seen", || figure(&store, "up") == 0);
    assert!(store.wait_until_written(Duration::ZERO) >= 50);
    // Whose master is there is not held up by the dead one, however long it has been away.
    let seen = Instant::now();
    eventually("it lasts", || seen.elapsed() > WAIT);
    let loaded = answered_loads(&store, CLIENTS);
    assert!((CLIENTS / 2..CLIENTS).contains(&loaded), "{loaded} loads");
    servers[1].restart();
    assert_eq!(store.wait_until_written(PATIENCE), 0, "it heals by itself");
    for number in 0..CLIENTS {
        let id = device(number, 0).client_id;
        let stored = block_on(store.load(&id)).expect("an answer");
        assert_eq!(stored, Some(device(number, 2)), "{id}");
    }
    assert_eq!(figure(&store, "writes_failed"), 0);
}

#[test]
fn one_master_that_hangs_holds_up_nobody_else() {
    const CLIENTS: u64 = 300;
    let servers = cluster(&[]);
    // Few enough that those who wait for it would take all places.
    let config = RedisConfig {
        in_flight_max: 16,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(1),
        ..cluster_config(&servers)
    };
    let store = RedisStore::start(config).expect("a store starts");
    eventually("all are answered", || {
        answered_loads(&store, CLIENTS) == CLIENTS
    });
    // It takes connections and answers nothing.
    servers[1].signal("-STOP");
    for number in 0..CLIENTS {
        store.write(&save(&device(number, 1))).expect("room");
    }
    eventually("it is known to be away", || {
        answered_loads(&store, CLIENTS) >= CLIENTS / 2
    });
    let mut good = 0;
    eventually("the others answer, again and again", || {
        let loaded = answered_loads(&store, CLIENTS);
        assert!(loaded < CLIENTS, "it does not answer");
        good += u32::from(loaded >= CLIENTS / 2);
        good >= 5
    });
    servers[1].signal("-CONT");
    assert_eq!(store.wait_until_written(PATIENCE), 0, "it heals by itself");
    assert_eq!(block_on(store.count()).expect("an answer"), CLIENTS);
    assert_eq!(figure(&store, "writes_failed"), 0);
}

#[test]
fn slots_move_while_records_are_written() {
    const CLIENTS: u64 = 200;
    let servers = cluster(&[]);
    let store = RedisStore::start(cluster_config(&servers)).expect("a store starts");
    for number in 0..CLIENTS {
        store.write(&save(&device(number, 1))).expect("room");
    }
    assert_eq!(store.wait_until_written(PATIENCE), 0);
    let name = |at: usize| servers[at].ask::<String>(&["CLUSTER", "MYID"]);
    let (from, to) = (name(0), name(2));
    let move_slots = || {
        let mut reshard = std::process::Command::new("redis-cli");
        reshard.args([
            "--cluster",
            "reshard",
            &format!("127.0.0.1:{}", servers[0].port()),
        ]);
        reshard.args([
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
            "--cluster-slots",
            "2000",
        ]);
        let output = reshard
            .arg("--cluster-yes")
            .output()
            .expect("redis-cli runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    };
    let mut epoch = 1;
    std::thread::scope(|scope| {
        let moving = scope.spawn(move_slots);
        while !moving.is_finished() {
            epoch += 1;
            for number in 0..CLIENTS {
                store.write(&save(&device(number, epoch))).expect("room");
            }
            assert_eq!(store.wait_until_written(PATIENCE), 0);
        }
        moving.join().expect("it succeeds");
    });
    assert!(epoch > 5, "{epoch} rounds while slots moved");
    for number in 0..CLIENTS {
        let id = device(number, 0).client_id;
        let stored = block_on(store.load(&id)).expect("an answer");
        assert_eq!(stored, Some(device(number, epoch)), "{id}");
    }
    assert_eq!(block_on(store.count()).expect("an answer"), CLIENTS);
    assert_eq!(figure(&store, "writes_failed"), 0);
}

/// A slot of the first of some masters that is on its way to the second: with the device that has
/// its key there, and another one that has none yet.
struct Moving {
    slot: String,
    here: u64,
    new: u64,
}

impl Moving {
    /// Saves a device and begins to move its slot. Nothing has arrived there.
    fn begin(store: &RedisStore, masters: &[Server], record: impl Fn(u64) -> Record) -> Self {
        let client = redis::Client::open(masters[0].url()).expect("an address");
        let mut connection = client.get_connection().expect("it answers");
        let mut slot_of = |number: u64| -> u64 {
            let mut command = redis::cmd("CLUSTER");
            command.arg("KEYSLOT").arg(key(number));
            command.query(&mut connection).expect("a slot")
        };
        let mut numbers = 0..1_000_000;
        let lowest = |slot: u64| slot < 5_000; // Of the first of three.
        let here = numbers.find(|number| lowest(slot_of(*number)));
        let here = here.expect("a third of all");
        let slot = slot_of(here);
        let new = numbers.find(|number| slot_of(*number) == slot);
        block_on(store.save(&record(here))).expect("saved");
        let moving = Self {
            slot: slot.to_string(),
            here,
            new: new.expect("one in 16,384"),
        };
        moving.set(&masters[1], "IMPORTING", &masters[0]);
        moving.set(&masters[0], "MIGRATING", &masters[1]);
        moving
    }

    /// Gives the slot to the second, with the key.
    fn end(&self, masters: &[Server]) {
        let port = masters[1].port().to_string();
        let key = key(self.here);
        masters[0].ask::<String>(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
        for master in [&masters[1], &masters[0], &masters[2]] {
            self.set(master, "NODE", &masters[1]);
        }
    }

    fn set(&self, at: &Server, state: &str, other: &Server) {
        let other: String = other.ask(&["CLUSTER", "MYID"]);
        at.ask::<()>(&["CLUSTER", "SETSLOT", &self.slot, state, &other]);
    }
}

fn key(number: u64) -> String {
    format!("mqtt-fleet:session:{{{}}}", device(number, 0).client_id)
}

#[test]
fn a_record_is_replaced_where_it_is_while_its_slot_moves() {
    let servers = cluster(&[]);
    for server in &servers {
        let user = ["ACL", "SETUSER", "fleet", "on", ">hush"];
        server.ask::<()>(&[&user[..], &PERMISSIONS, &IN_A_CLUSTER].concat());
    }
    let config = RedisConfig {
        user: Some("fleet".to_owned()),
        password: Some("hush".to_owned()),
        ..cluster_config(&servers)
    };
    let store = RedisStore::start(config).expect("a store starts");
    // It has more fields than the next one, and ends by itself.
    let ended = |number| {
        let mut record = device(number, 1);
        record.user = Some("fleet".to_owned());
        record.disconnected_at_ms = Some(record.connected_at_ms + 1);
        record
    };
    let moving = Moving::begin(&store, &servers, ended);
    let written = |number, epoch| {
        store.write(&save(&device(number, epoch))).expect("room");
        assert_eq!(store.wait_until_written(PATIENCE), 0);
        let id = device(number, 0).client_id;
        let stored = block_on(store.load(&id)).expect("an answer");
        assert_eq!(stored, Some(device(number, epoch)), "{id}");
    };
    written(moving.here, 2);
    let here: Vec<String> = servers[0].ask(&["CLUSTER", "GETKEYSINSLOT", &moving.slot, "9"]);
    assert_eq!(here, [key(moving.here)]);
    let lives: i64 = servers[0].ask(&["TTL", &key(moving.here)]);
    assert_eq!(lives, -1, "nothing is left of the end");
    // What is new begins where the slot goes.
    written(moving.new, 1);
    written(moving.new, 2);
    let there: Vec<String> = servers[1].ask(&["CLUSTER", "GETKEYSINSLOT", &moving.slot, "9"]);
    assert_eq!(there, [key(moving.new)]);
    moving.end(&servers);
    written(moving.here, 3);
    written(moving.new, 3);
    assert_eq!(block_on(store.count()).expect("an answer"), 2);
    for name in ["writes_failed", "writes_retried", "outages"] {
        assert_eq!(figure(&store, name), 0, "{name}");
    }
}

#[test]
fn all_masters_away_and_back() {
    let mut servers = cluster(&[]);
    let store = RedisStore::start(cluster_config(&servers)).expect("a store starts");
    block_on(store.save(&device(0, 1))).expect("saved");
    for server in &mut servers {
        server.kill();
    }
    for number in 0..100 {
        store.write(&save(&device(number, 2))).expect("room");
    }
    eventually("the outage is seen", || figure(&store, "up") == 0);
    for server in &mut servers {
        server.restart();
    }
    assert_eq!(store.wait_until_written(PATIENCE), 0, "it heals by itself");
    let stored = block_on(store.load("device-000099")).expect("an answer");
    assert_eq!(stored, Some(device(99, 2)));
    assert_eq!(block_on(store.count()).expect("an answer"), 100);
}
