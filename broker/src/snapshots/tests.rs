//! When snapshots are due, and what may go of the log.

use super::*;
use crate::log::{Appends, Log, LogOptions};
use std::path::Path;

const SEGMENT_BYTES: u32 = 1 << 20;
/// Where the snapshot stands that came in and did not become whole.
const INDEX: u64 = 9;

fn open(data: &Path) -> (Snapshots, Replica, LogHandle) {
    let options = LogOptions {
        segment_bytes: SEGMENT_BYTES,
        ..LogOptions::default()
    };
    let (log, _) = Log::open(data, options, Box::new(|| {})).expect("a log");
    let files = SnapshotStore::open(data).expect("a folder");
    let limits = MachineLimits::default();
    let sizes = Sizes {
        bytes_between: 4 << 20,
        segment_bytes: u64::from(SEGMENT_BYTES),
    };
    let waker = GroupWaker::default();
    let snapshots = Snapshots::new(Some(files), limits.clone(), Box::new(()), sizes, waker);
    (snapshots, Replica::following(State::new(limits), 5), log)
}

/// Stores so many messages of a snapshot of another member, each in a segment of its own.
fn bring(log: &LogHandle, messages: usize) {
    for _ in 0..messages {
        let mut batch = Appends::new();
        let message = vec![7; SEGMENT_BYTES as usize * 3 / 4];
        batch.push(BODIES_STREAM, INDEX, &message).expect("fits");
        log.append(&mut batch).expect("healthy");
    }
    log.sync().expect("stored");
}

#[test]
fn what_an_unfinished_snapshot_has_brought_goes_as_soon_as_it_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut snapshots, mut replica, log) = open(folder.path());
    bring(&log, 3);
    assert_eq!(log.segments().len(), 3);
    let mut turn = |kept_from: u64| {
        let turned = snapshots.turn(&mut replica, &log, || kept_from);
        assert_eq!(turned.expect("no error"), None);
        log.segments().len()
    };
    assert_eq!(turn(0), 3, "it comes in");
    assert_eq!(turn(3), 1, "it is over");
}

#[test]
fn what_begins_to_come_in_during_a_turn_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut snapshots, mut replica, log) = open(folder.path());
    bring(&log, 2);
    let looks = std::cell::Cell::new(0);
    let begins = || {
        looks.set(looks.get() + 1);
        u64::from(looks.get() == 1)
    };
    let turned = snapshots.turn(&mut replica, &log, begins);
    assert_eq!(turned.expect("no error"), None);
    assert_eq!((looks.get(), log.segments().len()), (2, 2));
}

#[test]
fn replayed_bytes_count_once_their_entries_are_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut snapshots, replica, log) = open(folder.path());
    snapshots.replayed(4 << 20, 6);
    assert!(!snapshots.wants_to_go_on(&replica, &log));
    snapshots.replayed(4 << 20, 5);
    assert!(snapshots.wants_to_go_on(&replica, &log));
    snapshots.replayed((4 << 20) - 1, 5);
    assert!(!snapshots.wants_to_go_on(&replica, &log));
}

#[test]
fn a_machine_of_a_newer_version_is_no_damage() {
    let mut bytes = b"MFGM".to_vec();
    bytes.extend_from_slice(&(super::SNAPSHOT_VERSION + 1).to_le_bytes());
    let limits = crate::limits::MachineLimits::default();
    let Err(error) = super::restore_state(&mut &bytes[..], &limits) else {
        panic!("it is not known");
    };
    assert!(
        matches!(error, crate::log::LogError::Unsupported { .. }),
        "{error}"
    );
}
