//! P7: Redis is nobody's only home of a promise. Absent, killed or wiped it costs no device anything, and says so once.

mod common;

use std::net::SocketAddr;

use common::broker::{free_address, metric};
use common::fleet::{ByHand, Fleet, Process, redis, start_redis};
use common::tools::await_that;
use common::{Client, Connect};

const AWAY: &str = "session records cannot be written";

#[test]
fn a_proxy_serves_without_redis_and_finds_it_when_it_comes() {
    let fleet = ByHand::new();
    let address = free_address();
    fleet.write(
        "proxy.toml",
        &format!("[redis]\nurls = [\"redis://{address}\"]\n"),
    );
    let broker = fleet.broker();
    broker.await_line("links on");
    let proxy = fleet.proxy("cluster.toml", &["--config", "proxy.toml"]);
    proxy.await_line("listening on");
    proxy.await_line(AWAY);
    for n in 0..20 {
        let connect = Connect::v5(&format!("early-{n}")).persistent();
        let mut early = connect.open_at(fleet.mqtt);
        hears_itself(&mut early, n);
        early.disconnect();
        let early = connect.open_at(fleet.mqtt);
        assert!(early.present, "the group knows the session");
    }
    assert_eq!(lines(&proxy, AWAY), 1, "not a line for each client");
    assert!(store_up(&fleet).abs() < f64::EPSILON);

    let mut server = start_redis(fleet.folder.path(), address, &[]);
    proxy.await_line("session records are written again");
    assert!((store_up(&fleet) - 1.0).abs() < f64::EPSILON);
    // What waited is written: that of the last client after that of all others.
    let record = await_record(address, "early-19");
    assert!(record.contains("self/19"), "{record}");
    assert!(record.contains("proxy-0"), "{record}");

    server.kill9();
    let mut late = Connect::v5("early-3").persistent().open_at(fleet.mqtt);
    assert!(late.present);
    hears_itself(&mut late, 3);
}

/// Subscribes and publishes.
fn hears_itself(client: &mut Client, n: usize) {
    let topic = format!("self/{n}");
    client.subscribe(&topic, 1);
    client.say(&topic, 1, "heard");
    assert_eq!(client.take().text(), "heard");
}

fn lines(process: &Process, text: &str) -> usize {
    let output = process.output();
    output.lines().filter(|line| line.contains(text)).count()
}

fn store_up(fleet: &ByHand) -> f64 {
    metric(fleet.proxy_admin, &["mqtt_fleet_store_up"])
}

/// Reads the record of a client again and again until it is there: Redis does not say when.
fn await_record(address: SocketAddr, client: &str) -> String {
    let key = format!("mqtt-fleet:session:{{{client}}}");
    let mut record = String::new();
    let is_there = || {
        record = redis(address, &["HGETALL", &key]);
        !record.trim().is_empty()
    };
    await_that(is_there, || format!("no record of {client}"));
    record
}

#[test]
fn wiping_and_killing_redis_loses_no_session_and_no_message() {
    let fleet = Fleet::start(2);
    let connect = Connect::v5("sleeper").persistent();
    let mut sleeper = connect.open_at(fleet.mqtt(0));
    sleeper.subscribe("dreams/#", 2);
    sleeper.disconnect();
    let mut mouth = Connect::v5("mouth").persistent().open_at(fleet.mqtt(1));
    mouth.say("dreams/1", 1, "before");
    assert_eq!(fleet.redis(&["FLUSHALL"]).trim(), "OK");
    mouth.say("dreams/2", 2, "wiped");
    let killed = fleet.kill9("redis");
    mouth.say("dreams/3", 2, "killed");

    let mut sleeper = connect.open_at(fleet.mqtt(1));
    assert!(sleeper.present, "the home of the session is its group");
    assert_eq!(sleeper.take_texts(3), ["before", "wiped", "killed"]);
    sleeper.assert_no_publish();
    fleet.await_back(&killed);
    let sleeper = connect.open_at(fleet.mqtt(0));
    assert!(sleeper.present);
}
