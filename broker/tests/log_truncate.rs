//! The end of a stream can be dropped, and stays dropped; votes are all handed out, bodies never.

mod log_common;

use log_common::{append, body, killed, open, options};
use mqtt_fleet_broker::log::{
    Appends, BODIES_STREAM, Durability, Log, LogError, LogHandle, META_STREAM, Record, RecordKind,
};
use proptest::prelude::*;
use std::path::Path;

/// A stream that nobody reads.
const OTHER: u16 = 1;

fn truncate(log: &LogHandle, stream: u16, from: u64) {
    let mut batch = Appends::new();
    batch.push_truncate(stream, from).expect("fits");
    log.append(&mut batch).expect("healthy");
}

/// What a reader that wants records from `first` on has in the end: index and body.
fn read_back(dir: &Path, stream: u16, first: u64) -> Result<Vec<(u64, Vec<u8>)>, LogError> {
    let (_log, mut replay) = Log::open(dir, options(Durability::Fsync), Box::new(|| {}))?;
    replay.start_at(stream, first);
    replay.start_at(OTHER, u64::MAX);
    let mut kept: Vec<(u64, Vec<u8>)> = Vec::new();
    for record in replay {
        let record = record?;
        match record.kind {
            RecordKind::Data => kept.push((record.index, record.body.to_vec())),
            RecordKind::Truncate => kept.retain(|(index, _)| *index < record.index),
        }
    }
    Ok(kept)
}

#[test]
fn a_truncation_is_handed_out_and_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    append(&log, 0, 1..11, 10);
    truncate(&log, 0, 6);
    append(&log, 0, 6..9, 20);
    drop(log);
    let (log, records) = open(dir.path(), Durability::Fsync);
    let at = records
        .iter()
        .position(|record| record.kind == RecordKind::Truncate);
    let dropped = &records[at.expect("it is handed out")];
    assert_eq!((at, dropped.index), (Some(10), 6));
    assert_eq!((dropped.stream, dropped.body.len()), (0, 0));
    drop(log);
    let kept = read_back(dir.path(), 0, 1).expect("whole");
    let lens: Vec<_> = kept.iter().map(|(_, body)| body.len()).collect();
    assert_eq!(lens, [10, 10, 10, 10, 10, 20, 20, 20]);
}

#[test]
fn a_gap_behind_a_truncation_is_damage() {
    for (from, next) in [(6, 7), (12, 12), (6, 5)] {
        let dir = tempfile::tempdir().expect("a folder");
        let (log, _) = open(dir.path(), Durability::Fsync);
        append(&log, 0, 1..11, 10);
        truncate(&log, 0, from);
        append(&log, 0, next..next + 1, 10);
        drop(log);
        let read = read_back(dir.path(), 0, 1);
        assert!(
            matches!(read, Err(LogError::Damaged { .. })),
            "{from} {next}"
        );
    }
}

#[test]
fn what_is_dropped_counts_for_its_segment() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    append(&log, 0, 1..2_001, 1_000);
    let before = log.segments().len();
    assert!(before > 1, "the test is about several segments");
    truncate(&log, 0, 50);
    append(&log, 0, 50..60, 10);
    let check = |log: &LogHandle| {
        let last = log.segments().pop().expect("there is one");
        let range = *last.streams.first().expect("it has records");
        assert_eq!((range.first, range.last), (50, 2_000));
        assert_eq!(last.last(0), Some(2_000));
        assert_eq!(last.last(1), None);
    };
    check(&log);
    log.sync().expect("healthy");
    let copy = killed(dir.path());
    let (again, _) = open(copy.path(), Durability::Fsync);
    assert_eq!(again.segments().len(), before);
    check(&again);
    append(&again, 0, 60..2_500, 1_000);
    let closed = again.segments()[before - 1].clone();
    assert_eq!(closed.last(0), Some(2_000), "also in its closing note");
    drop(again);
    let (again, _) = open(copy.path(), Durability::Fsync);
    assert_eq!(again.segments()[before - 1], closed);
}

/// Releases what a snapshot up to `covered` makes unnecessary.
fn release(log: &LogHandle, covered: u64, wanted: impl Fn(u32) -> bool) {
    let segments = log.segments();
    let done = segments
        .iter()
        .filter(|info| wanted(info.id) && info.last(0).is_none_or(|last| last <= covered));
    let done: Vec<u32> = done.map(|info| info.id).collect();
    log.release(&done);
}

#[test]
fn a_truncation_stays_as_long_as_what_it_drops() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    append(&log, 0, 1..101, 30_000);
    // Into the next segment.
    append(&log, OTHER, 0..40, 30_000);
    truncate(&log, 0, 10);
    let at = log.segments().len() - 1;
    append(&log, 0, 10..90, 30_000);
    let segments = log.segments();
    assert!(segments.len() > at + 2, "it is in a closed segment");
    assert!(
        segments[at - 1].last(0).is_none(),
        "and what it drops in others"
    );
    // Its own records are covered, and some of the ones it drops are not.
    release(&log, 80, |_| true);
    drop(log);
    let kept = read_back(dir.path(), 0, 81).expect("whole");
    let expected: Vec<_> = (81..90)
        .map(|index| (index, body(0, index, 30_000)))
        .collect();
    assert!(kept == expected);
}

#[test]
fn votes_are_all_handed_out_and_bodies_never() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    append(&log, META_STREAM, 7..8, 16);
    append(&log, BODIES_STREAM, 90..92, 16);
    append(&log, META_STREAM, 9..11, 16);
    append(&log, BODIES_STREAM, 5..6, 16);
    drop(log);
    let (log, records) = open(dir.path(), Durability::Fsync);
    let found: Vec<_> = records.iter().map(|r| (r.stream, r.index)).collect();
    assert_eq!(found, [7, 9, 10].map(|index| (META_STREAM, index)));
    append(&log, META_STREAM, 10..11, 16);
    drop(log);
    let (_log, replay) =
        Log::open(dir.path(), options(Durability::Fsync), Box::new(|| {})).expect("opens");
    let records: Result<Vec<Record>, _> = replay.collect();
    assert!(
        matches!(records, Err(LogError::Damaged { .. })),
        "it repeats"
    );
}

/// What a member of a group does to its log.
#[derive(Clone, Debug)]
enum Step {
    Append(u64, usize),
    Truncate(prop::sample::Index),
    /// A snapshot up to there: what it covers is released, but for some segments.
    Cover(prop::sample::Index, u8),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..30, 20_000_usize..40_000).prop_map(|(count, len)| Step::Append(count, len)),
        2 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        2 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(to, keep)| Step::Cover(to, keep)),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// However entries were dropped and segments released: behind the snapshot a reader has what was there.
    #[test]
    fn released_segments_take_no_truncation_with_them(steps in steps()) {
        let mut dir = tempfile::tempdir().expect("a folder");
        let (mut log, _) = open(dir.path(), Durability::Fsync);
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        let mut covered = 0_u64;
        for step in steps {
            match step {
                Step::Append(count, len) => {
                    let first = bodies.len() as u64 + 1;
                    append(&log, 0, first..first + count, len);
                    bodies.extend((first..first + count).map(|index| body(0, index, len)));
                }
                Step::Truncate(from) => {
                    let from = covered + 1 + from.index(bodies.len() - covered as usize + 1) as u64;
                    truncate(&log, 0, from);
                    bodies.truncate(from as usize - 1);
                }
                Step::Cover(to, keep) => {
                    covered += to.index(bodies.len() - covered as usize + 1) as u64;
                    release(&log, covered, |segment| keep >> (segment % 8) & 1 == 0);
                }
                Step::Crash => {
                    log.sync().expect("healthy");
                    drop(log);
                    let copy = killed(dir.path());
                    dir = copy;
                    log = Log::open(dir.path(), options(Durability::Fsync), Box::new(|| {})).expect("opens").0;
                }
            }
        }
        drop(log);
        let kept = read_back(dir.path(), 0, covered + 1).expect("whole");
        let expected: Vec<_> = (1..).zip(bodies).skip(covered as usize).collect();
        prop_assert!(kept == expected, "from {} on", covered + 1);
    }
}
