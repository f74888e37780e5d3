//! The receiver's side: whether a message is new, behind a later one, or was here before.

use std::collections::BTreeMap;

use super::Full;
use crate::control::message::{FindingKind, Seen, Stream};
use crate::limits::{ARRIVAL_LATE, STREAM_GAPS_MAX};

/// What has arrived of one stream: 8 bytes, as there is one for each device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// One more than the highest number that has arrived.
    next: u32,
    /// `next` when a connection that receives the stream was lost for the last time.
    since: u32,
}

/// What one arrival is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first of its number, and the highest so far.
    First,
    /// The first of its number, but a later one came before.
    Reordered,
    /// This number was here before, on the connection that still stands or on an earlier one.
    Again {
        /// No connection that receives the stream was lost since.
        same_connection: bool,
    },
}

/// What an arrival means for the promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// New: counts as received, and its sender gets a receipt.
    New,
    /// New, but out of order: the same, and the sender judges.
    Reordered,
    /// A repetition that its `QoS` allows.
    Repeated,
    /// A repetition that its `QoS` allows only if the sender has sent it again: its sender gets a receipt that says so,
    /// and judges.
    Suspect,
    /// `QoS` 0 knows no repetitions: a finding.
    DuplicatedQos0,
}

impl Heard {
    /// A connection that receives this stream was lost: what came before may come again.
    pub(crate) fn connection_lost(&mut self) {
        self.since = self.next;
    }
}

/// A stream as one receiver gets it. Several receivers of a worker may get the same one, each in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Feed {
    /// Number of the receiver in its worker.
    pub(crate) receiver: u32,
    pub(crate) stream: Stream,
}

/// What is missing below the highest numbers, of all that a worker receives.
#[derive(Debug, Default)]
pub(crate) struct Gaps(BTreeMap<(Feed, u32), u32>);

impl Gaps {
    /// Message `seq` of `feed` has arrived; `heard` is what was known of that.
    pub(crate) fn arrived(
        &mut self,
        heard: &mut Heard,
        feed: Feed,
        seq: u32,
    ) -> Result<Arrival, Full> {
        if seq < heard.next {
            return self.arrived_behind(*heard, feed, seq);
        }
        if seq > heard.next {
            self.open(feed, heard.next, seq)?;
        }
        heard.next = seq.saturating_add(1);
        Ok(Arrival::First)
    }

    #[cold]
    fn arrived_behind(&mut self, heard: Heard, feed: Feed, seq: u32) -> Result<Arrival, Full> {
        let before = self.0.range((feed, 0)..=(feed, seq)).next_back();
        let around = before.filter(|(_, end)| seq < **end);
        let Some((&(_, start), &end)) = around else {
            let same_connection = seq >= heard.since;
            return Ok(Arrival::Again { same_connection });
        };
        self.0.remove(&(feed, start));
        if start < seq {
            self.open(feed, start, seq)?;
        }
        if seq + 1 < end {
            self.open(feed, seq + 1, end)?;
        }
        Ok(Arrival::Reordered)
    }

    fn open(&mut self, feed: Feed, start: u32, end: u32) -> Result<(), Full> {
        if self.0.len() >= STREAM_GAPS_MAX {
            return Err(Full {
                what: "more gaps in what has arrived",
                limit: STREAM_GAPS_MAX,
            });
        }
        self.0.insert((feed, start), end);
        Ok(())
    }
}

/// What an arrival at `qos` means. `in_order`: all of the stream comes through one connection, so that there is an order
/// to keep (a shared subscription of several has none).
pub(crate) fn meaning(arrival: Arrival, qos: u8, dup: bool, in_order: bool) -> Meaning {
    match (arrival, qos) {
        (Arrival::Reordered, _) if in_order => Meaning::Reordered,
        (Arrival::First | Arrival::Reordered, _) => Meaning::New,
        (Arrival::Again { .. }, 0) => Meaning::DuplicatedQos0,
        (Arrival::Again { same_connection }, 1) if dup || !same_connection => Meaning::Repeated,
        (Arrival::Again { .. }, _) => Meaning::Suspect,
    }
}

/// Whether a first arrival at `now_us` is [`FindingKind::Late`].
pub(crate) fn is_late(due_us: u64, now_us: u64) -> bool {
    now_us.saturating_sub(due_us) > ARRIVAL_LATE.as_micros() as u64
}

impl Meaning {
    /// The finding that is certain at the receiver.
    pub(crate) fn finding(self) -> Option<FindingKind> {
        (self == Self::DuplicatedQos0).then_some(FindingKind::DuplicatedQos0)
    }

    /// What the sender is told of a message that arrived at `qos`, if anything.
    pub(crate) fn receipt(self, qos: u8) -> Option<Seen> {
        match self {
            Self::New => Some(Seen::First),
            Self::Reordered => Some(Seen::Behind { qos }),
            Self::Suspect => Some(Seen::Again { qos }),
            Self::Repeated | Self::DuplicatedQos0 => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const FEED: Feed = Feed {
        receiver: 0,
        stream: Stream { kind: 0, device: 1 },
    };

    /// Remembers everything.
    #[derive(Debug, Default)]
    struct Naive {
        /// On how many lost connections each number first came.
        first: HashMap<u32, u32>,
        highest: Option<u32>,
        lost: u32,
    }

    impl Naive {
        fn arrived(&mut self, seq: u32) -> Arrival {
            if let Some(first) = self.first.get(&seq) {
                let same_connection = *first == self.lost;
                return Arrival::Again { same_connection };
            }
            self.first.insert(seq, self.lost);
            let behind = self.highest.is_some_and(|highest| highest > seq);
            self.highest = self.highest.max(Some(seq));
            if behind {
                Arrival::Reordered
            } else {
                Arrival::First
            }
        }
    }

    #[derive(Debug, Default)]
    struct Pair {
        gaps: Gaps,
        heard: Heard,
        naive: Naive,
    }

    impl Pair {
        /// `None`: the connection is lost. Gives what both said.
        fn step(&mut self, step: Option<u32>) -> Option<(Arrival, Arrival)> {
            let Some(seq) = step else {
                self.heard.connection_lost();
                self.naive.lost += 1;
                return None;
            };
            let arrived = self.gaps.arrived(&mut self.heard, FEED, seq);
            Some((arrived.expect("room"), self.naive.arrived(seq)))
        }
    }

    /// A late number below `since` is taken for one that came before the connection was lost: a repetition of it is
    /// then allowed, where the model knows better. Never the other way round.
    fn agree(table: Arrival, naive: Arrival) -> bool {
        let lenient = Arrival::Again {
            same_connection: false,
        };
        table == naive || (table == lenient && matches!(naive, Arrival::Again { .. }))
    }

    #[test]
    fn all_short_traces_agree_with_a_model_that_remembers_everything() {
        const STEPS: [Option<u32>; 5] = [Some(0), Some(1), Some(2), Some(3), None];
        for trace in 0..STEPS.len().pow(7) {
            let (mut pair, mut rest) = (Pair::default(), trace);
            let mut lost = false;
            for _ in 0..7 {
                let step = STEPS[rest % STEPS.len()];
                rest /= STEPS.len();
                lost |= step.is_none();
                let Some((table, naive)) = pair.step(step) else {
                    continue;
                };
                assert!(
                    agree(table, naive),
                    "trace {trace}: {table:?} for {naive:?}"
                );
                assert!(
                    lost || table == naive,
                    "trace {trace}: exact on one connection"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn long_traces_agree_too(steps in proptest::collection::vec((0..20_u32, 0..60_u32), 1..400)) {
            let mut pair = Pair::default();
            for (lose, seq) in steps {
                let step = (lose > 0).then_some(seq);
                if let Some((table, naive)) = pair.step(step) {
                    prop_assert!(agree(table, naive), "{:?} for {:?}", table, naive);
                }
            }
        }

        #[test]
        fn neither_streams_nor_receivers_touch_each_other(
            steps in proptest::collection::vec((0..2_u32, 0..2_u8, 0..3_u32, 0..12_u32), 1..200),
        ) {
            let mut gaps = Gaps::default();
            let mut known: HashMap<Feed, (Heard, Naive)> = HashMap::new();
            for (receiver, kind, device, seq) in steps {
                let stream = Stream { kind, device };
                let feed = Feed { receiver, stream };
                let (heard, naive) = known.entry(feed).or_default();
                let arrived = gaps.arrived(heard, feed, seq).expect("room");
                prop_assert_eq!(arrived, naive.arrived(seq));
            }
        }
    }

    #[test]
    fn beyond_the_limit_of_gaps_the_run_fails() {
        let (mut gaps, mut heard) = (Gaps::default(), Heard::default());
        for gap in 0..STREAM_GAPS_MAX as u32 {
            let arrived = gaps.arrived(&mut heard, FEED, gap * 2 + 1);
            assert_eq!(arrived, Ok(Arrival::First));
        }
        let full = gaps
            .arrived(&mut heard, FEED, STREAM_GAPS_MAX as u32 * 2 + 1)
            .expect_err("no room");
        assert!(full.to_string().contains("gaps"), "{full}");
    }

    #[test]
    fn what_an_arrival_means_depends_on_its_qos() {
        let again = |same_connection| Arrival::Again { same_connection };
        for qos in 0..=2 {
            for dup in [false, true] {
                assert_eq!(meaning(Arrival::First, qos, dup, true), Meaning::New);
                assert_eq!(
                    meaning(Arrival::Reordered, qos, dup, true),
                    Meaning::Reordered
                );
                assert_eq!(meaning(Arrival::Reordered, qos, dup, false), Meaning::New);
            }
        }
        for (same, dup) in [(false, false), (false, true), (true, false), (true, true)] {
            assert_eq!(meaning(again(same), 0, dup, true), Meaning::DuplicatedQos0);
            assert_eq!(meaning(again(same), 2, dup, true), Meaning::Suspect);
            let allowed = dup || !same;
            let expected = if allowed {
                Meaning::Repeated
            } else {
                Meaning::Suspect
            };
            assert_eq!(meaning(again(same), 1, dup, true), expected);
        }
    }

    #[test]
    fn senders_are_told_what_they_have_to_judge() {
        let told = [
            (Meaning::New, Some(Seen::First)),
            (Meaning::Reordered, Some(Seen::Behind { qos: 1 })),
            (Meaning::Suspect, Some(Seen::Again { qos: 1 })),
            (Meaning::Repeated, None),
            (Meaning::DuplicatedQos0, None),
        ];
        for (meaning, seen) in told {
            assert_eq!(meaning.receipt(1), seen, "{meaning:?}");
        }
    }

    #[test]
    fn late_is_beyond_the_limit() {
        let limit = ARRIVAL_LATE.as_micros() as u64;
        assert!(!is_late(5, 5 + limit) && is_late(5, 6 + limit) && !is_late(5, 0));
    }
}
