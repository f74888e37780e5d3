//! What waits for sessions that are away outlives kill -9, and drains to all of them at once in little memory.

mod common;

use std::process::Command;

use common::Broker;
use common::fleet::without_settings;

const SESSIONS: &str = "100";
const MESSAGES: u64 = 20_000;
/// A broker with nothing to do takes some 30 MiB; the messages and their windows are 20 MiB each.
const PEAK_BYTES_MAX: u64 = 256 << 20;

/// Runs a part of the load; its report.
fn part(part: &str, broker: &Broker) -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    without_settings(&mut command);
    let output = command
        .args(["loadtest", "backlog", "--run", "test", "--part", part])
        .args(["--addr", &broker.addr.to_string()])
        .args(["--pid", &broker.pid().to_string()])
        .args(["--conns", SESSIONS, "--messages", &MESSAGES.to_string()])
        .args(["--size", "1024", "--json"])
        .arg(&json)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let text = std::fs::read_to_string(&json).expect("a report");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_backlog_outlives_kill_9_and_drains_in_little_memory() {
    let mut broker = Broker::start();
    let filled = part("fill", &broker);
    assert_eq!(filled["acked"], MESSAGES);
    broker.kill9();
    broker.restart();
    let drained = part("drain", &broker);
    assert_eq!(drained["delivered"], MESSAGES);
    let peak = drained["broker_peak_rss_bytes"].as_u64();
    let peak = peak.expect("a figure");
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
}
