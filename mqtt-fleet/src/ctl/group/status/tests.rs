use super::*;
use crate::ctl::group::fleet::Broker;
use crate::group_report::{ALONE, FINE};

const NAMES: [&str; 3] = ["a-0", "a-1", "a-2"];

fn asked(name: &str, group: u8) -> Broker {
    Broker {
        admin: format!("{name}:1"),
        known: Some((name.to_owned(), group)),
    }
}

fn report(name: &str, role: MemberRole, term: u64, last_index: u64) -> MemberReport {
    let leads = role == MemberRole::Leader;
    let peer = |peer: &str| PeerReport {
        name: peer.to_owned(),
        peer: Some(format!("{peer}:2")),
        votes: true,
        lag_entries: leads.then_some(if peer == "a-2" { 7 } else { 0 }),
        lag_bytes: leads.then_some(if peer == "a-2" { 7_000 } else { 0 }),
    };
    MemberReport {
        group: 0,
        member: name.to_owned(),
        role,
        term: Some(term),
        leader: None,
        // The last second of a leap year.
        leader_since_ms: leads.then_some(1_735_689_599_999),
        reaches_majority: leads.then_some(true),
        last_index,
        commit_index: last_index,
        applied_index: last_index,
        snapshot_index: 0,
        members: NAMES.map(peer).to_vec(),
        disk: Some(DiskReport {
            used_bytes: 3 << 20,
            free_bytes: 9 << 30,
            full: false,
        }),
        damage: None,
        health: FINE.to_owned(),
    }
}

fn answered(report: MemberReport) -> Answer {
    (asked(&report.member, report.group), Ok(report))
}

fn silent(name: &str) -> Answer {
    (asked(name, 0), Err("does not answer".to_owned()))
}

fn three(roles: [MemberRole; 3]) -> Vec<Answer> {
    let members = NAMES.into_iter().zip(roles);
    members
        .map(|(name, role)| answered(report(name, role, 4, 100)))
        .collect()
}

#[test]
fn it_is_a_table() {
    use MemberRole::{Follower, Leader};
    let status = FleetStatus::new(three([Follower, Leader, Follower]));
    assert!(status.all_have_leaders());
    assert_eq!(
        status.to_string(),
        "group  member  role      term  last  commit  applied  snapshot  lag  lag bytes  disk   free      health\n\
         0      a-0     follower  4     100   100     100      0         0    0          3 MiB  9216 MiB  fine\n\
         0      a-1     leader    4     100   100     100      0         0    0          3 MiB  9216 MiB  fine\n\
         0      a-2     follower  4     100   100     100      0         7    7000       3 MiB  9216 MiB  fine\n\
         group 0: a-1 leads since 2024-12-31 23:59:59 UTC\n"
    );
}

#[test]
fn one_that_reads_a_snapshot_lacks_what_its_group_has_not_applied() {
    use MemberRole::{Follower, Leader};
    let lag = |applied_index| {
        let mut answers = three([Leader, Follower, Follower]);
        let joined = MemberReport {
            applied_index,
            snapshot_index: 90,
            ..report("a-1", Follower, 4, 100)
        };
        answers[1] = answered(joined);
        FleetStatus::new(answers).groups[0].members[1].lag_entries
    };
    assert_eq!(lag(0), Some(100));
    assert_eq!(lag(89), Some(11));
    assert_eq!(lag(90), Some(0), "it has read it; the rest comes as ever");
}

#[test]
fn one_that_does_not_answer_is_a_row() {
    use MemberRole::{Follower, Leader};
    let mut answers = three([Follower, Leader, Follower]);
    answers[2] = silent("a-2");
    let status = FleetStatus::new(answers);
    assert!(status.all_have_leaders());
    let row = &status.groups[0].members[2];
    assert_eq!((row.role, row.term), (MemberRole::Unreachable, None));
    assert_eq!(
        (row.lag_entries, row.votes),
        (Some(7), Some(true)),
        "the leader knows"
    );
    assert_eq!(row.health, "does not answer");
}

#[test]
fn one_that_was_not_asked_is_a_row_too() {
    let leader = report("a-1", MemberRole::Leader, 4, 100);
    let status = FleetStatus::new(vec![answered(leader)]);
    let rows = &status.groups[0].members;
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, NAMES);
    assert!(rows[0].health.starts_with("was not asked"), "{rows:?}");
}

/// As a member that came by `replace`: `cluster.json` does not have it.
#[test]
fn a_leader_that_was_not_asked_is_known_by_the_others() {
    let follower = |name: &str, leader: Option<&str>| {
        let mut report = report(name, MemberRole::Follower, 4, 100);
        report.leader = leader.map(str::to_owned);
        answered(report)
    };
    let status = FleetStatus::new(vec![follower("a-0", None), follower("a-1", Some("a-2"))]);
    assert!(status.all_have_leaders());
    assert_eq!(status.groups[0].leader.as_deref(), Some("a-2"));
    assert_eq!(status.leader_of(0), None, "it cannot be asked");
    let line = "group 0: a-2 leads, say the others, and was not asked: say its admin port, too, with --admin HOST:PORT";
    assert_eq!(status.without_leader(0), line);
    assert!(
        status.to_string().ends_with(&format!("{line}\n")),
        "{status}"
    );

    let gone = FleetStatus::new(vec![follower("a-0", Some("a-2")), silent("a-2")]);
    assert!(
        !gone.all_have_leaders(),
        "it was asked, and does not answer"
    );
    assert_eq!(gone.without_leader(0), "group 0 has no leader");
    assert_eq!(gone.without_leader(7), "no leader of group 7 answers");
}

#[test]
fn a_port_that_does_not_answer_may_be_that_of_a_member_without_one() {
    let leader = answered(report("a-1", MemberRole::Leader, 4, 100));
    let nobody = Broker {
        admin: "host:1".to_owned(),
        known: None,
    };
    let status = FleetStatus::new(vec![leader, (nobody, Err("does not answer".to_owned()))]);
    let health = &status.groups[0].members[0].health;
    assert_eq!(health, "does not answer, or was not asked");
}

#[test]
fn a_group_without_a_leader_is_said() {
    use MemberRole::{Candidate, Follower};
    let mut answers = three([Follower, Candidate, Follower]);
    answers[2] = silent("a-2");
    let status = FleetStatus::new(answers);
    assert!(!status.all_have_leaders());
    assert!(
        status.to_string().ends_with("group 0 has no leader\n"),
        "{status}"
    );
    assert_eq!(
        (&status.groups[0].leader, status.groups[0].term),
        (&None, Some(4))
    );
}

#[test]
fn a_leader_that_reaches_no_majority_leads_nobody() {
    let mut alone = report("a-1", MemberRole::Leader, 4, 100);
    alone.reaches_majority = Some(false);
    ALONE.clone_into(&mut alone.health);
    let status = FleetStatus::new(vec![silent("a-0"), answered(alone), silent("a-2")]);
    assert!(!status.all_have_leaders());
    assert_eq!(status.leader_of(0), None);
    let group = &status.groups[0];
    assert_eq!((&group.leader, group.leader_since_ms), (&None, None));
    assert_eq!(
        group.members[2].lag_entries,
        Some(7),
        "it knows all the same"
    );
    let last = "group 0 has no leader that serves: a-1 leads, and does not reach a majority\n";
    let text = status.to_string();
    assert!(text.ends_with(last), "{text}");
}

#[test]
fn the_leader_of_the_newest_term_leads() {
    let deposed = answered(report("a-0", MemberRole::Leader, 3, 90));
    let leader = answered(report("a-1", MemberRole::Leader, 4, 95));
    let status = FleetStatus::new(vec![deposed, leader, silent("a-2")]);
    let group = &status.groups[0];
    assert_eq!(group.leader.as_deref(), Some("a-1"));
    assert_eq!(group.members[0].role, MemberRole::Follower);
    assert_eq!(
        group.members[0].health,
        "was deposed and has not heard of it yet"
    );
}

#[test]
fn a_port_of_which_nothing_is_known_fails() {
    let nobody = Broker {
        admin: "host:1".to_owned(),
        known: None,
    };
    let status = FleetStatus::new(vec![(nobody, Err("does not answer".to_owned()))]);
    assert!(!status.all_have_leaders());
    assert!(
        status.to_string().ends_with("host:1: does not answer\n"),
        "{status}"
    );
}

/// A member that was removed, and runs on.
#[test]
fn one_that_the_others_do_not_know_is_said() {
    let mut leader = report("a-1", MemberRole::Leader, 4, 100);
    leader.members.remove(0);
    let gone = report("a-0", MemberRole::Candidate, 4, 90);
    let status = FleetStatus::new(vec![answered(leader), answered(gone)]);
    assert_eq!(status.groups[0].members[0].health, "not in the group");
}

#[test]
fn members_that_wait_for_the_last_one_say_so() {
    let waits = |name: &str| {
        let mut report = report(name, MemberRole::Waiting, 0, 0);
        report.members.clear();
        "waits for the other members of its group".clone_into(&mut report.health);
        answered(report)
    };
    let status = FleetStatus::new(vec![waits("a-0"), waits("a-1"), silent("a-2")]);
    let says = |row: &MemberRow| row.health.starts_with("waits");
    assert!(status.groups[0].members[..2].iter().all(says), "{status}");
}

/// Golden: programs read it.
#[test]
fn the_json_form_stays() {
    let mut leader = report("a-1", MemberRole::Leader, 4, 100);
    leader.members = vec![leader.members.swap_remove(1)];
    let status = FleetStatus::new(vec![answered(leader)]);
    let text = serde_json::to_string(&status).expect("serializes");
    assert_eq!(
        text,
        "{\"groups\":[{\"group\":0,\"leader\":\"a-1\",\"leader_since_ms\":1735689599999,\"term\":4,\"members\":[{\"name\":\"a-1\",\"admin\":\"a-1:1\",\"peer\":\"a-1:2\",\
         \"role\":\"leader\",\"votes\":true,\"term\":4,\"last_index\":100,\"commit_index\":100,\"applied_index\":100,\
         \"snapshot_index\":0,\"lag_entries\":0,\"lag_bytes\":0,\"disk\":{\"used_bytes\":3145728,\"free_bytes\":9663676416,\"full\":false},\
         \"damage\":null,\"health\":\"fine\"}]}]}"
    );
}

#[test]
fn a_damaged_member_is_a_row_without_indexes() {
    use MemberRole::{Damaged, Follower, Leader};
    let mut answers = three([Follower, Leader, Damaged]);
    let (_, Ok(report)) = &mut answers[2] else {
        panic!("it answers");
    };
    report.damage = Some(DamageReport {
        file: "data/log/7.segment".into(),
        offset: 4_096,
        what: "a record".to_owned(),
    });
    "data/log/7.segment is damaged at byte 4096".clone_into(&mut report.health);
    let status = FleetStatus::new(answers);
    assert_eq!(status.files_of("a-2"), Files::Damaged("a-2:1"));
    assert_eq!(status.files_of("a-1"), Files::Sound);
    assert_eq!(status.files_of("a-9"), Files::Unknown);
    let text = status.to_string();
    let line = text
        .lines()
        .find(|line| line.contains("a-2"))
        .expect("a row");
    assert!(
        line.contains("damaged   4     -     -       -        -         7"),
        "{line}"
    );
    assert!(
        line.ends_with("7.segment is damaged at byte 4096"),
        "{line}"
    );
    let mut silent_one = three([Follower, Leader, Follower]);
    silent_one[2] = silent("a-2");
    assert_eq!(FleetStatus::new(silent_one).files_of("a-2"), Files::Silent);
}

#[test]
fn a_full_disk_is_seen_in_the_table() {
    let mut leader = report("a-1", MemberRole::Leader, 4, 100);
    leader.disk = leader.disk.map(|disk| DiskReport { full: true, ..disk });
    let text = FleetStatus::new(vec![answered(leader)]).to_string();
    assert!(text.contains("3 MiB  full  fine"), "{text}");
}

#[test]
fn days_are_those_of_the_calendar() {
    for (days, date) in [
        (0, (1970, 1, 1)),
        (59, (1970, 3, 1)),
        (11_016, (2000, 2, 29)),
        (20_778, (2026, 11, 21)),
        (47_540, (2100, 2, 28)),
        (47_541, (2100, 3, 1)),
    ] {
        assert_eq!(civil(days), date, "{days}");
    }
}
