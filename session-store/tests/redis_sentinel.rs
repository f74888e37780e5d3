//! When a master dies, sentinels name another one, and writes go there.

mod common;

use common::device;
use common::server::{PATIENCE, Server, block_on, config, eventually};
use mqtt_fleet_session_store::{
    Record, RedisConfig, RedisMode, RedisStore, SessionStore, Sink as _, Write,
};

fn save(record: &Record) -> Write {
    Write::Save {
        client_id: record.client_id.as_str().into(),
        epoch: record.epoch,
        record: record.encode().expect("small"),
    }
}

/// A sentinel that alone decides, quickly.
fn sentinel(master: &Server) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "sentinel monitor fleet 127.0.0.1 {} 1\nsentinel down-after-milliseconds fleet 3000\n\
         sentinel failover-timeout fleet 2000\n",
        master.port()
    );
    std::fs::write(folder.path().join("sentinel.conf"), text).expect("writable");
    Server::start_in(folder, &["sentinel.conf", "--sentinel"])
}

#[test]
fn a_new_master_takes_over() {
    let mut master = Server::start(&[]);
    let port = master.port().to_string();
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {port}")]);
    eventually("the replica follows", || {
        replica
            .ask::<String>(&["INFO", "replication"])
            .contains("master_link_status:up")
    });
    let sentinel = sentinel(&master);
    eventually("the sentinel knows the replica", || {
        let replicas: Vec<redis::Value> = sentinel.ask(&["SENTINEL", "REPLICAS", "fleet"]);
        replicas.len() == 1
    });
    let config = RedisConfig {
        master_name: Some("fleet".to_owned()),
        ..config(RedisMode::Sentinel, [sentinel.url()])
    };
    let store = RedisStore::start(config.clone()).expect("a store starts");
    block_on(store.save(&device(1, 1))).expect("saved");
    eventually("the replica has it", || {
        replica.ask::<u64>(&["DBSIZE"]) == 1
    });
    master.kill();
    for number in 0..100 {
        store.write(&save(&device(number, 2))).expect("room");
    }
    assert_eq!(store.wait_until_written(PATIENCE), 0, "by the new master");
    assert_eq!(replica.ask::<u64>(&["DBSIZE"]), 100);
    let stored = block_on(store.load("device-000001")).expect("an answer");
    assert_eq!(stored, Some(device(1, 2)));
    // A name that no sentinel knows.
    let config = RedisConfig {
        master_name: Some("flet".to_owned()),
        ..config
    };
    let store = RedisStore::start(config).expect("a store starts");
    eventually("it is refused with the name of the setting", || {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let wait = std::time::Duration::from_millis(50);
        store.load_later("device-000001", wait, move |loaded| {
            answer.send(loaded).expect("somebody waits");
        });
        let loaded = answered.recv_timeout(PATIENCE).expect("called");
        let why = loaded.expect_err("no master").to_string();
        why.contains("correct redis.master_name")
    });
}
