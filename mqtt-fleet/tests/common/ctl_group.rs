//! `mqtt-fleet ctl group`, asked of brokers that a test runs itself.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::fleet::without_settings;
use super::tools::{await_some, await_that};

/// `mqtt-fleet ctl group` with these words, and the admin ports of all brokers: how it ends, and all that it says.
pub(crate) fn group(admins: &[SocketAddr], words: &str) -> (Option<i32>, String) {
    ctl(admins, &format!("group {words}"))
}

/// The same for any question of `mqtt-fleet ctl`.
pub(crate) fn ctl(admins: &[SocketAddr], words: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    without_settings(&mut command);
    command.arg("ctl").args(words.split(' '));
    for admin in admins {
        command.args(["--admin", &admin.to_string()]);
    }
    let output = command.output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// The rows of the group's members, by their names.
pub(crate) fn rows(admins: &[SocketAddr]) -> Option<Vec<Value>> {
    let (_, text) = group(admins, "status --json");
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    value["groups"][0]["members"].as_array().cloned()
}

/// The group's members with their roles, by their names.
pub(crate) fn roles(admins: &[SocketAddr]) -> Vec<String> {
    let rows = rows(admins);
    let role = |row: Value| format!("{} {}", row["name"], row["role"]).replace('"', "");
    rows.unwrap_or_default().into_iter().map(role).collect()
}

/// Waits until these and no others are leader or follower.
pub(crate) fn await_members(admins: &[SocketAddr], names: &[&str]) {
    let are_so = || {
        let roles = roles(admins);
        let has_vote = |role: &&String| role.ends_with(" leader") || role.ends_with(" follower");
        let voters = roles.iter().filter(has_vote);
        let voters = voters.map(|role| role.split(' ').next().expect("a name"));
        roles.iter().any(|role| role.ends_with(" leader")) && voters.eq(names.iter().copied())
    };
    await_that(are_so, || {
        format!("{names:?} are not the members: {:?}", roles(admins))
    });
}

/// How long a change may take before the test fails.
const CHANGED: Duration = Duration::from_secs(120);

/// A change that must be made. It may take longer than the command waits for it.
pub(crate) fn change(admins: &[SocketAddr], words: &str) {
    let mut said = String::new();
    let is_made = || {
        let (code, text) = group(admins, words);
        let goes_on = text.contains("it goes on, and may become so");
        assert!(code == Some(0) || goes_on, "{words}: {text}");
        said = text;
        (code == Some(0)).then_some(())
    };
    await_some(CHANGED, is_made, || format!("{words} is not made"));
    println!("{said}");
}
