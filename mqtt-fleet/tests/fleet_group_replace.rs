//! `mqtt-fleet ctl group replace`, `add` and `remove`: what is wrong is seen before anything is changed, and the group serves
//! while its leader is replaced or removed (P2, P9).

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::Connect;
use common::broker::{free_address, get};
use common::ctl_group::{await_members, change, group};
use common::gap::longest_gap;
use common::members::Members;
use common::tools::await_that;

const ALL: [&str; 3] = ["broker-0", "broker-1", "broker-2"];

/// How new the list of members is, and who is in it.
fn list(admin: SocketAddr) -> String {
    get(admin, "/members").1
}

#[test]
fn what_is_wrong_is_named_and_nothing_is_changed() {
    let mut fleet = Members::start(3);
    let mut admins = fleet.admins();
    let leader = fleet.leader();
    let old = ALL[leader];
    let other = ALL[(leader + 1) % 3];
    let mut mouth = Connect::v5("mouth").open_at(fleet.mqtt);
    mouth.say("kept/0", 1, "before");
    await_members(&admins, &ALL);
    let third = fleet.start_newcomer("broker-n", None);
    admins.push(third.admin);
    // Its reign has made the second version of the list.
    let is_told = || list(admins[leader]).contains("members 2");
    await_that(is_told, || list(admins[leader]));
    let before = list(admins[leader]);
    let (link, peer) = (third.link, third.peer.expect("it has one"));
    let at_other = fleet.all[(leader + 1) % 3].addresses();
    let nowhere = free_address();
    let other_link = fleet.all[(leader + 1) % 3].link;
    for (words, culprit) in [
        (
            format!("replace {old} broker-nn --link {link} --peer {peer}"),
            format!("the broker at {peer} is broker-n, not broker-nn"),
        ),
        (
            format!("replace {old} broker-n --link {link} --peer {nowhere}"),
            format!("cannot reach {nowhere}"),
        ),
        (
            format!("replace {old} broker-n --link {nowhere} --peer {peer}"),
            format!("nobody takes links at {nowhere}"),
        ),
        (
            format!("add broker-n --group 0 --link {other_link} --peer {peer}"),
            format!("{other_link} is the address of \"{other}\""),
        ),
        (
            format!("add broker-n --group 7 --link {link} --peer {peer}"),
            "there is no group 7".to_owned(),
        ),
        (
            format!("replace broker-x broker-n --link {link} --peer {peer}"),
            "has a member \"broker-x\"".to_owned(),
        ),
        (
            format!("replace {old} {other} {at_other}"),
            format!("{other} has a vote in the group already"),
        ),
        (
            format!("replace {old} {old} {at_other}"),
            format!("{old} cannot take its own place"),
        ),
    ] {
        let (code, text) = group(&admins, &words);
        assert!(matches!(code, Some(1 | 2)), "{words}: {text}");
        assert!(text.contains(&culprit), "{words}: {text}");
        assert_eq!(list(admins[leader]), before, "{words}");
    }
    await_members(&admins, &ALL);
    mouth.say("kept/0", 1, "after");

    // Said right it is done, also after a half that was cut off; and it can be taken back.
    change(
        &admins,
        &format!("add broker-n --group 0 {}", third.addresses()),
    );
    await_members(&admins, &["broker-0", "broker-1", "broker-2", "broker-n"]);
    change(&admins, "remove broker-n");
    await_members(&admins, &ALL);
    let gone = || !list(admins[leader]).contains("broker-n");
    await_that(gone, || list(admins[leader]));
    fleet.kill((leader + 1) % 3);
    mouth.say("kept/0", 1, "it is as it was");
}

#[test]
fn the_group_serves_while_its_leader_is_replaced() {
    let fleet = Members::start(3);
    let mut admins = fleet.admins();
    let leader = fleet.leader();
    await_members(&admins, &ALL);
    fleet.leave_ear();
    let mut mouth = Connect::v5("mouth").persistent().open_at(fleet.mqtt);
    // A newcomer gets what is in messages that wait for somebody.
    let large = "x".repeat(200_000);
    for _ in 0..LARGE {
        mouth.say("kept/1", 1, &large);
    }
    let comes = fleet.start_newcomer("broker-n", None);
    admins.push(comes.admin);
    let words = format!("replace {} broker-n {}", ALL[leader], comes.addresses());
    let mut published = 0;
    let gap = longest_gap(&mut mouth, "kept/0", &mut published, || {
        change(&admins, &words);
    });
    println!("the longest wait for a PUBACK while a leader was replaced: {gap:?}");
    assert!(gap < GAP_MAX, "{gap:?}");
    let mut left: Vec<_> = ALL
        .into_iter()
        .filter(|name| *name != ALL[leader])
        .collect();
    left.push("broker-n");
    await_members(&admins, &left);
    change(&admins, &words);
    admins.remove(leader);
    let (code, text) = group(&admins, &words);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("nothing is left to do"), "{text}");
    let mut ear = fleet.ear();
    assert_eq!(ear.take_texts(LARGE), vec![large; LARGE]);
    let all = (0..published).map(|n| n.to_string());
    assert!(ear.take_texts(published).into_iter().eq(all));
}

#[test]
fn the_group_serves_while_its_leader_is_removed() {
    let fleet = Members::start(3);
    let admins = fleet.admins();
    let leader = ALL[fleet.leader()];
    await_members(&admins, &ALL);
    fleet.leave_ear();
    let mut mouth = Connect::v5("mouth").persistent().open_at(fleet.mqtt);
    let words = format!("remove {leader}");
    let mut published = 0;
    let gap = longest_gap(&mut mouth, "kept/0", &mut published, || {
        change(&admins, &words);
    });
    println!("the longest wait for a PUBACK while a leader was removed: {gap:?}");
    assert!(gap < GAP_MAX, "{gap:?}");
    let left: Vec<_> = ALL.into_iter().filter(|name| *name != leader).collect();
    await_members(&admins, &left);
    let mut ear = fleet.ear();
    let all = (0..published).map(|n| n.to_string());
    assert!(ear.take_texts(published).into_iter().eq(all));
}

/// Messages of 200 kB that a newcomer has to be sent.
const LARGE: usize = 300;
/// A handover and what proxies need to find who leads, on a busy machine whose disk stands still for seconds.
const GAP_MAX: Duration = Duration::from_secs(6);
