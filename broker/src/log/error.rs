//! What can go wrong with the log, each naming its culprit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Location;

/// Why the log refused. Cheap to clone: the first failed write answers every later call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Another process holds the data folder.
    #[error("the data folder is in use by another process{}: {}", pid_text(*pid), path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that wrote its number into it, where readable.
        pid: Option<u32>,
    },
    /// The data folder cannot be created or written.
    #[error("cannot write to {}: {source}", path.display())]
    Unwritable {
        /// The file or folder that refused.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// No space is left.
    #[error("the disk is full: cannot write {}", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Bytes that were stored are not what they were.
    #[error("damaged: {} at byte {offset}: {what}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What was expected there.
        what: &'static str,
    },
    /// A whole file of a version this program does not know. Nothing is wrong with what is in it.
    #[error(
        "{} was written by a newer version of this program: it has format version {version}, and this one knows up to {known}",
        file.display()
    )]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The version it states.
        version: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// Any other failure of the operating system.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `"read"`.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A record body larger than [`RECORD_BYTES_MAX`](super::limits::RECORD_BYTES_MAX).
    #[error("a record of {len} bytes is larger than the log takes")]
    TooLarge {
        /// Bytes of the body.
        len: usize,
    },
    /// A stream number of [`STREAMS_MAX`](super::limits::STREAMS_MAX) or more.
    #[error("stream {stream} is beyond the number of streams one log takes")]
    Stream {
        /// The number.
        stream: u16,
    },
    /// More bytes wait for the disk than allowed. Nothing of the batch was taken.
    #[error("{pending_bytes} bytes wait for the disk")]
    Backlog {
        /// Bytes that wait.
        pending_bytes: usize,
    },
    /// A place where no record is (any more).
    #[error("no record at segment {} offset {}", at.segment, at.offset)]
    NotFound {
        /// The place asked for.
        at: Location,
    },
    /// The members of a replicated group cannot agree on anything with this one any more.
    #[error("this member cannot {what} its group: {why}")]
    Group {
        /// What it tried, such as `"start"`.
        what: &'static str,
        /// What happened.
        why: String,
    },
    /// A configuration the log cannot run with.
    #[error("segment_bytes must be from {min} to {max}, is {is}")]
    SegmentBytes {
        /// The smallest value.
        min: u32,
        /// The largest value.
        max: u32,
        /// The value given.
        is: u32,
    },
}

impl LogError {
    /// Whether stored bytes are not what they were. No restart helps, and nothing else is wrong with the machine: a
    /// member of a group is repaired from the others ([`set_aside`](super::set_aside)).
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// A failure on the way to or from a snapshot.
    pub(crate) fn snapshot(what: &'static str, source: io::Error) -> Self {
        Self::io(what, Path::new("the snapshot"), source)
    }

    /// A failure of what stands above the log.
    pub(crate) fn group(what: &'static str, why: String) -> Self {
        Self::Group { what, why }
    }

    /// Sorts an operating system error by what the operator has to do about it.
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory => Self::Unwritable {
                path,
                source: Arc::new(source),
            },
            _ => Self::Io {
                what,
                path,
                source: Arc::new(source),
            },
        }
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}
