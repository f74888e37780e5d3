//! The end of the log in memory: gives every record its place, keeps what the disk does not have
//! yet and what was written last. Touches no file; the writer carries out its [`Job`]s in order.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use bytes::{Bytes, BytesMut};

use super::appends::Appends;
use super::format::{self, FIRST_RECORD, Header, Kind, RECORD_HEADER};
use super::limits::{
    CACHE_QUIET_BYTES, CHUNK_BYTES, GATHER_ANSWERS_MAX, GATHER_BATCHES, PIECE_OVERHEAD_BYTES,
};
use super::{Durability, Location, LogError, LogOptions, SegmentInfo};

/// Something for the writer to do, in this order.
#[derive(Debug)]
pub(super) enum Job {
    /// Put bytes at an offset of a segment.
    Write { at: Location, bytes: Bytes },
    /// Nothing more comes into this segment: write its closing note, make it durable.
    Close {
        info: SegmentInfo,
        end: u32,
        salt: u64,
    },
    /// The next segment begins.
    Open {
        segment: u32,
        salt: u64,
        capacity: u32,
    },
    /// Nothing in this segment is needed any more.
    Release { segment: u32 },
}

/// Everything the writer takes at once.
#[derive(Debug)]
pub(super) struct Take {
    pub(super) jobs: Vec<Job>,
    /// The append sequence number this reaches.
    pub(super) sequence: u64,
    /// Where the next record will be.
    pub(super) end: Location,
    /// Bytes of callers' records in `jobs`.
    pub(super) bytes: usize,
}

/// A run of records in memory.
#[derive(Debug)]
struct Piece {
    start: u32,
    bytes: Bytes,
}

/// The pieces of one segment, in the order of their offsets.
#[derive(Debug)]
struct Cached {
    salt: u64,
    pieces: VecDeque<Piece>,
}

impl Cached {
    fn bytes(&self) -> usize {
        self.pieces
            .iter()
            .map(|piece| piece.bytes.len() + PIECE_OVERHEAD_BYTES)
            .sum()
    }
}

/// Where the log stands when it is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) salt: u64,
    pub(super) capacity: u32,
    pub(super) offset: u32,
    /// How far the newest mark in this segment says it is durable; 0: there is none.
    pub(super) marked: u32,
}

/// The end of the log. One mutex around it, taken once per batch.
#[derive(Debug)]
pub(super) struct Tail {
    durability: Durability,
    segment_bytes: u32,
    cache_bytes: usize,
    position: Position,
    /// Records of the current segment.
    current: SegmentInfo,
    /// The older segments.
    closed: BTreeMap<u32, SegmentInfo>,
    /// Bytes of the current chunk that are not a piece yet, the first of them at `open_at`.
    open: BytesMut,
    open_at: u32,
    pieces: BTreeMap<u32, Cached>,
    cached: usize,
    jobs: Vec<Job>,
    job_bytes: usize,
    /// Records appended since the log was opened.
    sequence: u64,
    /// Everything before this place is in the files (not necessarily durable).
    written: Location,
    /// Everything before this place survived an fdatasync.
    durable: Location,
    /// How far the newest mark says the segment is durable.
    marked: Location,
    /// Answers that wait for what the writer has not taken.
    answers: u64,
    /// Answers that waited for each of the last batches, in turn.
    batches: [u64; GATHER_BATCHES],
    batch: usize,
    /// The writer waits for company, at most until so many answers wait.
    gathers_until: Option<u64>,
    /// How many want no segment to go.
    pins: usize,
    /// What was released meanwhile.
    pinned: Vec<u32>,
    /// The writer waits to be woken.
    pub(super) writer_sleeps: bool,
    /// No more appends will come; the writer ends when all is written.
    pub(super) closing: bool,
}

impl Tail {
    pub(super) fn new(
        options: &LogOptions,
        position: Position,
        current: SegmentInfo,
        closed: BTreeMap<u32, SegmentInfo>,
    ) -> Self {
        let here = Location {
            segment: position.segment,
            offset: position.offset,
        };
        Self {
            durability: options.durability,
            segment_bytes: options.segment_bytes,
            cache_bytes: options.cache_bytes,
            open_at: position.offset,
            position,
            current,
            closed,
            open: BytesMut::new(),
            pieces: BTreeMap::new(),
            cached: 0,
            jobs: Vec::new(),
            job_bytes: 0,
            sequence: 0,
            written: here,
            durable: here,
            marked: Location {
                offset: position.marked,
                ..here
            },
            answers: 0,
            batches: [0; GATHER_BATCHES],
            batch: 0,
            gathers_until: None,
            pins: 0,
            pinned: Vec::new(),
            writer_sleeps: false,
            closing: false,
        }
    }

    /// Gives the records of `batch` their places and keeps their bytes. Returns the append
    /// sequence number of the last one.
    pub(super) fn append(&mut self, batch: &mut Appends) -> u64 {
        if self.open.is_empty() && self.jobs.is_empty() {
            self.mark();
        }
        let count = batch.len();
        let mut from = 0;
        while from < count {
            let to = self.make_room(batch, from);
            self.place(batch, from, to);
            from = to;
        }
        self.job_bytes += batch.byte_len();
        self.sequence += count as u64;
        self.answers += batch.answers();
        self.sequence
    }

    /// Sees to it that record `from` fits into segment and chunk; says up to which record they fit.
    fn make_room(&mut self, batch: &Appends, from: usize) -> usize {
        let entries = &batch.entries()[from..];
        let base = entries[0].start as usize;
        let first = entries[0].end() - base;
        if (self.position.capacity - self.position.offset) as usize <= first {
            self.rotate(first);
        }
        if self.open.capacity() - self.open.len() < first {
            self.cut_piece();
            self.open = BytesMut::with_capacity(first.max(CHUNK_BYTES));
        }
        let in_segment = (self.position.capacity - self.position.offset) as usize;
        let room = base + in_segment.min(self.open.capacity() - self.open.len());
        from + entries.partition_point(|entry| entry.end() <= room)
    }

    /// Copies records `from..to`, which fit, and salts their headers.
    fn place(&mut self, batch: &mut Appends, from: usize, to: usize) {
        let entries = &batch.entries()[from..to];
        let (base, end) = (entries[0].start as usize, entries[entries.len() - 1].end());
        let open_base = self.open.len();
        self.open.extend_from_slice(&batch.bytes()[base..end]);
        for at in from..to {
            let entry = batch.entries()[at];
            let delta = entry.start as usize - base;
            let header = open_base + delta;
            let header = &mut self.open[header..header + RECORD_HEADER];
            format::salt_header(header, self.position.salt);
            let (stream, index) = (entry.stream, entry.index);
            match entry.kind {
                Kind::Truncate => {
                    self.current
                        .note_truncate(self.closed.values(), stream, index);
                }
                Kind::Data | Kind::Mark => self.current.note(stream, index),
            }
            let offset = self.position.offset + delta as u32;
            batch.placed(Location {
                segment: self.position.segment,
                offset,
            });
        }
        self.position.offset += (end - base) as u32;
        self.current.bytes = self.position.offset;
    }

    /// Turns what the open chunk holds into a piece and a job.
    fn cut_piece(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let bytes = self.open.split().freeze();
        let at = Location {
            segment: self.position.segment,
            offset: self.open_at,
        };
        self.open_at += bytes.len() as u32;
        self.cached += bytes.len() + PIECE_OVERHEAD_BYTES;
        let piece = Piece {
            start: at.offset,
            bytes: bytes.clone(),
        };
        let salt = self.position.salt;
        let cached = self.pieces.entry(at.segment);
        cached
            .or_insert_with(|| Cached {
                salt,
                pieces: VecDeque::new(),
            })
            .pieces
            .push_back(piece);
        if self.durability != Durability::Memory {
            self.jobs.push(Job::Write { at, bytes });
        }
    }

    /// Closes the segment and begins the next one, large enough for a record of `first` bytes.
    fn rotate(&mut self, first: usize) {
        self.cut_piece();
        let grown = self
            .position
            .capacity
            .saturating_mul(4)
            .min(self.segment_bytes);
        let needed = FIRST_RECORD as usize + first + 1;
        let capacity = grown.max(needed.next_multiple_of(8) as u32);
        let next = Position {
            segment: self.position.segment + 1,
            // In memory nothing is salted: no file is ever used again.
            salt: if self.durability == Durability::Memory {
                0
            } else {
                random_salt()
            },
            capacity,
            offset: FIRST_RECORD,
            marked: 0,
        };
        let info = std::mem::replace(&mut self.current, SegmentInfo::empty(next.segment));
        if self.durability != Durability::Memory {
            let (end, salt) = (self.position.offset, self.position.salt);
            self.jobs.push(Job::Close {
                info: info.clone(),
                end,
                salt,
            });
            self.jobs.push(Job::Open {
                segment: next.segment,
                salt: next.salt,
                capacity,
            });
        }
        self.closed.insert(info.id, info);
        self.open_at = next.offset;
        self.position = next;
    }

    /// Says in the log how far it is durable, if that is news. (Before a batch, so that a reader
    /// of the file can tell damage from a torn tail.) Returns whether it was.
    pub(super) fn mark(&mut self) -> bool {
        let room = self.position.capacity - self.position.offset;
        if !self.mark_is_due() || room as usize <= RECORD_HEADER {
            return false;
        }
        let mut record = [0; RECORD_HEADER];
        let durable = u64::from(self.durable.offset);
        format::write_header(&mut record, Kind::Mark, 0, durable, 0);
        format::write_check(&mut record);
        format::salt_header(&mut record, self.position.salt);
        self.open.extend_from_slice(&record);
        self.position.offset += RECORD_HEADER as u32;
        self.current.bytes = self.position.offset;
        self.marked = self.durable;
        true
    }

    fn mark_is_due(&self) -> bool {
        self.durability == Durability::Fsync
            && self.durable.offset > FIRST_RECORD
            && self.durable.segment == self.position.segment
            && self.durable > self.marked
            // A mark covers the records before it; after the newest mark itself is durable there is
            // nothing to say until another record is.
            && (self.marked.segment != self.durable.segment
                || self.durable.offset > self.marked.offset + RECORD_HEADER as u32)
    }

    /// Everything that waits for the disk, if anything does.
    pub(super) fn take(&mut self) -> Option<Take> {
        self.cut_piece();
        if self.jobs.is_empty() {
            return None;
        }
        let end = Location {
            segment: self.position.segment,
            offset: self.position.offset,
        };
        let bytes = std::mem::take(&mut self.job_bytes);
        if self.answers > 0 {
            self.batches[self.batch] = std::mem::take(&mut self.answers);
            self.batch = (self.batch + 1) % GATHER_BATCHES;
        }
        Some(Take {
            jobs: std::mem::take(&mut self.jobs),
            sequence: self.sequence,
            end,
            bytes,
        })
    }

    /// The writer is about to wait for company. `false`: nothing has come, or as much as could be expected.
    pub(super) fn begin_gathering(&mut self) -> bool {
        let expected = self.batches.iter().max().copied().unwrap_or_default();
        let gathers = self.answers > 0 && self.answers < expected && expected <= GATHER_ANSWERS_MAX;
        self.gathers_until = gathers.then_some(expected);
        gathers
    }

    /// The writer waits for company no longer.
    pub(super) fn end_gathering(&mut self) {
        self.gathers_until = None;
    }

    /// Whether the writer has to be woken for what was appended.
    pub(super) fn wakes_writer(&mut self) -> bool {
        let complete = self
            .gathers_until
            .is_some_and(|until| self.answers >= until);
        if complete {
            self.gathers_until = None;
        }
        complete | std::mem::take(&mut self.writer_sleeps)
    }

    /// The writer has put everything before `end` into the files, durably if `durable`.
    pub(super) fn wrote(&mut self, end: Location, durable: bool) {
        self.written = end;
        if durable {
            self.durable = end;
        }
        self.evict(self.cache_bytes);
    }

    /// True if a quiet moment would be used: for a mark, or to give memory back.
    pub(super) fn has_quiet_work(&self) -> bool {
        self.mark_is_due() || self.cached > CACHE_QUIET_BYTES.min(self.cache_bytes)
    }

    /// What is done after a while without appends.
    pub(super) fn quiet(&mut self) {
        self.evict(CACHE_QUIET_BYTES.min(self.cache_bytes));
        if self.cached <= CACHE_QUIET_BYTES && self.open.is_empty() {
            self.open = BytesMut::new();
        }
        self.mark();
    }

    /// Drops the oldest written pieces until at most `bytes` are cached.
    fn evict(&mut self, bytes: usize) {
        while self.cached > bytes {
            let Some(mut oldest) = self.pieces.first_entry() else {
                return;
            };
            let segment = *oldest.key();
            let Some(piece) = oldest.get().pieces.front() else {
                oldest.remove();
                continue;
            };
            let end = piece.start + piece.bytes.len() as u32;
            if (Location {
                segment,
                offset: end,
            }) > self.written
            {
                return;
            }
            self.cached -= piece.bytes.len() + PIECE_OVERHEAD_BYTES;
            oldest.get_mut().pieces.pop_front();
        }
    }

    /// A part of the body of the record at `at`, if it is in memory: `None` if it is not.
    pub(super) fn read(
        &self,
        at: Location,
        offset: u32,
        len: u32,
    ) -> Option<Result<Bytes, LogError>> {
        let in_open = at.segment == self.position.segment
            && at.offset >= self.open_at
            && at.offset < self.position.offset;
        let missing = LogError::NotFound { at };
        if in_open {
            let from = (at.offset - self.open_at) as usize;
            let part = part_of(&self.open, from, self.position.salt, offset, len);
            return Some(
                part.map(|part| Bytes::copy_from_slice(&self.open[part]))
                    .ok_or(missing),
            );
        }
        let Cached { salt, pieces } = self.pieces.get(&at.segment)?;
        let next = pieces.partition_point(|piece| piece.start <= at.offset);
        let piece = pieces.get(next.checked_sub(1)?)?;
        let from = (at.offset - piece.start) as usize;
        if from >= piece.bytes.len() {
            return None;
        }
        let part = part_of(&piece.bytes, from, *salt, offset, len);
        Some(part.map(|part| piece.bytes.slice(part)).ok_or(missing))
    }

    /// Forgets a segment. Returns false for the current one, which stays.
    pub(super) fn release(&mut self, segment: u32) -> bool {
        if self.pins > 0 {
            if self.closed.contains_key(&segment) && !self.pinned.contains(&segment) {
                self.pinned.push(segment);
            }
            return false;
        }
        if self.closed.remove(&segment).is_none() {
            return false;
        }
        if self.durability != Durability::Memory {
            // What is cached of it may still wait for the disk; it leaves the cache by age.
            self.jobs.push(Job::Release { segment });
            return true;
        }
        if let Some(cached) = self.pieces.remove(&segment) {
            self.cached -= cached.bytes();
        }
        true
    }

    /// Every segment that exists, oldest first; the last is the current one.
    pub(super) fn segments(&self) -> Vec<SegmentInfo> {
        self.closed
            .values()
            .chain([&self.current])
            .cloned()
            .collect()
    }

    /// No segment goes until [`Tail::unpin`].
    pub(super) fn pin(&mut self) {
        self.pins += 1;
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pins > 0
    }

    /// What has to be released now.
    pub(super) fn unpin(&mut self) -> Vec<u32> {
        self.pins -= 1;
        match self.pins {
            0 => std::mem::take(&mut self.pinned),
            _ => Vec::new(),
        }
    }

    /// The older segments that are in the files as a whole. In memory that is all of them.
    pub(super) fn closed_segments(&self) -> Vec<SegmentInfo> {
        let in_memory = self.durability == Durability::Memory;
        let is_written = |info: &&SegmentInfo| in_memory || info.id < self.written.segment;
        let closed = self.closed.values();
        closed.filter(is_written).cloned().collect()
    }

    /// Takes out the releases of segments that are in the files as a whole: what waits for space must not wait for
    /// itself.
    pub(super) fn take_releases(&mut self) -> Vec<u32> {
        take_releases(&mut self.jobs, 0, self.written.segment)
    }

    /// Everything before this place is in the files.
    pub(super) fn written(&self) -> Location {
        self.written
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn cached_bytes(&self) -> usize {
        self.cached
    }
}

/// Takes the releases of segments before `written` out of the jobs from this one on.
pub(super) fn take_releases(jobs: &mut Vec<Job>, from: usize, written: u32) -> Vec<u32> {
    let is_ready = |job: &mut Job| matches!(job, Job::Release { segment } if *segment < written);
    let releases = jobs.extract_if(from.min(jobs.len()).., is_ready);
    let segments = releases.filter_map(|job| match job {
        Job::Release { segment } => Some(segment),
        _ => None,
    });
    segments.collect()
}

/// The range of `bytes` that holds `len` bytes of the body, from its byte `offset`, of the record
/// at `from`.
fn part_of(
    bytes: &[u8],
    from: usize,
    salt: u64,
    offset: u32,
    len: u32,
) -> Option<std::ops::Range<usize>> {
    let header = Header::read(&bytes[from..], salt)?;
    let end = offset.checked_add(len)?;
    let body = from + RECORD_HEADER;
    (end as usize <= header.len).then(|| body + offset as usize..body + end as usize)
}

/// A salt nobody outside can know (the standard library's hash keys are random).
pub(super) fn random_salt() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests;
