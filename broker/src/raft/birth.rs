//! What a member does with the folder that it finds. Pure.
//!
//! A member that lost its folder has lost its votes and what it stored, so it must not go on as if it had never had
//! any: the others counted on them. So a member with an empty folder takes part only if it can know that it never did
//! before. An empty folder is given a random number before anybody hears of it, and so is known again after a crash:
//!
//! - The first of the members by name begins the group, when all others have told it that their folders are empty as
//!   well. It remembers for each the number of the folder.
//! - Another one takes part when somebody remembers *this* folder of it: the one that began the group, or one that has
//!   learnt it from that one when it took part itself.
//!
//! No group begins with an even number of members: one of these may be to come into a group that begins, or has begun, with
//! the others.
//!
//! So wherever members crash meanwhile, also all at once, they go on when they are back.
//!
//! Invariant: as long as one of the first members has its folder, no two groups come from one cluster file.

use super::codec::{log_id, stored_membership_bytes};
use super::config::{Membership, Node, StoredMembership, node_id};
use super::record::Identity;
use crate::consensus::Position;
use cluster::topology::{HostPort, NodeName};
use std::collections::{BTreeMap, BTreeSet};

/// What another member has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// It has taken part in the group.
    pub(super) born: bool,
    /// It remembers this folder of this member.
    pub(super) met: bool,
}

/// What a member with an empty folder is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// Begin the group.
    Begin,
    /// Take part; the leader will come.
    Join,
    /// Ask again.
    Wait,
    /// Take no part: by this member the group exists, and this one has been in it with another folder, or it has not
    /// been added yet.
    Lost {
        /// Who said so.
        by: NodeName,
    },
}

/// Decides for `own`, which is one of the first members, from what the others said; `None`: no answer.
pub(super) fn decide(own: &NodeName, others: &[(NodeName, Option<Said>)]) -> Birth {
    let born = || {
        others
            .iter()
            .filter_map(|(name, who)| Some((name, (*who)?)))
    };
    if born().any(|(_, who)| who.born && who.met) {
        return Birth::Join;
    }
    let is_first = others.iter().all(|(name, _)| own < name);
    if let Some((name, _)) = born().find(|(_, who)| who.born) {
        // Whoever began it may not have answered yet; only that one knows.
        let all_spoke = others.iter().all(|(_, who)| who.is_some());
        if is_first || all_spoke {
            return Birth::Lost { by: name.clone() };
        }
        return Birth::Wait;
    }
    let is_odd = others.len().is_multiple_of(2);
    if is_first && is_odd && others.iter().all(|(_, who)| who.is_some()) {
        return Birth::Begin;
    }
    Birth::Wait
}

/// Where a group stands whose only member has taken entries up to `index` without openraft, when it goes on with it.
pub fn sole_position(name: &NodeName, address: &HostPort, index: u64) -> Position {
    let id = node_id(name.as_str(), 0);
    let nodes = BTreeMap::from([(id, Node::at(name, address))]);
    let membership = Membership::new(vec![BTreeSet::from([id])], nodes);
    let last = index.checked_sub(1).map(|index| log_id(0, index));
    let members = stored_membership_bytes(&StoredMembership::new(last, membership));
    Position {
        index,
        term: 0,
        members: members.into(),
    }
}

/// Whether `own`, the first of the members by name, was cut off between saying whose its folder is and beginning the
/// group, and has to begin it again. Nobody else does that, and without an entry or a vote nobody has heard of it.
/// `is_untouched`: the folder holds its `identity`, and nothing else.
pub(super) fn was_cut_off(own: u64, identity: &Identity, is_untouched: bool) -> bool {
    // Who joins is among those that were met.
    let joined = identity.met.iter().any(|(id, _)| *id == own);
    is_untouched && identity.life == 0 && !joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().expect("a name")
    }

    const EMPTY: Option<Said> = Some(Said {
        born: false,
        met: false,
    });
    const BORN: Option<Said> = Some(Said {
        born: true,
        met: false,
    });
    const MET: Option<Said> = Some(Said {
        born: true,
        met: true,
    });

    fn decide_for(own: &str, others: [(&str, Option<Said>); 2]) -> Birth {
        decide(&name(own), &others.map(|(other, who)| (name(other), who)))
    }

    #[test]
    fn the_first_by_name_begins_when_all_are_there_with_empty_folders() {
        assert_eq!(decide_for("a", [("b", EMPTY), ("c", EMPTY)]), Birth::Begin);
        assert_eq!(decide_for("a", [("b", EMPTY), ("c", None)]), Birth::Wait);
        assert_eq!(decide_for("b", [("a", EMPTY), ("c", EMPTY)]), Birth::Wait);
        assert_eq!(decide(&name("a"), &[]), Birth::Begin);
    }

    #[test]
    fn no_group_begins_with_an_even_number_of_members() {
        let others = ["b", "c", "d"].map(|other| (name(other), EMPTY));
        for even in [&others[..1], &others] {
            assert_eq!(decide(&name("a"), even), Birth::Wait);
        }
    }

    #[test]
    fn another_takes_part_when_it_is_remembered() {
        assert_eq!(decide_for("b", [("a", MET), ("c", EMPTY)]), Birth::Join);
        assert_eq!(decide_for("b", [("a", MET), ("c", None)]), Birth::Join);
        assert_eq!(decide_for("b", [("a", MET), ("c", BORN)]), Birth::Join);
    }

    #[test]
    fn an_empty_folder_beside_a_group_is_a_lost_one() {
        let lost = |by| Birth::Lost { by: name(by) };
        assert_eq!(decide_for("b", [("a", BORN), ("c", BORN)]), lost("a"));
        assert_eq!(decide_for("a", [("b", BORN), ("c", None)]), lost("b"));
        assert_eq!(decide_for("a", [("b", EMPTY), ("c", BORN)]), lost("c"));
    }

    #[test]
    fn who_was_cut_off_while_it_began_begins_again_and_nobody_else_does() {
        let identity = |life, met: &[(u64, u64)]| Identity {
            life,
            met: met.to_vec(),
        };
        let begun = identity(0, &[(2, 20), (3, 30)]);
        assert!(was_cut_off(1, &begun, true));
        assert!(was_cut_off(1, &identity(0, &[]), true), "an only member");
        assert!(!was_cut_off(1, &begun, false), "the others may know of it");
        assert!(!was_cut_off(2, &begun, true), "it has joined");
        assert!(!was_cut_off(1, &identity(9, &[]), true), "it was invited");
    }

    #[test]
    fn the_word_of_the_one_that_may_have_begun_is_waited_for() {
        assert_eq!(decide_for("b", [("a", None), ("c", BORN)]), Birth::Wait);
    }
}
