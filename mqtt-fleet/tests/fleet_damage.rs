//! A flipped bit in the log or in a snapshot of one member: it votes for nobody and leads nothing, says so, and is
//! repaired from the others by one command. What was acknowledged is there all the while (P2).

mod common;

use std::net::SocketAddr;
use std::path::Path;

use common::broker::{get, metric, post, try_metric};
use common::ctl_group::{await_members, change, group, rows};
use common::damage::{files, flip, flip_in_log};
use common::members::Members;
use common::tools::await_that;
use common::{Client, Connect};

const ALL: [&str; 3] = ["broker-0", "broker-1", "broker-2"];
/// Small files, and little of them in memory.
const SMALL: &str = "[data]\nsegment_mb = 1\ncache_mb = 1\n";

/// Waits until a member says that this file is damaged.
fn await_damaged(admins: &[SocketAddr], n: usize, file: &Path) {
    let row = || rows(admins).and_then(|rows| rows.get(n).cloned());
    let is_so = || row().is_some_and(|row| row["role"] == "damaged");
    await_that(is_so, || format!("broker-{n} is not damaged: {:?}", row()));
    let row = row().expect("it was there");
    let said = row["damage"]["file"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(file.ends_with(&said), "{row}");
    assert!(row["damage"]["offset"].is_u64(), "{row}");
    let (status, text) = get(admins[n], "/health/ready");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains(&said), "{text}");
    assert!((metric(admins[n], &["mqtt_fleet_member_damaged"]) - 1.0).abs() < 0.1);
    let (_, table) = group(admins, "status");
    let line = table.lines().find(|line| line.contains(" damaged "));
    assert!(line.is_some_and(|line| line.contains(&said)), "{table}");
}

/// A group of three in which these messages wait, on each disk, for a client that is away; and the client that sent them.
fn three_with(texts: &[&str]) -> (Members, Client) {
    let fleet = Members::start_with(3, SMALL);
    fleet.leader();
    fleet.leave_ear();
    let mut mouth = Connect::v5("mouth").open_at(fleet.mqtt);
    for text in texts {
        mouth.say("kept/0", 1, text);
    }
    fleet.await_even();
    await_members(&fleet.admins(), &ALL);
    (fleet, mouth)
}

/// Starts a member that was killed, with a bit of its first message flipped, and waits until it says so.
fn start_damaged(fleet: &mut Members, n: usize) {
    flip_in_log(&fleet.data(n), "first");
    fleet.start_member(n);
    let admin = fleet.all[n].admin;
    let is_damaged = || try_metric(admin, &["mqtt_fleet_member_damaged"]) == Some(1.0);
    await_that(is_damaged, || format!("broker-{n} is not damaged"));
}

#[test]
fn a_member_with_a_flipped_bit_says_so_and_is_repaired_by_one_command() {
    let (mut fleet, mut mouth) = three_with(&["first", "before"]);
    let admins = fleet.admins();
    let bad = (fleet.leader() + 1) % 3;

    // A bit of the log.
    fleet.kill(bad);
    let file = flip_in_log(&fleet.data(bad), "first");
    fleet.start_member(bad);
    await_damaged(&admins, bad, &file);
    mouth.say("kept/0", 1, "beside a damaged log");
    change(&admins, &format!("repair broker-{bad}"));
    await_members(&admins, &ALL);
    assert!(fleet.data(bad).join("damaged-1/log").is_dir(), "it is kept");
    mouth.say("kept/0", 1, "with the new log");

    // A bit of a snapshot.
    let mut hoard = Connect::v5("hoard").persistent().open_at(fleet.mqtt);
    hoard.subscribe("elsewhere", 1);
    hoard.vanish();
    let large = "x".repeat(100_000);
    for _ in 0..60 {
        mouth.say("elsewhere", 1, &large);
    }
    let has_snapshot = || {
        let index = try_metric(admins[bad], &["mqtt_fleet_member_snapshot_index"]);
        index.is_some_and(|index| index > 0.0)
    };
    await_that(has_snapshot, || format!("broker-{bad} has no snapshot"));
    fleet.kill(bad);
    let snapshots = files(&fleet.data(bad).join("snapshots"), "snapshot");
    let file = snapshots.last().expect("there is one");
    flip(file, std::fs::metadata(file).expect("there").len() / 2);
    fleet.start_member(bad);
    await_damaged(&admins, bad, file);
    mouth.say("kept/0", 1, "beside a damaged snapshot");
    change(&admins, &format!("repair broker-{bad}"));
    await_members(&admins, &ALL);
    // Whole, and a member like others: with it and one other all goes on.
    fleet.kill(fleet.leader());
    mouth.say("kept/0", 1, "whole again");

    let mut ear = fleet.ear();
    let texts = [
        "first",
        "before",
        "beside a damaged log",
        "with the new log",
        "beside a damaged snapshot",
        "whole again",
    ];
    assert_eq!(ear.take_texts(texts.len()), texts);
}

#[test]
fn damage_that_a_leader_finds_when_it_reads_ends_its_reign() {
    let (fleet, mut mouth) = three_with(&["first of all"]);
    let admins = fleet.admins();
    let large = "x".repeat(100_000);
    for _ in 0..25 {
        mouth.say("kept/1", 1, &large);
    }
    fleet.await_even();
    await_members(&admins, &ALL);
    let bad = fleet.leader();
    let file = flip_in_log(&fleet.data(bad), "first of all");

    let mut ear = fleet.ear();
    let texts = ear.take_texts(26);
    assert_eq!(texts[0], "first of all", "another member has it");
    await_damaged(&admins, bad, &file);
    assert_ne!(fleet.leader(), bad);
    change(&admins, &format!("repair broker-{bad}"));
    await_members(&admins, &ALL);
    mouth.say("kept/0", 1, "after");
    assert_eq!(ear.take_texts(1), ["after"]);
}

/// What is damaged may be all there is.
#[test]
fn nothing_is_set_aside_while_no_other_member_leads() {
    let (mut fleet, _mouth) = three_with(&["first", "second"]);
    let admins = fleet.admins();
    let (status, text) = post(admins[0], "/group/repair", "");
    assert_eq!(status, 409, "{text}");
    assert!(text.contains("is known to be damaged"), "{text}");

    for n in 0..3 {
        fleet.kill(n);
    }
    start_damaged(&mut fleet, 0);
    // None of the others is there, and then one that leads nobody.
    for others in 0..2 {
        if others == 1 {
            fleet.start_member(1);
            let runs = || try_metric(admins[1], &["mqtt_fleet_member_role"]).is_some();
            await_that(runs, || "broker-1 does not run".to_owned());
        }
        let (status, text) = post(admins[0], "/group/repair", "");
        assert_eq!(status, 409, "{text}");
        assert!(
            text.contains("none of the others (broker-1, broker-2) says that it leads"),
            "{text}"
        );
        assert!(!fleet.data(0).join("damaged-1").exists());
    }
    fleet.start_member(2);
    fleet.leader();
    change(&admins, "repair broker-0");
    await_members(&admins, &ALL);
    assert!(fleet.data(0).join("damaged-1/log").is_dir(), "it is kept");
    let mut ear = fleet.ear();
    assert_eq!(ear.take_texts(2), ["first", "second"]);
}

/// `ctl group repair` asks the leader first, and sees what needs no repair.
#[test]
fn nothing_is_set_aside_while_a_majority_is_damaged_and_what_is_well_is_left_alone() {
    let (mut fleet, _mouth) = three_with(&["first", "second"]);
    let admins = fleet.admins();
    let leader = fleet.leader();
    let bad = [(leader + 1) % 3, (leader + 2) % 3];
    let (code, text) = group(&admins, &format!("repair broker-{}", bad[0]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("there is nothing to repair"), "{text}");

    for n in bad {
        fleet.kill(n);
        start_damaged(&mut fleet, n);
    }
    for n in bad {
        let (code, text) = group(&admins, &format!("repair broker-{n}"));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("stay where they are"), "{text}");
        assert!(!fleet.data(n).join("damaged-1").exists(), "{text}");
    }
    let (code, text) = group(
        &admins[leader..=leader],
        &format!("repair broker-{}", bad[0]),
    );
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("name its admin port with --admin"), "{text}");
}
