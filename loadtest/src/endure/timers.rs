//! When each device is to be looked at.

use std::collections::BTreeSet;

/// When each device is to be looked at.
#[derive(Debug)]
pub(super) struct Timers {
    order: BTreeSet<(u64, u32)>,
    armed: Vec<Option<u64>>,
}

impl Timers {
    /// Timers of `devices` devices, none set.
    pub(super) fn new(devices: usize) -> Self {
        Self {
            order: BTreeSet::new(),
            armed: vec![None; devices],
        }
    }

    /// The earliest time.
    pub(super) fn first(&self) -> Option<u64> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The time of `index`.
    pub(super) fn armed(&self, index: usize) -> Option<u64> {
        self.armed[index]
    }

    /// `index` is to be looked at `at` this time, or not at all.
    pub(super) fn set(&mut self, index: usize, at: Option<u64>) {
        if self.armed[index] == at {
            return;
        }
        if let Some(old) = self.armed[index].take() {
            self.order.remove(&(old, index as u32));
        }
        if let Some(at) = at {
            self.order.insert((at, index as u32));
        }
        self.armed[index] = at;
    }

    /// The next one whose time has come.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<usize> {
        let &(at, index) = self.order.first().filter(|(at, _)| *at <= now_ns)?;
        self.order.remove(&(at, index));
        self.armed[index as usize] = None;
        Some(index as usize)
    }
}
