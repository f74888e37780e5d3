//! What the disk can do by itself, while something else is measured.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of each write, a page.
const WRITE_BYTES: usize = 4096;
/// Time between two writes: enough of them for a percentile, few enough to cost the others nothing.
const EVERY: Duration = Duration::from_millis(50);
/// The file begins anew after so many writes.
const WRITES_MAX: u64 = 4096;

/// Writes a page and waits until it is on disk, again and again.
pub(super) struct DiskProbe {
    stop: SyncSender<()>,
    writer: JoinHandle<io::Result<Vec<Duration>>>,
}

/// How long those writes took.
pub(super) struct DiskTimes {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) writes: usize,
}

impl DiskProbe {
    /// Starts on the disk of `folder`.
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(folder)?;
        let (stop, stopped) = sync_channel(1);
        let writer = std::thread::spawn(move || {
            let mut times = Vec::new();
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                times.push(write(&mut file, times.len() as u64)?);
            }
            Ok(times)
        });
        Ok(Self { stop, writer })
    }

    /// Stops, and says what it saw.
    pub(super) fn finish(self) -> io::Result<DiskTimes> {
        drop(self.stop);
        let times = self.writer.join();
        let mut times = times.map_err(|_| io::Error::other("the writer panicked"))??;
        times.sort_unstable();
        if times.is_empty() {
            return Err(io::Error::other("the disk was asked for nothing"));
        }
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        Ok(DiskTimes {
            p50: at(50),
            p99: at(99),
            writes: times.len(),
        })
    }
}

fn write(file: &mut File, number: u64) -> io::Result<Duration> {
    let page = [number as u8; WRITE_BYTES];
    let began = Instant::now();
    file.seek(SeekFrom::Start(number % WRITES_MAX * WRITE_BYTES as u64))?;
    file.write_all(&page)?;
    file.sync_data()?;
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_measured_what_it_wrote() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut file = tempfile::tempfile_in(folder.path()).expect("a file");
        for number in [0, WRITES_MAX + 1] {
            let took = write(&mut file, number).expect("written");
            assert!(took > Duration::ZERO);
        }
        let len = file.metadata().expect("there").len();
        assert_eq!(len, 2 * WRITE_BYTES as u64, "it begins anew");
    }
}
