//! Reading records from segment files.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;

use super::directory::{self, Directory};
use super::format::{self, FIRST_RECORD, Header, RECORD_HEADER};
use super::limits::{READ_AHEAD_BYTES, READ_FILES_MAX};
use super::{Location, LogError};

/// One reader: its open files and the block it read last.
#[derive(Debug, Default)]
pub(super) struct Reader {
    files: VecDeque<Open>,
    block: Option<Block>,
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

#[derive(Debug)]
struct Block {
    start: Location,
    bytes: Bytes,
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
            self.block = None;
            self.releases = releases;
        }
        let file = self.file(directory, at)?;
        let salt = self.files[file].salt;
        let found = self.block.as_ref().and_then(|block| block.body(at, salt));
        let body = match found {
            Some(body) => body,
            // The block may be older than the record: only a fresh one can tell damage.
            None => self.read_block(file, at)?,
        };
        let end = offset as usize + len as usize;
        if end > body.len() {
            return Err(LogError::NotFound { at });
        }
        Ok(body.slice(offset as usize..end))
    }

    /// Reads ahead from the record at `at` and returns its body.
    fn read_block(&mut self, file: usize, at: Location) -> Result<Bytes, LogError> {
        let Open {
            path, file, salt, ..
        } = &self.files[file];
        let offset = u64::from(at.offset);
        let damaged = || {
            let what = "a record that is referred to fails its check";
            LogError::Damaged {
                file: path.clone(),
                offset,
                what,
            }
        };
        let mut bytes = directory::read_at(file, path, offset, READ_AHEAD_BYTES)?;
        let header = Header::read(&bytes, *salt).ok_or_else(damaged)?;
        let whole = RECORD_HEADER + header.len;
        if whole > bytes.len() {
            bytes = directory::read_at(file, path, offset, whole)?;
        }
        let block = Block {
            start: at,
            bytes: bytes.into(),
        };
        let body = block.body(at, *salt).ok_or_else(damaged)?;
        if block.bytes.len() <= READ_AHEAD_BYTES {
            self.block = Some(block);
        }
        Ok(body)
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
    /// The body of the record at `at`, if it is whole in this block and right.
    fn body(&self, at: Location, salt: u64) -> Option<Bytes> {
        let from = at.offset.checked_sub(self.start.offset)? as usize;
        if at.segment != self.start.segment || from >= self.bytes.len() {
            return None;
        }
        let (_, body) = format::record_at(&self.bytes, from, salt)?;
        Some(self.bytes.slice(body))
    }
}
