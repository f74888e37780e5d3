//! What is due at which time of the group.

use cluster::ids::ClientNo;
use std::collections::BTreeSet;

/// Which timer of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKind {
    /// The Session Expiry Interval is over (MQTT5 3.1.2.11.2).
    Expiry,
    /// The Will Delay Interval is over (MQTT5 3.1.3.2.2).
    Will,
}

/// Timers of clients, by deadline in group time.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(u64, ClientNo, TimerKind)>);

impl Timers {
    pub(super) fn set(&mut self, deadline_ms: u64, client: ClientNo, kind: TimerKind) {
        self.0.insert((deadline_ms, client, kind));
    }

    pub(super) fn cancel(&mut self, deadline_ms: u64, client: ClientNo, kind: TimerKind) {
        self.0.remove(&(deadline_ms, client, kind));
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.first().map(|(deadline_ms, ..)| *deadline_ms)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(ClientNo, TimerKind)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.0.pop_first().map(|(_, client, kind)| (client, kind))
    }
}
