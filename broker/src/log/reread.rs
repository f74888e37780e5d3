//! Reading the log back while it is in use: for snapshots, and for members that lag behind.

use super::format::FIRST_RECORD;
use super::replay::{Replay, ReplayStats, Source};
use super::shared::locked;
use super::{LogError, LogHandle, SegmentInfo, directory};

impl LogHandle {
    /// The records in the files now, from `starts` (stream, first index) on, in order. What waits for the
    /// disk is not among them. No segment that holds a wanted record may be released meanwhile. With
    /// [`Durability::Memory`](super::Durability::Memory) there are no files and no records.
    pub fn replay(&self, starts: &[(u16, u64)]) -> Result<Replay, LogError> {
        let mut sources = Vec::new();
        if let Some(directory) = self.directory() {
            for info in self.written_segments() {
                let path = directory.segment(info.id);
                let file = directory::open_file(&path)?;
                let page = directory::read_at(&file, &path, 0, FIRST_RECORD as usize)?;
                let salt = directory::segment_header(&path, &page, info.id)?.salt;
                sources.push(Source {
                    path,
                    salt,
                    info,
                    image: None,
                });
            }
        }
        let mut replay = Replay::new(sources, ReplayStats::default());
        for (stream, first) in starts {
            replay.start_at(*stream, *first);
        }
        Ok(replay)
    }

    /// Every segment as far as it is in its file.
    fn written_segments(&self) -> Vec<SegmentInfo> {
        let (mut segments, written) = {
            let tail = locked(&self.shared().tail);
            (tail.segments(), tail.written())
        };
        segments.retain(|info| info.id <= written.segment);
        if let Some(last) = segments.last_mut()
            && last.id == written.segment
        {
            last.bytes = written.offset;
        }
        segments
    }
}
