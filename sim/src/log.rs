//! A broker's disk: what is appended is there for good after the next sync, and before that a crash may take it, or a
//! part of it.

use crate::rng::Rng;
use bytes::Bytes;

#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Bodies of all entries, from index 1.
    bodies: Vec<Bytes>,
    durable: usize,
    /// A sync is under way, and makes so many durable.
    syncing: Option<usize>,
}

impl Disk {
    /// Takes an entry.
    pub(crate) fn append(&mut self, body: Bytes) {
        self.bodies.push(body);
    }

    /// Begins a sync of everything that was appended; `false`: one is under way, or there is nothing to sync.
    pub(crate) fn begin_sync(&mut self) -> bool {
        let begins = self.syncing.is_none() && self.durable < self.bodies.len();
        if begins {
            self.syncing = Some(self.bodies.len());
        }
        begins
    }

    /// The sync under way is done: what it made durable.
    pub(crate) fn synced(&mut self) -> std::ops::Range<usize> {
        let done = self.syncing.take().unwrap_or(self.durable);
        let before = std::mem::replace(&mut self.durable, done);
        before..done
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable as u64
    }

    pub(crate) fn appended(&self) -> u64 {
        self.bodies.len() as u64
    }

    /// An entry by its index.
    pub(crate) fn body(&self, index: u64) -> &Bytes {
        &self.bodies[index as usize - 1]
    }

    /// The node is gone: of what was not durable a part is there, and the rest is torn off.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> std::ops::Range<usize> {
        let at_risk = self.bodies.len() - self.durable;
        let kept = self.durable + rng.below(at_risk + 1);
        self.bodies.truncate(kept);
        let before = std::mem::replace(&mut self.durable, kept);
        self.syncing = None;
        before..kept
    }

    pub(crate) fn bodies(&self, range: std::ops::Range<usize>) -> &[Bytes] {
        &self.bodies[range]
    }
}
