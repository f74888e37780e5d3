//! A group's newest snapshot on its way to another member, with the bytes of its messages.
//!
//! A snapshot file is the index only, with the places of its messages in the log of the member that wrote it. The
//! sender reads it through once and sends each message's bytes where its place stands; the receiver appends them to its
//! own log and writes its own file with the new places. Neither has more than a chunk in memory.
//!
//! ```text
//! chunk: check u64 (xxh3-64 of the rest) | number u32, from 0 | kind u8 | body
//! kind 0, first:  position | what stands before the table of messages | how many places u32
//! kind 1:         places: refs u32; if not 0: len u32 | expiry, number, QoS | 1: gone, or 0 and len bytes
//! kind 2:         bytes of the file as they are
//! kind 3:         here stands the segment of the newest message
//! kind 4, last:   nothing
//! ```
//! All numbers are little endian. A message that died after the snapshot was written may be gone from the sender's log.
//! Whoever applies the entries behind the snapshot drops it before anybody asks for it.

mod receive;
mod send;
mod stored;

pub use receive::Receiver;
pub use send::Sender;
pub use stored::StoredSnapshots;

use crate::log::LogError;
use std::io;
use xxhash_rust::xxh3::xxh3_64;

/// A chunk is closed when it has this many bytes; one message may make it larger. Small, so that what is urgent does not
/// wait long behind one.
const CHUNK_BYTES: usize = 128 << 10;

const HEAD: usize = 13;

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Head = 0,
    Messages = 1,
    Content = 2,
    Newest = 3,
    End = 4,
}

/// Room for a chunk's head, and what `put` appends.
fn chunk(
    number: u32,
    kind: Kind,
    put: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; HEAD];
    put(&mut chunk)?;
    chunk[8..12].copy_from_slice(&number.to_le_bytes());
    chunk[12] = kind as u8;
    let check = xxh3_64(&chunk[8..]);
    chunk[..8].copy_from_slice(&check.to_le_bytes());
    Ok(chunk)
}

/// Kind and body of a chunk that must have this number.
fn open(chunk: &[u8], number: u32) -> io::Result<(Kind, &[u8])> {
    let Some((head, body)) = chunk.split_at_checked(HEAD) else {
        return Err(malformed("a chunk is shorter than its head"));
    };
    if head[..8] != xxh3_64(&chunk[8..]).to_le_bytes() {
        return Err(malformed("a chunk fails its check"));
    }
    if head[8..12] != number.to_le_bytes() {
        return Err(malformed("a chunk is not the next one"));
    }
    let kinds = [
        Kind::Head,
        Kind::Messages,
        Kind::Content,
        Kind::Newest,
        Kind::End,
    ];
    let kind = kinds.into_iter().find(|kind| *kind as u8 == head[12]);
    Ok((
        kind.ok_or_else(|| malformed("a chunk is of no known kind"))?,
        body,
    ))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn not_sent(error: io::Error) -> LogError {
    LogError::snapshot("send", error)
}

fn not_received(error: io::Error) -> LogError {
    LogError::snapshot("receive", error)
}
