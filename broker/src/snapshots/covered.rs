//! Which segments no restart has to replay.

use crate::group::GROUP_STREAM;
use crate::log::{BODIES_STREAM, META_STREAM, STORE_STREAM, SegmentInfo, StreamRange};

/// Where the newest snapshots stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Covered {
    pub(super) group: u64,
    pub(super) store: u64,
}

impl Covered {
    /// Whether no snapshot needs the messages of this range of [`BODIES_STREAM`], whose indexes are those of the
    /// snapshots that they came with. What came with a later one than `aside` never became whole.
    fn has_bodies(self, range: &StreamRange, aside: Option<u64>) -> bool {
        aside.is_none_or(|aside| range.last <= self.group || range.first > aside)
    }
}

/// Those of `segments` that hold nothing that a restart has to replay. They are all that are closed and durable: of two
/// votes a power cut must not take the one by taking the other's segment. No snapshot may be coming in from another
/// member. `aside`: index of one that has come in and that the group does not go by, since it was further; it counts at
/// the next start.
pub(super) fn covered_segments(
    mut segments: Vec<SegmentInfo>,
    covered: Covered,
    aside: Option<u64>,
) -> Vec<SegmentInfo> {
    let newest_meta = segments.iter().filter_map(|info| info.last(META_STREAM));
    let newest_meta = newest_meta.max().unwrap_or(0);
    let is_covered = |range: &StreamRange| match range.stream {
        GROUP_STREAM => range.last <= covered.group,
        BODIES_STREAM => covered.has_bodies(range, aside),
        STORE_STREAM => range.last <= covered.store,
        META_STREAM => range.last < newest_meta,
        _ => false,
    };
    segments.retain(|segment| segment.streams.iter().all(is_covered));
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = covered_segments(segments.to_vec(), covered, None);
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
    fn strangers_stay() {
        let all = [segment(2, &[(7, 0)]), segment(3, &[])];
        assert_eq!(ids(&all, 9), [3]);
    }

    #[test]
    fn bodies_stay_as_long_as_the_snapshot_that_they_came_with_may_count() {
        let bodies = |first, last| SegmentInfo {
            streams: vec![StreamRange {
                stream: BODIES_STREAM,
                first,
                last,
            }],
            ..segment(1, &[])
        };
        let goes = |segment: SegmentInfo, group, aside| {
            let covered = Covered { group, store: 0 };
            !covered_segments(vec![segment], covered, aside).is_empty()
        };
        // The group goes by the newest snapshot: what its messages are is known.
        assert!(goes(bodies(9, 9), 9, None), "it has another one's");
        assert!(goes(bodies(9, 9), 5, None), "it never became whole");
        // It was stored, and the group was further when it came.
        assert!(!goes(bodies(9, 9), 8, Some(9)));
        assert!(!goes(bodies(7, 9), 6, Some(9)));
        assert!(!goes(bodies(9, 12), 8, Some(9)));
        assert!(goes(bodies(7, 8), 8, Some(9)), "they came before");
        assert!(goes(bodies(10, 12), 8, Some(9)), "they came later");
    }
}
