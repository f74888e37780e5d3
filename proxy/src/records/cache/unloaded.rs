//! Clients whose changes wait: for their record, or for what groups say of it.

use super::super::limits::{
    UNLOADED_BYTES_MAX, UNLOADED_CLIENT_BYTES_MAX, UNLOADED_IN_ORDER, UNLOADED_MAX,
};
use super::super::{RecordChange, What};
use super::mending::Mending;
use super::{Cache, Load, read};
use crate::counters::ProxyCounters;
use session_store::{Record, StoreError};

/// Changes of a client that wait.
#[derive(Debug)]
pub(super) struct Unloaded {
    /// Its load's number; 0: its record is there.
    pub(super) number: u64,
    pub(super) changes: Vec<Waiting>,
    /// Of all of it.
    pub(super) bytes: usize,
    /// Its record is there and differs from what groups hold.
    pub(super) mending: Option<Box<Mending>>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) at_ms: u64,
    pub(super) epoch: u64,
    pub(super) what: What,
}

impl Unloaded {
    /// Its record is to be loaded.
    fn loading(client_id: &str) -> Self {
        Self {
            number: 0,
            changes: Vec::new(),
            bytes: client_id.len(),
            mending: None,
        }
    }

    /// Its record is there, and this waits for what groups say of it.
    pub(super) fn mending(client_id: &str, mending: Mending, changes: Vec<Waiting>) -> Self {
        let waiting: usize = changes.iter().map(|change| change.what.bytes()).sum();
        Self {
            number: 0,
            bytes: client_id.len() + waiting + mending.bytes,
            changes,
            mending: Some(Box::new(mending)),
        }
    }

    /// The epoch of what is known of the client.
    pub(super) fn epoch(&self) -> Option<u64> {
        let of_mending = self.mending.as_ref().map(|mending| mending.epoch);
        self.changes.last().map(|last| last.epoch).or(of_mending)
    }

    fn bytes_of_changes(&self) -> usize {
        self.bytes - self.mending.as_ref().map_or(0, |mending| mending.bytes)
    }
}

impl Cache {
    /// Lets a change wait for the client's record.
    pub(super) fn defer(
        &mut self,
        now_ms: u64,
        at_ms: u64,
        change: &RecordChange,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let client_id = &change.client_id;
        if !self.unloaded.contains_key(client_id) {
            self.insert_unloaded(client_id, Unloaded::loading(client_id));
            self.load_again(Load {
                client_id: client_id.clone(),
                number: 0,
            });
        }
        let unloaded = self.unloaded.get_mut(client_id).expect("it is there now");
        let bytes = change.what.bytes();
        unloaded.bytes += bytes;
        self.unloaded_bytes += bytes;
        unloaded.changes.push(Waiting {
            at_ms,
            epoch: change.epoch,
            what: change.what.clone(),
        });
        let is_full = unloaded.bytes_of_changes() > UNLOADED_CLIENT_BYTES_MAX;
        if unloaded.mending.is_some() {
            return if is_full {
                self.give_up_mending(now_ms, client_id, counters)
            } else {
                self.turn_mending(now_ms, client_id, &change.what, counters)
            };
        }
        if is_full {
            self.drop_unloaded(client_id);
            counters.store_writes_dropped.increment();
        }
        self.bound_mendings(now_ms, counters)?;
        self.bound_loads(counters);
        Ok(())
    }

    /// At the limits those who have waited longest for their record are dropped. Records that are mended have had
    /// their turn.
    fn bound_loads(&mut self, counters: &ProxyCounters) {
        while self.unloaded.len() > UNLOADED_MAX || self.unloaded_bytes > UNLOADED_BYTES_MAX {
            let Some(oldest) = self.to_load.pop_front() else {
                break;
            };
            if self.awaits(&oldest) {
                self.drop_unloaded(&oldest.client_id);
                counters.store_writes_dropped.increment();
            }
        }
    }

    /// Puts a client at the end of those to be loaded.
    pub(super) fn load_again(&mut self, mut load: Load) {
        self.last_number += 1;
        load.number = self.last_number;
        if let Some(unloaded) = self.unloaded.get_mut(&load.client_id) {
            unloaded.number = load.number;
        }
        self.to_load.push_back(load);
        if self.to_load.len() > 2 * self.unloaded.len() + UNLOADED_IN_ORDER {
            let mut order = std::mem::take(&mut self.to_load);
            order.retain(|load| self.awaits(load));
            self.to_load = order;
        }
    }

    /// Whether the client still waits for this load.
    pub(super) fn awaits(&self, load: &Load) -> bool {
        let there = self.unloaded.get(&load.client_id);
        there.is_some_and(|unloaded| unloaded.number == load.number)
    }

    /// Changes the record as it was in the store by what waited for it.
    pub(super) fn join(
        &mut self,
        now_ms: u64,
        client_id: &str,
        stored: Option<Record>,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let Some(unloaded) = self.drop_unloaded(client_id) else {
            return Ok(());
        };
        let record = match self.leaving.take(client_id) {
            // It came too late for the load.
            Some(last)
                if stored
                    .as_ref()
                    .is_none_or(|stored| stored.epoch <= last.epoch()) =>
            {
                read(&last)?
            }
            _ => stored,
        };
        self.fold(now_ms, client_id, unloaded.changes, record, false, counters)
    }

    pub(super) fn insert_unloaded(&mut self, client_id: &str, unloaded: Unloaded) {
        self.unloaded_bytes += unloaded.bytes;
        self.unloaded.insert(client_id.into(), unloaded);
    }

    pub(super) fn drop_unloaded(&mut self, client_id: &str) -> Option<Unloaded> {
        let unloaded = self.unloaded.remove(client_id)?;
        self.unloaded_bytes -= unloaded.bytes;
        if let Some(mending) = &unloaded.mending {
            self.mendings -= 1;
            self.questions_open -= usize::from(mending.is_open);
        }
        Some(unloaded)
    }
}
