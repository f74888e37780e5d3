//! A store finds out that Redis has lost what it had, and takes nothing else for that.

mod common;

use std::sync::atomic::Ordering;

use common::device;
use common::server::{
    IN_A_CLUSTER, PERMISSIONS, Server, block_on, cluster, cluster_config, eventually,
};
use mqtt_fleet_session_store::{RedisConfig, RedisStore, SessionStore};

fn watching(config: RedisConfig) -> RedisStore {
    let store = RedisStore::start(config).expect("a store starts");
    store.watch_for_wipes();
    store
}

fn figure(store: &RedisStore, name: &str) -> u64 {
    let mut figures = store.stats().each();
    figures.find(|(of, ..)| *of == name).expect("a figure").2
}

fn wipes(store: &RedisStore) -> u64 {
    store.stats().wipes.load(Ordering::Relaxed)
}

/// Waits until Redis has been looked at so many times more.
fn await_looks(server: &Server, looks: u64) {
    let before = server.calls("eval");
    eventually("looks", || server.calls("eval") >= before + looks);
}

#[test]
fn every_store_sees_a_flush_once() {
    let server = Server::start(&[]);
    let stores = [watching(server.config()), watching(server.config())];
    eventually("both have looked", || server.calls("eval") >= 2);
    let mark: String = server.ask(&["GET", "mqtt-fleet:mark"]);
    assert_eq!(mark.len(), 16);
    for round in 1..=2 {
        server.ask::<()>(&["FLUSHALL"]);
        for store in &stores {
            eventually("it is seen", || wipes(store) == round);
        }
        await_looks(&server, 2);
        assert!(stores.iter().all(|store| wipes(store) == round), "and once");
    }
    let new: String = server.ask(&["GET", "mqtt-fleet:mark"]);
    assert_ne!(new, mark);
    let late = watching(server.config());
    await_looks(&server, 3);
    assert_eq!(wipes(&late), 0, "it has lost nothing");
}

#[test]
fn a_server_that_comes_back_empty_is_one_and_one_with_its_data_is_none() {
    for (arguments, expected) in [
        (&[][..], 1),
        (&["--appendonly", "yes", "--appendfsync", "always"][..], 0),
    ] {
        let mut server = Server::start(arguments);
        let store = watching(server.config());
        eventually("it has looked", || server.calls("eval") >= 1);
        server.kill();
        server.restart();
        // The server's own counters began anew.
        eventually("it has looked again", || server.calls("eval") >= 1);
        eventually("it is seen", || wipes(&store) == expected);
        await_looks(&server, 1);
        assert_eq!(wipes(&store), expected, "{arguments:?}");
    }
}

#[test]
fn each_master_of_a_cluster_has_a_mark() {
    let masters = cluster(&[]);
    let mut rules = vec!["ACL", "SETUSER", "fleet", "on", ">hush"];
    rules.extend(PERMISSIONS);
    rules.extend(IN_A_CLUSTER);
    for master in &masters {
        master.ask::<()>(&rules);
    }
    let store = watching(RedisConfig {
        user: Some("fleet".to_owned()),
        password: Some("hush".to_owned()),
        ..cluster_config(&masters)
    });
    let keys = || masters.iter().map(|master| master.ask::<u64>(&["DBSIZE"]));
    eventually("each has one", || keys().all(|keys| keys == 1));
    for (round, master) in (1..).zip(&masters) {
        master.ask::<()>(&["FLUSHALL"]);
        eventually("it is seen", || wipes(&store) == round);
        assert!(keys().all(|keys| keys == 1));
    }
    assert_eq!(figure(&store, "mark_failed"), 0);
}

/// What is wrong with the mark is not wrong with the store: records are written on, over the same connection.
#[test]
fn a_mark_that_is_forbidden_hurts_nothing_else() {
    let server = Server::start(&[]);
    let acl = "ACL SETUSER records on >secret ~mqtt-fleet:session:* +@all";
    server.ask::<()>(&acl.split(' ').collect::<Vec<_>>());
    let store = watching(RedisConfig {
        user: Some("records".to_owned()),
        password: Some("secret".to_owned()),
        ..server.config()
    });
    eventually("forbidden", || figure(&store, "mark_failed") > 0);
    block_on(store.save(&device(1, 1))).expect("it saves");
    assert_eq!((figure(&store, "connects"), figure(&store, "up")), (1, 1));
    assert_eq!(wipes(&store), 0);
}
