//! The store on Redis passes the suite: on one server, and on a Redis Cluster of three.

mod common;

use common::server::{Server, block_on, cluster, cluster_config};
use mqtt_fleet_session_store::{RedisStore, conformance};

#[test]
fn on_one_server() {
    let server = Server::start(&[]);
    block_on(conformance::suite(async || {
        server.ask::<()>(&["FLUSHALL"]);
        server.store()
    }));
}

#[test]
fn on_a_cluster() {
    let servers = cluster(&[]);
    block_on(conformance::suite(async || {
        for server in &servers {
            server.ask::<()>(&["FLUSHALL"]);
        }
        RedisStore::start(cluster_config(&servers)).expect("a store starts")
    }));
    for server in &servers {
        assert!(server.calls("evalsha") > 100, "every master had its part");
    }
}
