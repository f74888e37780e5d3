use super::*;

#[test]
fn the_bytes_of_all_files_in_a_folder_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let below = folder.path().join("log");
    std::fs::create_dir(&below).expect("writable");
    for (path, len) in [(folder.path(), 5), (&below, 7), (&below, 11)] {
        let name = path.join(format!("{len}"));
        std::fs::write(name, vec![0; len]).expect("writable");
    }
    assert_eq!(bytes_in(folder.path()).expect("readable"), 23);
    let disk = disk(folder.path(), true).expect("the system says");
    assert!(disk.used_bytes == 23 && disk.free_bytes > 0 && disk.full);
    assert!(bytes_in(&folder.path().join("none")).is_err());
}

fn status(stage: Stage, role: Role, leader: Option<&str>) -> MemberStatus {
    MemberStatus {
        name: "b-1".parse().expect("a name"),
        stage,
        role,
        term: 3,
        leader: leader.map(Into::into),
        leads_for: None,
        last: 9,
        committed: 8,
        applied: 8,
        snapshot: 0,
        members: Vec::new(),
        reaches_majority: None,
        snapshots_cut_short: 0,
        unreadable: None,
        failure: None,
    }
}

#[test]
fn what_a_member_is_and_what_is_wrong_with_it() {
    let by = "b-0".parse().expect("a name");
    for (stage, does, leader, is, says) in [
        (
            Stage::TakesPart,
            Role::Leader,
            Some("b-1"),
            MemberRole::Leader,
            FINE,
        ),
        (
            Stage::TakesPart,
            Role::Learner,
            Some("b-0"),
            MemberRole::Learner,
            FINE,
        ),
        (
            Stage::TakesPart,
            Role::Candidate,
            None,
            MemberRole::Candidate,
            "knows no leader",
        ),
        (
            Stage::Waiting,
            Role::None,
            None,
            MemberRole::Waiting,
            "waits for the other members",
        ),
        (
            Stage::Lost { by },
            Role::Follower,
            None,
            MemberRole::Damaged,
            "ctl group repair",
        ),
    ] {
        let status = status(stage, does, leader);
        assert_eq!(role(&status), is);
        assert!(health(&status, 8).contains(says), "{status:?}");
    }
    let joined = MemberStatus {
        snapshot: 8,
        ..status(Stage::TakesPart, Role::Follower, Some("b-0"))
    };
    assert!(health(&joined, 7).contains("reads the snapshot"));
    assert_eq!(health(&joined, 8), FINE);
    let alone = MemberStatus {
        reaches_majority: Some(false),
        ..status(Stage::TakesPart, Role::Leader, Some("b-1"))
    };
    assert_eq!(health(&alone, 8), ALONE);
    let failed = MemberStatus {
        failure: Some("the disk is gone".to_owned()),
        ..status(Stage::TakesPart, Role::Leader, Some("b-1"))
    };
    assert_eq!(health(&failed, 8), "the disk is gone");
    let cannot_send = MemberStatus {
        unreadable: Some("x.segment is damaged at byte 9".to_owned()),
        ..status(Stage::TakesPart, Role::Leader, Some("b-1"))
    };
    let health = health(&cannot_send, 8);
    assert!(
        health.starts_with("x.segment is damaged at byte 9: it cannot bring"),
        "{health}"
    );
}

#[test]
fn what_a_member_lacks_is_known_once_it_has_answered_its_leader() {
    let peer = |matched: Option<u64>| {
        PeerReport::of(&Peer {
            id: 1,
            name: "b-0".into(),
            address: "host:1".into(),
            votes: true,
            matched,
            lag: matched.map(|matched| 9 - matched),
            lag_bytes: matched.map(|matched| 100 * (9 - matched)),
        })
    };
    let lag = |matched| (peer(matched).lag_entries, peer(matched).lag_bytes);
    assert_eq!(lag(Some(7)), (Some(2), Some(200)));
    assert_eq!(lag(Some(0)), (None, None));
    let report = |role, matched| MemberReport {
        role,
        members: vec![peer(matched)],
        ..example()
    };
    assert_eq!(report(MemberRole::Leader, Some(7)).lag_max(), 2);
    assert_eq!(
        report(MemberRole::Leader, Some(0)).lag_max(),
        9,
        "all there is"
    );
    assert_eq!(report(MemberRole::Follower, None).lag_max(), 0);
}

fn example() -> MemberReport {
    MemberReport {
        group: 2,
        member: "b-1".to_owned(),
        role: MemberRole::Follower,
        term: Some(3),
        leader: None,
        leader_since_ms: None,
        reaches_majority: None,
        last_index: 9,
        commit_index: 8,
        applied_index: 8,
        snapshot_index: 0,
        members: vec![PeerReport {
            name: "b-1".to_owned(),
            peer: None,
            votes: true,
            lag_entries: None,
            lag_bytes: None,
        }],
        disk: None,
        damage: None,
        health: FINE.to_owned(),
    }
}

/// Golden: programs read it.
#[test]
fn the_shape_stays() {
    let report = example();
    let text = serde_json::to_string(&report).expect("serializes");
    assert_eq!(
        text,
        "{\"group\":2,\"member\":\"b-1\",\"role\":\"follower\",\"term\":3,\"leader\":null,\"leader_since_ms\":null,\"reaches_majority\":null,\
         \"last_index\":9,\"commit_index\":8,\"applied_index\":8,\"snapshot_index\":0,\"members\":[{\"name\":\"b-1\",\"peer\":null,\"votes\":true,\"lag_entries\":null,\
         \"lag_bytes\":null}],\
         \"disk\":null,\"damage\":null,\"health\":\"fine\"}"
    );
    assert_eq!(
        serde_json::from_str::<MemberReport>(&text).ok(),
        Some(report)
    );
}
