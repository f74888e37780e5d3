//! A group machine as bytes, and back.
//!
//! ```text
//! "MFGM", u32 version, then the parts in the order of State::put_snapshot.
//! ```
//! Integers are little endian. Everything is written in the order of its numbers or keys, so two replicas that
//! applied the same entries write the same bytes. The indexes are built again from the sessions. A snapshot is taken
//! of the moment between two entries; it has no checksum of its own, its file has.

mod pass;
pub(crate) mod place;
pub(super) mod put;
mod read;
mod restore;
mod write;

pub(super) use pass::Pass;

use super::state::State;
use crate::limits::MachineLimits;
use std::io::{self, BufReader, Read};

const MAGIC: [u8; 4] = *b"MFGM";
/// The version that is written.
pub(crate) const VERSION: u32 = 4;
/// The oldest version that is still read.
const OLDEST_VERSION: u32 = 1;
/// Stands where there is no rank.
const NO_RANK: u8 = 0xFF;

/// Why a snapshot was not restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read to its end.
    #[error("snapshot of a group: {0}")]
    Io(#[from] io::Error),
    /// It is none, or of another release.
    #[error(
        "snapshot of a group has version {0}, this release reads versions {OLDEST_VERSION} to {VERSION}"
    )]
    Version(u32),
    /// Its parts are not valid, or contradict each other.
    #[error("snapshot of a group is damaged: {0}")]
    Damaged(&'static str),
}

impl State {
    /// Reads what [`State::put_snapshot`] wrote, to its end. The limits may be others than those it was written
    /// under.
    pub fn restore(from: &mut dyn Read, limits: MachineLimits) -> Result<Self, SnapshotError> {
        let mut reader = BufReader::with_capacity(1 << 16, from);
        restore::state(&mut reader, limits)
    }
}
