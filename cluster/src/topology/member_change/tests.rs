use super::*;
use crate::ring::GroupWeight;
use crate::slots::SlotTable;
use crate::topology::FixedHash;
use proptest::prelude::*;

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn address(text: &str) -> HostPort {
    text.parse().expect("an address")
}

/// A member that takes links and peers at these ports.
fn member(text: &str, link: u16, peer: u16) -> Member {
    Member {
        name: name(text),
        link: address(&format!("host:{link}")),
        peer: Some(address(&format!("host:{peer}"))),
    }
}

/// Group 0 has three members, a-0 to a-2 at 10 to 12 and 20 to 22; group 1 has b-0 at 30, without a peer address.
fn topology() -> Topology {
    let weight = |group: u8| GroupWeight {
        group: GroupNo(group),
        weight: 1,
    };
    let alone = Member {
        peer: None,
        ..member("b-0", 30, 1)
    };
    Topology {
        cluster_id: "plant".to_owned(),
        fixed: FixedHash([7; 16]),
        table: SlotTable::from_ring(1, &[weight(0), weight(1)]).expect("two groups"),
        members_version: 2,
        groups: vec![
            GroupMembers {
                weight: weight(0),
                members: (0..3)
                    .map(|n| member(&format!("a-{n}"), 10 + n, 20 + n))
                    .collect(),
            },
            GroupMembers {
                weight: weight(1),
                members: vec![alone],
            },
        ],
    }
}

fn moved(who: &str, link: Option<u16>, peer: Option<u16>) -> MemberChange {
    let at = |port: u16| address(&format!("host:{port}"));
    MemberChange::Move {
        name: name(who),
        link: link.map(at),
        peer: peer.map(at),
    }
}

fn added(group: u8, member: Member) -> MemberChange {
    let group = GroupNo(group);
    MemberChange::Add { group, member }
}

fn removed(who: &str) -> MemberChange {
    MemberChange::Remove { name: name(who) }
}

fn replaced(who: &str, by: Member) -> MemberChange {
    MemberChange::Replace {
        name: name(who),
        by,
    }
}

/// What is said of a change that is refused; nothing has changed then.
fn refusal(change: &MemberChange) -> String {
    let mut held = topology();
    let error = held.change(change).expect_err("refused");
    assert_eq!(held, topology());
    error.to_string()
}

/// The topology with changes, each of which is one, and none when asked for again.
fn with(changes: &[MemberChange]) -> Topology {
    let mut held = topology();
    for change in changes {
        let before = held.members_version;
        assert_eq!(held.change(change), Ok(true), "{change:?}");
        assert_eq!(held.members_version, before + 1);
        if !matches!(change, MemberChange::Remove { .. }) {
            assert_eq!(held.change(change), Ok(false), "again: {change:?}");
            assert_eq!(held.members_version, before + 1);
        }
    }
    held
}

#[test]
fn a_member_moves_where_nobody_is() {
    let held = with(&[
        moved("a-1", Some(41), None),
        moved("b-0", Some(30), Some(50)),
    ]);
    assert_eq!(held.members(GroupNo(0))[1], member("a-1", 41, 21));
    assert_eq!(held.members(GroupNo(1)), [member("b-0", 30, 50)]);
    assert_eq!(
        refusal(&moved("c-7", Some(9), None)),
        "there is no member \"c-7\"; there are: a-0, a-1, a-2, b-0"
    );
    for taken in [10, 20, 30] {
        let link = refusal(&moved("a-1", Some(taken), None));
        let peer = refusal(&moved("a-1", None, Some(taken)));
        assert_eq!(link, peer);
        assert!(
            link.starts_with(&format!("host:{taken} is the address of ")),
            "{link}"
        );
    }
    let own = refusal(&moved("a-1", Some(21), None));
    assert!(own.starts_with("host:21 cannot be both"), "{own}");
}

/// Links and peers of a member may change places in one step.
#[test]
fn a_member_may_move_to_its_own_other_address() {
    let held = with(&[moved("a-1", Some(21), Some(11))]);
    assert_eq!(held.members(GroupNo(0))[1], member("a-1", 21, 11));
}

#[test]
fn a_group_grows_and_shrinks() {
    let held = with(&[
        added(0, member("a-3", 13, 23)),
        removed("a-0"),
        moved("b-0", None, Some(31)),
        added(1, member("b-1", 32, 33)),
    ]);
    let names = |group: u8| {
        let members = held.members(GroupNo(group)).iter();
        members.map(|it| it.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["a-1", "a-2", "a-3"]);
    assert_eq!(names(1), ["b-0", "b-1"]);
    let text = held.write();
    assert_eq!(Topology::read(&text), Ok(held));
}

#[test]
fn what_cannot_grow_or_shrink_says_why() {
    assert_eq!(
        refusal(&added(1, member("b-1", 40, 50))),
        "\"b-0\" of group 1 has no address where the other members of its group reach it; say one with --peer"
    );
    assert_eq!(
        refusal(&added(0, member("b-0", 40, 50))),
        "there is a member \"b-0\" already, in group 1"
    );
    assert_eq!(
        refusal(&added(7, member("c-0", 40, 50))),
        "there is no group 7; there are: 0, 1"
    );
    assert_eq!(
        refusal(&removed("b-0")),
        "\"b-0\" is the last member of group 1, which has its messages"
    );
    let mut full = with(&[
        added(0, member("a-3", 13, 23)),
        added(0, member("a-4", 14, 24)),
        added(0, member("a-5", 15, 25)),
    ]);
    let error = full.change(&added(0, member("a-6", 16, 26)));
    assert_eq!(error, Err(MemberError::Full { group: GroupNo(0) }));
    let unreachable = Member {
        peer: None,
        ..member("a-3", 13, 1)
    };
    assert!(refusal(&added(0, unreachable)).starts_with("\"a-3\" of group 0 has no address"));
}

#[test]
fn a_member_takes_the_place_of_another() {
    let held = with(&[replaced("a-1", member("a-9", 19, 29))]);
    let names: Vec<_> = held
        .members(GroupNo(0))
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["a-0", "a-9", "a-2"]);
    // The same machine under another name, and the only member of a group.
    with(&[
        replaced("a-1", member("a-9", 11, 21)),
        replaced("b-0", member("b-9", 30, 31)),
    ]);
    let taken = refusal(&replaced("a-1", member("a-9", 10, 29)));
    assert_eq!(taken, "host:10 is the address of \"a-0\"");
    let twice = refusal(&replaced("a-1", member("a-2", 19, 29)));
    assert_eq!(twice, "there is a member \"a-2\" already, in group 0");
    let unknown = refusal(&replaced("a-7", member("a-9", 19, 29)));
    assert!(
        unknown.starts_with("there is no member \"a-7\""),
        "{unknown}"
    );
}

fn any_change() -> impl Strategy<Value = MemberChange> {
    let who = || (0..2_usize, 0..7_u16).prop_map(|(group, n)| format!("{}-{n}", ["a", "b"][group]));
    let any_member = || (who(), 10..40_u16, 10..40_u16).prop_map(|(n, l, p)| member(&n, l, p));
    let port = || prop::option::of(10..40_u16);
    prop_oneof![
        (who(), port(), port()).prop_map(|(who, link, peer)| moved(&who, link, peer)),
        (0..3_u8, any_member()).prop_map(|(group, member)| added(group, member)),
        who().prop_map(|who| removed(&who)),
        (who(), any_member()).prop_map(|(who, by)| replaced(&who, by)),
    ]
}

proptest! {
    /// Whatever is asked for, the list stays one that nodes can work with.
    #[test]
    fn every_version_is_sound(changes in prop::collection::vec(any_change(), 0..40)) {
        let mut held = topology();
        for change in changes {
            let before = held.clone();
            if held.change(&change) == Ok(true) {
                prop_assert_eq!(held.members_version, before.members_version + 1);
            } else {
                prop_assert_eq!(&held, &before);
            }
            let members: Vec<_> = held.groups.iter().flat_map(|group| &group.members).collect();
            let names: std::collections::HashSet<_> = members.iter().map(|it| &it.name).collect();
            prop_assert_eq!(names.len(), members.len());
            let all: Vec<_> = members.iter().flat_map(|it| it.addresses()).collect();
            let different: std::collections::HashSet<_> = all.iter().collect();
            prop_assert_eq!(different.len(), all.len());
            for group in &held.groups {
                prop_assert!((1..=MEMBERS_LISTED_MAX).contains(&group.members.len()));
                let alone = group.members.len() == 1;
                prop_assert!(alone || group.members.iter().all(|it| it.peer.is_some()));
            }
            prop_assert_eq!(Topology::read(&held.write()), Ok(held.clone()));
        }
    }
}
