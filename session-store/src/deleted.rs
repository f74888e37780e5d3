//! What was deleted lately, and up to which epoch: a save of an earlier owner may still be under way.

use std::collections::VecDeque;

use crate::limits::{DELETED_BYTES_PER_TABLE, DELETED_PER_TABLE};

/// The last deletes of one table, oldest first. They are few enough to be looked through.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    last: VecDeque<Delete>,
    bytes: usize,
}

#[derive(Debug)]
struct Delete {
    hash: u64,
    epoch: u64,
    client_id: Box<str>,
}

impl Deleted {
    /// Remembers a delete; never a lower epoch than it knows of this client. At the bound the oldest
    /// is forgotten.
    pub(crate) fn remember(&mut self, hash: u64, client_id: &str, mut epoch: u64) {
        if let Some(at) = self.find(hash, client_id)
            && let Some(before) = self.last.remove(at)
        {
            self.bytes -= before.client_id.len();
            epoch = epoch.max(before.epoch);
        }
        self.bytes += client_id.len();
        self.last.push_back(Delete {
            hash,
            epoch,
            client_id: client_id.into(),
        });
        while self.last.len() > DELETED_PER_TABLE
            || (self.bytes > DELETED_BYTES_PER_TABLE && self.last.len() > 1)
        {
            let oldest = self.last.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.client_id.len());
        }
    }

    /// The highest epoch that was deleted of a client, as far as is remembered.
    pub(crate) fn epoch(&self, hash: u64, client_id: &str) -> Option<u64> {
        self.find(hash, client_id).map(|at| self.last[at].epoch)
    }

    fn find(&self, hash: u64, client_id: &str) -> Option<usize> {
        self.last
            .iter()
            .position(|delete| delete.hash == hash && *delete.client_id == *client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let mut deleted = Deleted::default();
        for number in 0..=DELETED_PER_TABLE as u64 {
            deleted.remember(number, "a", number);
        }
        assert_eq!(deleted.epoch(0, "a"), None);
        assert_eq!(deleted.epoch(1, "a"), Some(1));
        // Again, so it is the newest; and by a late delete of an earlier owner.
        deleted.remember(1, "a", 0);
        deleted.remember(1_000, "a", 5);
        assert_eq!(deleted.epoch(1, "a"), Some(1));
        assert_eq!(deleted.epoch(2, "a"), None);
        assert_eq!(deleted.epoch(3, "b"), None, "one hash of two clients");
        assert_eq!(deleted.bytes, DELETED_PER_TABLE);
    }

    #[test]
    fn long_names_leave_fewer() {
        let mut deleted = Deleted::default();
        let long = "x".repeat(DELETED_BYTES_PER_TABLE - 1);
        for (epoch, name) in [(1, "a"), (2, &long), (3, "b"), (4, "c")] {
            deleted.remember(epoch, name, epoch);
        }
        assert_eq!(deleted.epoch(2, &long), None);
        assert_eq!(deleted.epoch(3, "b"), Some(3));
        deleted.remember(5, &"y".repeat(2 * DELETED_BYTES_PER_TABLE), 5);
        assert_eq!(
            (deleted.last.len(), deleted.bytes),
            (1, 2 * DELETED_BYTES_PER_TABLE)
        );
    }
}
