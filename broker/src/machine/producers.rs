//! Which numbered commands of each producer were applied, so that a repeat is skipped.

use crate::command::Producer;
use crate::limits::PRODUCER_MEMORY_MS;
use cluster::ids::LinkNo;
use std::collections::BTreeMap;

/// A producer with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linked {
    pub(super) producer: Producer,
    /// Number of its last applied command.
    pub(super) high_water: u64,
}

/// A producer without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unlinked {
    pub(super) high_water: u64,
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
        let high_water = self
            .unlinked
            .remove(&producer)
            .map_or(0, |known| known.high_water);
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
        self.links[at] = Some(Linked {
            producer,
            high_water,
        });
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
                high_water: linked.high_water,
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
        let new = number > linked.high_water;
        if new {
            linked.high_water = number;
        }
        new
    }

    /// Links that are up.
    pub(super) fn linked(&self) -> Vec<LinkNo> {
        let up = self
            .links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.is_some());
        up.map(|(n, _)| LinkNo(n as u16)).collect()
    }

    /// When the next producer is forgotten. Few are known, so the list is short.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.unlinked.values().map(|known| known.forget_at_ms).min()
    }

    pub(super) fn forget_due(&mut self, now_ms: u64) {
        self.unlinked.retain(|_, known| known.forget_at_ms > now_ms);
    }
}
