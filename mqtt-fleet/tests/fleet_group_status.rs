//! `mqtt-fleet ctl group status`: how the groups of a fleet are, for people and for programs.

mod common;

use std::process::Command;

use common::broker::get;
use common::ctl_group::{await_members, group};
use common::fleet::{Fleet, Watched, without_settings};
use common::members::Members;
use common::tools::await_that;
use serde_json::Value;

/// How the command ends, and all that it says.
fn status(fleet: &Fleet, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    without_settings(&mut command);
    command.args(["ctl", "group", "status"]).args(args);
    let output = command.current_dir(&fleet.folder).output();
    let output = output.expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

#[test]
fn every_member_is_a_row_also_one_that_is_gone() {
    let mut fleet = Fleet::start_with(&["--proxies", "1", "--groups", "2"]);
    let all = ["--cluster", "."];
    let (code, text) = status(&fleet, &all);
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (group, line) in lines[1..].iter().enumerate() {
        let words: Vec<_> = line.split_whitespace().collect();
        let name = format!("broker-{group}");
        assert_eq!(words[..3], [&group.to_string(), &name, "leader"], "{text}");
        assert_eq!(words.last(), Some(&"fine"), "{text}");
    }

    let gone = fleet.kill9("broker-1");
    if let Some(watched) = Watched::new(gone.pid) {
        watched.await_end();
    }
    let (code, text) = status(&fleet, &[&all[..], &["--json"]].concat());
    assert_eq!(code, Some(1), "a group has no leader: {text}");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["groups"][0]["leader"], "broker-0");
    let group = &value["groups"][1];
    assert_eq!(group["leader"], Value::Null, "{text}");
    assert_eq!(group["members"][0]["role"], "unreachable", "{text}");

    let admin = fleet.node("broker-0").addresses["admin"].to_string();
    let (code, text) = status(&fleet, &["--admin", &admin]);
    assert_eq!(code, Some(0), "{text}");
    let proxy = fleet.node("proxy-0").addresses["admin"].to_string();
    let (code, text) = status(&fleet, &["--admin", &proxy]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("it is no admin port of a broker"), "{text}");
    fleet.launcher.terminate();
    let (code, text) = status(&fleet, &all);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("say its folder with --cluster"), "{text}");
}

#[test]
fn a_leader_without_a_majority_does_not_count_as_one() {
    let mut fleet = Members::start(3);
    let admins = fleet.admins();
    await_members(&admins, &["broker-0", "broker-1", "broker-2"]);
    let leader = fleet.leader();
    for n in (0..3).filter(|n| *n != leader) {
        fleet.kill(n);
    }
    // A port that does not answer is a reason of its own.
    let left = [admins[leader]];
    let ask = || group(&left, "status");
    let says = format!(
        "group 0 has no leader that serves: broker-{leader} leads, and does not reach a majority"
    );
    await_that(
        || ask().1.lines().last() == Some(says.as_str()),
        || format!("not \"{says}\": {}", ask().1),
    );
    let (code, text) = group(&left, "status --json");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (code, &value["groups"][0]["leader"]),
        (Some(1), &Value::Null),
        "{text}"
    );
    let role = || fleet.metric(leader, &["mqtt_fleet_member_role"]);
    await_that(|| role() < 3.5, || format!("its role is {}", role()));
    // It is a member that does what it can.
    assert_eq!(get(admins[leader], "/health/ready").0, 200);

    let other = (leader + 1) % 3;
    fleet.start_member(other);
    await_that(
        || ask().0 == Some(0),
        || format!("no majority: {}", ask().1),
    );
}

#[test]
fn a_member_with_another_secret_is_told_apart() {
    let mut fleet = Members::plan(3, &[]);
    for member in [0, 1] {
        fleet.start_member(member);
        let process = fleet.all[member].process.as_ref().expect("it runs");
        process.await_line("waits for the other members of the group");
    }
    std::fs::write(fleet.folder.path().join("secret"), "not that of the others").expect("writable");
    fleet.start_member(2);
    for member in [0, 2] {
        let process = fleet.all[member].process.as_ref().expect("it runs");
        let line = process.await_line("the other end has another secret");
        assert!(
            line.contains("WARN") && line.contains("127.0.0.1"),
            "{line}"
        );
    }
}
