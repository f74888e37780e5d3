//! Bits of a broker's files that are other ones.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The files of a folder with this ending, oldest first.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == ending))
        .collect();
    paths.sort();
    paths
}

/// Flips a bit of a file.
pub(crate) fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 4], at).expect("writable");
}

/// Flips a bit of a text that is in the log of a member; in which file.
pub(crate) fn flip_in_log(data: &Path, text: &str) -> PathBuf {
    for path in files(&data.join("log"), "segment") {
        let bytes = std::fs::read(&path).expect("readable");
        let found = bytes
            .windows(text.len())
            .position(|at| at == text.as_bytes());
        if let Some(at) = found {
            flip(&path, at as u64);
            return path;
        }
    }
    panic!("{text:?} is not in the log");
}
