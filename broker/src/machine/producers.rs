//! Which numbered commands of each producer were applied, so that a repeat is skipped.

use crate::command::Producer;
use crate::limits::{PRODUCER_MEMORY_MS, REFUSED_NUMBERS};
use cluster::ids::LinkNo;
use std::collections::{BTreeMap, VecDeque};

/// What was applied of a producer's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Number of its last applied command.
    pub(super) high_water: u64,
    /// Numbers of its newest refused publishes, ascending. A publish that is sent again because its answer was lost
    /// must not be acknowledged if nobody stored it.
    pub(super) refused: VecDeque<u64>,
}

impl Progress {
    fn refuse(&mut self, number: u64) {
        if self.refused.len() == REFUSED_NUMBERS {
            self.refused.pop_front();
        }
        self.refused.push_back(number);
    }

    /// Whether the publish of this number was refused. One from before the memory begins counts as refused: the
    /// publisher may then send it once more, but never takes for stored what is not.
    fn was_refused(&self, number: u64) -> bool {
        let forgotten = self.refused.len() == REFUSED_NUMBERS && number < self.refused[0];
        forgotten || self.refused.binary_search(&number).is_ok()
    }
}

/// A producer with a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Linked {
    pub(super) producer: Producer,
    pub(super) progress: Progress,
}

/// A producer without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unlinked {
    pub(super) progress: Progress,
    /// When it is forgotten, in group time.
    pub(super) forget_at_ms: u64,
}

/// All known producers. One without a link is forgotten after ten minutes, or when a later life of the same shard
/// shows up.
#[derive(Debug, Default)]
pub(super) struct Producers {
    pub(super) links: Vec<Option<Linked>>,
    pub(super) unlinked: BTreeMap<Producer, Unlinked>,
}

impl Producers {
    /// Gives the link to a producer. The link must be free.
    pub(super) fn up(&mut self, link: LinkNo, producer: Producer) {
        let at = usize::from(link.0);
        if at >= self.links.len() {
            self.links.resize(at + 1, None);
        }
        debug_assert!(self.links[at].is_none(), "the link was taken down before");
        let progress = self
            .unlinked
            .remove(&producer)
            .map_or_else(Progress::default, |known| known.progress);
        let first = Producer {
            incarnation: 0,
            ..producer
        };
        let last = Producer {
            incarnation: u64::MAX,
            ..producer
        };
        let earlier: Vec<_> = self.unlinked.range(first..=last).map(|(p, _)| *p).collect();
        for dead in earlier {
            self.unlinked.remove(&dead);
        }
        self.links[at] = Some(Linked { producer, progress });
    }

    /// Takes the link from its producer; whether it had one.
    pub(super) fn down(&mut self, link: LinkNo, now_ms: u64) -> bool {
        let Some(linked) = self
            .links
            .get_mut(usize::from(link.0))
            .and_then(Option::take)
        else {
            return false;
        };
        let forget_at_ms = now_ms + PRODUCER_MEMORY_MS;
        self.unlinked.insert(
            linked.producer,
            Unlinked {
                progress: linked.progress,
                forget_at_ms,
            },
        );
        true
    }

    /// Takes a number; whether it is new. Numbers of a link that is not up are never new.
    pub(super) fn take(&mut self, link: LinkNo, number: u64) -> bool {
        let Some(Some(linked)) = self.links.get_mut(usize::from(link.0)) else {
            return false;
        };
        let new = number > linked.progress.high_water;
        if new {
            linked.progress.high_water = number;
        }
        new
    }

    /// The publish of this number is refused.
    pub(super) fn refuse(&mut self, link: LinkNo, number: u64) {
        if let Some(Some(linked)) = self.links.get_mut(usize::from(link.0)) {
            linked.progress.refuse(number);
        }
    }

    /// Whether the publish of this number was refused.
    pub(super) fn was_refused(&self, link: LinkNo, number: u64) -> bool {
        self.linked(link)
            .is_some_and(|linked| linked.progress.was_refused(number))
    }

    /// Who has this link.
    pub(super) fn linked(&self, link: LinkNo) -> Option<&Linked> {
        self.links.get(usize::from(link.0))?.as_ref()
    }

    /// Number of the last applied command of a producer, with a link or without; 0: it is not known.
    pub(super) fn high_water(&self, producer: &Producer) -> u64 {
        let linked = self.links.iter().flatten();
        let progress = linked
            .filter(|linked| linked.producer == *producer)
            .map(|linked| &linked.progress);
        let unlinked = self.unlinked.get(producer).map(|known| &known.progress);
        let known = progress.chain(unlinked).next();
        known.map_or(0, |progress| progress.high_water)
    }

    /// When the next producer is forgotten. Few are known, so the list is short.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.unlinked.values().map(|known| known.forget_at_ms).min()
    }

    pub(super) fn forget_due(&mut self, now_ms: u64) {
        self.unlinked.retain(|_, known| known.forget_at_ms > now_ms);
    }
}
