//! A data folder that cannot be used is refused with its reason, at once.

mod log_common;

use log_common::{open, options, try_open};
use mqtt_fleet_broker::log::{Appends, Durability, Log, LogError, LogOptions};

#[test]
fn a_folder_in_use_is_refused_with_the_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Os);
    match try_open(dir.path(), Durability::Os) {
        Err(LogError::Locked { path, pid }) => {
            assert_eq!(path, dir.path().join("lock"));
            assert_eq!(pid, Some(std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    let clone = log.clone();
    drop(log);
    assert!(matches!(
        try_open(dir.path(), Durability::Os),
        Err(LogError::Locked { .. })
    ));
    drop(clone);
    assert!(
        try_open(dir.path(), Durability::Os).is_ok(),
        "free after the last handle"
    );
}

#[test]
fn a_path_that_cannot_be_a_folder_is_unwritable() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    for path in [file.clone(), file.join("below")] {
        let error = try_open(&path, Durability::Os).expect_err("refused");
        assert!(matches!(error, LogError::Unwritable { .. }), "{error:?}");
        assert!(
            error.to_string().contains(&*path.to_string_lossy()),
            "{error}"
        );
    }
}

#[test]
fn segment_sizes_out_of_bounds_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for segment_bytes in [0, (1 << 20) - 1, (1 << 30) + 1] {
        let options = LogOptions {
            segment_bytes,
            ..LogOptions::default()
        };
        let error = Log::open(dir.path(), options, Box::new(|| {})).expect_err("refused");
        assert!(matches!(error, LogError::SegmentBytes { is, .. } if is == segment_bytes));
    }
}

#[test]
fn streams_beyond_the_bound_are_refused() {
    let mut batch = Appends::new();
    assert!(matches!(
        batch.push(128, 1, b"x"),
        Err(LogError::Stream { stream: 128 })
    ));
    assert!(batch.is_empty());
}

#[test]
fn a_new_folder_is_open_at_once_and_small() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_log, _) =
        Log::open(dir.path(), options(Durability::Fsync), Box::new(|| {})).expect("opens");
    let bytes: u64 = std::fs::read_dir(dir.path().join("log"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").metadata().expect("a file").len())
        .sum();
    assert_eq!(bytes, 1 << 20);
}
