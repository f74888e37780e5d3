//! The bytes of a log entry.
//!
//! ```text
//! u8   version, 3 (entries of versions 1 and 2 have fewer kinds of commands and are read too)
//! u64  time in milliseconds
//! u32  number of commands
//! then each command: u8 tag, its fields
//! ```
//! Integers are little endian; text has its length before it, as a u16. A message is in the form of
//! [`Message::write_to`](protocol::Message::write_to), so that a reader finds it by its place alone: the log is where a group's messages live.

mod groups;
mod read;
mod topology;
mod write;

pub(crate) use read::{Reader, read_will};
pub use read::{decode_entry, decode_entry_within};
pub use write::encode_entry;
pub(crate) use write::write_will;

use protocol::CorruptMessage;

const VERSION: u8 = 3;
/// The oldest version that is still read.
const OLDEST_VERSION: u8 = 1;
/// Stands where there is no rank.
const NO_RANK: u8 = 0xFF;

/// Where a command's message is in the entry's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedMessage {
    /// Which command, counted from 0.
    pub command: u32,
    /// Offset of the message's first byte from the entry's first.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by another release.
    #[error("log entry of version {0}, this release reads versions {OLDEST_VERSION} to {VERSION}")]
    Version(u8),
    /// They end before the entry does.
    #[error("log entry ends early")]
    Truncated,
    /// They go on after the entry.
    #[error("{0} bytes after the log entry")]
    TrailingBytes(usize),
    /// A field has a value that no entry has.
    #[error("log entry with an invalid {0}")]
    Invalid(&'static str),
    /// A message is not one.
    #[error("log entry: {0}")]
    Message(CorruptMessage),
}

mod tag {
    pub(super) const LEADER_START: u8 = 1;
    pub(super) const LINK_UP: u8 = 2;
    pub(super) const LINK_DOWN: u8 = 3;
    pub(super) const FROM: u8 = 4;
    pub(super) const CLAIM: u8 = 5;
    pub(super) const ATTACH: u8 = 6;
    pub(super) const PUBLISH: u8 = 7;
    pub(super) const RELEASE: u8 = 8;
    pub(super) const ACK: u8 = 9;
    pub(super) const SUBSCRIBE: u8 = 10;
    pub(super) const UNSUBSCRIBE: u8 = 11;
    pub(super) const DISCONNECT: u8 = 12;
    pub(super) const PAGE: u8 = 13;
    pub(super) const TICK: u8 = 14;
    pub(super) const WILL_PUBLISH: u8 = 15;
    pub(super) const RELOCATE: u8 = 16;
    pub(super) const LIST: u8 = 17;
    pub(super) const JOIN: u8 = 18;
    pub(super) const END: u8 = 19;
    pub(super) const FOREIGN_WILL: u8 = 20;
    pub(super) const END_DONE: u8 = 21;
    pub(super) const WILL_DONE: u8 = 22;
    pub(super) const TOPOLOGY: u8 = 23;
    /// Of version 2, read only: name and link.
    pub(super) const MOVE_LINK: u8 = 24;
    pub(super) const ADD_MEMBER: u8 = 25;
    pub(super) const REMOVE_MEMBER: u8 = 26;
    pub(super) const REPLACE_MEMBER: u8 = 27;
    pub(super) const MOVE_MEMBER: u8 = 28;
}
