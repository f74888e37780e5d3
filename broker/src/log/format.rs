//! The bytes of a segment file (format version 1, all numbers little endian).
//!
//! ```text
//! 0     segment header: magic 8 | version 4 | segment 4 | salt 8 | capacity 4 | flags 4 | check 8
//! 512   closing note, present once a later segment exists: magic 4 | streams 4 | end 4 | 0 4
//!       | per stream: stream 2, 0 6, first index 8, last index 8 | check 8
//! 4096  records, each at a multiple of 8:
//!       check 8 | body length 4, stream 2, kind 1, magic 1 | index 8 | body | 0 to 7 zero bytes
//! ```
//!
//! `check` is xxh3-64 over what follows it (records) or stands before it (header, note). In a
//! record, check and the word after it are then mixed (exclusive or) with the salt of the segment: a file that is
//! used again still holds records of its former life, and with another salt none of them reads as
//! a record. (xxh3 instead of CRC-32: records of 64-128 bytes are the common case, where the table
//! driven CRC costs five times as much, and 64 bits leave nothing to chance when a damaged file is
//! searched for later records.)

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::StreamRange;

pub(super) const VERSION: u32 = 1;
/// Offset of the first record.
pub(super) const FIRST_RECORD: u32 = 4096;
pub(super) const RECORD_HEADER: usize = 24;
/// Offset of the closing note.
pub(super) const NOTE_AT: usize = 512;

const SEGMENT_MAGIC: [u8; 8] = *b"mqfleet\n";
const NOTE_MAGIC: u32 = 0x6C6F_7365;
const RECORD_MAGIC: u8 = 0xA7;
const FLAG_ZEROED: u32 = 1;
const NOTE_HEADER: usize = 16;
const NOTE_ENTRY: usize = 24;

const _: () = assert!(
    NOTE_AT + NOTE_HEADER + (super::limits::STREAMS_MAX as usize + 1) * NOTE_ENTRY + 8
        <= FIRST_RECORD as usize,
    "the closing note of all streams fits before the first record"
);

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A caller's record.
    Data = 1,
    /// The log's own: `index` is the offset in this segment up to which it was durable.
    Mark = 2,
    /// Drops records of `stream` from `index` on.
    Truncate = 3,
}

impl Kind {
    fn from_u8(kind: u8) -> Option<Self> {
        [Self::Data, Self::Mark, Self::Truncate]
            .into_iter()
            .find(|k| *k as u8 == kind)
    }
}

/// Bytes a record takes in the file: header, body, padding.
pub(super) const fn record_size(body: usize) -> usize {
    (RECORD_HEADER + body).next_multiple_of(8)
}

/// Writes header words (without check and salt) for a body of `len` bytes into `header`.
pub(super) fn write_header(header: &mut [u8], kind: Kind, stream: u16, index: u64, len: usize) {
    header[8..12].copy_from_slice(&(len as u32).to_le_bytes());
    header[12..14].copy_from_slice(&stream.to_le_bytes());
    header[14] = kind as u8;
    header[15] = RECORD_MAGIC;
    header[16..24].copy_from_slice(&index.to_le_bytes());
}

/// Computes the check of a record (header and body, without padding), still without salt.
pub(super) fn write_check(record: &mut [u8]) {
    let check = xxh3_64(&record[8..]);
    record[..8].copy_from_slice(&check.to_le_bytes());
}

/// XORs the two salted words of a record; doing it twice undoes it.
pub(super) fn salt_header(header: &mut [u8], salt: u64) {
    let check = word(header, 0) ^ salt;
    let second = word(header, 8) ^ salt.rotate_left(32);
    header[..8].copy_from_slice(&check.to_le_bytes());
    header[8..16].copy_from_slice(&second.to_le_bytes());
}

/// A record header as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) stream: u16,
    pub(super) index: u64,
    pub(super) len: usize,
    check: u64,
    second: u64,
}

impl Header {
    /// Reads a header; `None` where the bytes cannot be one.
    pub(super) fn read(bytes: &[u8], salt: u64) -> Option<Self> {
        if bytes.len() < RECORD_HEADER {
            return None;
        }
        let second = word(bytes, 8) ^ salt.rotate_left(32);
        if (second >> 56) as u8 != RECORD_MAGIC {
            return None;
        }
        let kind = Kind::from_u8((second >> 48) as u8)?;
        let len = (second & 0xFFFF_FFFF) as usize;
        let stream = (second >> 32) as u16;
        let check = word(bytes, 0) ^ salt;
        (len <= super::limits::RECORD_BYTES_MAX).then(|| Self {
            kind,
            stream,
            index: word(bytes, 16),
            len,
            check,
            second,
        })
    }

    /// True if `record` (header and body) has this header's check.
    fn fits(&self, record: &[u8]) -> bool {
        // The hashed bytes have the second word without salt: hash a copy when the body is small.
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        if record.len() <= 240 {
            let mut plain = [0_u8; 240];
            let plain = &mut plain[..record.len() - 8];
            plain.copy_from_slice(&record[8..]);
            plain[..8].copy_from_slice(&self.second.to_le_bytes());
            return xxh3_64(plain) == self.check;
        }
        hasher.update(&self.second.to_le_bytes());
        hasher.update(&record[16..]);
        hasher.digest() == self.check
    }
}

/// The record at `at` of `image`, if one is there whole and its check is right: its header and
/// where its body is in `image`.
pub(super) fn record_at(image: &[u8], at: usize, salt: u64) -> Option<(Header, Range<usize>)> {
    let header = Header::read(image.get(at..)?, salt)?;
    let body = at + RECORD_HEADER..at + RECORD_HEADER + header.len;
    let record = image.get(at..body.end)?;
    header.fits(record).then_some((header, body))
}

/// The header of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u32,
    pub(super) salt: u64,
    /// Bytes of the file that may be used, header included.
    pub(super) capacity: u32,
    /// True if the file was all zeros before this life.
    pub(super) zeroed: bool,
}

/// Bytes of the encoded segment header.
pub(super) const SEGMENT_HEADER: usize = 40;

/// What is wrong with a segment header.
pub(super) enum HeaderFault {
    Version(u32),
    Damaged,
}

impl SegmentHeader {
    /// The header page's start: header, then zeros up to and over the place of the closing note.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut page = vec![0_u8; FIRST_RECORD as usize];
        page[..8].copy_from_slice(&SEGMENT_MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&self.segment.to_le_bytes());
        page[16..24].copy_from_slice(&self.salt.to_le_bytes());
        page[24..28].copy_from_slice(&self.capacity.to_le_bytes());
        let flags = if self.zeroed { FLAG_ZEROED } else { 0 };
        page[28..32].copy_from_slice(&flags.to_le_bytes());
        let check = xxh3_64(&page[..32]);
        page[32..SEGMENT_HEADER].copy_from_slice(&check.to_le_bytes());
        page
    }

    pub(super) fn decode(page: &[u8]) -> Result<Self, HeaderFault> {
        let header = page.get(..SEGMENT_HEADER).ok_or(HeaderFault::Damaged)?;
        if header[..8] != SEGMENT_MAGIC || xxh3_64(&header[..32]) != word(header, 32) {
            return Err(HeaderFault::Damaged);
        }
        let version = half(header, 8);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        Ok(Self {
            segment: half(header, 12),
            salt: word(header, 16),
            capacity: half(header, 24),
            zeroed: half(header, 28) & FLAG_ZEROED != 0,
        })
    }
}

/// The closing note: where the records of a closed segment end, and which they are.
pub(super) fn encode_note(end: u32, streams: &[StreamRange], salt: u64) -> Vec<u8> {
    let mut note = Vec::with_capacity(NOTE_HEADER + streams.len() * NOTE_ENTRY + 8);
    note.extend_from_slice(&NOTE_MAGIC.to_le_bytes());
    note.extend_from_slice(&(streams.len() as u32).to_le_bytes());
    note.extend_from_slice(&end.to_le_bytes());
    note.extend_from_slice(&[0; 4]);
    for range in streams {
        note.extend_from_slice(&range.stream.to_le_bytes());
        note.extend_from_slice(&[0; 6]);
        note.extend_from_slice(&range.first.to_le_bytes());
        note.extend_from_slice(&range.last.to_le_bytes());
    }
    let check = xxh3_64(&note) ^ salt;
    note.extend_from_slice(&check.to_le_bytes());
    note
}

/// Reads the closing note out of a header page. `None`: there is none, or it is damaged.
pub(super) fn decode_note(page: &[u8], salt: u64) -> Option<(u32, Vec<StreamRange>)> {
    let note = page.get(NOTE_AT..FIRST_RECORD as usize)?;
    let count = half(note, 4) as usize;
    if half(note, 0) != NOTE_MAGIC || count > usize::from(super::limits::STREAMS_MAX) + 1 {
        return None;
    }
    let end = NOTE_HEADER + count * NOTE_ENTRY;
    if xxh3_64(&note[..end]) ^ salt != word(note, end) {
        return None;
    }
    let streams = note[NOTE_HEADER..end]
        .chunks_exact(NOTE_ENTRY)
        .map(|entry| StreamRange {
            stream: u16::from_le_bytes([entry[0], entry[1]]),
            first: word(entry, 8),
            last: word(entry, 16),
        });
    Some((half(note, 8), streams.collect()))
}

/// Where a segment's valid records end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// They end at `end`, nothing is behind.
    Clean { end: usize },
    /// They end at `end`; from there to `garbage_end` are remains of a write that was never durable.
    Torn { end: usize, garbage_end: usize },
    /// The record at `at` was durable once: a later mark says so.
    Damaged { at: usize },
}

/// Finds the end of the records of the last segment in `image` (its whole file).
///
/// A batch that was not durable when the power went may be on disk in any pieces, so a bad record
/// alone says nothing. What tells damage from a torn tail is a mark behind it: marks are written
/// after an fdatasync and say how far it reached.
pub(super) fn find_tail(
    image: &[u8],
    header: &SegmentHeader,
    each: &mut dyn FnMut(&Header),
) -> Tail {
    let image = &image[..image.len().min(header.capacity as usize)];
    let mut end = FIRST_RECORD as usize;
    while let Some((record, body)) = record_at(image, end, header.salt) {
        each(&record);
        end = body.end.next_multiple_of(8);
    }
    let written = end.max(last_written(image));
    let mut garbage_end = end;
    let mut at = end + 8;
    while at < written {
        let Some((record, body)) = record_at(image, at, header.salt) else {
            at += 8;
            continue;
        };
        if record.kind == Kind::Mark && record.index > end as u64 {
            return Tail::Damaged { at: end };
        }
        at = body.end.next_multiple_of(8);
        garbage_end = at;
    }
    if header.zeroed {
        garbage_end = garbage_end.max(written);
    } else if Header::read(image.get(end..).unwrap_or_default(), header.salt).is_some() {
        garbage_end = garbage_end.max(end + RECORD_HEADER);
    }
    if garbage_end == end {
        Tail::Clean { end }
    } else {
        Tail::Torn { end, garbage_end }
    }
}

/// The end of the last byte that is not zero, looking from the back in pages.
fn last_written(image: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = image.len();
    for page in image.rchunks(ZEROS.len()) {
        if *page != ZEROS[..page.len()] {
            return end - page.iter().rev().take_while(|byte| **byte == 0).count();
        }
        end -= page.len();
    }
    0
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("eight bytes are eight bytes"),
    )
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(
        bytes[at..at + 4]
            .try_into()
            .expect("four bytes are four bytes"),
    )
}
