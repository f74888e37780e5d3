//! The bodies of this member's records.
//!
//! ```text
//! stream of the group: term 8 | kind 1 | payload            kind 0 nothing, 1 commands, 2 a membership
//! META_STREAM:         1 | life 8 | number 1 | (id 8, folder 8) ... | vote 17     the newest counts
//!                      2 | folder 8                                               before the first of those
//! ```
//! Records of the group's stream have the group's indexes, which begin at 1. Openraft counts from 0.

use super::codec::{self, Malformed, Reader};
use super::config::{Membership, Vote};
use crate::log::Location;

/// Bytes before an entry's payload.
pub(super) const ENTRY_HEAD: usize = 9;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Blank = 0,
    Commands = 1,
    Members = 2,
}

pub(super) fn entry_head(term: u64, kind: Kind) -> [u8; ENTRY_HEAD] {
    let mut head = [0; ENTRY_HEAD];
    head[..8].copy_from_slice(&term.to_le_bytes());
    head[8] = kind as u8;
    head
}

/// Term, kind and payload of an entry's record.
pub(super) fn read_entry(body: &[u8]) -> Result<(u64, Kind, &[u8]), Malformed> {
    let mut reader = Reader(body);
    let term = reader.u64()?;
    let kind = match reader.u8()? {
        0 => Kind::Blank,
        1 => Kind::Commands,
        2 => Kind::Members,
        _ => return Err(Malformed("a kind of entry")),
    };
    Ok((term, kind, reader.0))
}

pub(super) fn read_members(payload: &[u8]) -> Result<Membership, Malformed> {
    let mut reader = Reader(payload);
    let membership = codec::read_membership(&mut reader)?;
    reader.end()?;
    Ok(membership)
}

/// Where an entry of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) term: u64,
    pub(super) at: Location,
    /// Bytes of the payload.
    pub(super) len: u32,
    pub(super) kind: Kind,
}

/// Who a data folder belongs to. Written before the member takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// 0 for the members that a group begins with; for those that join it, also after a loss of their folder, the number
    /// of the folder.
    pub(super) life: u64,
    /// What the members of a new group told the one that began it, and that one the others: of each, the number of its
    /// folder.
    pub(super) met: Vec<(u64, u64)>,
}

/// A record of [`META_STREAM`](crate::log::META_STREAM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MetaRecord {
    /// The member takes part in its group.
    Member(Meta),
    /// It does not yet: the number that its folder has been given.
    Folder(u64),
}

/// All that a member has to remember beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) identity: Identity,
    pub(super) vote: Vote,
}

impl Meta {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&self.identity.life.to_le_bytes());
        put_met(&self.identity.met, &mut out);
        codec::put_vote(&self.vote, &mut out);
        out
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let life = reader.u64()?;
        let met = read_met(reader)?;
        let vote = codec::read_vote(reader)?;
        Ok(Self {
            identity: Identity { life, met },
            vote,
        })
    }
}

impl MetaRecord {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Member(meta) => meta.bytes(),
            Self::Folder(number) => {
                let mut out = vec![2];
                out.extend_from_slice(&number.to_le_bytes());
                out
            }
        }
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        let record = match reader.u8()? {
            1 => Self::Member(Meta::read(&mut reader)?),
            2 => Self::Folder(reader.u64()?),
            _ => return Err(Malformed("a kind of record")),
        };
        reader.end()?;
        Ok(record)
    }
}

pub(super) fn put_met(met: &[(u64, u64)], out: &mut Vec<u8>) {
    out.push(met.len() as u8);
    for (id, folder) in met {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&folder.to_le_bytes());
    }
}

pub(super) fn read_met(reader: &mut Reader<'_>) -> Result<Vec<(u64, u64)>, Malformed> {
    let pairs = 0..reader.u8()?;
    pairs.map(|_| Ok((reader.u64()?, reader.u64()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::{membership, vote};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn meta_records_read_back(
            vote in vote(), life: u64, met in vec(any::<(u64, u64)>(), 0..5),
        ) {
            let identity = Identity { life, met };
            let meta = Meta { identity, vote };
            for record in [MetaRecord::Member(meta), MetaRecord::Folder(life)] {
                let bytes = record.bytes();
                prop_assert_eq!(MetaRecord::read(&bytes), Ok(record));
                prop_assert!(MetaRecord::read(&bytes[..bytes.len() - 1]).is_err());
            }
        }

        #[test]
        fn entries_read_back(term: u64, payload in vec(any::<u8>(), 0..50), members in membership()) {
            let mut body = entry_head(term, Kind::Commands).to_vec();
            body.extend_from_slice(&payload);
            prop_assert_eq!(read_entry(&body), Ok((term, Kind::Commands, &payload[..])));
            let mut body = entry_head(term, Kind::Members).to_vec();
            codec::put_membership(&members, &mut body);
            let (_, kind, payload) = read_entry(&body).expect("an entry");
            prop_assert_eq!((kind, read_members(payload)), (Kind::Members, Ok(members)));
        }

        #[test]
        fn strange_records_are_refused_or_read(body in vec(any::<u8>(), 0..100)) {
            if let Ok((_, _, payload)) = read_entry(&body) {
                prop_assert_eq!(payload.len(), body.len() - ENTRY_HEAD);
                let _members = read_members(payload);
            }
            if let Ok(record) = MetaRecord::read(&body) {
                prop_assert_eq!(record.bytes(), body);
            }
        }
    }
}
