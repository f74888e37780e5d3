//! Snapshots that members get from each other.

use super::THREE;
use super::files::DAMAGED;
use super::fleet::{Fleet, PATIENCE};
use crate::consensus::Consensus as _;
use crate::raft::Change;
use crate::raft::limits::KEPT_ENTRIES;

const MORE: u64 = KEPT_ENTRIES + 300;

/// Has the group agree on more entries than are kept behind a snapshot, and the leader forget the first ones.
async fn grow(fleet: &Fleet) -> &'static str {
    let leader = fleet.elected().await;
    for n in 0..MORE {
        fleet.propose(leader, &format!("{n}"));
    }
    fleet.saw(leader, &format!("{}", MORE - 1)).await;
    fleet.snapshot(leader);
    let forgot = |fleet: &Fleet| {
        let handle = fleet.members[leader].handle.lock().expect("no panic");
        (handle.kept_from() > 100).then_some(())
    };
    fleet.until("the first entries are forgotten", forgot).await;
    leader
}

/// A group that has grown while a member was away; its leader, and that member.
pub(super) async fn grown_without_one() -> (Fleet, &'static str, &'static str) {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    let away = fleet.others(&[leader])[0];
    fleet.stop(away).await;
    let leader = grow(&fleet).await;
    (fleet, leader, away)
}

fn all_and(last: &str) -> Vec<String> {
    let all = (0..MORE).map(|n| n.to_string());
    all.chain([last.to_owned()]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_away_too_long_gets_the_snapshot() {
    let (mut fleet, leader, away) = grown_without_one().await;
    fleet.start(away).await;
    fleet.propose(leader, "last");
    fleet.saw(away, "last").await;
    assert_eq!(fleet.texts(away), all_and("last"));
    assert_eq!(fleet.seen(away, |seen| seen.installed), 1);
    let kept = fleet.members[away]
        .handle
        .lock()
        .expect("no panic")
        .kept_from();
    assert!(kept > 0, "what is not needed may go again");
    fleet.stop(away).await;
    fleet.start(away).await;
    fleet.saw(away, "last").await;
    assert_eq!(fleet.texts(away), all_and("last"));
    assert_eq!(
        fleet.seen(away, |seen| seen.installed),
        0,
        "it has its own now"
    );
}

/// A slow transfer in a busy group: the leader writes a newer snapshot before the older one has arrived.
#[tokio::test(start_paused = true)]
async fn a_member_gets_one_snapshot_however_many_are_written_meanwhile() {
    let (mut fleet, leader, away) = grown_without_one().await;
    let held = fleet.hold_pieces().await;
    fleet.start(away).await;
    let sends = |fleet: &Fleet| {
        fleet.members[leader]
            .replica
            .inbox()
            .is_sending()
            .then_some(())
    };
    fleet.until("it is sent a snapshot", sends).await;
    for n in MORE..3 * MORE {
        fleet.propose(leader, &format!("{n}"));
    }
    fleet.saw(leader, &format!("{}", 3 * MORE - 1)).await;
    fleet.snapshot(leader);
    drop(held);
    fleet.propose(leader, "last");
    fleet.saw(away, "last").await;
    assert_eq!(fleet.seen(away, |seen| seen.installed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_read_its_snapshot_says_so_until_one_arrives() {
    let (mut fleet, leader, away) = grown_without_one().await;
    let files = fleet.files(leader);
    let whole = files.read().expect("it was written");
    files.write(&[&whole[..], &[DAMAGED]].concat());
    fleet.start(away).await;
    let unreadable = |fleet: &Fleet| fleet.members[leader].replica.status().unreadable;
    let damage = fleet.until("it says so", unreadable).await;
    assert!(damage.contains("snapshot"), "{damage}");
    assert_eq!(fleet.elected().await, leader, "it leads all the same");
    files.write(&whole);
    fleet.propose(leader, "last");
    fleet.saw(away, "last").await;
    let says_nothing = |fleet: &Fleet| unreadable(fleet).is_none().then_some(());
    fleet.until("it says so no more", says_nothing).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_member_of_a_group_with_history_gets_the_snapshot() {
    let mut fleet = Fleet::started(&["a"]).await;
    let leader = grow(&fleet).await;
    fleet.start("b").await;
    let add = Change::Add {
        name: "b".parse().expect("a name"),
        address: "b:1".parse().expect("an address"),
    };
    let added = fleet.members[leader].replica.change(add, PATIENCE).await;
    added.expect("added");
    fleet.propose(leader, "last");
    fleet.saw("b", "last").await;
    assert_eq!(fleet.texts("b"), all_and("last"));
    // The membership came with the snapshot or behind it: it votes after a restart as well.
    fleet.snapshot("b");
    fleet.stop("b").await;
    fleet.start("b").await;
    fleet.stop("a").await;
    fleet.start("a").await;
    fleet.propose(fleet.elected().await, "after");
    fleet.saw("a", "after").await;
    fleet.saw("b", "after").await;
}
