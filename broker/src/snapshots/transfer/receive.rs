//! The receiving end.

use super::{Kind, malformed, not_received, open};
use crate::consensus::Position;
use crate::group::GROUP_STREAM;
use crate::log::{
    Appends, BODIES_STREAM, Location, LogError, LogHandle, SnapshotStore, Unfinished,
};
use crate::machine::place::{HEAD_BYTES, Place, read_u32};
use cluster::frame::StoredAt;
use std::io::{self, Read, Write};

/// Bytes that may wait for the disk before the receiver waits for it.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Writes a snapshot that another member sends into this member's log and folder. Dropped before it is finished nothing
/// of it counts: the file is gone, and the messages go with their segments.
#[derive(Debug)]
pub struct Receiver {
    files: SnapshotStore,
    log: LogHandle,
    begun: Option<Begun>,
    /// The chunk that comes next.
    number: u32,
    is_whole: bool,
}

/// Since the first chunk.
#[derive(Debug)]
struct Begun {
    position: Position,
    out: Unfinished,
    /// The segment of the newest message.
    newest: Option<u32>,
    /// Zeros for messages that are gone, and how many.
    placeholder: Option<(At, u32)>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// In the log.
    Log(Location),
    /// In the batch, so many records in front of it.
    Batch(usize),
}

impl Receiver {
    /// Receives into these; nothing is touched before the first chunk.
    pub fn new(files: &SnapshotStore, log: &LogHandle) -> Self {
        Self {
            files: files.clone(),
            log: log.clone(),
            begun: None,
            number: 0,
            is_whole: false,
        }
    }

    /// Takes the next chunk. Waits for the disk where that is behind; fails where it is full.
    pub fn take(&mut self, chunk: &[u8]) -> Result<(), LogError> {
        let (kind, body) = open(chunk, self.number).map_err(not_received)?;
        if self.is_whole || self.begun.is_some() == (kind == Kind::Head) {
            return Err(not_received(malformed("a chunk is out of turn")));
        }
        self.number += 1;
        match kind {
            Kind::Head => return self.begin(body),
            Kind::Messages => return self.messages(body),
            Kind::Content => self.put(body),
            Kind::Newest => {
                let newest = self.begun.as_ref().and_then(|begun| begun.newest);
                let mut bytes = vec![u8::from(newest.is_some())];
                bytes.extend(newest.into_iter().flat_map(u32::to_le_bytes));
                self.put(&bytes)
            }
            Kind::End => {
                self.is_whole = true;
                Ok(())
            }
        }
        .map_err(not_received)
    }

    /// That was all: makes it durable, as this member's newest snapshot. Returns where it stands.
    pub fn finish(mut self) -> Result<Position, LogError> {
        let begun = self.begun.take().filter(|_| self.is_whole);
        let begun = begun.ok_or_else(|| not_received(malformed("it ends early")))?;
        // The file refers to them.
        self.log.sync_unless_full()?;
        begun.out.finish()?;
        Ok(begun.position)
    }

    fn begin(&mut self, mut body: &[u8]) -> Result<(), LogError> {
        let position = Position::read(&mut body).map_err(not_received)?;
        if body.len() != HEAD_BYTES + 4 {
            return Err(not_received(malformed("a head is of another length")));
        }
        let newest = self.files.newest(GROUP_STREAM)?;
        if newest.is_some_and(|newest| newest >= position.index) {
            return Err(not_received(malformed(
                "this member has one that is as new",
            )));
        }
        let out = self.files.begin_received(GROUP_STREAM, position.index)?;
        let mut begun = Begun {
            position,
            out,
            newest: None,
            placeholder: None,
        };
        let written = begun.position.write(&mut begun.out);
        written
            .and_then(|()| begun.out.write_all(body))
            .map_err(not_received)?;
        self.begun = Some(begun);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.begun {
            Some(begun) => begun.out.write_all(bytes),
            None => Err(malformed("it has no head")),
        }
    }

    fn messages(&mut self, mut body: &[u8]) -> Result<(), LogError> {
        let Some(begun) = &mut self.begun else {
            return Err(not_received(malformed("it has no head")));
        };
        let mut batch = Appends::new();
        let mut places = Vec::new();
        while !body.is_empty() {
            places.push(begun.read(&mut body, &mut batch)?);
        }
        append(&self.log, &mut batch)?;
        let written = begun.write(&places, batch.locations());
        written.map_err(not_received)
    }
}

/// A place and where its message is; `None`: it is free.
type Found = Option<(Place, At)>;

impl Begun {
    /// Reads a place, and puts its message into the batch.
    fn read(&mut self, body: &mut &[u8], batch: &mut Appends) -> Result<Found, LogError> {
        let refs = read_u32(body).map_err(not_received)?;
        if refs == 0 {
            return Ok(None);
        }
        let len = read_u32(body).map_err(not_received)?;
        let mut place = Place {
            refs,
            at: StoredAt {
                segment: 0,
                record: 0,
                offset: 0,
                len,
            },
            rest: Default::default(),
        };
        let mut gone = [0];
        body.read_exact(&mut place.rest)
            .and_then(|()| body.read_exact(&mut gone))
            .map_err(not_received)?;
        if gone != [0] {
            return Ok(Some((place, self.placeholder(len, batch)?)));
        }
        let Some((message, rest)) = body.split_at_checked(len as usize) else {
            return Err(not_received(malformed("a message ends early")));
        };
        *body = rest;
        let at = At::Batch(batch.len());
        batch.push(BODIES_STREAM, self.position.index, message)?;
        Ok(Some((place, at)))
    }

    /// Where `len` bytes are that mean nothing.
    fn placeholder(&mut self, len: u32, batch: &mut Appends) -> Result<At, LogError> {
        if let Some((at, long)) = self.placeholder
            && long >= len
        {
            return Ok(at);
        }
        let at = At::Batch(batch.len());
        batch.push_with(BODIES_STREAM, self.position.index, |out| {
            out.resize(out.len() + len as usize, 0);
        })?;
        self.placeholder = Some((at, len));
        Ok(at)
    }

    /// Writes the places of messages that are in the log now.
    fn write(&mut self, places: &[Found], locations: &[Location]) -> io::Result<()> {
        let find = |at| match at {
            At::Log(location) => location,
            At::Batch(number) => locations[number],
        };
        let mut bytes = Vec::new();
        for place in places {
            let stored = place.map(|(place, at)| {
                let record = find(at);
                let at = StoredAt {
                    segment: record.segment,
                    record: record.offset,
                    ..place.at
                };
                Place { at, ..place }
            });
            self.newest = self.newest.max(stored.map(|place| place.at.segment));
            Place::put(stored.as_ref(), &mut bytes);
        }
        if let Some((at, _)) = &mut self.placeholder {
            *at = At::Log(find(*at));
        }
        self.out.write_all(&bytes)
    }
}

/// Appends, and waits for the disk where too much does.
fn append(log: &LogHandle, batch: &mut Appends) -> Result<(), LogError> {
    if batch.is_empty() {
        return Ok(());
    }
    loop {
        if log.pending_bytes() > PENDING_BYTES_MAX {
            log.sync_unless_full()?;
        }
        match log.append(batch) {
            Ok(_) => return Ok(()),
            Err(LogError::Backlog { .. }) => log.sync_unless_full()?,
            Err(error) => return Err(error),
        }
    }
}
