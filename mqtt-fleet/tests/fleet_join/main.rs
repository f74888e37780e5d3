//! A member with an empty folder joins a group that holds much while it serves: it gets everything, and publishers hardly
//! notice it. What is in the group is there after all members of before are gone (P2, P9).
//!
//! `cargo xtask join` runs this with much in the group and measures; see docs/operations.md.

#[path = "../common/mod.rs"]
mod common;

mod newcomer;
mod publisher;
mod settings;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::fleet::without_settings;
use common::members::Members;
use newcomer::Newcomer;
use publisher::{Latency, Publisher};
use settings::Settings;

/// The brokers' configuration, in the fleet's folder.
pub(crate) const CONFIG: &str = "broker.toml";
/// The member that another one replaces: a follower.
const LEAVES: [usize; 2] = [2, 1];

#[test]
fn a_fresh_member_joins_a_loaded_group() {
    let settings = Settings::in_effect();
    println!("{settings}");
    let mut fleet = Members::plan(3, &["--config", CONFIG]);
    let config = fleet.folder.path().join(CONFIG);
    std::fs::write(config, settings.broker()).expect("a writable folder");
    fleet.start_all();
    let leader = fleet.leader();
    let leaves = LEAVES.into_iter().find(|n| *n != leader);
    let leaves = leaves.expect("one of the two follows");
    let joins = Newcomer::start(&fleet, "broker-3", &fleet.all[leaves].name);
    let publisher = Publisher::start(fleet.mqtt, settings.rate);
    // What it sends before the fill is more entries than are kept for a member that was away.
    publisher.let_run(settings.warmup());
    part(&fleet, &settings, "fill");
    newcomer::await_for("the members lag", || {
        let lag = fleet.metric(leader, &["mqtt_fleet_member_lag_max"]);
        lag < newcomer::LAG_MAX
    });
    publisher.let_run(settings.warmup());
    let before = publisher.measure(|| publisher.let_run(settings.baseline()));
    let began = Instant::now();
    let during = publisher.measure(|| joins.replace(&fleet, leaves));
    let took = began.elapsed();
    if settings.ratio_max.is_some() {
        let now = fleet.leader();
        assert_eq!(now, leader, "the group has the leader that it had");
    }
    let peak = peak_mib(fleet.all[leader].process.as_ref().expect("it runs").pid());
    publisher.finish();
    report(&before, &during, took, peak);

    settings.judge(&before, &during);
    assert!(joins.had_snapshot(), "all was in the log");
    joins.stay_alone(&mut fleet, leaves);
    part(&fleet, &settings, "drain");
}

/// Runs a part of the load that fills queues of sessions that are away.
fn part(fleet: &Members, settings: &Settings, part: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    without_settings(&mut command);
    let count = |n: u64| n.to_string();
    let output = command
        .args(["loadtest", "backlog", "--run", "join", "--part", part])
        .args(["--addr", &fleet.mqtt.to_string(), "--patience", "300"])
        .args(["--conns", &count(settings.sessions)])
        .args(["--filters", &count(settings.filters)])
        .args(["--messages", &count(settings.messages)])
        .args(["--size", &count(settings.size)])
        .output()
        .expect("the binary runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{part}: {said}");
}

/// The most memory that a process has had.
fn peak_mib(pid: u32) -> u64 {
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("the kernel says it") / 1024
}

fn report(before: &Latency, during: &Latency, took: Duration, peak_mib: u64) {
    println!("before the join  {before}");
    println!("during the join  {during}");
    println!(
        "p99 during / before {:.2}; joined after {:.1} s; peak memory of the leader {peak_mib} MiB",
        during.ratio(before),
        took.as_secs_f64()
    );
}
