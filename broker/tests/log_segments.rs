//! Segments go when they are released, their files are used again, and nothing of their former
//! life comes back. What is missing or damaged is named.

mod log_common;

use std::sync::atomic::Ordering;

use log_common::{append, body, change, files, killed, open, options, try_open};
use mqtt_fleet_broker::log::{Durability, Log, LogError, LogHandle};

/// Appends until the log has begun `count` more segments; returns the next index.
fn fill(log: &LogHandle, mut next: u64, count: usize, len: usize) -> u64 {
    let target = log.segments().last().expect("there is one").id + count as u32;
    while log.segments().last().expect("there is one").id < target {
        append(log, 0, next..next + 100, len);
        next += 100;
        log.sync().expect("healthy");
    }
    next
}

/// Releases all but the current segment and waits until their files are put away.
fn release_all(log: &LogHandle, dir: &std::path::Path) {
    let ids: Vec<_> = log.segments().iter().map(|segment| segment.id).collect();
    assert_eq!(log.release(&ids), ids.len() - 1);
    while files(dir, "segment").len() > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn used_again_files_do_not_resurrect_records() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    let mut next = fill(&log, 0, 3, 1000);
    for round in 0..6 {
        release_all(&log, dir.path());
        assert!(files(dir.path(), "spare").len() <= 2, "few are kept");
        let kept = log.segments()[0]
            .streams
            .first()
            .map_or(next, |range| range.first);
        // Same lengths, so that old and new records stand at the same places.
        next = fill(&log, next, 2, 1000);
        append(&log, 0, next..next + 7 + round, 1000);
        next += 7 + round;
        log.sync().expect("healthy");
        let copy = killed(dir.path());
        let (again, mut replay) =
            Log::open(copy.path(), options(Durability::Fsync), Box::new(|| {})).expect("opens");
        replay.start_at(0, kept);
        let found: Vec<_> = replay
            .by_ref()
            .map(|record| record.expect("undamaged"))
            .collect();
        assert_eq!(found.len() as u64, next - kept);
        assert!(
            found
                .iter()
                .all(|record| record.body == body(0, record.index, 1000))
        );
        assert_eq!(replay.stats().torn, None, "old records are no torn tail");
        drop(again);
    }
    assert!(
        log.stats().spares_used.load(Ordering::Relaxed) > 0,
        "files were used again"
    );
}

#[test]
fn a_released_segment_is_gone_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Os);
    let next = fill(&log, 0, 4, 1000);
    let middle = log.segments()[1..3].to_vec();
    assert_eq!(log.release(&[middle[0].id, middle[1].id, 9999]), 2);
    append(&log, 0, next..next + 1, 10);
    drop(log);
    let (log, mut replay) =
        Log::open(dir.path(), options(Durability::Os), Box::new(|| {})).expect("opens");
    replay.start_at(0, middle[1].streams[0].last + 1);
    assert!(replay.all(|record| record.is_ok()));
    assert!(
        log.segments()
            .iter()
            .all(|segment| segment.id != middle[0].id)
    );
    assert_eq!(log.segments()[0].id, 1, "the first one was not released");
}

#[test]
fn segment_info_is_the_same_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    append(&log, 5, 1..4, 100);
    fill(&log, 0, 2, 1000);
    let before = log.segments();
    assert_eq!(before[0].streams[0].stream, 5);
    assert_eq!(
        (before[0].streams[0].first, before[0].streams[0].last),
        (1, 3)
    );
    let copy = killed(dir.path());
    drop(log);
    let (again, _) = open(copy.path(), Durability::Fsync);
    assert_eq!(again.segments(), before);
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Os);
    fill(&log, 0, 3, 1000);
    drop(log);
    let gone = &files(dir.path(), "segment")[1];
    std::fs::remove_file(gone).expect("removed");
    let next = files(dir.path(), "segment")[1].clone();
    match try_open(dir.path(), Durability::Os) {
        Err(LogError::Damaged { file, offset, .. }) => assert_eq!((file, offset), (next, 4096)),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(&files(dir.path(), "segment")[0]).expect("removed");
    assert!(matches!(
        try_open(dir.path(), Durability::Os),
        Err(LogError::Damaged { .. })
    ));
}

#[test]
fn damaged_headers_and_other_versions_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Os);
    fill(&log, 0, 1, 1000);
    drop(log);
    for (which, at) in [(0, 20), (1, 20), (0, 520)] {
        let path = files(dir.path(), "segment")[which].clone();
        change(&path, |bytes| bytes[at] ^= 4);
        match try_open(dir.path(), Durability::Os) {
            Err(LogError::Damaged { file, offset, .. }) => {
                assert_eq!(
                    (file, offset),
                    (path.clone(), if at == 520 { 512 } else { 0 })
                );
            }
            other => panic!("{other:?}"),
        }
        change(&path, |bytes| bytes[at] ^= 4);
    }
    assert!(try_open(dir.path(), Durability::Os).is_ok(), "whole again");
    // A segment under another's name.
    let paths = files(dir.path(), "segment");
    std::fs::copy(&paths[0], &paths[1]).expect("copied");
    assert!(matches!(
        try_open(dir.path(), Durability::Os),
        Err(LogError::Damaged { .. })
    ));
}

#[test]
fn a_damaged_record_is_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Os);
    let places = append(&log, 0, 0..10, 1000);
    drop(log);
    let (log, replay) =
        Log::open(dir.path(), options(Durability::Os), Box::new(|| {})).expect("opens");
    drop(replay);
    let path = files(dir.path(), "segment")[0].clone();
    // In place: the log holds the file open.
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("opens");
    let at = u64::from(places[4].offset) + 500;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xEE; 2], at).expect("written");
    match log.read(places[4], 0, 10) {
        Err(LogError::Damaged { file, offset, .. }) => {
            assert_eq!((file, offset), (path, u64::from(places[4].offset)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        log.read(places[5], 0, 1000).expect("whole"),
        body(0, 5, 1000)
    );
}

#[test]
fn parts_of_scattered_records_are_right_and_keep_no_more_than_themselves() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Os);
    let lens = [900, 70_000, 300_000, 20_000].into_iter().cycle();
    let places: Vec<_> = (0..40)
        .zip(lens)
        .map(|(index, len)| (append(&log, 0, index..index + 1, len)[0], len))
        .collect();
    drop(log);
    let (log, replay) =
        Log::open(dir.path(), options(Durability::Os), Box::new(|| {})).expect("opens");
    drop(replay);
    // Forwards, backwards and across: blocks that follow each other, and such that do not.
    let orders: [fn(usize) -> usize; 3] = [|n| n, |n| 39 - n, |n| n * 17 % 40];
    for index in orders.iter().flat_map(|order| (0..40).map(order)) {
        let (at, len) = places[index];
        let whole = body(0, index as u64, len);
        for from in [0, len / 2, len - 100] {
            let part = log.read(at, from as u32, 100).expect("there");
            assert_eq!(part, whole[from..from + 100], "record {index} from {from}");
            assert!(part.is_unique(), "it keeps a whole block");
        }
    }
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(dir.path().join("log")).expect("a folder");
    std::fs::write(dir.path().join("log/0000000001.unfinished"), b"half").expect("written");
    let (log, found) = open(dir.path(), Durability::Fsync);
    assert!(found.is_empty());
    assert!(files(dir.path(), "unfinished").is_empty());
    append(&log, 0, 1..2, 10);
    log.sync().expect("healthy");
}
