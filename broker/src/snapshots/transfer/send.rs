//! The sending end.

use super::{CHUNK_BYTES, Kind, chunk, malformed, not_sent};
use crate::consensus::Position;
use crate::group::GROUP_STREAM;
use crate::log::{Location, LogError, LogHandle, Pin, SnapshotStore, Unchecked};
use crate::machine::place::{HEAD_BYTES, Place, read_u32};
use bytes::Bytes;
use cluster::frame::StoredAt;
use std::io::{self, Read};

/// What is sent next.
#[derive(Clone, Copy, Debug)]
enum Part {
    Head,
    /// So many places of the table of messages.
    Messages(u32),
    /// The list of free places: its length, if that is not sent yet, and so many bytes.
    Free(Option<u32>, u64),
    Newest,
    Rest,
    End,
    Nothing,
}

/// Reads the newest snapshot and its messages. It can do so to the end: the file stays open, and no segment of the
/// log goes meanwhile. The file is checked on the way: before the last chunk it is known to be whole, and the receiver
/// believes nothing before that.
#[derive(Debug)]
pub struct Sender {
    content: Unchecked,
    log: LogHandle,
    _pin: Pin,
    /// Those that are there, in order.
    segments: Vec<u32>,
    position: Position,
    part: Part,
    number: u32,
    gone: u64,
}

impl Sender {
    /// Opens the newest snapshot; `None`: there is none.
    pub fn open(files: &SnapshotStore, log: &LogHandle) -> Result<Option<Self>, LogError> {
        // Before the snapshot is opened: no message that it needs goes then.
        let pin = log.pin();
        let Some(mut content) = files.latest_unchecked(GROUP_STREAM)? else {
            return Ok(None);
        };
        let position = Position::read(&mut content).map_err(not_sent)?;
        Ok(Some(Self {
            content,
            log: log.clone(),
            _pin: pin,
            segments: log.segments().iter().map(|info| info.id).collect(),
            position,
            part: Part::Head,
            number: 0,
            gone: 0,
        }))
    }

    /// Where the snapshot stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Messages that died after the snapshot was written and are not there any more.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// The next chunk; `None`: that was all. Reads from the disk, and fails where the snapshot is damaged.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, LogError> {
        let bytes = match self.part {
            Part::Head => self.head(),
            Part::Messages(left) => return self.messages(left).map(Some),
            Part::Free(len, left) => self.free(len, left),
            Part::Newest => self.newest(),
            Part::Rest => self.rest(),
            Part::End => {
                self.content.check()?;
                self.part = Part::Nothing;
                chunk(self.number, Kind::End, |_| Ok(()))
            }
            Part::Nothing => return Ok(None),
        };
        self.number += 1;
        Ok(Some(bytes.map_err(not_sent)?.into()))
    }

    fn head(&mut self) -> io::Result<Vec<u8>> {
        let Self {
            content, position, ..
        } = self;
        let mut places = 0;
        let bytes = chunk(self.number, Kind::Head, |out| {
            position.write(out)?;
            let mut head = [0; HEAD_BYTES];
            content.read_exact(&mut head)?;
            out.extend_from_slice(&head);
            places = read_u32(content)?;
            out.extend_from_slice(&places.to_le_bytes());
            Ok(())
        })?;
        self.part = Part::Messages(places);
        Ok(bytes)
    }

    fn messages(&mut self, mut left: u32) -> Result<Bytes, LogError> {
        let mut failure = None;
        let number = self.number;
        let bytes = chunk(number, Kind::Messages, |out| {
            while left > 0 && out.len() < CHUNK_BYTES && failure.is_none() {
                let place = Place::read(&mut self.content)?;
                failure = self.put_message(place.as_ref(), out).err();
                left -= 1;
            }
            Ok(())
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        let bytes = bytes.map_err(not_sent)?;
        self.part = Part::Messages(left);
        if left == 0 {
            let free = read_u32(&mut self.content).map_err(not_sent)?;
            self.part = Part::Free(Some(free), u64::from(free) * 4);
        }
        self.number += 1;
        Ok(bytes.into())
    }

    fn put_message(&mut self, place: Option<&Place>, out: &mut Vec<u8>) -> Result<(), LogError> {
        let Some(place) = place else {
            out.extend_from_slice(&[0; 4]);
            return Ok(());
        };
        out.extend_from_slice(&place.refs.to_le_bytes());
        out.extend_from_slice(&place.at.len.to_le_bytes());
        out.extend_from_slice(&place.rest);
        if self.segments.binary_search(&place.at.segment).is_err() {
            self.gone += 1;
            out.push(1);
            return Ok(());
        }
        out.push(0);
        out.extend_from_slice(&self.body(place.at)?);
        Ok(())
    }

    fn body(&self, at: StoredAt) -> Result<Bytes, LogError> {
        let record = Location {
            segment: at.segment,
            offset: at.record,
        };
        self.log.read(record, at.offset, at.len)
    }

    fn free(&mut self, count: Option<u32>, left: u64) -> io::Result<Vec<u8>> {
        let len = left.min(CHUNK_BYTES as u64);
        let content = &mut self.content;
        let bytes = chunk(self.number, Kind::Content, |out| {
            out.extend(count.into_iter().flat_map(u32::to_le_bytes));
            copy(content, len, out)
        })?;
        self.part = match left - len {
            0 => Part::Newest,
            left => Part::Free(None, left),
        };
        Ok(bytes)
    }

    fn newest(&mut self) -> io::Result<Vec<u8>> {
        let mut flag = [0];
        self.content.read_exact(&mut flag)?;
        if flag == [1] {
            read_u32(&mut self.content)?;
        }
        self.part = Part::Rest;
        chunk(self.number, Kind::Newest, |_| Ok(()))
    }

    fn rest(&mut self) -> io::Result<Vec<u8>> {
        let len = self.content.left().min(CHUNK_BYTES as u64);
        let content = &mut self.content;
        let bytes = chunk(self.number, Kind::Content, |out| copy(content, len, out))?;
        if content.left() == 0 {
            self.part = Part::End;
        }
        Ok(bytes)
    }
}

fn copy(from: &mut dyn Read, len: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let before = out.len();
    from.take(len).read_to_end(out)?;
    if ((out.len() - before) as u64) < len {
        return Err(malformed("it ends early"));
    }
    Ok(())
}
