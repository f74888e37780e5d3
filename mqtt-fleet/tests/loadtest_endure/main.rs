//! The load scenario `endure` finds a broker that keeps its promises across `kill -9` clean, and
//! finds those that do not.

#[path = "../common/mod.rs"]
mod common;

mod meddler;

use std::process::Command;
use std::time::Duration;

use common::broker::free_address;
use common::load::{End, Load};
use common::{Broker, Options};
use meddler::Meddler;

/// Runs endure with `words`, and kills the broker each time `step` more messages have arrived.
/// Gives the verdict and how often it was killed.
fn under_fire(broker: &mut Broker, step: u64, words: &str) -> (End, u64) {
    let mut load = Load::start(&format!("endure {words}"));
    let mut kills = 0;
    while load.await_delivered(step) {
        broker.kill9();
        kills += 1;
        broker.restart();
    }
    let end = load.finish();
    assert!(kills > 0, "{}", end.summary);
    (end, kills)
}

fn is_clean_under_fire(words: &str) {
    let mut broker = Broker::start();
    let addr = broker.addr;
    let words = format!("--addr {addr} --pairs 20 --rate 2000 --secs 4 {words}");
    let (end, kills) = under_fire(&mut broker, 800, &words);
    end.assert_clean();
    assert!(end.count("reconnects") >= 40, "{kills} kills");
    assert!(end.count("reconnect_us/max") > 0);
    assert!(end.count("longest_gap_us") >= end.count("p99_gap_us"));
    assert!(end.count("p99_gap_us") > 0);
}

#[test]
fn qos_1_across_kill_9_is_found_clean() {
    is_clean_under_fire("--qos 1");
}

#[test]
fn qos_2_across_kill_9_is_found_clean() {
    is_clean_under_fire("--qos 2");
}

#[test]
fn version_3_1_1_across_kill_9_is_found_clean() {
    is_clean_under_fire("--qos 2 --protocol 3.1.1");
}

#[test]
fn tls_across_kill_9_is_found_clean() {
    let certs = tempfile::tempdir().expect("a temporary folder");
    let made = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"))
        .arg("dev-certs")
        .arg(certs.path())
        .output()
        .expect("the binary runs");
    assert!(made.status.success(), "{made:?}");
    let path = |name: &str| certs.path().join(name).display().to_string();
    let tls = free_address();
    let (chain, key) = (path("server.pem"), path("server.key"));
    let config = format!("[tls]\nlisten = \"{tls}\"\ncertificate = {chain:?}\nkey = {key:?}\n");
    let mut broker = Broker::start_with(Options::config(&config));
    let words = format!(
        "--addr {tls} --tls-ca {} --pairs 10 --rate 1000 --secs 3 --qos 1 --size 3000",
        path("ca.pem")
    );
    let (end, _) = under_fire(&mut broker, 500, &words);
    end.assert_clean();
    assert!(end.count("reconnects") >= 20);
}

#[test]
fn a_broker_that_keeps_sessions_in_memory_is_found_to_lose_them() {
    let mut broker = Broker::start_with(Options {
        durability: "memory",
        ..Options::default()
    });
    let words = "--pairs 20 --rate 1000 --secs 2 --drain 5";
    let words = format!("--addr {} {words}", broker.addr);
    let (end, _) = under_fire(&mut broker, 300, &words);
    end.assert_failed("sessions lost");
    assert!(end.count("session_lost") >= 40, "every device had one");
}

#[test]
fn a_message_that_vanishes_after_its_acknowledgement_is_found() {
    let broker = Broker::start();
    let meddler = Meddler::start(broker.addr, 25);
    let words = "--pairs 4 --rate 400 --secs 1 --drain 5";
    let end = Load::start(&format!("endure --addr {} {words}", meddler.addr)).finish();
    assert_eq!(meddler.swallowed(), 4, "one of each subscriber");
    assert_eq!(end.count("lost"), 4);
    assert_eq!(end.count("delivered"), end.count("acked") - 4);
    end.assert_failed("4 messages lost");
}

#[test]
fn subscribers_that_leave_and_come_back_find_their_session_and_what_queued_up() {
    let broker = Broker::start();
    let words = "--pairs 10 --rate 1000 --secs 3 --qos 2 --filters 100 --wildcard";
    let words = format!(
        "endure --addr {} {words} --churn 10 --away 0.4",
        broker.addr
    );
    let end = Load::start(&words).finish();
    end.assert_clean();
    assert!(end.count("churned") >= 10);
    assert_eq!(end.count("resumes"), end.count("reconnects"));
    assert!(end.count("resume_us/p99") >= end.count("resume_us/p50"));
    assert!(end.count("resume_us/p50") > 0);
    assert!(end.count("e2e_us/max") >= 300_000, "some waited in a queue");
}

#[test]
fn a_fight_over_client_ids_across_kill_9_is_found_clean() {
    let mut broker = Broker::start();
    let words = "--ids 20 --rate 1000 --secs 6 --away 0.2";
    let mut load = Load::start(&format!("fight --addr {} {words}", broker.addr));
    assert!(load.await_delivered(1_000), "it publishes for 6 s");
    broker.kill9();
    broker.restart();
    let end = load.finish();
    end.assert_clean();
    assert_eq!(end.count("stale"), 0);
    assert!(end.count("taken_over") >= 20);
}

#[test]
fn a_signal_ends_the_publishing_and_what_was_found_is_judged() {
    let broker = Broker::start();
    let words = "--pairs 10 --rate 500 --secs 3600 --qos 2";
    let mut load = Load::start(&format!("endure --addr {} {words}", broker.addr));
    assert!(load.await_delivered(300), "it would publish for an hour");
    load.stop_publishing();
    let end = load.finish();
    end.assert_clean();
    assert!(end.count("sent") >= 300);
}

#[test]
fn progress_tells_how_long_a_connection_has_been_without_service() {
    let mut broker = Broker::start();
    let words = "--pairs 10 --rate 500 --secs 3600";
    let mut load = Load::start(&format!("endure --addr {} {words}", broker.addr));
    load.await_measuring();
    broker.kill9();
    broker.restart();
    let seen = load.await_served(Duration::from_secs(30));
    load.stop_publishing();
    let end = load.finish();
    end.assert_clean();
    let longest = Duration::from_micros(end.count("longest_gap_us"));
    // All of them had to connect again, and wait at least 50 ms before.
    assert!(seen >= Duration::from_millis(50), "{seen:?}");
    // Its lines have milliseconds. A slow disk may have made for a longer gap, up to the very end.
    assert!(
        longest + Duration::from_millis(1) >= seen,
        "{seen:?} {longest:?}"
    );
}
