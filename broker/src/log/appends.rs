//! A batch of records on its way into the log.

use super::format::{self, Kind, RECORD_HEADER};
use super::limits::{RECORD_BYTES_MAX, STREAMS_MAX};
use super::{BODIES_STREAM, Location, LogError, META_STREAM, STORE_STREAM};

/// Records to append together, laid out as they will stand in the file. Reused from batch to
/// batch, so that a record costs no allocation.
#[derive(Debug, Default)]
pub struct Appends {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Where each record has gone, after the append.
    locations: Vec<Location>,
    answers: u64,
}

/// One record of the batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) index: u64,
    /// Offset of its header in the batch's bytes.
    pub(super) start: u32,
    /// Header and body, without padding.
    pub(super) len: u32,
    pub(super) stream: u16,
    pub(super) kind: Kind,
}

impl Entry {
    /// Offset of the end of the record, with padding, in the batch's bytes.
    pub(super) fn end(&self) -> usize {
        self.start as usize + (self.len as usize).next_multiple_of(8)
    }
}

impl Appends {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record with the given body. Indexes of one stream must follow one another without a
    /// gap over all batches; start-up takes a gap for damage. Those of [`META_STREAM`] only grow, and all that came
    /// with a snapshot have its index in [`BODIES_STREAM`].
    pub fn push(&mut self, stream: u16, index: u64, body: &[u8]) -> Result<(), LogError> {
        self.push_with(stream, index, |out| out.extend_from_slice(body))
    }

    /// Adds a record that drops what `stream` has from index `from` on: the next record of the stream has that index.
    /// Not for [`META_STREAM`] and [`BODIES_STREAM`], whose records do not follow one another.
    pub fn push_truncate(&mut self, stream: u16, from: u64) -> Result<(), LogError> {
        assert!(
            ![META_STREAM, BODIES_STREAM].contains(&stream),
            "only what is in order has an end that can be dropped"
        );
        self.push_kind(Kind::Truncate, stream, from, |_| {})
    }

    /// Adds a record whose body `write` appends to the buffer (it must only append).
    pub fn push_with(
        &mut self,
        stream: u16,
        index: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), LogError> {
        self.push_kind(Kind::Data, stream, index, write)
    }

    fn push_kind(
        &mut self,
        kind: Kind,
        stream: u16,
        index: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), LogError> {
        assert!(
            self.locations.is_empty(),
            "a batch that was appended is cleared before its reuse"
        );
        if stream >= STREAMS_MAX && stream != STORE_STREAM {
            return Err(LogError::Stream { stream });
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEADER]);
        write(&mut self.bytes);
        let len = self.bytes.len() - start - RECORD_HEADER;
        if len > RECORD_BYTES_MAX || self.bytes.len() > (u32::MAX / 2) as usize {
            self.bytes.truncate(start);
            return Err(LogError::TooLarge { len });
        }
        format::write_header(&mut self.bytes[start..], kind, stream, index, len);
        self.bytes.resize(start + format::record_size(len), 0);
        let len = (len + RECORD_HEADER) as u32;
        self.entries.push(Entry {
            index,
            start: start as u32,
            len,
            stream,
            kind,
        });
        Ok(())
    }

    /// So many more answers wait until this batch is durable: what the log goes by when it decides whether to wait
    /// for more. A batch that nobody waits for needs no call.
    pub fn owe_answers(&mut self, answers: u64) {
        self.answers += answers;
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes the records take in the log, headers and padding included.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Where each record went, in the order they were pushed. Empty before the append.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// Forgets the records, keeps the memory (up to twice [`super::limits::CHUNK_BYTES`]).
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * super::limits::CHUNK_BYTES);
        self.entries.clear();
        self.locations.clear();
        self.answers = 0;
    }

    /// Computes the check of every record; the salt of the segment comes later.
    pub(super) fn write_checks(&mut self) {
        for entry in &self.entries {
            let record = entry.start as usize..(entry.start + entry.len) as usize;
            format::write_check(&mut self.bytes[record]);
        }
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn placed(&mut self, at: Location) {
        self.locations.push(at);
    }
}
