//! What an existing folder holds: the segments, and where the last one ends.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::{self, Directory};
use super::format::{self, FIRST_RECORD, Kind, SegmentHeader};
use super::replay::{ReplayStats, Source};
use super::tail::Position;
use super::writer::Current;
use super::{LogError, SegmentInfo};

/// A log found on disk.
pub(super) struct Found {
    pub(super) sources: Vec<Source>,
    pub(super) current: Current,
    pub(super) position: Position,
    pub(super) info: SegmentInfo,
    pub(super) stats: ReplayStats,
}

/// Reads what is in the folder; `None` if there is no segment. A torn tail is cut here.
pub(super) fn recover(directory: &Directory, ids: &[u32]) -> Result<Option<Found>, LogError> {
    let Some((last, closed)) = ids.split_last() else {
        return Ok(None);
    };
    let mut sources = Vec::new();
    for id in closed {
        sources.push(closed_segment(directory, *id)?);
    }
    let mut found = last_segment(directory.segment(*last), *last, &sources)?;
    sources.append(&mut found.sources);
    found.sources = sources;
    found.stats.segments = ids.len();
    Ok(Some(found))
}

fn closed_segment(directory: &Directory, id: u32) -> Result<Source, LogError> {
    let path = directory.segment(id);
    let file = directory::open_file(&path)?;
    let page = directory::read_at(&file, &path, 0, FIRST_RECORD as usize)?;
    let header = directory::segment_header(&path, &page, id)?;
    let Some((end, streams)) = format::decode_note(&page, header.salt) else {
        return Err(LogError::Damaged {
            file: path,
            offset: format::NOTE_AT as u64,
            what: "the closing note of the segment fails its check",
        });
    };
    let info = SegmentInfo {
        id,
        streams,
        bytes: end,
    };
    Ok(Source {
        path,
        salt: header.salt,
        info,
        image: None,
    })
}

fn last_segment(path: PathBuf, id: u32, closed: &[Source]) -> Result<Found, LogError> {
    let file = directory::open_file(&path)?;
    let length = file
        .metadata()
        .map_err(|error| LogError::io("read", &path, error))?
        .len();
    let image = directory::read_at(&file, &path, 0, length as usize)?;
    let header = directory::segment_header(&path, &image, id)?;
    let mut info = SegmentInfo::empty(id);
    let mut marked = 0;
    let tail = format::find_tail(&image, &header, &mut |record| match record.kind {
        Kind::Data => info.note(record.stream, record.index),
        Kind::Mark => marked = record.index as u32,
        Kind::Truncate => {
            let older = closed.iter().map(|source| &source.info);
            info.note_truncate(older, record.stream, record.index);
        }
    });
    let mut stats = ReplayStats::default();
    let end = match tail {
        format::Tail::Clean { end } => end,
        format::Tail::Torn { end, garbage_end } => {
            cut(&file, &path, end, garbage_end)?;
            stats.torn = Some((path.clone(), end as u64));
            stats.torn_bytes = garbage_end - end;
            end
        }
        format::Tail::Damaged { at } => {
            let what = "a record that was stored fails its check";
            return Err(LogError::Damaged {
                file: path,
                offset: at as u64,
                what,
            });
        }
    };
    // What is replayed is acted on: it must not be in the page cache only.
    directory::sync_data(&file, &path)?;
    info.bytes = end as u32;
    let SegmentHeader { salt, capacity, .. } = header;
    let position = Position {
        segment: id,
        salt,
        capacity,
        offset: end as u32,
        marked,
    };
    let mut image = Bytes::from(image);
    image.truncate(end);
    let source = Source {
        path: path.clone(),
        salt,
        info: info.clone(),
        image: Some(image),
    };
    let current = Current {
        file,
        path,
        capacity,
    };
    Ok(Found {
        sources: vec![source],
        current,
        position,
        info,
        stats,
    })
}

/// Overwrites the remains of a write that was never durable: behind new records of other lengths
/// they could read as records again.
fn cut(file: &std::fs::File, path: &Path, end: usize, garbage_end: usize) -> Result<(), LogError> {
    tracing::warn!(
        file = %path.display(),
        offset = end,
        bytes = garbage_end - end,
        "the last write was torn by a crash and is cut off; nothing of it was acknowledged"
    );
    let zeros = vec![0; garbage_end - end];
    directory::write_at(file, path, &zeros, end as u64)?;
    directory::sync_data(file, path)
}
