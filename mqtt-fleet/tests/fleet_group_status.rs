//! `mqtt-fleet ctl group status`: how the groups of a fleet are, for people and for programs.

mod common;

use std::process::Command;

use common::fleet::{Fleet, Watched, without_settings};
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
