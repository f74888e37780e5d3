//! `mqtt-fleet ctl group repair`, `add`, `remove` and `replace`: who is in a group changes while it serves, and what was
//! acknowledged is there after all members of before are gone (P2, P9).

mod common;

use std::net::SocketAddr;

use common::Connect;
use common::broker::{free_address, get, post};
use common::ctl_group::{await_members, change, ctl, group, roles};
use common::damage::files;
use common::members::Members;
use common::tools::await_that;

/// Has the leader take a member out of the group, and leaves it in the list of members.
fn leave(admins: &[SocketAddr], name: &str) {
    let path = format!("/group/members/{name}");
    let ask = || admins.iter().map(|it| post(*it, &path, "leave"));
    await_that(
        || ask().any(|(code, _)| code == 200),
        || format!("{:?}", ask().collect::<Vec<_>>()),
    );
}

/// Its folder has a snapshot, entries behind that, and nothing of votes and members.
#[test]
fn a_group_that_had_no_way_to_others_goes_on_when_it_gets_one() {
    let mut fleet = Members::start_alone("[data]\nsegment_mb = 1\n");
    let admins = fleet.admins();
    fleet.leader();
    fleet.leave_ear();
    let mut mouth = Connect::v5("mouth").open_at(fleet.mqtt);
    let large = "x".repeat(100_000);
    for _ in 0..60 {
        mouth.say("kept/1", 1, &large);
    }
    let snapshots = fleet.data(0).join("snapshots");
    let is_written = || !files(&snapshots, "snapshot").is_empty();
    await_that(is_written, || format!("{} is empty", snapshots.display()));
    mouth.say("kept/0", 1, "alone");

    let peer = free_address().to_string();
    let (code, text) = ctl(&admins, &format!("move-member broker-0 --peer {peer}"));
    assert_eq!(code, Some(0), "{text}");
    for text in ["with a vote", "after a further start"] {
        fleet.kill(0);
        fleet.start_member(0);
        await_members(&admins, &["broker-0"]);
        mouth.say("kept/0", 1, text);
    }
    let (_, text) = group(&admins, "status");
    assert!(text.contains("broker-0 leads since"), "{text}");
    let mut ear = fleet.ear();
    assert_eq!(ear.take_texts(60), vec![large; 60]);
    assert_eq!(
        ear.take_texts(3),
        ["alone", "with a vote", "after a further start"]
    );
}

#[test]
fn members_change_while_the_group_serves() {
    let mut fleet = Members::start(3);
    let mut admins = fleet.admins();
    fleet.leader();
    await_members(&admins, &["broker-0", "broker-1", "broker-2"]);
    fleet.leave_ear();
    let mut mouth = Connect::v5("mouth").open_at(fleet.mqtt);
    mouth.say("kept/0", 1, "before");

    // Its data are lost: it takes no part until somebody says so.
    fleet.kill(2);
    std::fs::remove_dir_all(fleet.data(2)).expect("it was there");
    fleet.start_member(2);
    let is_damaged = || roles(&admins).contains(&"broker-2 damaged".to_owned());
    await_that(is_damaged, || {
        format!("broker-2 is not damaged: {:?}", roles(&admins))
    });
    change(&admins, "repair broker-2");
    await_members(&admins, &["broker-0", "broker-1", "broker-2"]);
    mouth.say("kept/0", 1, "repaired");

    let third = fleet.start_newcomer("broker-3", None);
    admins.push(third.admin);
    for _said_again in [false, true] {
        let addresses = third.addresses();
        change(&admins, &format!("add broker-3 --group 0 {addresses}"));
    }
    await_members(&admins, &["broker-0", "broker-1", "broker-2", "broker-3"]);
    // As when the command is cut off between its two steps.
    leave(&admins, "broker-0");
    fleet.kill(0);
    await_members(&admins[1..], &["broker-1", "broker-2", "broker-3"]);
    change(&admins[1..], "remove broker-0");
    let lists = || admins[1..].iter().map(|admin| get(*admin, "/members").1);
    let is_gone = || lists().any(|list| !list.contains("broker-0 "));
    await_that(is_gone, || format!("{:?}", lists().collect::<Vec<_>>()));
    await_members(&admins[1..], &["broker-1", "broker-2", "broker-3"]);
    mouth.say("kept/0", 1, "removed");

    let fourth = fleet.start_newcomer("broker-4", Some("broker-1"));
    admins.push(fourth.admin);
    fleet.kill(1);
    let addresses = fourth.addresses();
    change(
        &admins[2..],
        &format!("replace broker-1 broker-4 {addresses}"),
    );
    await_members(&admins[2..], &["broker-2", "broker-3", "broker-4"]);
    mouth.say("kept/0", 1, "replaced");

    let (code, text) = group(&admins[2..], "remove broker-9");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("has a member \"broker-9\""), "{text}");
    let mut ear = fleet.ear();
    assert_eq!(
        ear.take_texts(4),
        ["before", "repaired", "removed", "replaced"]
    );
}
