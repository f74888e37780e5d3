//! Fields of a snapshot, one by one.

use super::{NO_RANK, SnapshotError};
use crate::command_codec::{Reader, read_will};
use bytes::Bytes;
use cluster::ids::{ClientNo, Epoch, LinkNo, Rank};
use cluster::slots::GroupNo;
use protocol::{TopicFilter, Will};
use std::io::Read;

/// A damaged length reserves no more than this much ahead of the bytes that are really there.
const RESERVE_MAX: usize = 1 << 16;

/// The rest of a snapshot.
pub(super) struct Fields<'a>(pub(super) &'a mut dyn Read);

type Field<T> = Result<T, SnapshotError>;

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Field<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Field<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Field<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Field<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Field<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Field<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(SnapshotError::Damaged("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn bytes(&mut self) -> Field<Vec<u8>> {
        let len = self.u32()? as usize;
        let mut bytes = Vec::with_capacity(len.min(RESERVE_MAX));
        Read::take(&mut *self.0, len as u64).read_to_end(&mut bytes)?;
        if bytes.len() < len {
            return Err(SnapshotError::Damaged("it ends early"));
        }
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Field<String> {
        String::from_utf8(self.bytes()?).map_err(|_| SnapshotError::Damaged("a text is not UTF-8"))
    }

    pub(super) fn filter(&mut self) -> Field<TopicFilter> {
        TopicFilter::new(&self.text()?).map_err(|_| SnapshotError::Damaged("a filter is none"))
    }

    pub(super) fn epoch(&mut self) -> Field<Epoch> {
        self.u64().map(Epoch)
    }

    pub(super) fn group(&mut self) -> Field<GroupNo> {
        match self.u8()? {
            group if group < GroupNo::MAX => Ok(GroupNo(group)),
            _ => Err(SnapshotError::Damaged("a group number")),
        }
    }

    pub(super) fn rank(&mut self) -> Field<Option<Rank>> {
        match self.u8()? {
            NO_RANK => Ok(None),
            rank if rank < GroupNo::MAX => Ok(Some(Rank(rank))),
            _ => Err(SnapshotError::Damaged("a rank")),
        }
    }

    pub(super) fn link(&mut self) -> Field<LinkNo> {
        let link = self.u16()?;
        if link < LinkNo::MAX {
            Ok(LinkNo(link))
        } else {
            Err(SnapshotError::Damaged("a link number"))
        }
    }

    /// A client's number or none.
    pub(super) fn client(&mut self) -> Field<Option<ClientNo>> {
        let client = self.u32()?;
        Ok((client != u32::MAX).then_some(ClientNo(client)))
    }

    pub(super) fn will(&mut self) -> Field<Box<Will>> {
        let bytes = Bytes::from(self.bytes()?);
        let mut reader = Reader {
            body: &bytes,
            next: 0,
            offset: 0,
        };
        let will = read_will(&mut reader).map_err(|_| SnapshotError::Damaged("a will is none"))?;
        Ok(Box::new(will))
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Field<T>,
    ) -> Field<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Field<T>) -> Field<Vec<T>> {
        let len = self.u32()? as usize;
        let mut list = Vec::with_capacity(len.min(RESERVE_MAX / size_of::<T>().max(1)));
        for _ in 0..len {
            list.push(read(self)?);
        }
        Ok(list)
    }
}
