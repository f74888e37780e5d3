//! On a full disk the log says so, reports nothing durable that is not, and what was durable is
//! there when there is room again.

mod log_common;
mod small_disk;

use log_common::{body, try_open};
use mqtt_fleet_broker::log::{Appends, Durability, Log, LogError, LogHandle, Record, WhenFull};
use small_disk::small_disk;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Opens a folder that was closed. A child process that another test is just starting may hold the lock for a moment.
fn reopen(data: &Path, durability: Durability) -> Result<(LogHandle, Vec<Record>), LogError> {
    loop {
        match try_open(data, durability) {
            Err(LogError::Locked { .. }) => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_durable() {
    for (kib, durability) in [(4_000, Durability::Fsync), (6_500, Durability::Os)] {
        let Some(disk) = small_disk(kib) else { return };
        let data = disk.path().join("data");
        let options = log_common::options(durability);
        let (log, _) = Log::open(&data, options, Box::new(|| {})).expect("a megabyte fits");
        let mut next = 0;
        let mut batch = Appends::new();
        let failure = loop {
            for _ in 0..50 {
                batch.push(0, next, &body(0, next, 1000)).expect("fits");
                next += 1;
            }
            if let Err(failure) = log.append(&mut batch).and_then(|_| log.sync()) {
                break failure;
            }
            batch.clear();
            assert!(next < 20_000, "the disk is smaller than that");
        };
        assert!(matches!(failure, LogError::DiskFull { .. }), "{failure:?}");
        assert!(failure.to_string().contains("disk is full"), "{failure}");
        let durable = log.durable();
        assert!((1_000..next).contains(&durable), "{durable} of {next}");
        assert!(
            matches!(log.failure(), Some(LogError::DiskFull { .. })),
            "and it stays so"
        );
        drop(log);
        disk.resize(64_000);
        let (log, found) = reopen(&data, durability).expect("nothing is damaged");
        assert!(found.len() as u64 >= durable);
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(at, record)| record.index == at as u64)
        );
        assert!(
            found
                .iter()
                .all(|record| record.body == body(0, record.index, 1000))
        );
        log_common::append(&log, 0, found.len() as u64..found.len() as u64 + 10, 100);
        log.sync().expect("there is room");
    }
}

#[test]
fn no_room_to_start_is_a_full_disk() {
    let Some(disk) = small_disk(512) else { return };
    let error = try_open(&disk.path().join("data"), Durability::Fsync).expect_err("no room");
    assert!(matches!(error, LogError::DiskFull { .. }), "{error:?}");
    disk.resize(8_000);
    assert!(try_open(&disk.path().join("data"), Durability::Fsync).is_ok());
}

#[test]
fn a_snapshot_without_room_leaves_the_old_one() {
    use std::io::Read;
    let Some(disk) = small_disk(2_000) else {
        return;
    };
    let store = mqtt_fleet_broker::log::SnapshotStore::open(disk.path()).expect("opens");
    store
        .write(0, 1, |out| out.write_all(b"small"))
        .expect("fits");
    let error = store
        .write(0, 2, |out| out.write_all(&vec![1; 4 << 20]))
        .expect_err("no room");
    assert!(matches!(error, LogError::DiskFull { .. }), "{error:?}");
    let mut found = store.latest(0).expect("undamaged").expect("there");
    let mut content = String::new();
    found
        .content
        .read_to_string(&mut content)
        .expect("readable");
    assert_eq!((found.index, &*content), (1, "small"));
}

/// Opens a log that waits for space; says on the channel whenever it wakes.
fn patient(data: &Path, durability: Durability) -> (LogHandle, Receiver<()>) {
    let mut options = log_common::options(durability);
    options.when_full = WhenFull::Wait;
    options.pending_bytes_max = 2 << 20;
    let (tell, told) = sync_channel(1);
    let wake = move || {
        let _one_is_enough = tell.try_send(());
    };
    let (log, _) = Log::open(data, options, Box::new(wake)).expect("a megabyte fits");
    (log, told)
}

/// Waits until it is so, looking whenever the log wakes.
fn wait_until(told: &Receiver<()>, is_so: impl Fn() -> bool) {
    while !is_so() {
        let patience = Duration::from_secs(60);
        told.recv_timeout(patience).expect("the log wakes");
    }
}

/// Appends until the disk is full; the next index.
fn fill(log: &LogHandle, told: &Receiver<()>, mut next: u64) -> u64 {
    while !log.is_full() {
        log_common::append(log, 0, next..next + 20, 1000);
        next += 20;
        wait_until(told, || log.is_full() || log.pending_bytes() == 0);
        assert!(next < 20_000, "the disk is smaller than that");
    }
    next
}

fn assert_whole(data: &Path, durability: Durability, count: u64) {
    let (_log, found) = reopen(data, durability).expect("nothing is damaged");
    assert_eq!(found.len() as u64, count);
    for (record, index) in found.iter().zip(0..) {
        assert_eq!(record.index, index);
        assert_eq!(record.body, body(0, index, 1000));
    }
}

#[test]
fn a_log_that_waits_for_space_goes_on_where_it_stopped() {
    for (kib, durability) in [(4_000, Durability::Fsync), (6_500, Durability::Os)] {
        let Some(disk) = small_disk(kib) else { return };
        let data = disk.path().join("data");
        let (log, told) = patient(&data, durability);
        let mut next = fill(&log, &told, 0);
        let durable = log.durable();
        // What comes now waits, up to the bound.
        let mut last = None;
        loop {
            let mut batch = Appends::new();
            batch.push(0, next, &body(0, next, 1000)).expect("fits");
            match log.append(&mut batch) {
                Ok(_) => last = Some(batch.locations()[0]),
                Err(LogError::Backlog { .. }) => break,
                Err(error) => panic!("{error}"),
            }
            next += 1;
        }
        let last = last.expect("some wait");
        assert!(next - durable > 1_000, "{next} {durable}");
        // More than once there is a little space, and then none.
        for more in [300, 600] {
            disk.resize(kib + more);
            disk.wait_until_full();
            wait_until(&told, || log.is_full());
        }
        assert!(log.durable() < next, "not all of it is");
        assert!(log.failure().is_none());
        let read = log.read(last, 0, 1000).expect("it can be read meanwhile");
        assert_eq!(read, body(0, next - 1, 1000));
        disk.resize(64_000);
        wait_until(&told, || !log.is_full());
        log.sync().expect("there is room");
        assert_eq!(log.durable(), next);
        assert_eq!(log.pending_bytes(), 0);
        log_common::append(&log, 0, next..next + 10, 1000);
        let stats = log.stats();
        assert!(stats.times_full.load(Ordering::Relaxed) >= 1);
        drop(log);
        assert_whole(&data, durability, next + 10);
    }
}

#[test]
fn a_log_that_is_full_makes_its_own_room() {
    let Some(disk) = small_disk(4_000) else {
        return;
    };
    let data = disk.path().join("data");
    let (log, told) = patient(&data, Durability::Fsync);
    let next = fill(&log, &told, 0);
    let old: Vec<u32> = log.closed_segments().iter().map(|info| info.id).collect();
    assert!(old.len() > 1);
    assert_eq!(log.release(&old[..2]), 2);
    wait_until(&told, || !log.is_full());
    assert_eq!(log.durable(), next);
    // The second one is space, too, or a file for the segment after the next: more fits than into one.
    let more = (next..next + 1_500).step_by(20);
    for first in more {
        log_common::append(&log, 0, first..first + 20, 1000);
        wait_until(&told, || log.pending_bytes() == 0);
    }
    wait_until(&told, || !log.is_full());
}

#[test]
fn a_log_that_is_full_can_be_closed() {
    let Some(disk) = small_disk(4_000) else {
        return;
    };
    let data = disk.path().join("data");
    let (log, told) = patient(&data, Durability::Fsync);
    let next = fill(&log, &told, 0);
    let durable = log.durable();
    assert!(durable < next);
    drop(log);
    disk.resize(64_000);
    let (_log, found) = reopen(&data, Durability::Fsync).expect("nothing is damaged");
    assert!((durable..=next).contains(&(found.len() as u64)));
    for (record, index) in found.iter().zip(0..) {
        assert_eq!(
            (record.index, &record.body[..]),
            (index, &body(0, index, 1000)[..])
        );
    }
}

/// Names the data folder to [`grows_into_the_limit`].
const LIMITED: &str = "LOG_UNDER_A_LIMIT";

#[test]
#[ignore = "needs a limit of the size of files; the next test runs it with one"]
fn grows_into_the_limit() {
    let data = std::env::var_os(LIMITED).expect("the next test says where");
    let (log, _) = log_common::open(Path::new(&data), Durability::Fsync);
    log_common::append(&log, 0, 0..1, 12 << 20);
    let failure = log.sync().expect_err("no file may be so long");
    assert!(failure.to_string().contains("cannot grow"), "{failure}");
}

/// A file that is in the way of its own second try would end a log that waits for space.
#[test]
fn a_segment_that_cannot_grow_leaves_no_file_behind() {
    let data = tempfile::tempdir().expect("a folder");
    let limited =
        "trap '' XFSZ; ulimit -f 8192; exec \"$0\" --exact grows_into_the_limit --ignored";
    let child = std::process::Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().expect("this test"))
        .env(LIMITED, data.path())
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    let left = log_common::files(data.path(), "unfinished");
    assert!(left.is_empty(), "{left:?}");
}
