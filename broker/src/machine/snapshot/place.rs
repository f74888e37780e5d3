//! Where a snapshot has its messages, for whoever carries it to a member whose log has them at other places.
//!
//! Behind [`HEAD_BYTES`] that say nothing of places come: how many places the table of messages has, a u32; the places;
//! how many of them are free, a u32, and their numbers, a u32 each; the segment of the newest message, if there was
//! one: a byte, and a u32 if that is 1.

use cluster::frame::StoredAt;
use std::io::{self, Read};

/// Magic, version, time, number of the newest publish, reign and epoch.
pub(crate) const HEAD_BYTES: usize = 4 + 4 + 8 + 8 + 4 + 8;

/// Expiry, number of the publish, and QoS.
const REST_BYTES: usize = 8 + 8 + 1;

/// A place that holds a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// References to it, at least 1.
    pub(crate) refs: u32,
    /// Where the log has it.
    pub(crate) at: StoredAt,
    /// All else.
    pub(crate) rest: [u8; REST_BYTES],
}

impl Place {
    /// Reads a place as [`State::put_snapshot`](crate::machine::State::put_snapshot) writes it; `None`: it is free.
    pub(crate) fn read(from: &mut dyn Read) -> io::Result<Option<Self>> {
        let refs = read_u32(from)?;
        if refs == 0 {
            return Ok(None);
        }
        let at = StoredAt {
            segment: read_u32(from)?,
            record: read_u32(from)?,
            offset: read_u32(from)?,
            len: read_u32(from)?,
        };
        let mut rest = [0; REST_BYTES];
        from.read_exact(&mut rest)?;
        Ok(Some(Self { refs, at, rest }))
    }

    /// Appends a place.
    pub(crate) fn put(place: Option<&Self>, out: &mut Vec<u8>) {
        let Some(Self { refs, at, rest }) = place else {
            out.extend_from_slice(&[0; 4]);
            return;
        };
        for field in [*refs, at.segment, at.record, at.offset, at.len] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(rest);
    }
}

pub(crate) fn read_u32(from: &mut dyn Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
