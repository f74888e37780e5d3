//! Members that join and leave.

use super::THREE;
use super::fleet::{Fleet, PATIENCE};
use super::net::knows_no_handover;
use crate::raft::status::Role;
use crate::raft::wire::{Answer, Call, Request};
use crate::raft::{Change, ChangeError, Node};
use std::time::Duration;

fn add(name: &str) -> Change {
    Change::Add {
        name: name.parse().expect("a name"),
        address: format!("{name}:1").parse().expect("an address"),
    }
}

fn remove(name: &str) -> Change {
    Change::Remove {
        name: name.parse().expect("a name"),
    }
}

async fn change(fleet: &Fleet, change: Change) -> Result<(), ChangeError> {
    let leader = fleet.elected().await;
    fleet.members[leader].replica.change(change, PATIENCE).await
}

/// Has a new member take part, which the group does not know yet. Its id.
async fn invite(fleet: &Fleet, name: &str) -> u64 {
    let invite = Call {
        to: 0,
        request: Request::Invite {
            name: name.parse().expect("a name"),
        },
    };
    let replica = &fleet.members[name].replica;
    loop {
        let answer = replica.answer(invite.bytes()).await;
        match Answer::read(&answer) {
            Ok(Answer::Invited { id }) => return id,
            // It reads its folder.
            Ok(Answer::Wait) => tokio::task::yield_now().await,
            other => panic!("not invited: {other:?}"),
        }
    }
}

/// Has a new member take part without a vote.
async fn learn(fleet: &Fleet, leader: &str, name: &str) {
    let id = invite(fleet, name).await;
    let node = Node {
        name: name.into(),
        address: format!("{name}:1").into(),
    };
    let running = fleet.members[leader].replica.running().expect("it leads");
    let added = running.raft.add_learner(id, node, true).await;
    added.expect("it catches up");
}

#[tokio::test(start_paused = true)]
async fn a_group_grows_member_by_member_and_shrinks_again() {
    let mut fleet = Fleet::started(&["a"]).await;
    fleet.propose(fleet.elected().await, "one");
    fleet.saw("a", "one").await;
    for name in ["b", "c"] {
        fleet.start(name).await;
        change(&fleet, add(name)).await.expect("added");
        fleet.saw(name, "one").await;
    }
    assert_eq!(fleet.voters("a"), ["a", "b", "c"]);
    fleet.propose(fleet.elected().await, "two");
    for name in ["a", "b", "c"] {
        fleet.saw(name, "two").await;
    }
    fleet.stop("a").await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "three");
    fleet.saw(leader, "three").await;
    change(&fleet, remove("a")).await.expect("removed");
    assert_eq!(fleet.voters(leader), ["b", "c"]);
    fleet.propose(fleet.elected().await, "four");
    for name in ["b", "c"] {
        fleet.saw(name, "four").await;
        assert_eq!(fleet.texts(name), ["one", "two", "three", "four"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lost_its_folder_comes_back_in_its_own_place() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "one");
    fleet.saw(leader, "one").await;
    let lost = fleet.others(&[leader])[0];
    fleet.lose(lost).await;
    change(&fleet, add(lost)).await.expect("replaced");
    assert_eq!(fleet.voters(leader), ["a", "b", "c"]);
    assert_eq!(
        fleet.members[leader].replica.status().members.len(),
        3,
        "the old id is gone"
    );
    fleet.saw(lost, "one").await;
    change(&fleet, add(lost)).await.expect("nothing to do");
    // It is a full member: with it alone beside the leader the group goes on, also after its restart.
    fleet.stop(fleet.others(&[leader, lost])[0]).await;
    fleet.stop(lost).await;
    fleet.start(lost).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "two");
    fleet.saw(leader, "two").await;
    fleet.saw(lost, "two").await;
    change(&fleet, add(leader))
        .await
        .expect("it is one already");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_cut_off_half_way_is_ended_after_a_restart_of_the_new_member() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "one");
    fleet.start("d").await;
    // The first half: it takes part, and has no vote.
    learn(&fleet, leader, "d").await;
    fleet.stop("d").await;
    fleet.start("d").await;
    change(&fleet, add("d")).await.expect("the second half");
    assert_eq!(fleet.voters(leader), ["a", "b", "c", "d"]);
    fleet.saw("d", "one").await;
    change(&fleet, remove("d")).await.expect("removed");
    let refused = change(&fleet, add("d")).await;
    assert_eq!(
        refused,
        Err(ChangeError::InUse("d".parse().expect("a name"))),
        "it is not empty, and the group does not know it any more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_member_that_was_cut_off_before_the_group_knew_it_is_added_all_the_same() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "one");
    fleet.start("d").await;
    invite(&fleet, "d").await;
    fleet.stop("d").await;
    fleet.start("d").await;
    change(&fleet, add("d")).await.expect("added");
    assert_eq!(fleet.voters(leader), ["a", "b", "c", "d"]);
    fleet.saw("d", "one").await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_else_has_stored_is_not_said_to_be_made() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.start("d").await;
    learn(&fleet, leader, "d").await;
    fleet.isolate(leader, true);
    let replica = fleet.members[leader].replica.clone();
    for _ in 0..2 {
        let asked = replica.change(remove("d"), Duration::from_millis(50));
        let error = asked.await.expect_err("nobody hears of it");
        assert!(matches!(error, ChangeError::TooLong { .. }), "{error}");
    }
    let another = |fleet: &Fleet| fleet.leader().filter(|now| *now != leader);
    let next = fleet.until("another leader", another).await;
    fleet.isolate(leader, false);
    let knows_d = |fleet: &Fleet| {
        let members = fleet.members[next].replica.status().members;
        members.iter().any(|peer| &*peer.name == "d")
    };
    assert!(knows_d(&fleet), "it is a member still");
    change(&fleet, remove("d")).await.expect("removed");
    assert!(!knows_d(&fleet));
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_whom_those_that_answer_need() {
    let (mut fleet, leader, [gone, here]) = Fleet::of_three().await;
    fleet.propose(leader, "one");
    fleet.all_saw("one").await;
    // Its last answer is young, and does not count.
    fleet.stop(gone).await;
    let error = change(&fleet, remove(here)).await.expect_err("refused");
    let text = error.to_string();
    assert!(
        matches!(error, ChangeError::TooFew { left: 2, .. }),
        "{text}"
    );
    assert!(text.contains(&format!("({gone})")), "{text}");
    assert_eq!(fleet.voters(leader), ["a", "b", "c"]);
    change(&fleet, remove(gone)).await.expect("the right one");
    fleet.propose(fleet.elected().await, "two");
    fleet.saw(here, "two").await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_cannot_be_made_say_why() {
    let mut fleet = Fleet::started(&["a"]).await;
    let leader = fleet.elected().await;
    let name = |text: &str| text.parse().expect("a name");
    assert_eq!(
        change(&fleet, remove("z")).await,
        Err(ChangeError::Unknown(name("z")))
    );
    assert_eq!(
        change(&fleet, remove("a")).await,
        Err(ChangeError::Last(name("a")))
    );
    let error = change(&fleet, add("z")).await.expect_err("it is not there");
    assert!(matches!(error, ChangeError::Unreachable(_)), "{error}");
    fleet.start("b").await;
    change(&fleet, add("b")).await.expect("added");
    let refused = fleet.members["b"]
        .replica
        .change(remove("a"), PATIENCE)
        .await;
    let by = Some(leader.into());
    assert_eq!(refused, Err(ChangeError::NotLeader { leader: by }));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_removed_has_another_one_lead_before() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "one");
    fleet.saw(leader, "one").await;
    let replica = &fleet.members[leader].replica;
    let removed = replica.change(remove(leader), PATIENCE).await;
    let Err(ChangeError::NotLeader { leader: Some(next) }) = removed else {
        panic!("{removed:?}");
    };
    let another = |fleet: &Fleet| fleet.leader().filter(|now| *now == &*next);
    let next = fleet.until("another leader", another).await;
    assert_ne!(next, leader);
    assert_eq!(fleet.voters(next), THREE);
    change(&fleet, remove(leader)).await.expect("removed");
    assert_eq!(fleet.elected().await, next, "it leads on");
    fleet.propose(next, "two");
    fleet.saw(next, "two").await;
    assert_eq!(fleet.texts(leader), ["one"]);
    assert_eq!(fleet.voters(next).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_can_hand_over_to_nobody_is_not_removed_before_others_elect_one() {
    let (fleet, leader, [next, heir]) = Fleet::of_three().await;
    for name in [next, heir] {
        fleet.answers(name, knows_no_handover);
    }
    fleet.propose(leader, "one");
    fleet.all_saw("one").await;
    let replica = &fleet.members[leader].replica;
    let refused = replica.change(remove(leader), PATIENCE).await;
    let leads = ChangeError::NoSuccessor(leader.parse().expect("a name"));
    assert_eq!(refused, Err(leads));
    assert_eq!(fleet.voters(leader), THREE);
    // It has tried, and does not come back to its reign.
    let of_the_others = |fleet: &Fleet| fleet.leader().filter(|name| *name != leader);
    let now = fleet.until("the others elect one", of_the_others).await;
    let replica = &fleet.members[now].replica;
    let removed = replica.change(remove(leader), PATIENCE).await;
    removed.expect("it follows now");
    let refused = fleet.members[leader].replica.change(remove(next), PATIENCE);
    let refused = refused.await;
    assert!(
        matches!(refused, Err(ChangeError::NotLeader { .. })),
        "{refused:?}"
    );
    fleet.propose(now, "two");
    fleet.saw(now, "two").await;
    assert_eq!(fleet.texts(leader), ["one"]);
    assert_eq!(fleet.voters(now), fleet.others(&[leader]));
    let follower = if now == next { heir } else { next };
    change(&fleet, remove(follower)).await.expect("removed");
    fleet
        .until("the last one leads", |fleet| {
            let status = fleet.members[now].replica.status();
            (fleet.voters(now) == [now] && status.role == Role::Leader).then_some(())
        })
        .await;
}

/// The last entry of a leader that went by itself could be in its log alone, and nobody could be elected without it.
#[tokio::test(start_paused = true)]
async fn the_other_one_of_two_members_removes_the_leader() {
    let mut fleet = Fleet::started(&["a"]).await;
    fleet.start("b").await;
    change(&fleet, add("b")).await.expect("added");
    fleet.propose("a", "one");
    fleet.all_saw("one").await;
    let replica = &fleet.members["a"].replica;
    let refused = replica.change(remove("a"), PATIENCE).await;
    let next = ChangeError::NotLeader {
        leader: Some("b".into()),
    };
    assert_eq!(refused, Err(next));
    assert_eq!(fleet.voters("a"), ["a", "b"]);
    change(&fleet, remove("a")).await.expect("removed");
    fleet.stop("a").await;
    assert_eq!(fleet.voters("b"), ["b"]);
    fleet.propose(fleet.elected().await, "two");
    fleet.saw("b", "two").await;
}
