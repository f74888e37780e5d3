//! Reading records from segment files.
//!
//! Where queues drain, many small parts of many records are read, and several of each record. So a record that is at
//! hand is checked once, parts are copied out, and one buffer serves all reads.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::{self, Directory};
use super::format::{self, FIRST_RECORD, Header, RECORD_HEADER};
use super::limits::{READ_AHEAD_BYTES, READ_AHEAD_BYTES_MIN, READ_FILES_MAX};
use super::{Location, LogError};

/// One reader: its open files and the block it read last.
#[derive(Debug, Default)]
pub(super) struct Reader {
    files: VecDeque<Open>,
    block: Block,
    /// Number of releases when the files were opened.
    releases: u64,
}

#[derive(Debug)]
struct Open {
    segment: u32,
    salt: u64,
    path: PathBuf,
    file: File,
}

/// What was read at once.
#[derive(Debug, Default)]
struct Block {
    segment: u32,
    /// Where it begins in the segment.
    start: u32,
    len: usize,
    /// The first `len` bytes are the block's.
    buffer: Vec<u8>,
    /// Where the record begins that was found right last, and where in the buffer its body is.
    checked: Option<(u32, Range<usize>)>,
}

impl Reader {
    /// `len` bytes from byte `offset` of the body of the record at `at`. The whole record is read
    /// and checked. `releases`: how many segments were ever released.
    pub(super) fn read(
        &mut self,
        directory: &Directory,
        at: Location,
        (offset, len): (u32, u32),
        releases: u64,
    ) -> Result<Bytes, LogError> {
        if releases != self.releases {
            self.files.clear();
            self.block.clear();
            self.releases = releases;
        }
        let file = self.file(directory, at)?;
        let salt = self.files[file].salt;
        let body = match self.block.body(at, salt) {
            Some(body) => body,
            // The block may be older than the record: only a fresh one can tell damage.
            None => self.read_block(file, at)?,
        };
        let end = offset as usize + len as usize;
        if end > body.len() {
            return Err(LogError::NotFound { at });
        }
        let part = body.start + offset as usize..body.start + end;
        let part = Bytes::copy_from_slice(&self.block.buffer[part]);
        self.block.shrink();
        Ok(part)
    }

    /// Reads the record at `at`, and what may be wanted behind it; where in the block its body is.
    fn read_block(&mut self, file: usize, at: Location) -> Result<Range<usize>, LogError> {
        let Self { files, block, .. } = self;
        let Open {
            path, file, salt, ..
        } = &files[file];
        let damaged = || {
            let what = "a record that is referred to fails its check";
            LogError::Damaged {
                file: path.clone(),
                offset: u64::from(at.offset),
                what,
            }
        };
        let ahead = block.ahead_of(at);
        block.begin(at);
        block.extend_to(ahead, file, path)?;
        let header = Header::read(block.bytes(), *salt).ok_or_else(damaged)?;
        block.extend_to(RECORD_HEADER + header.len, file, path)?;
        block.body(at, *salt).ok_or_else(damaged)
    }

    /// The open file of a segment, as its place in `files`.
    fn file(&mut self, directory: &Directory, at: Location) -> Result<usize, LogError> {
        let known = self
            .files
            .iter()
            .position(|open| open.segment == at.segment);
        if let Some(known) = known {
            return Ok(known);
        }
        let path = directory.segment(at.segment);
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => LogError::NotFound { at },
            _ => LogError::io("open", &path, error),
        })?;
        let page = directory::read_at(&file, &path, 0, FIRST_RECORD as usize)?;
        let header = directory::segment_header(&path, &page, at.segment)?;
        if self.files.len() == READ_FILES_MAX {
            self.files.pop_front();
        }
        self.files.push_back(Open {
            segment: at.segment,
            salt: header.salt,
            path,
            file,
        });
        Ok(self.files.len() - 1)
    }
}

impl Block {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    fn clear(&mut self) {
        self.len = 0;
        self.checked = None;
    }

    /// It is to hold what is in the log from `at` on.
    fn begin(&mut self, at: Location) {
        self.clear();
        (self.segment, self.start) = (at.segment, at.offset);
    }

    /// Reads on until it has `len` bytes, or the file has no more.
    fn extend_to(&mut self, len: usize, file: &File, path: &Path) -> Result<(), LogError> {
        if len <= self.len {
            return Ok(());
        }
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        let from = u64::from(self.start) + self.len as u64;
        let missing = &mut self.buffer[self.len..len];
        self.len += directory::read_into(file, path, from, missing)?;
        Ok(())
    }

    /// Where the body of the record at `at` is, if that is whole in this block and right.
    fn body(&mut self, at: Location, salt: u64) -> Option<Range<usize>> {
        let from = at.offset.checked_sub(self.start)? as usize;
        if at.segment != self.segment || from >= self.len {
            return None;
        }
        if let Some((checked, body)) = &self.checked
            && *checked == at.offset
        {
            return Some(body.clone());
        }
        let (_, body) = format::record_at(self.bytes(), from, salt)?;
        self.checked = Some((at.offset, body.clone()));
        Some(body)
    }

    /// How many bytes to read from `at` on, which this block does not have: more and more where one block follows
    /// the other, few where records lie scattered.
    fn ahead_of(&self, at: Location) -> usize {
        let gap = at.offset.checked_sub(self.start);
        let is_next = gap.is_some_and(|gap| gap as usize <= self.len + self.len / 4);
        if at.segment == self.segment && is_next {
            return (2 * self.len).clamp(READ_AHEAD_BYTES_MIN, READ_AHEAD_BYTES);
        }
        READ_AHEAD_BYTES_MIN
    }

    /// Gives the memory of a large record back.
    fn shrink(&mut self) {
        if self.buffer.len() > READ_AHEAD_BYTES {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(segment: u32, start: u32, len: usize) -> Block {
        Block {
            segment,
            start,
            len,
            ..Block::default()
        }
    }

    #[test]
    fn more_is_read_ahead_only_where_one_block_follows_the_other() {
        let at = |segment, offset| Location { segment, offset };
        let least = READ_AHEAD_BYTES_MIN;
        assert_eq!(Block::default().ahead_of(at(3, 9_000)), least);
        let before = block(3, 1_000, least);
        let end = 1_000 + least as u32;
        assert_eq!(before.ahead_of(at(3, end)), 2 * least);
        assert_eq!(before.ahead_of(at(3, end - 10)), 2 * least, "cut off");
        assert_eq!(before.ahead_of(at(3, end + least as u32)), least, "a gap");
        assert_eq!(before.ahead_of(at(3, 500)), least, "backwards");
        assert_eq!(before.ahead_of(at(4, end)), least, "elsewhere");
        let large = block(3, 0, READ_AHEAD_BYTES);
        let next = at(3, READ_AHEAD_BYTES as u32);
        assert_eq!(large.ahead_of(next), READ_AHEAD_BYTES);
    }
}
