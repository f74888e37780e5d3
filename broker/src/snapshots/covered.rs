//! Which segments no restart has to replay.

use crate::group::GROUP_STREAM;
use crate::log::{BODIES_STREAM, META_STREAM, STORE_STREAM, SegmentInfo};

/// Where the newest snapshots stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Covered {
    pub(super) group: u64,
    pub(super) store: u64,
}

/// Those of `segments` that hold nothing that a restart has to replay. They are all that are closed and durable: of two
/// votes a power cut must not take the one by taking the other's segment.
pub(super) fn covered_segments(
    mut segments: Vec<SegmentInfo>,
    covered: Covered,
) -> Vec<SegmentInfo> {
    let newest_meta = segments.iter().filter_map(|info| info.last(META_STREAM));
    let newest_meta = newest_meta.max().unwrap_or(0);
    let is_covered = |stream, last| match stream {
        // Messages that have come with a snapshot wait for it to be the newest one.
        GROUP_STREAM | BODIES_STREAM => last <= covered.group,
        STORE_STREAM => last <= covered.store,
        META_STREAM => last < newest_meta,
        _ => false,
    };
    segments.retain(|segment| {
        let mut ranges = segment.streams.iter();
        ranges.all(|range| is_covered(range.stream, range.last))
    });
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::StreamRange;

    fn segment(id: u32, lasts: &[(u16, u64)]) -> SegmentInfo {
        let ranges = lasts.iter().map(|&(stream, last)| StreamRange {
            stream,
            first: 1,
            last,
        });
        SegmentInfo {
            id,
            streams: ranges.collect(),
            bytes: 4096,
        }
    }

    fn ids(segments: &[SegmentInfo], group: u64) -> Vec<u32> {
        let covered = Covered { group, store: 5 };
        let found = covered_segments(segments.to_vec(), covered);
        found.iter().map(|info| info.id).collect()
    }

    #[test]
    fn a_snapshot_covers_what_is_not_behind_it() {
        let all = [
            segment(1, &[(GROUP_STREAM, 10), (STORE_STREAM, 5)]),
            segment(2, &[(GROUP_STREAM, 20), (STORE_STREAM, 6)]),
            segment(3, &[(GROUP_STREAM, 30)]),
            segment(4, &[(GROUP_STREAM, 40)]),
        ];
        assert_eq!(ids(&all, 9), []);
        assert_eq!(ids(&all, 30), [1, 3]);
        assert_eq!(ids(&all, 40), [1, 3, 4]);
    }

    #[test]
    fn the_newest_vote_that_is_durable_stays() {
        let mut all = vec![
            segment(1, &[(META_STREAM, 1)]),
            segment(2, &[(META_STREAM, 3), (GROUP_STREAM, 9)]),
            segment(3, &[]),
        ];
        assert_eq!(ids(&all, 9), [1, 3]);
        all.push(segment(4, &[(META_STREAM, 4)]));
        assert_eq!(ids(&all, 9), [1, 2, 3]);
    }

    #[test]
    fn bodies_wait_for_their_snapshot_and_strangers_stay() {
        let all = [
            segment(1, &[(BODIES_STREAM, 9)]),
            segment(2, &[(7, 0)]),
            segment(3, &[]),
        ];
        assert_eq!(ids(&all, 8), [3]);
        assert_eq!(ids(&all, 9), [1, 3]);
    }
}
