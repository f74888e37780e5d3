//! What was appended is read back: from memory, from disk, and after a restart.

mod log_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use log_common::{append, body, open, options};
use mqtt_fleet_broker::log::{Appends, Durability, Log, LogError, LogHandle, STORE_STREAM};

#[test]
fn records_come_back_in_order_after_a_restart() {
    for durability in [Durability::Fsync, Durability::Os] {
        let dir = tempfile::tempdir().expect("a folder");
        let (log, replayed) = open(dir.path(), durability);
        assert!(replayed.is_empty());
        let first = append(&log, 0, 1..500, 100);
        let second = append(&log, STORE_STREAM, 0..100, 3000);
        let third = append(&log, 0, 500..20_000, 90);
        drop(log);
        let (log, replayed) = open(dir.path(), durability);
        assert!(
            log.segments().len() > 1,
            "the test is about several segments"
        );
        let places: Vec<_> = first.into_iter().chain(second).chain(third).collect();
        assert_eq!(replayed.len(), places.len());
        for (record, place) in replayed.iter().zip(&places) {
            assert_eq!(record.at, *place);
            assert_eq!(
                record.body,
                body(record.stream, record.index, record.body.len())
            );
            let read = log.read(record.at, 1, 2).expect("there");
            assert_eq!(read, record.body.slice(1..3));
        }
    }
}

#[test]
fn a_record_is_read_before_it_is_durable_and_after() {
    for durability in [Durability::Fsync, Durability::Os, Durability::Memory] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = options(durability);
        options.cache_bytes = 100_000;
        let (log, _) = Log::open(dir.path(), options, Box::new(|| {})).expect("opens");
        let mut places = Vec::new();
        for round in 0..40 {
            places.extend(append(&log, 3, round * 100..(round + 1) * 100, 700));
            for (index, at) in places.iter().enumerate().rev().take(5) {
                assert_eq!(
                    log.read(*at, 0, 700).expect("there"),
                    body(3, index as u64, 700)
                );
            }
        }
        log.sync().expect("healthy");
        for (index, at) in places.iter().enumerate() {
            assert_eq!(
                log.read(*at, 10, 600).expect("there"),
                body(3, index as u64, 700)[10..610]
            );
            assert!(matches!(
                log.read(*at, 10, 691),
                Err(LogError::NotFound { .. })
            ));
        }
        let from_disk = log.stats().reads_from_disk.load(Ordering::Relaxed);
        assert_eq!(
            from_disk > 0,
            durability != Durability::Memory,
            "the cache is bounded"
        );
    }
}

#[test]
fn durable_moves_and_wakes_once_the_disk_has_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tell, told) = std::sync::mpsc::sync_channel(100);
    let wakes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&wakes);
    let wake = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let _full_is_fine = tell.try_send(());
    };
    let (log, _) =
        Log::open(dir.path(), options(Durability::Fsync), Box::new(wake)).expect("opens");
    let mut batch = Appends::new();
    batch.push(0, 1, b"one").expect("fits");
    batch.push(0, 2, b"two").expect("fits");
    let sequence = log.append(&mut batch).expect("healthy");
    assert_eq!(sequence, 2);
    let patience = std::time::Duration::from_secs(10);
    told.recv_timeout(patience).expect("a wake-up");
    while log.durable() < sequence {
        told.recv_timeout(patience).expect("a wake-up");
    }
    assert_eq!(log.pending_bytes(), 0);
    assert!(wakes.load(Ordering::Relaxed) >= 1);
}

#[test]
fn concurrent_appenders_lose_nothing_and_keep_their_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    std::thread::scope(|scope| {
        for stream in 0..4_u16 {
            let log = log.clone();
            scope.spawn(move || {
                for round in 0..200_u64 {
                    let places = append(&log, stream, round * 10..(round + 1) * 10, 64);
                    let last = round * 10 + 9;
                    let read = log.read(places[9], 0, 64).expect("there");
                    assert_eq!(read, body(stream, last, 64));
                }
            });
        }
    });
    drop(log);
    let (_log, replayed) = open(dir.path(), Durability::Fsync);
    assert_eq!(replayed.len(), 8000);
    for stream in 0..4 {
        let of_stream: Vec<_> = replayed
            .iter()
            .filter(|record| record.stream == stream)
            .collect();
        assert!(
            of_stream
                .iter()
                .enumerate()
                .all(|(at, record)| record.index == at as u64)
        );
        assert!(
            of_stream
                .iter()
                .all(|record| record.body == body(stream, record.index, 64))
        );
    }
}

#[test]
fn records_below_the_start_are_not_wanted_and_their_segments_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Os);
    append(&log, 0, 1..30_000, 100);
    drop(log);
    let open_at = |first| {
        let (_log, mut replay) =
            Log::open(dir.path(), options(Durability::Os), Box::new(|| {})).expect("opens");
        replay.start_at(0, first);
        let records: Vec<_> = replay
            .by_ref()
            .map(|record| record.expect("undamaged"))
            .collect();
        (records, replay.stats().clone())
    };
    let (all, whole) = open_at(1);
    assert_eq!(all.len(), 29_999);
    let (few, part) = open_at(29_990);
    assert_eq!(few.first().map(|record| record.index), Some(29_990));
    assert_eq!(few.len(), 10);
    assert!(part.bytes < whole.bytes / 2, "{part:?} {whole:?}");
}

#[test]
fn a_record_larger_than_a_segment_gets_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    append(&log, 0, 1..3, 10);
    let big = append(&log, 0, 3..4, 5 << 20);
    let after = append(&log, 0, 4..5, 10);
    log.sync().expect("healthy");
    assert_eq!(
        log.read(big[0], 0, 5 << 20).expect("there"),
        body(0, 3, 5 << 20)
    );
    drop(log);
    let (log, replayed) = open(dir.path(), Durability::Fsync);
    assert_eq!(replayed.len(), 4);
    assert_eq!(replayed[2].body, body(0, 3, 5 << 20));
    assert_eq!(
        log.read(big[0], 7, 100).expect("there"),
        body(0, 3, 5 << 20)[7..107]
    );
    assert_eq!(log.read(after[0], 0, 10).expect("there"), body(0, 4, 10));
}

#[test]
fn more_than_the_bound_may_not_wait() {
    let dir = tempfile::tempdir().expect("a folder");
    // The wake function blocks the log thread, so that what is appended behind stays waiting.
    let gate = Arc::new(std::sync::Barrier::new(2));
    let held = Arc::clone(&gate);
    let first = std::sync::Once::new();
    let wake = move || {
        first.call_once(|| {
            held.wait();
            held.wait();
        });
    };
    let mut options = options(Durability::Os);
    options.pending_bytes_max = 10_000;
    let (log, _) = Log::open(dir.path(), options, Box::new(wake)).expect("opens");
    append(&log, 0, 1..2, 10);
    gate.wait();
    append(&log, 0, 2..3, 9_000);
    let mut batch = Appends::new();
    batch.push(0, 3, &[0; 2_000]).expect("fits");
    assert!(matches!(
        log.append(&mut batch),
        Err(LogError::Backlog { .. })
    ));
    assert!(batch.locations().is_empty());
    gate.wait();
    log.sync().expect("healthy");
    assert_eq!(log.append(&mut batch).expect("room again"), 3);
    assert_eq!(log.stats().backlog_refusals.load(Ordering::Relaxed), 1);
}

#[test]
fn memory_holds_a_segment_until_its_release() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Memory);
    let places = append(&log, 0, 1..30_000, 100);
    assert_eq!(log.durable(), 29_999, "at once");
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("a folder").count(),
        0,
        "no file"
    );
    let before = log.cached_bytes();
    let ids: Vec<_> = log.segments().iter().map(|segment| segment.id).collect();
    assert!(ids.len() > 2);
    assert_eq!(log.release(&ids), ids.len() - 1, "the current one stays");
    assert!(log.cached_bytes() < before / 2);
    assert!(matches!(
        log.read(places[0], 0, 1),
        Err(LogError::NotFound { .. })
    ));
    let last = places[places.len() - 1];
    assert_eq!(log.read(last, 0, 100).expect("there"), body(0, 29_999, 100));
}

#[test]
fn an_idle_log_gives_its_memory_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path(), Durability::Fsync);
    append(&log, 0, 1..60_000, 100);
    assert!(log.cached_bytes() > 4 << 20);
    log.sync().expect("healthy");
    let begun = std::time::Instant::now();
    while log.cached_bytes() > 2 << 20 {
        assert!(
            begun.elapsed().as_secs() < 20,
            "the quiet time has long passed"
        );
        std::thread::yield_now();
    }
}

#[test]
fn who_waits_for_the_disk_is_told() {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let dir = tempfile::tempdir().expect("a folder");
        let (log, _) = open(dir.path(), Durability::Os);
        let other = log.clone();
        let thread = std::thread::spawn(move || append_and_wait(&other, 1));
        append_and_wait(&log, 0);
        thread.join().expect("healthy");
        tell.send(log.durable()).expect("the test waits");
    });
    let durable = told.recv_timeout(std::time::Duration::from_secs(120));
    assert_eq!(durable, Ok(20_000), "nobody waits in vain");
}

fn append_and_wait(log: &LogHandle, stream: u16) {
    for index in 0..10_000 {
        append(log, stream, index..index + 1, 10);
        log.sync().expect("healthy");
    }
}
