//! Members over a network that can be cut.

mod carried;
mod changes;
mod clocks;
mod disk;
mod files;
mod fleet;
mod full;
mod handover;
mod large;
mod net;
mod newcomers;
mod pre_vote;
mod promise;
mod tcp;
mod trouble;

use super::record::{Identity, Meta, MetaRecord};
use super::status::Role;
use super::{Node, node_id};
use crate::log::META_STREAM;
use fleet::Fleet;

const THREE: [&str; 3] = ["a", "b", "c"];
const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

#[tokio::test(start_paused = true)]
async fn what_is_proposed_comes_to_all_in_order() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    let texts: Vec<_> = (0..500).map(|n| format!("text {n}")).collect();
    for text in &texts {
        fleet.propose(leader, text);
    }
    for name in THREE {
        fleet.saw(name, "text 499").await;
        assert_eq!(fleet.texts(name), texts, "{name}");
    }
    let pending = fleet.members[leader].handle.lock().expect("no panic");
    assert_eq!(crate::consensus::Consensus::pending_bytes(&*pending), 0);
}

/// A disk that has said it stored what it did not.
#[tokio::test(start_paused = true)]
async fn a_member_that_has_lost_the_end_of_its_log_gets_it_again() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    let texts: Vec<_> = (0..20).map(|n| format!("text {n}")).collect();
    let loses = fleet.others(&[leader])[0];
    for text in &texts {
        fleet.propose(leader, text);
        fleet.saw(loses, text).await;
    }
    fleet.stop(loses).await;
    fleet.lose_end_of_log(loses, b"text 10");
    fleet.start(loses).await;
    fleet.saw(loses, "text 19").await;
    assert_eq!(fleet.texts(loses), texts);
    assert_eq!(fleet.elected().await, leader, "it goes on");
}

#[tokio::test(start_paused = true)]
async fn an_only_member_agrees_with_itself_also_after_a_restart() {
    let mut fleet = Fleet::started(&["a"]).await;
    fleet.propose(fleet.elected().await, "one");
    fleet.saw("a", "one").await;
    fleet.stop("a").await;
    fleet.start("a").await;
    fleet.propose(fleet.elected().await, "two");
    fleet.saw("a", "two").await;
    assert_eq!(fleet.texts("a"), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn another_leads_when_the_leader_is_gone_and_it_catches_up_when_it_is_back() {
    let mut fleet = Fleet::started(&THREE).await;
    let first = fleet.elected().await;
    fleet.propose(first, "before");
    fleet.saw(first, "before").await;
    fleet.stop(first).await;
    let second = fleet.elected().await;
    fleet.saw(second, "before").await;
    fleet.propose(second, "between");
    fleet.saw(second, "between").await;
    fleet.start(first).await;
    fleet.saw(first, "between").await;
    assert_eq!(fleet.texts(first), ["before", "between"]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_reaches_nobody_stops_and_what_it_proposed_alone_is_gone() {
    let fleet = Fleet::started(&THREE).await;
    let first = fleet.elected().await;
    fleet.propose(first, "agreed");
    fleet.saw(first, "agreed").await;
    fleet.isolate(first, true);
    fleet.propose(first, "alone");
    let others = |fleet: &Fleet| fleet.leader().filter(|leader| *leader != first);
    let second = fleet.until("another leader", others).await;
    assert_eq!(fleet.leader(), Some(second), "not two at once");
    fleet.propose(second, "by the other");
    fleet.saw(second, "by the other").await;
    fleet.isolate(first, false);
    fleet.saw(first, "by the other").await;
    assert_eq!(fleet.texts(first), ["agreed", "by the other"]);
    assert_eq!(fleet.seen(first, |seen| seen.leads), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_knows_whether_a_majority_answers() {
    let fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    let others = fleet.others(&[leader]);
    let says = async |what, reaches| {
        let is_so = |fleet: &Fleet| {
            let status = fleet.members[leader].replica.status();
            (status.reaches_majority == Some(reaches)).then_some(status.role)
        };
        assert_eq!(fleet.until(what, is_so).await, Role::Leader, "{what}");
    };
    says("both answer", true).await;
    for other in &others {
        fleet.isolate(other, true);
    }
    says("neither answers", false).await;
    for name in others {
        let leader = |fleet: &Fleet| fleet.members[name].replica.status().leader;
        let hears_none = |fleet: &Fleet| leader(fleet).is_none().then_some(());
        fleet.until("it hears nobody", hears_none).await;
        let known = fleet.members[name].replica.status().reaches_majority;
        assert_eq!(known, None, "only a leader knows");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_after_all_were_stopped() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    for n in 0..100 {
        fleet.propose(leader, &format!("{n}"));
    }
    fleet.saw(leader, "99").await;
    for name in THREE {
        fleet.stop(name).await;
    }
    for name in THREE {
        fleet.start(name).await;
    }
    let leader = fleet.elected().await;
    fleet.propose(leader, "after");
    let mut all: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    all.push("after".into());
    for name in THREE {
        fleet.saw(name, "after").await;
        assert_eq!(fleet.texts(name), all, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lost_its_folder_takes_no_part() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "one");
    fleet.all_saw("one").await;
    let lost = fleet.others(&[leader])[0];
    fleet.lose(lost).await;
    fleet.propose(leader, "two");
    fleet.saw(leader, "two").await;
    assert!(fleet.texts(lost).is_empty());
}

/// The first by name says whose its folder is, and then begins the group. Here all lost their power in between, and the
/// others had only given their folders numbers.
#[tokio::test(start_paused = true)]
async fn members_that_were_cut_off_while_their_group_began_begin_it_again() {
    let mut fleet = Fleet::of(&THREE);
    let folders = [("b", 21), ("c", 22)];
    for (name, folder) in folders {
        let record = MetaRecord::Folder(folder);
        fleet.write(name, META_STREAM, 1, &record.bytes());
    }
    let met = folders.map(|(name, folder)| (node_id(name, 0), folder));
    let identity = Identity {
        life: 0,
        met: met.to_vec(),
    };
    let meta = Meta {
        identity,
        ..Meta::default()
    };
    fleet.write("a", META_STREAM, 1, &meta.bytes());
    for name in THREE {
        fleet.start(name).await;
    }
    fleet.propose(fleet.elected().await, "one");
    fleet.all_saw("one").await;
}

#[tokio::test(start_paused = true)]
async fn members_that_moved_find_each_other_by_the_cluster_file() {
    let mut fleet = Fleet::started(&THREE).await;
    let leader = fleet.elected().await;
    fleet.propose(leader, "here");
    fleet.all_saw("here").await;
    for name in THREE {
        fleet.stop(name).await;
    }
    fleet.port = 2;
    for name in THREE {
        fleet.start(name).await;
    }
    fleet.propose(fleet.elected().await, "there");
    fleet.all_saw("there").await;
}

/// Who leads hears of it from the fleet, and the others from the log.
#[tokio::test(start_paused = true)]
async fn a_member_that_moves_is_found_by_those_that_run() {
    let (mut fleet, leader, [moves, other]) = Fleet::of_three().await;
    fleet.propose(leader, "here");
    fleet.all_saw("here").await;
    fleet.stop(moves).await;
    fleet.moved.insert(moves, 2);
    fleet.start(moves).await;
    let there = fleet.address(moves);
    let topology = [(
        moves.parse().expect("a name"),
        there.parse().expect("an address"),
    )];
    let logged = Node {
        name: moves.into(),
        address: "elsewhere:1".into(),
    };
    let all_know = |fleet: &Fleet| {
        let leader = fleet.leader()?;
        fleet.members[leader].replica.set_addresses(&topology);
        let known = THREE.map(|name| fleet.members[name].replica.addresses().of(&logged));
        known
            .iter()
            .all(|known| known.address == there)
            .then_some(())
    };
    fleet.until("all know where the member is", all_know).await;
    fleet.propose(fleet.elected().await, "there");
    fleet.all_saw("there").await;
    fleet.stop(leader).await;
    let next = fleet.elected().await;
    fleet.propose(next, "without the first");
    for name in [moves, other] {
        fleet.saw(name, "without the first").await;
    }
}
