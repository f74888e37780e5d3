//! The files that the lines of the nodes go to, for those who come later than the lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// From here on a new file is begun; one older is kept, as `NAME.log.1`. A node that complains of every message for a
/// day must not fill the disk that its data are on.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The file of one node.
#[derive(Debug)]
pub(super) struct NodeLog {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing was written yet.
    Closed,
    /// Open, with so many bytes in it.
    Open(File, u64),
    /// It could not be written; nothing is, from then on.
    Failed,
}

impl NodeLog {
    /// The file at `path`, which is opened with the first line and goes on with what it has.
    pub(super) fn at(path: PathBuf) -> Self {
        let state = State::Closed;
        Self { path, state }
    }

    /// Writes a line. Says once why it cannot.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        let (mut file, bytes) = match std::mem::replace(&mut self.state, State::Failed) {
            State::Failed => return Ok(()),
            State::Closed => open(&self.path)?,
            State::Open(_, FILE_BYTES_MAX..) => {
                std::fs::rename(&self.path, older(&self.path))?;
                open(&self.path)?
            }
            State::Open(file, bytes) => (file, bytes),
        };
        let line = format!("{line}\n");
        file.write_all(line.as_bytes())?;
        self.state = State::Open(file, bytes + line.len() as u64);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_after_a_restart_and_never_grows_without_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.log");
        for line in ["one", "two"] {
            NodeLog::at(path.clone()).line(line).expect("writable");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "one\ntwo\n");
        let mut log = NodeLog::at(path.clone());
        let text = "x".repeat((FILE_BYTES_MAX / 4) as usize);
        for _ in 0..9 {
            log.line(&text).expect("writable");
        }
        let size = |path: &Path| std::fs::metadata(path).expect("there").len();
        let line = text.len() as u64 + 1;
        assert_eq!(size(&older(&path)), 4 * line);
        assert_eq!(size(&path), line);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 2);
    }

    #[test]
    fn one_that_cannot_be_written_is_said_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = NodeLog::at(folder.path().join("none").join("node.log"));
        assert!(log.line("one").is_err());
        assert!(log.line("two").is_ok());
    }
}
