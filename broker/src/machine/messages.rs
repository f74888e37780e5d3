//! Messages kept once, however many mailboxes refer to them. Their bytes stay in the log.

use super::effects::{Effects, LeaderEffect};
use crate::command::MessageRef;
use cluster::frame::StoredAt;
use protocol::QoS;
use std::collections::BTreeMap;

/// A message's place in the table. Numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MessageKey(pub(super) u32);

/// A kept message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where the log has it.
    pub(super) at: StoredAt,
    /// Entries and retained topics that refer to it; 0 marks a free place.
    pub(super) refs: u32,
    /// Group time at which it expires, `u64::MAX` if never (MQTT5 3.3.2.3.3).
    pub(super) expires_at_ms: u64,
    /// Position in the group's order of publishes; never given twice.
    pub(super) seq: u64,
    /// QoS of the publish.
    pub(super) qos: QoS,
}

impl Kept {
    /// Whole seconds left at `now_ms`, rounded up; `None` if it does not expire, 0 if it has.
    pub(super) fn seconds_left(&self, now_ms: u64) -> Option<u32> {
        (self.expires_at_ms != u64::MAX)
            .then(|| self.expires_at_ms.saturating_sub(now_ms).div_ceil(1000) as u32)
    }

    pub(super) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms <= now_ms
    }

    pub(super) fn len(&self) -> u64 {
        u64::from(self.at.len)
    }
}

/// The table of kept messages, with the number of living ones a segment.
#[derive(Debug, Default)]
pub(super) struct Messages {
    places: Vec<Kept>,
    free: Vec<u32>,
    segments: BTreeMap<u32, u32>,
    newest_segment: Option<u32>,
    bytes: u64,
}

impl Messages {
    /// Takes a message in, with one reference: the caller's, which it has to release.
    pub(super) fn insert(
        &mut self,
        at: StoredAt,
        expires_at_ms: u64,
        seq: u64,
        qos: QoS,
        out: &mut Effects,
    ) -> MessageKey {
        self.enter(at, out);
        let kept = Kept {
            at,
            refs: 1,
            expires_at_ms,
            seq,
            qos,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(kept);
            (self.places.len() - 1) as u32
        });
        self.places[place as usize] = kept;
        MessageKey(place)
    }

    fn enter(&mut self, at: StoredAt, out: &mut Effects) {
        if self.newest_segment.is_none_or(|newest| at.segment > newest) {
            self.leave_segment(out);
            self.newest_segment = Some(at.segment);
        }
        *self.segments.entry(at.segment).or_insert(0) += 1;
        self.bytes += u64::from(at.len);
    }

    fn leave(&mut self, at: StoredAt, out: &mut Effects) {
        self.bytes -= u64::from(at.len);
        let living = self
            .segments
            .get_mut(&at.segment)
            .expect("counted at insert");
        *living -= 1;
        if *living == 0 && Some(at.segment) != self.newest_segment {
            self.segments.remove(&at.segment);
            out.leader.push(LeaderEffect::SegmentFree(at.segment));
        }
    }

    /// The log holds a copy at another place now; nothing happens if the message is gone.
    /// The copy has the same length.
    pub(super) fn relocate(&mut self, message: MessageRef, at: StoredAt, out: &mut Effects) {
        let Some(kept) = self.places.get_mut(message.place as usize) else {
            return;
        };
        if kept.refs == 0 || kept.seq != message.seq || kept.at.len != at.len {
            return;
        }
        let old = std::mem::replace(&mut kept.at, at);
        self.enter(at, out);
        self.leave(old, out);
    }

    /// The newest segment stops being that: from now on its last message's end frees it.
    fn leave_segment(&mut self, out: &mut Effects) {
        let Some(newest) = self.newest_segment else {
            return;
        };
        if self.segments.get(&newest) == Some(&0) {
            self.segments.remove(&newest);
            out.leader.push(LeaderEffect::SegmentFree(newest));
        }
    }

    pub(super) fn get(&self, key: MessageKey) -> &Kept {
        &self.places[key.0 as usize]
    }

    /// One more reference.
    pub(super) fn hold(&mut self, key: MessageKey) {
        self.places[key.0 as usize].refs += 1;
    }

    /// One reference less; the last one frees the place.
    pub(super) fn release(&mut self, key: MessageKey, out: &mut Effects) {
        let kept = &mut self.places[key.0 as usize];
        assert!(kept.refs > 0, "a free message is not referred to");
        kept.refs -= 1;
        if kept.refs == 0 {
            let at = kept.at;
            self.remove(key, at, out);
        }
    }

    fn remove(&mut self, key: MessageKey, at: StoredAt, out: &mut Effects) {
        self.free.push(key.0);
        self.leave(at, out);
    }

    /// Living messages of a segment among `places_max` places from `from` on, and where to look on.
    pub(super) fn in_segment(
        &self,
        segment: u32,
        from: u32,
        places_max: u32,
    ) -> (Vec<(MessageRef, StoredAt)>, Option<u32>) {
        let end = from
            .saturating_add(places_max)
            .min(self.places.len() as u32);
        let is_there = |kept: &Kept| kept.refs > 0 && kept.at.segment == segment;
        let found = (from..end).filter_map(|place| {
            let kept = &self.places[place as usize];
            is_there(kept).then_some((
                MessageRef {
                    place,
                    seq: kept.seq,
                },
                kept.at,
            ))
        });
        (
            found.collect(),
            ((end as usize) < self.places.len()).then_some(end),
        )
    }

    /// Messages kept.
    pub(super) fn len(&self) -> u64 {
        (self.places.len() - self.free.len()) as u64
    }

    /// Their bytes in the log.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Segments that hold living messages, with how many, in order.
    pub(super) fn live_segments(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.segments
            .iter()
            .filter(|(_, n)| **n > 0)
            .map(|(segment, n)| (*segment, *n))
    }

    /// All places in order, free ones with 0 references, and the free ones in the order of their reuse.
    pub(super) fn parts(&self) -> (&[Kept], &[u32], Option<u32>) {
        (&self.places, &self.free, self.newest_segment)
    }

    /// Builds the table from [`Messages::parts`]; `None` if they contradict each other.
    pub(super) fn from_parts(
        places: Vec<Kept>,
        free: Vec<u32>,
        newest_segment: Option<u32>,
    ) -> Option<Self> {
        let mut segments = BTreeMap::new();
        let mut bytes = 0;
        for kept in places.iter().filter(|kept| kept.refs > 0) {
            *segments.entry(kept.at.segment).or_insert(0) += 1;
            bytes += u64::from(kept.at.len);
        }
        if let Some(newest) = newest_segment {
            segments.entry(newest).or_insert(0);
        }
        let unused = places.iter().filter(|kept| kept.refs == 0).count();
        let mut seen = vec![false; places.len()];
        let is_free = |n: &u32| places.get(*n as usize).is_some_and(|kept| kept.refs == 0);
        let fits = free.len() == unused
            && free
                .iter()
                .all(|n| is_free(n) && !std::mem::replace(&mut seen[*n as usize], true));
        fits.then_some(Self {
            places,
            free,
            segments,
            newest_segment,
            bytes,
        })
    }
}
