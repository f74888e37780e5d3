//! Messages kept once, however many mailboxes refer to them. Their bytes stay in the log.

use super::effects::{Effects, LeaderEffect};
use super::table::Table;
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
    /// Entries and retained topics that refer to it, at least 1.
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

const REFERRED: &str = "a message is kept as long as it is referred to";

/// The table of kept messages, with the number of living ones a segment.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) table: Table<Kept>,
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
        MessageKey(self.table.insert(Kept {
            at,
            refs: 1,
            expires_at_ms,
            seq,
            qos,
        }))
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
        let Some(kept) = self.table.get_mut(message.place) else {
            return;
        };
        if kept.seq != message.seq || kept.at.len != at.len {
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
        self.table.get(key.0).expect(REFERRED)
    }

    fn get_mut(&mut self, key: MessageKey) -> &mut Kept {
        self.table.get_mut(key.0).expect(REFERRED)
    }

    /// One more reference.
    pub(super) fn hold(&mut self, key: MessageKey) {
        self.get_mut(key).refs += 1;
    }

    /// One reference less; the last one frees the place.
    pub(super) fn release(&mut self, key: MessageKey, out: &mut Effects) {
        let kept = self.get_mut(key);
        kept.refs -= 1;
        if kept.refs == 0 {
            let at = kept.at;
            self.table.remove(key.0);
            self.leave(at, out);
        }
    }

    /// Living messages of a segment among `places_max` places from `from` on, and where to look on.
    pub(super) fn in_segment(
        &self,
        segment: u32,
        from: u32,
        places_max: u32,
    ) -> (Vec<(MessageRef, StoredAt)>, Option<u32>) {
        let places = self.table.places() as u32;
        let end = from.saturating_add(places_max).min(places);
        let found = (from..end).filter_map(|place| {
            let kept = self.table.get(place)?;
            let seq = kept.seq;
            (kept.at.segment == segment).then_some((MessageRef { place, seq }, kept.at))
        });
        (found.collect(), (end < places).then_some(end))
    }

    /// Messages kept.
    pub(super) fn len(&self) -> u64 {
        self.table.len() as u64
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

    /// The segment of the newest message there has been.
    pub(super) fn newest_segment(&self) -> Option<u32> {
        self.newest_segment
    }

    /// Counts the messages of a table.
    pub(super) fn of_table(table: Table<Kept>, newest_segment: Option<u32>) -> Self {
        let mut segments = BTreeMap::new();
        let mut bytes = 0;
        for (_, kept) in table.iter() {
            *segments.entry(kept.at.segment).or_insert(0) += 1;
            bytes += u64::from(kept.at.len);
        }
        if let Some(newest) = newest_segment {
            segments.entry(newest).or_insert(0);
        }
        Self {
            table,
            segments,
            newest_segment,
            bytes,
        }
    }
}
