//! What the tests of the log share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ops::Range;
use std::path::{Path, PathBuf};

use mqtt_fleet_broker::log::{
    Appends, Durability, Location, Log, LogError, LogHandle, LogOptions, Record,
};

/// Segments of the smallest size.
pub(crate) fn options(durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        segment_bytes: 1 << 20,
        ..LogOptions::default()
    }
}

/// Opens and replays everything; the first error of either.
pub(crate) fn try_open(
    dir: &Path,
    durability: Durability,
) -> Result<(LogHandle, Vec<Record>), LogError> {
    let (log, replay) = Log::open(dir, options(durability), Box::new(|| {}))?;
    Ok((log, replay.collect::<Result<_, _>>()?))
}

/// Opens a log that must be whole.
pub(crate) fn open(dir: &Path, durability: Durability) -> (LogHandle, Vec<Record>) {
    try_open(dir, durability).expect("the log is whole")
}

/// Appends records of a stream, each with a body told from stream, index and length.
pub(crate) fn append(
    log: &LogHandle,
    stream: u16,
    indexes: Range<u64>,
    len: usize,
) -> Vec<Location> {
    let mut batch = Appends::new();
    for index in indexes {
        batch
            .push(stream, index, &body(stream, index, len))
            .expect("fits");
    }
    log.append(&mut batch).expect("healthy");
    batch.locations().to_vec()
}

/// A body without a zero byte.
pub(crate) fn body(stream: u16, index: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| ((at as u64 * 31 + index * 7 + u64::from(stream)) % 255) as u8 + 1)
        .collect()
}

/// What a `kill -9` leaves: the files as they are, without the lock.
pub(crate) fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(copy.path().join("log")).expect("a folder");
    for path in files(dir, "segment") {
        let name = path.file_name().expect("a file");
        std::fs::copy(&path, copy.path().join("log").join(name)).expect("a copy");
    }
    copy
}

/// The files of the log with an extension, in order.
pub(crate) fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("log")).expect("a folder");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

/// Changes bytes of a file in place.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("readable");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("writable");
}
