//! Figures of the log: what an append costs, how many records per second become durable, and how
//! long the disk's own fdatasync takes.
//!
//! `cargo bench -p mqtt-fleet-broker --bench log` (set `LOG_BENCH_DIR` to measure another disk)

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use mqtt_fleet_broker::log::{Appends, Durability, Log, LogHandle, LogOptions};

fn main() {
    let base = std::env::var_os("LOG_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    println!("on {}", base.display());
    println!("disk: {}", raw_fdatasync(&base));
    for durability in [Durability::Memory, Durability::Os, Durability::Fsync] {
        for batch in [1, 10, 100, 1_000] {
            let ns = append_cost(&base, durability, batch);
            println!(
                "append of 100 B, {durability:?}, batches of {batch:>4}: {ns:>6.1} ns a record"
            );
        }
    }
    for (records, batch) in [(1, 1), (16, 16), (500, 500), (16 * 500, 16 * 500)] {
        for durability in [Durability::Os, Durability::Fsync] {
            println!("{}", closed_loop(&base, durability, records, batch));
        }
    }
}

/// A 4 KiB write and fdatasync into a file that is already written.
fn raw_fdatasync(base: &Path) -> String {
    let dir = tempfile::tempdir_in(base).expect("a folder");
    let file = std::fs::File::create(dir.path().join("raw")).expect("a file");
    file.write_all_at(&vec![0; 8 << 20], 0).expect("space");
    file.sync_all().expect("a disk");
    let mut took: Vec<Duration> = (0..1_000_u64)
        .map(|round| {
            let begun = Instant::now();
            file.write_all_at(&[round as u8; 4096], (round % 2048) * 4096)
                .expect("space");
            file.sync_data().expect("a disk");
            begun.elapsed()
        })
        .collect();
    format!("fdatasync of 4 KiB {}", quantiles(&mut took))
}

fn quantiles(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    format!("p50 {:?} p99 {:?} max {:?}", at(50), at(99), at(100))
}

fn open(dir: &Path, durability: Durability) -> (LogHandle, Receiver<()>) {
    let (tell, told) = sync_channel(1);
    // A full channel has a wake-up in it already.
    let wake = move || {
        let _full_is_fine = tell.try_send(());
    };
    let options = LogOptions {
        durability,
        ..LogOptions::default()
    };
    let (log, _) = Log::open(dir, options, Box::new(wake)).expect("opens");
    (log, told)
}

/// CPU time this thread has had, so that other work on the machine does not count.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let ns = text
        .split(' ')
        .next()
        .and_then(|ns| ns.parse().ok())
        .expect("a number");
    Duration::from_nanos(ns)
}

/// Time in the appending thread only: building the batch and appending it.
fn append_cost(base: &Path, durability: Durability, batch_records: u64) -> f64 {
    const RECORDS: u64 = 2_000_000;
    let dir = tempfile::tempdir_in(base).expect("a folder");
    let (log, _told) = open(dir.path(), durability);
    let mut batch = Appends::new();
    let body = [7; 100];
    let mut index = 0;
    let mut spent = Duration::ZERO;
    while index < RECORDS {
        if log.pending_bytes() > 16 << 20 {
            log.sync().expect("healthy");
        }
        let begun = thread_cpu();
        for _ in 0..(20_000 / batch_records).max(1) {
            for _ in 0..batch_records {
                index += 1;
                batch.push(0, index, &body).expect("fits");
            }
            log.append(&mut batch).expect("healthy");
            batch.clear();
        }
        spent += thread_cpu().saturating_sub(begun);
    }
    spent.as_nanos() as f64 / index as f64
}

/// A number of clients that each append again when their record is durable.
fn closed_loop(base: &Path, durability: Durability, window: u64, batch_max: u64) -> String {
    let dir = tempfile::tempdir_in(base).expect("a folder");
    let (log, told) = open(dir.path(), durability);
    let mut batch = Appends::new();
    let body = [7; 64];
    let mut index = 0;
    let mut append = |count: u64| {
        for _ in 0..count {
            index += 1;
            batch.push(0, index, &body).expect("fits");
        }
        log.append(&mut batch).expect("healthy");
        batch.clear();
    };
    let begun = Instant::now();
    let (mut sent, mut done) = (window, 0);
    append(window);
    let mut turns = Vec::new();
    while begun.elapsed() < Duration::from_secs(2) {
        let waiting = Instant::now();
        told.recv().expect("the log lives");
        turns.push(waiting.elapsed());
        done = log.durable();
        while sent - done < window {
            let count = (window - (sent - done)).min(batch_max);
            append(count);
            sent += count;
        }
    }
    let per_second = done as f64 / begun.elapsed().as_secs_f64();
    format!(
        "64 B, window {window:>5}, {durability:?}: {per_second:>9.0} durable a second, turn {}",
        quantiles(&mut turns)
    )
}
