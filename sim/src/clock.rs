//! The time of members: Tokio's, stopped, and moved on by the world.
//!
//! Tokio's timers count whole milliseconds, the world microseconds; both clocks always show the same time.

use crate::outbox::Outbox;
use broker::raft::polls;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::task::yield_now;

/// Some subtract a little from the time.
const BEFORE: Duration = Duration::from_secs(3_600);

pub(crate) struct Clock {
    runtime: Runtime,
    /// When the world began.
    base: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        runtime.block_on(tokio::time::advance(BEFORE));
        let base = runtime.block_on(async { tokio::time::Instant::now() });
        Self { runtime, base }
    }

    /// As long as the guard is there, this is the time of the thread.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    pub(crate) fn base(&self) -> Instant {
        self.base.into_std()
    }

    /// Microseconds since the world began.
    pub(crate) fn now(&self) -> u64 {
        // Within the runtime's time.
        let now = tokio::time::Instant::now();
        (now - self.base).as_micros() as u64
    }

    /// Lets members work until `at`, or until one of them has something for the world: `false`.
    pub(crate) fn reach(&self, at: u64, outbox: &Outbox) -> bool {
        self.runtime.block_on(self.work_until(at, outbox))
    }

    async fn work_until(&self, at: u64, outbox: &Outbox) -> bool {
        rest().await;
        if !outbox.is_empty() {
            return false;
        }
        let millis = self.base + Duration::from_millis(at / 1_000);
        if tokio::time::Instant::now() < millis {
            tokio::select! {
                biased;
                () = outbox.filled() => {}
                () = tokio::time::sleep_until(millis) => {}
            }
            rest().await;
            if !outbox.is_empty() {
                return false;
            }
        }
        let left = self.base + Duration::from_micros(at) - tokio::time::Instant::now();
        if !left.is_zero() {
            tokio::time::advance(left).await;
        }
        true
    }
}

/// Waits until no task has anything to do at this time.
async fn rest() {
    loop {
        let before = polls();
        yield_now().await;
        if polls() == before {
            return;
        }
    }
}
