//! Members that take another one's place, and what is looked at before a change.

use super::THREE;
use super::fleet::{Fleet, PATIENCE};
use crate::raft::{Change, ChangeError};
use cluster::topology::{HostPort, NodeName};

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn address(text: &str) -> HostPort {
    format!("{text}:1").parse().expect("an address")
}

pub(super) fn learn(who: &str) -> Change {
    Change::Learn {
        name: name(who),
        address: address(who),
    }
}

fn replace(old: &str, who: &str) -> Change {
    Change::Replace {
        old: name(old),
        name: name(who),
        address: address(who),
    }
}

async fn check(
    fleet: &Fleet,
    who: &str,
    at: &str,
    replaced: Option<&str>,
) -> Result<(), ChangeError> {
    let leader = &fleet.members[fleet.elected().await].replica;
    let replaced = replaced.map(name);
    leader
        .check(&name(who), &address(at), replaced.as_ref())
        .await
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_replaced_by_one_that_has_everything_by_then() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "one");
    fleet.start("d").await;
    check(&fleet, "d", "d", Some(leader))
        .await
        .expect("it may come");
    let old = fleet.members[leader].replica.clone();
    for _said_again in [false, true] {
        old.change(learn("d"), PATIENCE).await.expect("it learns");
        check(&fleet, "d", "d", Some(leader))
            .await
            .expect("it goes on");
    }
    fleet.saw("d", "one").await;
    assert_eq!(fleet.voters(leader), THREE);
    // It has another one lead before.
    let replaced = old.change(replace(leader, "d"), PATIENCE).await;
    let Err(ChangeError::NotLeader { leader: Some(next) }) = replaced else {
        panic!("{replaced:?}");
    };
    let another = |fleet: &Fleet| fleet.leader().filter(|now| *now == &*next);
    let next = fleet.until("another leader", another).await;
    assert_eq!(fleet.voters(next), THREE);
    let replica = &fleet.members[next].replica;
    let replaced = replica.change(replace(leader, "d"), PATIENCE).await;
    replaced.expect("replaced");
    fleet.propose(next, "two");
    let left = THREE.into_iter().filter(|name| *name != leader);
    let left: Vec<_> = left.chain(["d"]).collect();
    for name in &left {
        fleet.saw(name, "two").await;
    }
    assert_eq!(fleet.voters(next), left);
    check(&fleet, "d", "d", Some(leader))
        .await
        .expect("it is done");
    let again = &fleet.members[next].replica;
    let again = again.change(replace(leader, "d"), PATIENCE).await;
    again.expect("nothing is left to do");
    assert_eq!(fleet.voters(next), left);
}

#[tokio::test(start_paused = true)]
async fn the_only_member_is_replaced_by_one_that_has_a_vote_before_it_goes() {
    let mut fleet = Fleet::started(&["a"]).await;
    fleet.elected().await;
    fleet.propose("a", "one");
    fleet.start("b").await;
    check(&fleet, "b", "b", Some("a")).await.expect("it may");
    let old = fleet.members["a"].replica.clone();
    let replaced = old.change(replace("a", "b"), PATIENCE).await;
    replaced.expect("it has a vote");
    assert_eq!(fleet.voters("a"), ["a", "b"]);
    fleet.saw("b", "one").await;
    check(&fleet, "b", "b", Some("a"))
        .await
        .expect("what was begun goes on");
    // Said again, it goes on, and so does the removal.
    let said_again = old.change(replace("a", "b"), PATIENCE).await;
    let next = ChangeError::NotLeader {
        leader: Some("b".into()),
    };
    assert_eq!(said_again, Err(next));
    fleet
        .until("it leads", |fleet| fleet.leader().filter(|now| *now == "b"))
        .await;
    let replica = &fleet.members["b"].replica;
    let replaced = replica.change(replace("a", "b"), PATIENCE).await;
    replaced.expect("replaced");
    assert_eq!(fleet.voters("b"), ["b"]);
    fleet.stop("a").await;
    fleet.propose("b", "two");
    fleet.saw("b", "two").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_begins_for_one_that_is_not_who_it_should_be() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.start("d").await;
    let error = check(&fleet, "x", "d", Some("a")).await;
    let other = ChangeError::Another {
        name: name("x"),
        address: address("d"),
        found: name("d"),
    };
    assert_eq!(error, Err(other));
    let error = check(&fleet, "d", "nowhere", Some("a")).await;
    assert!(
        matches!(error, Err(ChangeError::Unreachable(_))),
        "{error:?}"
    );
    let both = Err(ChangeError::BothVote {
        name: name("b"),
        old: name("a"),
    });
    assert_eq!(check(&fleet, "b", "b", Some("a")).await, both);
    let asked = &fleet.members[leader].replica;
    assert_eq!(asked.change(replace("a", "b"), PATIENCE).await, both);
    let follower = THREE.into_iter().find(|name| *name != leader);
    let follower = &fleet.members[follower.expect("three")].replica;
    let refused = follower.check(&name("d"), &address("d"), None).await;
    assert!(
        matches!(refused, Err(ChangeError::NotLeader { .. })),
        "{refused:?}"
    );
    assert_eq!(fleet.voters(leader), THREE);
    assert_eq!(fleet.members[leader].replica.status().members.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_member_is_spared_only_if_a_majority_is_there_without_it() {
    let (mut fleet, leader, [one, other]) = Fleet::of_three().await;
    fleet.propose(leader, "one");
    fleet.all_saw("one").await;
    let replica = fleet.members[leader].replica.clone();
    replica.can_spare(&name(one)).await.expect("two are there");
    assert_eq!(
        replica.can_spare(&name("z")).await,
        Err(ChangeError::Unknown(name("z")))
    );
    fleet.start("d").await;
    let learns = replica.change(learn("d"), PATIENCE).await;
    learns.expect("it learns");
    assert_eq!(
        replica.can_spare(&name(one)).await,
        Err(ChangeError::Coming("d".into()))
    );
    let gone = Change::Remove { name: name("d") };
    replica.change(gone, PATIENCE).await.expect("removed");
    fleet.stop(other).await;
    assert_eq!(
        replica.can_spare(&name(one)).await,
        Err(ChangeError::Needed {
            name: name(one),
            voters: 3,
            silent: other.to_owned(),
        })
    );
    replica.can_spare(&name(other)).await.expect("it is gone");
}
