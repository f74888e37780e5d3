//! Whatever byte of a log or of a snapshot is another one: nobody takes it for what was stored, and a folder that
//! is damaged can be set aside.

mod log_common;

use log_common::{append, files, options, try_open};
use mqtt_fleet_broker::log::{
    Appends, Durability, Log, LogError, META_STREAM, Record, SnapshotStore, ask_to_set_aside,
    set_aside, set_aside_if_asked,
};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

type Opened = Result<(Vec<Record>, Option<(PathBuf, u64)>), LogError>;

/// All records, and where a torn tail was cut.
fn open(dir: &Path) -> Opened {
    let (_log, mut replay) = Log::open(dir, options(Durability::Fsync), Box::new(|| {}))?;
    let records = replay.by_ref().collect::<Result<Vec<_>, _>>()?;
    Ok((records, replay.stats().torn.clone()))
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 0x40], at).expect("writable");
}

/// Two segments with records of several kinds, closed in order.
fn small_log() -> (tempfile::TempDir, Vec<Record>) {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = log_common::open(dir.path(), Durability::Fsync);
    append(&log, 0, 1..4, 100);
    append(&log, META_STREAM, 1..2, 20);
    // Fills the segment.
    append(&log, 0, 4..5, 1_043_500);
    append(&log, 0, 5..7, 520);
    let mut batch = Appends::new();
    batch.push_truncate(0, 6).expect("fits");
    log.append(&mut batch).expect("healthy");
    append(&log, 0, 6..8, 30);
    drop(log);
    let (records, torn) = open(dir.path()).expect("whole");
    assert_eq!(torn, None);
    (dir, records)
}

#[test]
fn no_byte_of_a_log_is_another_one_unnoticed() {
    let (dir, whole) = small_log();
    let paths = files(dir.path(), "segment");
    assert_eq!(paths.len(), 2);
    let mut refused = [0, 0];
    for (which, path) in paths.iter().enumerate() {
        let sound = std::fs::read(path).expect("readable");
        // Header, closing note, and all small records; of the large one, and of what is unused, some.
        let some = (0..sound.len() as u64).step_by(40_009);
        // The first segment has few before the large one.
        let end = if which == 0 { 4_700 } else { 5_400 };
        for at in (0..48).chain(508..620).chain(4_096..end).chain(some) {
            flip(path, at);
            match open(dir.path()) {
                Err(LogError::Damaged { file, .. }) => {
                    assert_eq!(file, *path, "at {at}");
                    refused[which] += 1;
                    flip(path, at);
                }
                Err(error) => panic!("{error} at {at}"),
                Ok((records, torn)) => {
                    assert!(records == whole, "another log at {at}");
                    // What is cut is behind all records.
                    assert!(torn.is_none_or(|(file, _)| file == *path && which == 1));
                    std::fs::write(path, &sound).expect("writable");
                }
            }
        }
    }
    assert!(refused[0] > 500 && refused[1] > 1_000, "{refused:?}");
    assert!(open(dir.path()).expect("whole again").0 == whole);
}

#[test]
fn damage_can_be_told_from_other_failures() {
    let (dir, _) = small_log();
    flip(&files(dir.path(), "segment")[0], 4_200);
    let error = open(dir.path()).expect_err("a record is another one");
    assert!(error.is_damage());
    assert!(error.to_string().contains("at byte 4096"), "{error}");
    let (_log, _) = try_open(&dir.path().join("new"), Durability::Os).expect("opens");
    let error = try_open(&dir.path().join("new"), Durability::Os).expect_err("in use");
    assert!(!error.is_damage());
}

#[test]
fn a_damaged_snapshot_is_no_reason_for_an_older_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    for index in [3, 9] {
        let content = move |out: &mut dyn std::io::Write| write!(out, "as of {index}");
        store.write(0, index, content).expect("written");
    }
    let path = dir
        .path()
        .join("snapshots/00000-00000000000000000009.snapshot");
    let len = std::fs::metadata(&path).expect("there").len();
    for at in 0..len {
        flip(&path, at);
        let error = store.latest(0).expect_err("refused");
        assert!(error.is_damage(), "{error} at {at}");
        flip(&path, at);
    }
    assert_eq!(store.latest(0).expect("whole").map(|s| s.index), Some(9));
}

/// Writes version 2 where `at` says, and a check over all before `check` that fits.
fn make_newer(path: &Path, at: usize, check: usize) {
    let mut bytes = std::fs::read(path).expect("readable");
    bytes[at] = 2;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..check]);
    bytes[check..check + 8].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, bytes).expect("writable");
}

#[test]
fn what_a_newer_version_wrote_is_not_taken_for_damage() {
    let (dir, _) = small_log();
    make_newer(&files(dir.path(), "segment")[1], 8, 32);
    let of_log = open(dir.path()).expect_err("not known");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    store
        .write(0, 3, |out| out.write_all(b"content"))
        .expect("written");
    let path = dir
        .path()
        .join("snapshots/00000-00000000000000000003.snapshot");
    let len = std::fs::metadata(&path).expect("there").len() as usize;
    make_newer(&path, 8, len - 8);
    let of_snapshot = store.latest(0).expect_err("not known");
    for error in [of_log, of_snapshot] {
        assert!(!error.is_damage());
        let text = error.to_string();
        assert!(
            text.contains("by a newer version") && text.contains("version 2"),
            "{text}"
        );
    }
}

#[test]
fn setting_aside_is_left_to_the_next_start() {
    let (dir, whole) = small_log();
    let data = dir.path();
    assert_eq!(set_aside_if_asked(data).expect("nobody asked"), None);
    {
        let (_log, _) = Log::open(data, options(Durability::Os), Box::new(|| {})).expect("opens");
        ask_to_set_aside(data).expect("asked while it is in use");
        assert!(set_aside_if_asked(data).is_err(), "it is in use");
    }
    let aside = set_aside_if_asked(data).expect("moved").expect("asked");
    assert!(open(&aside).expect("all of it").0 == whole);
    assert_eq!(set_aside_if_asked(data).expect("done"), None);
    // As a crash before the end leaves it.
    ask_to_set_aside(data).expect("asked");
    assert_eq!(
        set_aside_if_asked(data).expect("it is already"),
        Some(aside)
    );
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string()
    };
    let mut names: Vec<_> = entries.map(|e| name(e).expect("plain")).collect();
    names.sort();
    names
}

#[test]
fn what_is_set_aside_is_kept_and_the_folder_is_as_new() {
    let (dir, whole) = small_log();
    let data = dir.path();
    SnapshotStore::open(data)
        .and_then(|store| store.write(0, 1, |out| out.write_all(b"content")))
        .expect("written");
    std::fs::write(data.join("incarnation"), b"1").expect("written");
    {
        let (_log, _) = Log::open(data, options(Durability::Os), Box::new(|| {})).expect("opens");
        assert!(matches!(set_aside(data), Err(LogError::Locked { .. })));
    }
    let first = set_aside(data).expect("moved");
    assert_eq!(first, data.join("damaged-1"));
    assert_eq!(names(data), ["damaged-1", "incarnation", "lock"]);
    assert_eq!(set_aside(data).expect("it is already"), first);
    assert!(open(&first).expect("all of it").0 == whole);
    assert!(open(data).expect("a new one").0.is_empty());
    let second = set_aside(data).expect("moved");
    assert_eq!(second, data.join("damaged-2"));
    assert!(
        set_aside(&data.join("damaged-9")).is_err(),
        "nothing is there"
    );
}

#[test]
fn setting_aside_that_was_cut_short_is_ended() {
    let (dir, whole) = small_log();
    let data = dir.path();
    let store = SnapshotStore::open(data).expect("opens");
    store.write(0, 1, |_| Ok(())).expect("written");
    // As a crash leaves it after the first move.
    std::fs::create_dir(data.join("damaged-1")).expect("a folder");
    std::fs::rename(data.join("snapshots"), data.join("damaged-1/snapshots")).expect("moved");
    let aside = set_aside(data).expect("the rest of it");
    assert_eq!(aside, data.join("damaged-1"));
    assert_eq!(names(&aside), ["log", "snapshots"]);
    assert!(open(&aside).expect("all of it").0 == whole);
}
