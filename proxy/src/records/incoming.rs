//! Changes that wait until the store has taken those before them, oldest first.
//!
//! When a fleet loses its connections at once, every record changes, and for some seconds there are more changes than the
//! store takes. A change is far smaller than the record it makes, with its places in the tables on the way to the store: so it
//! is the changes that wait, and few records are on that way at a time. Blocks of them give their memory back as they go.

use super::RecordChange;
use super::limits::{INCOMING_BYTES_MAX, INCOMING_MAX};
use std::collections::VecDeque;

/// Changes in an allocation, which never moves.
const BLOCK: usize = 256;

/// The changes that wait, with the time at which each happened.
#[derive(Default)]
pub(super) struct Incoming {
    blocks: VecDeque<VecDeque<(u64, RecordChange)>>,
    len: usize,
    bytes: usize,
}

impl Incoming {
    /// Puts a change behind all others.
    pub(super) fn put(&mut self, at_ms: u64, change: RecordChange) {
        self.len += 1;
        self.bytes += change.bytes();
        if self.blocks.back().is_none_or(|last| last.len() == BLOCK) {
            self.blocks.push_back(VecDeque::with_capacity(BLOCK));
        }
        let last = self.blocks.back_mut().expect("one was just made");
        last.push_back((at_ms, change));
    }

    /// Takes the oldest out.
    pub(super) fn pop(&mut self) -> Option<(u64, RecordChange)> {
        let first = self.blocks.front_mut()?;
        let (at_ms, change) = first.pop_front()?;
        if first.is_empty() {
            self.blocks.pop_front();
        }
        self.len -= 1;
        self.bytes -= change.bytes();
        Some((at_ms, change))
    }

    /// Whether more waits than may.
    pub(super) fn is_over(&self) -> bool {
        self.len > INCOMING_MAX || self.bytes > INCOMING_BYTES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::super::What;
    use super::*;
    use session_store::EventKind;

    fn lost(client_id: &str, epoch: u64) -> RecordChange {
        RecordChange {
            client_id: client_id.into(),
            epoch,
            what: What::Ended {
                expiry_s: 60,
                how: EventKind::Lost,
            },
        }
    }

    #[test]
    fn the_oldest_comes_first() {
        let mut incoming = Incoming::default();
        assert!(incoming.pop().is_none());
        for n in 0..3 * BLOCK as u64 {
            incoming.put(n, lost("a", n));
            incoming.put(n, lost("b", n));
            let (at_ms, change) = incoming.pop().expect("two wait");
            assert_eq!((at_ms, change.epoch), (n / 2, n / 2));
        }
        while incoming.pop().is_some() {}
        assert!(incoming.is_empty() && incoming.blocks.is_empty());
        assert_eq!((incoming.len(), incoming.bytes), (0, 0));
    }

    #[test]
    fn its_limits_are_changes_and_bytes() {
        let mut incoming = Incoming::default();
        for _ in 0..INCOMING_MAX {
            incoming.put(0, lost("a", 1));
        }
        assert!(!incoming.is_over());
        incoming.put(0, lost("a", 1));
        assert!(incoming.is_over());
        let mut incoming = Incoming::default();
        incoming.put(0, lost(&"x".repeat(INCOMING_BYTES_MAX), 1));
        assert!(incoming.is_over());
    }

    #[test]
    fn a_change_is_smaller_than_a_record() {
        let bytes = size_of::<(u64, RecordChange)>();
        assert!(bytes <= 64, "{bytes} bytes");
    }
}
