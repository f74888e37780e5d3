//! `mqtt-fleet ctl group repair`, `add`, `remove` and `replace`: who is in a group changes while it serves, and what was
//! acknowledged is there after all members of before are gone (P2, P9).

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::Connect;
use common::broker::free_address;
use common::fleet::{Process, without_settings};
use common::members::Members;
use common::tools::await_that;
use serde_json::Value;

/// A broker that the fleet did not begin with.
struct Newcomer {
    name: &'static str,
    link: String,
    peer: String,
    admin: SocketAddr,
    _process: Process,
}

impl Newcomer {
    /// Starts it with an empty folder, and a cluster file in which it has the place of another member.
    fn start(fleet: &Members, name: &'static str, instead_of: &str) -> Self {
        let (link, peer) = (free_address().to_string(), free_address().to_string());
        let folder = fleet.folder.path();
        let file = std::fs::read_to_string(folder.join("cluster.toml")).expect("it is there");
        let members = file.split_inclusive("[[group.member]]\n").map(|member| {
            if !member.contains(&format!("\"{instead_of}\"")) {
                return member.to_owned();
            }
            let end = if member.ends_with("[[group.member]]\n") {
                "[[group.member]]\n"
            } else {
                ""
            };
            format!("name = \"{name}\"\nlink = \"{link}\"\npeer = \"{peer}\"\n{end}")
        });
        let own = format!("{name}.toml");
        std::fs::write(folder.join(&own), members.collect::<String>()).expect("a writable folder");
        let admin = free_address();
        let words =
            format!("broker --name {name} --cluster {own} --data data-{name} --admin {admin}");
        let words: Vec<_> = words.split(' ').collect();
        Self {
            name,
            _process: Process::start(name, folder, &words),
            link,
            peer,
            admin,
        }
    }
}

/// `mqtt-fleet ctl group` with these words, and the admin ports of all brokers: how it ends, and all that it says.
fn group(admins: &[SocketAddr], words: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    without_settings(&mut command);
    command.args(["ctl", "group"]).args(words.split(' '));
    for admin in admins {
        command.args(["--admin", &admin.to_string()]);
    }
    let output = command.output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("text"))
}

/// The group's members with their roles, by their names.
fn roles(admins: &[SocketAddr]) -> Vec<String> {
    let (_, text) = group(admins, "status --json");
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let rows = value["groups"][0]["members"].as_array().cloned();
    let role = |row: Value| format!("{} {}", row["name"], row["role"]).replace('"', "");
    rows.unwrap_or_default().into_iter().map(role).collect()
}

/// Waits until these and no others are leader or follower.
fn await_members(admins: &[SocketAddr], names: &[&str]) {
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

/// A change that must be made.
fn change(admins: &[SocketAddr], words: &str) {
    let (code, text) = group(admins, words);
    assert_eq!(code, Some(0), "{words}: {text}");
}

#[test]
fn members_change_while_the_group_serves() {
    let mut fleet = Members::start(3);
    let mut admins: Vec<_> = fleet.all.iter().map(|member| member.admin).collect();
    fleet.leader();
    await_members(&admins, &["broker-0", "broker-1", "broker-2"]);
    let mut ear = Connect::v5("ear").persistent().open_at(fleet.mqtt);
    ear.subscribe("kept/#", 1);
    ear.vanish();
    let mut mouth = Connect::v5("mouth").open_at(fleet.mqtt);
    mouth.say("kept/0", 1, "before");

    // Its data are lost: it takes no part until somebody says so.
    fleet.kill(2);
    std::fs::remove_dir_all(fleet.folder.path().join("data-2")).expect("it was there");
    fleet.start_member(2);
    let is_damaged = || roles(&admins).contains(&"broker-2 damaged".to_owned());
    await_that(is_damaged, || {
        format!("broker-2 is not damaged: {:?}", roles(&admins))
    });
    change(&admins, "repair broker-2");
    await_members(&admins, &["broker-0", "broker-1", "broker-2"]);
    mouth.say("kept/0", 1, "repaired");

    let third = Newcomer::start(&fleet, "broker-3", "broker-2");
    admins.push(third.admin);
    let addresses = format!("--link {} --peer {}", third.link, third.peer);
    change(
        &admins,
        &format!("add {} --group 0 {addresses}", third.name),
    );
    change(
        &admins,
        &format!("add {} --group 0 {addresses}", third.name),
    );
    await_members(&admins, &["broker-0", "broker-1", "broker-2", "broker-3"]);
    change(&admins, "remove broker-0");
    fleet.kill(0);
    await_members(&admins[1..], &["broker-1", "broker-2", "broker-3"]);
    mouth.say("kept/0", 1, "removed");

    let fourth = Newcomer::start(&fleet, "broker-4", "broker-1");
    admins.push(fourth.admin);
    let addresses = format!("--link {} --peer {}", fourth.link, fourth.peer);
    fleet.kill(1);
    change(
        &admins[2..],
        &format!("replace broker-1 broker-4 {addresses}"),
    );
    await_members(&admins[2..], &["broker-2", "broker-3", "broker-4"]);
    mouth.say("kept/0", 1, "replaced");

    let (code, text) = group(&admins[2..], "remove broker-9");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("has a member \"broker-9\""), "{text}");
    let mut ear = Connect::v5("ear").persistent().resume().open_at(fleet.mqtt);
    assert_eq!(
        ear.take_texts(4),
        ["before", "repaired", "removed", "replaced"]
    );
}
