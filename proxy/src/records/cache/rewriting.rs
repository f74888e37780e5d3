//! What is written again when the store has lost what it had: the records of connected clients, as they are remembered.

use super::super::limits::{REWRITES_PER_S, REWRITES_WAITING_MAX};
use super::Cache;
use crate::counters::ProxyCounters;
use std::collections::VecDeque;

/// How far that is. Goes from table to table of what is remembered; what has changes is written anyway.
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    next_table: usize,
    /// Clients of the tables before that.
    due: VecDeque<Box<str>>,
    /// When the last ones were taken.
    taken_ms: Option<u64>,
}

impl Cache {
    /// The store has lost what it had.
    pub(in crate::records) fn rewrite_all(&mut self) {
        self.rewriting = Some(Rewriting::default());
    }

    /// Lets some records wait to be written: as many as the time since the last ones allows.
    pub(in crate::records) fn rewrite_some(&mut self, now_ms: u64, counters: &ProxyCounters) {
        let Some(mut rewriting) = self.rewriting.take() else {
            return;
        };
        let since_ms = rewriting
            .taken_ms
            .map_or(1_000, |taken_ms| now_ms - taken_ms);
        let allowed = (since_ms.min(1_000) * REWRITES_PER_S / 1_000) as usize;
        if allowed > 0 {
            rewriting.taken_ms = Some(now_ms);
        }
        let room = REWRITES_WAITING_MAX.saturating_sub(self.changed.len());
        for _ in 0..allowed.min(room) {
            let Some(client_id) = self.next_to_rewrite(&mut rewriting) else {
                return;
            };
            let result = self.rewrite(now_ms, &client_id, counters);
            self.see(now_ms, result, counters);
        }
        self.rewriting = Some(rewriting);
    }

    fn next_to_rewrite(&self, rewriting: &mut Rewriting) -> Option<Box<str>> {
        while rewriting.due.is_empty() {
            rewriting.due = self.unchanged.clients_of(rewriting.next_table)?.into();
            rewriting.next_table += 1;
        }
        rewriting.due.pop_front()
    }

    fn rewrite(
        &mut self,
        now_ms: u64,
        client_id: &str,
        counters: &ProxyCounters,
    ) -> Result<(), session_store::StoreError> {
        // It may have changed, or gone, since it was seen.
        let Some(record) = self.unchanged.load_now(client_id)? else {
            return Ok(());
        };
        counters.store_records_rewritten.increment();
        self.keep(now_ms, client_id, Some(record), Some(false), counters)
    }
}
