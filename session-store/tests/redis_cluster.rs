//! A Redis Cluster that loses a master serves the rest, and takes what waited when it is back.

mod common;

use common::device;
use common::server::{PATIENCE, block_on, cluster, cluster_config, eventually};
use mqtt_fleet_session_store::{Record, RedisStore, SessionStore, Sink as _, Write};

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
    let written = |server: &common::server::Server| server.calls("hset") > 150;
    eventually("two masters take their part", || {
        written(&servers[0]) && written(&servers[2])
    });
    eventually("the outage is seen", || figure(&store, "up") == 0);
    assert!(store.wait_until_written(std::time::Duration::ZERO) >= 50);
    // Whose master is there is not held up by the dead one.
    let loads = (0..CLIENTS).filter(|number| {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let id = format!("other-{number}");
        store.load_later(&id, std::time::Duration::from_millis(200), move |loaded| {
            answer.send(loaded).expect("somebody waits");
        });
        answered.recv_timeout(PATIENCE).expect("called").is_ok()
    });
    let loaded = loads.count() as u64;
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
