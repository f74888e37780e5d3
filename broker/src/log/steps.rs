//! Work on the disk that nobody waits for: in small steps with rests, so that the fdatasync of a log, on which
//! acknowledgements wait, never stands long behind it. The log of another process may be on the same disk.

use super::limits::{STEP_BYTES, STEP_REST, STEP_REST_MAX};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to rest after a step that took so long.
pub(crate) fn rest_after(took: Duration) -> Duration {
    (took * STEP_REST).min(STEP_REST_MAX)
}

/// Removes a file that nobody reads any more, `rest`ing after each step as long as it is told: where the file system tells
/// the disk what it has no use for any more (`discard`), the space of 60 MB at once holds up every fdatasync for 80 ms.
pub(super) fn remove(file: &File, path: &Path, rest: impl Fn(Duration)) -> io::Result<()> {
    let mut left = file.metadata()?.len();
    while left > 0 {
        let began = Instant::now();
        left = left.saturating_sub(STEP_BYTES as u64);
        file.set_len(left)?;
        rest(rest_after(began.elapsed()));
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_rest_is_some_times_as_long_as_the_step_up_to_a_bound() {
        let rests = [0, 1, 10, 100].map(|ms| rest_after(Duration::from_millis(ms)).as_millis());
        assert_eq!(rests, [0, 3, 30, 50]);
    }

    #[test]
    fn a_file_goes_step_by_step() {
        let dir = tempfile::tempdir().expect("a folder");
        for (bytes, steps) in [(0, 0), (1, 1), (STEP_BYTES, 1), (3 * STEP_BYTES + 1, 4)] {
            let path = dir.path().join("file");
            fs::write(&path, vec![1; bytes]).expect("written");
            let file = File::options()
                .write(true)
                .open(&path)
                .expect("it is there");
            let rests = Cell::new(0);
            remove(&file, &path, |_| rests.set(rests.get() + 1)).expect("removed");
            assert_eq!(rests.get(), steps, "{bytes} bytes");
            assert!(!path.exists());
        }
    }
}
