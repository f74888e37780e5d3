//! Reading all records back in order at start-up.

use std::path::PathBuf;

use bytes::Bytes;

use super::directory;
use super::format::{self, FIRST_RECORD, Kind};
use super::{BODIES_STREAM, Location, LogError, META_STREAM, STORE_STREAM, SegmentInfo};

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// It has something to say.
    Data,
    /// It drops what was handed out of its stream from its index on. Its body is empty.
    Truncate,
}

/// A record as replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The stream it was appended to.
    pub stream: u16,
    /// What it is for.
    pub kind: RecordKind,
    /// Its index in that stream.
    pub index: u64,
    /// Where it is, for [`LogHandle::read`](super::LogHandle::read).
    pub at: Location,
    /// Its body; a slice of the whole segment in memory, so nobody should keep it.
    pub body: Bytes,
}

/// What was found when the log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayStats {
    /// Segments on disk.
    pub segments: usize,
    /// File and offset where a torn tail was cut, if one was.
    pub torn: Option<(PathBuf, u64)>,
    /// Bytes that were cut.
    pub torn_bytes: usize,
    /// Records handed out so far.
    pub records: u64,
    /// Bytes of segments read so far.
    pub bytes: u64,
}

/// A segment to replay.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) salt: u64,
    pub(super) info: SegmentInfo,
    /// Its bytes up to the end of the records, if already read.
    pub(super) image: Option<Bytes>,
}

/// All records of the log in the order they were appended: an iterator that ends at the first
/// error. It must be used up before the first append, or dropped.
#[derive(Debug)]
pub struct Replay {
    sources: std::vec::IntoIter<Source>,
    /// The segment being read, and the offset of its next record.
    open: Option<(Source, Bytes, usize)>,
    progress: Vec<Progress>,
    stats: ReplayStats,
    failed: bool,
}

/// How far a stream is.
#[derive(Debug)]
struct Progress {
    stream: u16,
    /// First index wanted; 0: all there are.
    start: u64,
    /// The next index expected, once one was seen.
    next: Option<u64>,
}

impl Replay {
    pub(super) fn new(sources: Vec<Source>, stats: ReplayStats) -> Self {
        let mut replay = Self {
            sources: sources.into_iter(),
            open: None,
            progress: Vec::new(),
            stats,
            failed: false,
        };
        replay.start_at(BODIES_STREAM, u64::MAX);
        replay
    }

    /// Records of `stream` below `first` are not wanted (a snapshot has their effect). From
    /// `first` on there must be no gap. For a stream that is not named the first record must have
    /// index 0 or 1: what came before would be lost. `u64::MAX` leaves a stream out altogether.
    /// [`META_STREAM`] may have gaps, and [`BODIES_STREAM`] is left out.
    pub fn start_at(&mut self, stream: u16, first: u64) {
        assert!(
            self.open.is_none(),
            "the starts are set before the first record is read"
        );
        self.progress.retain(|progress| progress.stream != stream);
        self.progress.push(Progress {
            stream,
            start: first,
            next: None,
        });
    }

    /// What was found so far.
    pub fn stats(&self) -> &ReplayStats {
        &self.stats
    }

    /// Index of the last record of `stream` that was handed out and not dropped by a later one.
    pub fn reached(&self, stream: u16) -> Option<u64> {
        let mut all = self.progress.iter();
        let progress = all.find(|progress| progress.stream == stream)?;
        Some(progress.next? - 1)
    }

    fn advance(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            let Some((source, image, at)) = self.open.as_mut() else {
                let Some(source) = self.next_source() else {
                    return Ok(None);
                };
                let image = load(&source)?;
                self.stats.bytes += image.len() as u64;
                self.open = Some((source, image, FIRST_RECORD as usize));
                continue;
            };
            if *at >= image.len() {
                self.open = None;
                continue;
            }
            let offset = *at;
            let Some((header, body)) = format::record_at(image, offset, source.salt) else {
                return Err(damaged(
                    source,
                    offset,
                    "a record that was stored fails its check",
                ));
            };
            *at = body.end.next_multiple_of(8);
            let kind = match header.kind {
                Kind::Mark => continue,
                Kind::Truncate => RecordKind::Truncate,
                Kind::Data => RecordKind::Data,
            };
            let location = Location {
                segment: source.info.id,
                offset: offset as u32,
            };
            let body = image.slice(body);
            let progress = progress_of(&mut self.progress, header.stream);
            let index = match kind {
                RecordKind::Data => progress.data(header.index),
                RecordKind::Truncate => progress.truncate(header.index),
            };
            if let Some(index) = index.map_err(|what| damaged(source, offset, what))? {
                self.stats.records += 1;
                return Ok(Some(Record {
                    stream: header.stream,
                    kind,
                    index,
                    at: location,
                    body,
                }));
            }
        }
    }

    /// The next segment that has a record somebody wants.
    fn next_source(&mut self) -> Option<Source> {
        let progress = &self.progress;
        self.sources.find(|source| {
            source.info.streams.iter().any(|range| {
                let known = progress
                    .iter()
                    .find(|progress| progress.stream == range.stream);
                known.is_none_or(|progress| range.last >= progress.start)
            })
        })
    }
}

fn progress_of(progress: &mut Vec<Progress>, stream: u16) -> &mut Progress {
    let known = progress.iter().position(|known| known.stream == stream);
    let at = known.unwrap_or_else(|| {
        progress.push(Progress {
            stream,
            start: 0,
            next: None,
        });
        progress.len() - 1
    });
    &mut progress[at]
}

impl Progress {
    /// The index of a data record as it is to be handed out, if it is; an error if one before it is missing.
    fn data(&mut self, index: u64) -> Result<Option<u64>, &'static str> {
        if index < self.start {
            return Ok(None);
        }
        let in_order = match self.next {
            Some(next) if self.stream == META_STREAM => index >= next,
            None if self.stream == META_STREAM => true,
            Some(next) => index == next,
            None => index == self.start || (self.start == 0 && index == 1),
        };
        if !in_order {
            return Err(self.missing());
        }
        self.next = Some(index + 1);
        Ok(Some(index))
    }

    /// The same for a record that drops others. Nobody has to hear of it before anything was handed out, and what
    /// is below the start was not.
    fn truncate(&mut self, from: u64) -> Result<Option<u64>, &'static str> {
        let from = from.max(self.start);
        let Some(next) = self.next else {
            let is_at_start = from == self.start || (self.start == 0 && from == 1);
            return is_at_start.then_some(None).ok_or_else(|| self.missing());
        };
        if from > next {
            return Err(self.missing());
        }
        self.next = (from > self.start).then_some(from);
        Ok(Some(from))
    }

    fn missing(&self) -> &'static str {
        if self.stream == STORE_STREAM {
            "records of the session store before this one are missing"
        } else {
            "records of the group before this one are missing"
        }
    }
}

fn load(source: &Source) -> Result<Bytes, LogError> {
    if let Some(image) = &source.image {
        return Ok(image.clone());
    }
    let file = directory::open_file(&source.path)?;
    let image = directory::read_at(&file, &source.path, 0, source.info.bytes as usize)?;
    if image.len() < source.info.bytes as usize {
        return Err(damaged(
            source,
            image.len(),
            "the file is shorter than its records",
        ));
    }
    Ok(image.into())
}

fn damaged(source: &Source, offset: usize, what: &'static str) -> LogError {
    LogError::Damaged {
        file: source.path.clone(),
        offset: offset as u64,
        what,
    }
}

impl Iterator for Replay {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}
