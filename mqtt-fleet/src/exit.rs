//! Exit codes, and the one place that prints why a command failed.

use std::fmt::Display;
use std::process::ExitCode;

/// How the process ends. The numbers are an interface: scripts and service managers read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command did what it was asked; a broker was stopped by a signal and has drained.
    Fine = 0,
    /// It failed for a reason without a code of its own; `loadtest`: the verdict is "failed".
    Failed = 1,
    /// The arguments, the environment or the configuration file are wrong. (Also used by the
    /// argument parser.)
    Usage = 2,
    /// A listening address is in use by another process, or cannot be opened.
    Address = 3,
    /// The data folder is locked by another process, or cannot be written.
    Data = 4,
    /// The log in the data folder is damaged in a place where acknowledged messages live.
    Damaged = 5,
    /// The disk is full.
    DiskFull = 6,
    /// The log or a snapshot in the data folder was written by a newer version.
    Newer = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints one sentence that says what is wrong, and passes the exit code through.
pub(crate) fn complain(exit: Exit, sentence: impl Display) -> Exit {
    eprintln!("mqtt-fleet: {sentence}");
    exit
}
