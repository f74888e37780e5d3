//! The group's end: what it is told, and what it proposes.

use super::inbox::Inbox;
use crate::consensus::{Consensus, Event, Payload, Position};
use crate::log::LogError;
use std::sync::Arc;
use std::time::Instant;

/// [`Consensus`] of a replicated group. For one thread; never waits.
#[derive(Debug)]
pub struct Handle {
    inbox: Arc<Inbox>,
    /// The term that the group was told it leads in, as long as it was not told otherwise.
    leads: Option<u64>,
    pending_bytes: usize,
}

impl Handle {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            leads: None,
            pending_bytes: 0,
        }
    }
}

impl Consensus for Handle {
    fn propose(&mut self, body: Vec<u8>) {
        if let Some(term) = self.leads {
            self.pending_bytes += body.len();
            self.inbox.propose(term, body);
        }
    }

    fn next(&mut self) -> Option<Event> {
        let event = self.inbox.next()?;
        match &event {
            Event::Lead { term } => {
                self.leads = Some(*term);
                self.pending_bytes = 0;
            }
            Event::Follow { .. } | Event::Install { .. } => {
                self.leads = None;
                self.pending_bytes = 0;
            }
            Event::Entry(entry) => {
                if let (Payload::Commands { body, .. }, true) =
                    (&entry.payload, self.leads == Some(entry.term))
                {
                    self.pending_bytes = self.pending_bytes.saturating_sub(body.len());
                }
            }
        }
        Some(event)
    }

    fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    fn leads_until(&self) -> Option<Instant> {
        // Tokio's clock is the system's, but for tests that stop it.
        let now = tokio::time::Instant::now().into_std();
        self.inbox.leads_until(self.leads?, now)
    }

    fn wall_ms(&self, own_ms: u64) -> u64 {
        let now = tokio::time::Instant::now().into_std();
        self.inbox.wall_ms(own_ms, now)
    }

    fn snapshot_written(&mut self, at: Position) {
        self.inbox.snapshot_written(at);
    }

    fn kept_from(&self) -> u64 {
        self.inbox.kept_from()
    }

    fn is_full(&self) -> bool {
        let now = tokio::time::Instant::now().into_std();
        self.inbox.change_lease(|lease| lease.is_full(now))
    }

    fn failure(&self) -> Option<LogError> {
        self.inbox.failure()
    }
}
