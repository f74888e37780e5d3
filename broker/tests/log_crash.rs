//! After a crash at any moment every durable record is there, a torn tail is cut, and damage to
//! what was durable is never taken for one.

mod log_common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log_common::{append, body, change, files, killed, open, try_open};
use mqtt_fleet_broker::log::{Durability, Location, Log, LogError, LogHandle, Record};
use proptest::prelude::*;

const HEADER: usize = 24;
/// Less than the time after which a log without work vouches for all that it has.
const QUIET: Duration = Duration::from_millis(900);

/// A record as the model knows it.
#[derive(Debug, Clone)]
struct Known {
    at: Location,
    len: usize,
    batch: usize,
}

impl Known {
    fn end(&self) -> usize {
        self.at.offset as usize + HEADER + self.len
    }
}

/// A log with batches of (records, body length), each durable before the next; and when the last one began.
fn build(batches: &[(u64, usize)]) -> (tempfile::TempDir, LogHandle, Vec<Known>, Instant) {
    let mut began = Instant::now();
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    let mut known = Vec::new();
    for (batch, (count, len)) in batches.iter().enumerate() {
        began = Instant::now();
        let first = known.len() as u64;
        let places = append(&log, 0, first..first + count, *len);
        known.extend(places.into_iter().map(|at| Known {
            at,
            len: *len,
            batch,
        }));
        log.sync().expect("healthy");
    }
    (dir, log, known, began)
}

/// What a crash leaves of such a log that comes before a quiet second, in which the log would vouch for its end.
fn build_and_kill(batches: &[(u64, usize)]) -> (tempfile::TempDir, Vec<Known>) {
    loop {
        let (dir, _log, known, began) = build(batches);
        let copy = killed(dir.path());
        if began.elapsed() < QUIET {
            return (copy, known);
        }
    }
}

fn last_file(dir: &Path) -> PathBuf {
    files(dir, "segment").pop().expect("a segment")
}

fn assert_prefix(found: &[Record], known: &[Known], count: usize) {
    assert_eq!(found.len(), count);
    for (index, (record, known)) in found.iter().zip(known).enumerate() {
        assert_eq!((record.index, record.at), (index as u64, known.at));
        assert_eq!(record.body, body(0, index as u64, known.len));
    }
}

/// Goes on after a crash with records of another length, crashes again: nothing comes back to life.
fn goes_on(dir: &Path, known: &[Known], survived: usize, len: usize) {
    let (log, _) = open(dir, Durability::Fsync);
    let first = survived as u64;
    append(&log, 0, first..first + 3, len);
    log.sync().expect("healthy");
    let again = killed(dir);
    let (_log, found) = open(again.path(), Durability::Fsync);
    assert_prefix(&found[..survived], known, survived);
    assert_eq!(found.len(), survived + 3, "only what was appended since");
    assert!(
        found[survived..]
            .iter()
            .all(|record| record.body == body(0, record.index, len))
    );
}

fn batches() -> impl Strategy<Value = Vec<(u64, usize)>> {
    let small = (1_u64..40, 1_usize..300);
    let large = (1_u64..20, 20_000_usize..60_000);
    prop::collection::vec(prop_oneof![5 => small, 1 => large], 2..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The last segment is only on disk up to some byte.
    #[test]
    fn cut_at_any_byte(batches in batches(), cut in any::<prop::sample::Index>(), len in 1_usize..500) {
        let (copy, known) = build_and_kill(&batches);
        let last = known[known.len() - 1].at.segment;
        let end = known[known.len() - 1].end();
        let cut = 4096 + cut.index(end - 4096 + 1);
        change(&last_file(copy.path()), |bytes| bytes[cut..].fill(0));
        let survived = known.iter().filter(|k| k.at.segment < last || k.end() <= cut).count();
        let (log, found) = open(copy.path(), Durability::Fsync);
        assert_prefix(&found, &known, survived);
        drop(log);
        goes_on(copy.path(), &known, survived, len);
    }

    /// Of the last batch, which was not durable, any sectors are missing.
    #[test]
    fn lose_any_sectors_of_the_last_batch(
        batches in batches(),
        lost in prop::collection::vec(any::<bool>(), 1..64),
        len in 1_usize..500,
    ) {
        let (copy, known) = build_and_kill(&batches);
        let last = known[known.len() - 1].at.segment;
        let durable = known.iter().filter(|k| k.batch + 1 < batches.len() || k.at.segment < last);
        let durable = durable.count();
        let from = known[..durable].iter().rev().find(|k| k.at.segment == last);
        let from = from.map_or(4096, Known::end);
        change(&last_file(copy.path()), |bytes| {
            let sectors = bytes.chunks_mut(512).enumerate().skip(from.div_ceil(512));
            for (sector, bytes) in sectors {
                if lost[sector % lost.len()] {
                    bytes.fill(0);
                }
            }
        });
        let (log, found) = open(copy.path(), Durability::Fsync);
        prop_assert!(found.len() >= durable, "{} of {durable}", found.len());
        assert_prefix(&found, &known, found.len());
        drop(log);
        goes_on(copy.path(), &known, found.len(), len);
    }

    /// One bit of what was durable is another one.
    #[test]
    fn flip_any_bit_of_a_durable_record(
        batches in batches(),
        which in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let (copy, known) = build_and_kill(&batches);
        // The last batch says, by its mark, that the ones before are durable, if it is in the same
        // segment; older segments are durable as a whole.
        let last = known[known.len() - 1].at.segment;
        let marked_in = known.iter().find(|k| k.batch + 1 == batches.len()).expect("it is not empty");
        let vouched: Vec<_> = known.iter().enumerate()
            .filter(|(_, k)| k.at.segment < last
                || (marked_in.at.segment == last && k.batch + 1 < batches.len()))
            .collect();
        prop_assume!(!vouched.is_empty());
        let (index, victim) = vouched[which.index(vouched.len())];
        let at = victim.at.offset as usize + byte.index(HEADER + victim.len);
        let file = files(copy.path(), "segment")[victim.at.segment as usize - 1].clone();
        change(&file, |bytes| bytes[at] ^= 1 << bit);
        match try_open(copy.path(), Durability::Fsync) {
            Err(LogError::Damaged { file: named, offset, .. }) => {
                prop_assert_eq!(named, file);
                prop_assert_eq!(offset, u64::from(victim.at.offset));
            }
            other => prop_assert!(false, "record {index}: {other:?}"),
        }
    }
}

#[test]
fn a_torn_tail_is_reported() {
    let (copy, known) = build_and_kill(&[(5, 100), (5, 100)]);
    let victim = &known[8];
    change(&last_file(copy.path()), |bytes| {
        bytes[victim.end() - 1] ^= 1;
    });
    let (_log, replay) = Log::open(
        copy.path(),
        log_common::options(Durability::Fsync),
        Box::new(|| {}),
    )
    .expect("a torn tail is no damage");
    let torn = replay.stats().torn.clone().expect("it is reported");
    assert_eq!(torn, (last_file(copy.path()), u64::from(victim.at.offset)));
    assert!(replay.stats().torn_bytes >= HEADER + 100);
    assert_eq!(replay.count(), 8);
}

#[test]
fn a_quiet_log_vouches_for_all_it_has() {
    let (dir, log, known, _) = build(&[(5, 100)]);
    // Closing writes the mark a quiet second would.
    drop(log);
    change(&last_file(dir.path()), |bytes| {
        bytes[known[4].end() - 1] ^= 1;
    });
    match try_open(dir.path(), Durability::Fsync) {
        Err(LogError::Damaged { offset, .. }) => assert_eq!(offset, u64::from(known[4].at.offset)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn restarts_alone_write_nothing() {
    let (dir, log, ..) = build(&[(5, 100)]);
    drop(log);
    let before = std::fs::read(last_file(dir.path())).expect("readable");
    for _ in 0..3 {
        drop(open(dir.path(), Durability::Fsync));
    }
    assert_eq!(
        std::fs::read(last_file(dir.path())).expect("readable"),
        before
    );
}

#[test]
fn what_was_cut_does_not_return_behind_later_records() {
    let (copy, known) = build_and_kill(&[(5, 100), (5, 100)]);
    // Record 5 is torn, 6 to 9 are whole. What comes next is exactly as long as record 5 in the
    // file: the one behind would be number 6.
    change(&last_file(copy.path()), |bytes| {
        bytes[known[5].end() - 1] ^= 1;
    });
    let (log, found) = open(copy.path(), Durability::Fsync);
    assert_prefix(&found, &known, 5);
    let places = append(&log, 0, 5..6, 101);
    log.sync().expect("healthy");
    assert_eq!(
        places[0].offset + 128,
        known[6].at.offset,
        "the test is about this"
    );
    let again = killed(copy.path());
    let (_log, found) = open(again.path(), Durability::Fsync);
    assert_eq!(found.len(), 6);
    assert_eq!(found[5].body, body(0, 5, 101));
}
