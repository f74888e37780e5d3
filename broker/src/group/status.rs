//! What others may know of a running group, and wait for.

use crate::machine::Counters;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What others may know of a running group.
#[derive(Clone, Debug, Default)]
pub struct GroupStatus {
    /// The machine's figures.
    pub counters: Counters,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Set while this member leads and the first entry of its reign has been applied: the group serves here.
    pub serving: bool,
    /// The newest reign of the group, this member's or another's; 0 before the first.
    pub reign: u32,
    /// QoS 0 deliveries dropped because a link held its limit of bytes.
    pub qos0_dropped_link_full: u64,
    /// QoS 0 deliveries dropped because a link had no session.
    pub qos0_dropped_link_lost: u64,
    /// Frames dropped because they came before their link session's `Resume`.
    pub frames_out_of_turn: u64,
    /// Claims not taken: their connections were over when the link came back.
    pub claims_void: u64,
    /// Slices of snapshots that were written while the group took no frames: it changed faster than they were written.
    pub snapshot_waits: u64,
    /// The disk is full, and the log waits for space.
    pub log_full: bool,
    /// Snapshots that were given up as the disk was full; they are tried again.
    pub snapshots_without_space: u64,
    /// A large step of the wall clock waits for proof.
    pub proving_clock_step: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) status: Mutex<GroupStatus>,
    pub(super) serving: Condvar,
    pub(super) stop: AtomicBool,
    pub(super) failed: AtomicBool,
}

impl Shared {
    /// The group will not serve any more: nobody has to wait for it.
    pub(super) fn fail(&self) {
        let mut status = self.lock();
        status.serving = false;
        self.failed.store(true, Ordering::Release);
        self.serving.notify_all();
    }

    /// The group is to end: nobody has to wait for it.
    pub(super) fn stop(&self) {
        let _status = self.lock();
        self.stop.store(true, Ordering::Release);
        self.serving.notify_all();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, GroupStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reigns of a member, each once it serves; ends with the group. Waits for the next one.
#[derive(Debug)]
pub struct Reigns {
    pub(super) shared: Arc<Shared>,
    /// The last one that it has told of.
    pub(super) last: u32,
}

impl Iterator for Reigns {
    /// The number of the reign.
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let shared = &*self.shared;
        let ended = || shared.failed.load(Ordering::Acquire) || shared.stop.load(Ordering::Acquire);
        let is_old = |status: &GroupStatus| !status.serving || status.reign == self.last;
        let mut status = shared.lock();
        while is_old(&status) && !ended() {
            let waited = shared.serving.wait(status);
            status = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if ended() {
            return None;
        }
        self.last = status.reign;
        Some(self.last)
    }
}
