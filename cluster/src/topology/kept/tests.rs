use super::*;
use crate::slots::Slot;
use proptest::prelude::*;
use std::path::Path;

fn file(id: &str, groups: &[(u8, &str)]) -> ClusterFile {
    let mut text = format!("[cluster]\nid = \"{id}\"\n[secret]\nfile = \"s\"\n");
    for (number, link) in groups {
        writeln!(
            text,
            "[[group]]\nnumber = {number}\n[[group.member]]\nname = \"b-{number}\"\nlink = \"{link}\""
        )
        .expect("to a String");
    }
    ClusterFile::parse(Path::new("cluster.toml"), &text).expect("valid")
}

fn one() -> ClusterFile {
    file("plant", &[(0, "127.0.0.1:1")])
}

#[test]
fn what_is_written_is_read() {
    for groups in [
        &[(0, "127.0.0.1:1")][..],
        &[(0, "a:1"), (3, "[::1]:2"), (63, "c:3")],
    ] {
        let topology = Topology::first(&file("plant", groups));
        assert_eq!(Topology::read(&topology.write()), Ok(topology));
    }
}

fn three() -> ClusterFile {
    let mut text =
        "[cluster]\nid = \"plant\"\n[secret]\nfile = \"s\"\n[[group]]\nnumber = 0\n".to_owned();
    for n in 0..3 {
        writeln!(
            text,
            "[[group.member]]\nname = \"b-{n}\"\nlink = \"host:1{n}\"\npeer = \"host:2{n}\""
        )
        .expect("to a String");
    }
    ClusterFile::parse(Path::new("cluster.toml"), &text).expect("valid")
}

#[test]
fn peers_are_kept() {
    let topology = Topology::first(&three());
    let text = topology.write();
    assert!(text.contains("\nmember b-2 host:12 host:22\n"), "{text}");
    assert_eq!(Topology::read(&text), Ok(topology));
    let many = checked(&text.replace("host:22\n", "host:22 host:32\n"));
    assert_eq!(Topology::read(&many), Err(KeptError::Line(265)));
}

/// As the version before wrote it.
#[test]
fn a_text_without_peers_is_read() {
    let topology = Topology::first(&one());
    let text = topology.write().replace("topology 2", "topology 1");
    assert_eq!(Topology::read(&checked(&text)), Ok(topology));
}

#[test]
fn a_new_fleet_begins_with_the_file_and_goes_on_with_what_was_kept() {
    let first = Topology::resume(&one(), None).expect("new");
    let again = Topology::resume(&one(), Some(first.clone())).expect("the same");
    assert_eq!(again, first);
}

#[test]
fn addresses_can_be_edited_in_the_file_until_the_log_has_them() {
    let mut kept = Topology::first(&one());
    let moved = file("plant", &[(0, "127.0.0.1:2")]);
    let resumed = Topology::resume(&moved, Some(kept.clone())).expect("fine");
    assert_eq!(resumed.members(GroupNo(0))[0].link.as_str(), "127.0.0.1:2");
    kept = kept.logged();
    let resumed = Topology::resume(&moved, Some(kept.clone())).expect("fine");
    assert_eq!(resumed, kept);
}

#[test]
fn another_fleet_is_refused() {
    let kept = Topology::first(&one());
    let other = file("other", &[(0, "127.0.0.1:1")]);
    let error = Topology::resume(&other, Some(kept))
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("\"plant\"") && error.contains("\"other\""),
        "{error}"
    );
}

#[test]
fn slots_do_not_move_by_editing_the_file() {
    let kept = Topology::first(&one());
    let grown = file("plant", &[(0, "127.0.0.1:1"), (1, "127.0.0.1:2")]);
    let error = Topology::resume(&grown, Some(kept))
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("group 0 has the slots, by the cluster file group 0, group 1"),
        "{error}"
    );
}

#[test]
fn a_table_that_changed_at_run_time_stands() {
    let groups = file("plant", &[(0, "127.0.0.1:1"), (1, "127.0.0.1:2")]);
    let mut kept = Topology::first(&groups);
    kept.table = SlotTable::of_one_group(2, GroupNo(1));
    let resumed = Topology::resume(&groups, Some(kept.clone())).expect("fine");
    assert_eq!(resumed, kept);
    // The same table over a list that lacks its group.
    kept.table = SlotTable::of_one_group(2, GroupNo(5));
    let error = Topology::resume(&groups, Some(kept)).expect_err("refused");
    assert_eq!(error, TopologyError::NoMembers(5));
}

#[test]
fn what_is_not_ours_is_named() {
    assert_eq!(Topology::read(""), Err(KeptError::Version));
    let text = Topology::first(&one()).write();
    assert_eq!(
        Topology::read(&text.replace("topology 2", "topology 3")),
        Err(KeptError::Version)
    );
    assert_eq!(
        Topology::read(&text[..text.len() - 2]),
        Err(KeptError::Damaged)
    );
    assert_eq!(
        Topology::read(&text.replace("table 1", "table 9")),
        Err(KeptError::Damaged)
    );
}

/// The text with a valid check, whatever is in it.
fn checked(content: &str) -> String {
    let content = content
        .rsplit_once("check ")
        .map_or(content, |(content, _)| content);
    format!("{content}check {:016x}\n", xxh3_64(content.as_bytes()))
}

#[test]
fn a_wrong_line_is_named() {
    let text = Topology::first(&one()).write();
    for (old, new, line) in [
        ("cluster plant", "cluster a b", 2),
        ("table 1", "table x", 4),
        ("group 0 1", "group 0", 262),
        ("slots 00", "slots 0g", 5),
    ] {
        let wrong = checked(&text.replacen(old, new, 1));
        assert_eq!(Topology::read(&wrong), Err(KeptError::Line(line)), "{old}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_never_panics_and_is_seen(at in 0_usize..34_000, byte in 0_u8..128) {
        let topology = Topology::first(&one());
        let mut bytes = topology.write().into_bytes();
        let at = at % bytes.len();
        let same = bytes[at] == byte;
        bytes[at] = byte;
        let text = String::from_utf8(bytes).expect("ASCII");
        prop_assert_eq!(Topology::read(&text).is_ok(), same);
    }

    #[test]
    fn any_table_is_read_as_it_was_written(seed in any::<u64>(), version in any::<u64>()) {
        let group = |slot: Slot| GroupNo((seed.rotate_left(u32::from(slot.number())) % 64) as u8);
        let table: Vec<_> = Slot::all().map(group).collect();
        let mut topology = Topology::first(&one());
        topology.table = SlotTable::new(version, table).expect("complete");
        prop_assert_eq!(Topology::read(&topology.write()), Ok(topology));
    }
}
