//! The oracle: what one stream of numbered messages lost, repeated or swapped.

use std::collections::BTreeMap;

use crate::limits::GAPS_MAX;

/// What one arrival meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// New. `skipped` messages before it are still missing.
    New {
        /// Sequence numbers between the highest seen before and this one.
        skipped: u64,
    },
    /// New, but a later one came first: out of order.
    Late,
    /// Seen before.
    Duplicate,
}

/// One publisher's messages as one receiver saw them. Sequence numbers start at 0.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    next: u64,
    gaps: BTreeMap<u64, u64>,
    missing: u64,
    /// Arrivals of a message that had arrived before.
    pub(crate) duplicated: u64,
    /// Arrivals after a message with a higher number.
    pub(crate) reordered: u64,
}

impl Stream {
    /// Counts the arrival of message `seq`.
    #[inline]
    pub(crate) fn see(&mut self, seq: u64) -> Seen {
        if seq == self.next {
            self.next += 1;
            return Seen::New { skipped: 0 };
        }
        self.see_out_of_turn(seq)
    }

    /// One more than the highest number seen.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Messages missing when `sent` were sent.
    pub(crate) fn lost(&self, sent: u64) -> u64 {
        self.missing + sent.saturating_sub(self.next)
    }

    #[cold]
    fn see_out_of_turn(&mut self, seq: u64) -> Seen {
        if seq > self.next {
            let skipped = seq - self.next;
            self.gaps.insert(self.next, seq);
            self.missing += skipped;
            self.next = seq + 1;
            if self.gaps.len() > GAPS_MAX {
                self.gaps.pop_first();
            }
            return Seen::New { skipped };
        }
        let Some((start, end)) = self.gap_around(seq) else {
            self.duplicated += 1;
            return Seen::Duplicate;
        };
        self.gaps.remove(&start);
        if start < seq {
            self.gaps.insert(start, seq);
        }
        if seq + 1 < end {
            self.gaps.insert(seq + 1, end);
        }
        self.missing -= 1;
        self.reordered += 1;
        Seen::Late
    }

    fn gap_around(&self, seq: u64) -> Option<(u64, u64)> {
        let (&start, &end) = self.gaps.range(..=seq).next_back()?;
        (seq < end).then_some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(arrivals: &[u64]) -> Stream {
        let mut stream = Stream::default();
        for &seq in arrivals {
            stream.see(seq);
        }
        stream
    }

    fn verdict(arrivals: &[u64], sent: u64) -> (u64, u64, u64) {
        let stream = fed(arrivals);
        (stream.lost(sent), stream.duplicated, stream.reordered)
    }

    #[test]
    fn a_clean_stream_counts_nothing() {
        assert_eq!(verdict(&[0, 1, 2, 3], 4), (0, 0, 0));
        assert_eq!(verdict(&[], 0), (0, 0, 0));
    }

    #[test]
    fn losses_are_counted_at_the_start_in_the_middle_and_at_the_end() {
        assert_eq!(verdict(&[1, 2, 5, 6], 9), (1 + 2 + 2, 0, 0));
        assert_eq!(verdict(&[], 7), (7, 0, 0));
    }

    #[test]
    fn every_repetition_is_one_duplicate() {
        assert_eq!(verdict(&[0, 0, 1, 2, 1, 0], 3), (0, 3, 0));
    }

    #[test]
    fn a_swap_is_one_reordering_and_no_loss() {
        assert_eq!(verdict(&[0, 2, 1, 3], 4), (0, 0, 1));
        assert_eq!(verdict(&[3, 2, 1, 0], 4), (0, 0, 3));
    }

    #[test]
    fn a_late_message_from_the_middle_of_a_gap_splits_it() {
        let mut stream = fed(&[0, 10]);
        assert_eq!(stream.lost(11), 9);
        assert_eq!(stream.see(5), Seen::Late);
        assert_eq!(stream.see(5), Seen::Duplicate);
        assert_eq!(stream.lost(11), 8);
        assert_eq!(stream.see(4), Seen::Late);
        assert_eq!(stream.see(6), Seen::Late);
        assert_eq!(stream.see(1), Seen::Late);
        assert_eq!(stream.see(9), Seen::Late);
        assert_eq!(
            (stream.lost(11), stream.duplicated, stream.reordered),
            (4, 1, 5)
        );
    }

    #[test]
    fn random_arrivals_agree_with_a_model_that_remembers_everything() {
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..200 {
            let mut stream = Stream::default();
            let (mut seen, mut highest) = (std::collections::HashSet::new(), None::<u64>);
            let (mut duplicated, mut reordered) = (0, 0);
            for _ in 0..100 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let seq = random % 64;
                if !seen.insert(seq) {
                    duplicated += 1;
                } else if highest.is_some_and(|h| h > seq) {
                    reordered += 1;
                }
                highest = highest.max(Some(seq));
                stream.see(seq);
            }
            assert_eq!(stream.lost(64), 64 - seen.len() as u64);
            assert_eq!(
                (stream.duplicated, stream.reordered),
                (duplicated, reordered)
            );
        }
    }

    #[test]
    fn beyond_the_limit_of_gaps_the_oldest_stays_lost() {
        let mut stream = Stream::default();
        for gap in 0..=GAPS_MAX as u64 {
            stream.see(gap * 2 + 1);
        }
        let sent = stream.next();
        assert_eq!(stream.lost(sent), GAPS_MAX as u64 + 1);
        assert_eq!(stream.see(0), Seen::Duplicate);
        assert_eq!(stream.see(2), Seen::Late);
        assert_eq!(stream.lost(sent), GAPS_MAX as u64);
    }
}
