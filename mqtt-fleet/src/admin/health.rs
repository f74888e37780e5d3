//! Whether the broker takes clients.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where the broker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The log is being replayed; the MQTT port is closed.
    Starting,
    /// The MQTT port is open.
    Ready,
    /// A stop was asked for; no new clients.
    Draining,
}

/// The phase, shared between the main thread, which sets it, and the admin thread.
#[derive(Debug)]
pub(crate) struct Health(AtomicU8);

impl Health {
    /// A broker that has just been started.
    pub(crate) fn starting() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }

    /// Enters a phase. Phases only go forward: a drain is never taken back.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Release);
    }

    /// The current phase.
    pub(crate) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_forward() {
        let health = Health::starting();
        assert_eq!(health.phase(), Phase::Starting);
        health.enter(Phase::Draining);
        health.enter(Phase::Ready);
        assert_eq!(health.phase(), Phase::Draining);
    }
}
