//! What a shard knows of the records of its clients, where the store is remote: which are to be loaded, and which to be
//! written. No clock, no I/O.
//!
//! A record comes here with CONNECT: a blank one for a new session, a loaded one for a session that is resumed, and
//! until that one is there the client's changes wait. It stays while the client is connected, so that each change is
//! one write of the whole record, and goes with the connection: the next one may be elsewhere.

use super::changing::{apply, blank};
use super::limits::{
    CHANGE_BYTES, FAULTS_LOGGED_EVERY_MS, LOADS_OPEN_MAX, RELOAD_MS, REMEMBERED_BYTES_MAX,
    REMEMBERED_MAX, UNLOADED_BYTES_MAX, UNLOADED_CLIENT_BYTES_MAX, UNLOADED_IN_ORDER, UNLOADED_MAX,
};
use super::{RecordChange, What};
use crate::counters::ProxyCounters;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use session_store::limits::{REMOTE_WRITE_DELAY_MS, WAITING_BYTES_MAX, WAITING_ENTRIES_MAX};
use session_store::{EmbeddedStore, Record, Sink as _, StoreError, Write, WriteBehind};
use std::collections::VecDeque;

/// A record to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) client_id: Box<str>,
    /// Goes with the answer: an answer to an earlier load is not one to this.
    pub(super) number: u64,
}

/// A record that was loaded, or was not.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) load: Load,
    pub(super) result: Result<Option<Record>, StoreError>,
}

/// The records of one shard's clients, as far as they are needed.
pub(super) struct Cache {
    node: String,
    /// Records of connected clients with changes.
    changed: WriteBehind,
    /// Last writes of clients that left: nothing will join them, so they are due at once.
    leaving: WriteBehind,
    /// Records of connected clients without changes. Its locks are nobody else's, so they are free.
    unchanged: EmbeddedStore<()>,
    /// Clients whose changes wait for their record.
    unloaded: HashMap<Box<str>, Unloaded, RandomState>,
    unloaded_bytes: usize,
    /// Clients of `unloaded` whose load is not under way, with its number; others may be among them.
    to_load: VecDeque<Load>,
    last_number: u64,
    loads_open: usize,
    /// The last load was late. One is tried, not before this time, and then the others.
    late_until_ms: Option<u64>,
    /// Dropped writes that were counted already.
    dropped_seen: u64,
    fault_logged_ms: Option<u64>,
}

/// Changes of a client that wait for its record.
#[derive(Debug)]
struct Unloaded {
    /// Its load's number.
    number: u64,
    changes: Vec<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    at_ms: u64,
    epoch: u64,
    what: What,
}

impl Cache {
    /// Knows nothing yet. `node` is this node's name in the records.
    pub(super) fn new(node: String) -> Self {
        Self {
            node,
            changed: WriteBehind::new(
                WAITING_ENTRIES_MAX,
                WAITING_BYTES_MAX,
                REMOTE_WRITE_DELAY_MS,
            ),
            leaving: WriteBehind::new(WAITING_ENTRIES_MAX, WAITING_BYTES_MAX, 0),
            unchanged: EmbeddedStore::with_limits((), REMEMBERED_MAX, REMEMBERED_BYTES_MAX),
            unloaded: HashMap::default(),
            unloaded_bytes: 0,
            to_load: VecDeque::new(),
            last_number: 0,
            loads_open: 0,
            late_until_ms: None,
            dropped_seen: 0,
            fault_logged_ms: None,
        }
    }

    /// Takes a change in that people are told happened at `at_ms`. Only `now_ms`, here and elsewhere, decides anything: it
    /// never goes back.
    pub(super) fn take(
        &mut self,
        now_ms: u64,
        at_ms: u64,
        change: &RecordChange,
        counters: &ProxyCounters,
    ) {
        let result = match &change.what {
            What::Connected(connected) => {
                self.connect(now_ms, at_ms, change, connected.session_present, counters)
            }
            _ => self.change(now_ms, at_ms, change, counters),
        };
        self.see(now_ms, result, counters);
        self.count_dropped(counters);
    }

    /// The next record to load, if there is one now.
    pub(super) fn next_load(&mut self, now_ms: u64) -> Option<Load> {
        let open_max = match self.late_until_ms {
            Some(until_ms) if until_ms > now_ms => 0,
            Some(_) => 1,
            None => LOADS_OPEN_MAX,
        };
        if self.loads_open >= open_max {
            return None;
        }
        while let Some(load) = self.to_load.pop_front() {
            if self.awaits(&load) {
                self.loads_open += 1;
                return Some(load);
            }
        }
        None
    }

    /// A load is answered.
    pub(super) fn loaded(&mut self, now_ms: u64, loaded: Loaded, counters: &ProxyCounters) {
        let Loaded { load, result } = loaded;
        self.loads_open -= 1;
        if let Err(StoreError::Unavailable(_)) = result {
            self.late_until_ms = Some(now_ms + RELOAD_MS);
            if self.awaits(&load) {
                self.load_again(load);
            }
            return;
        }
        self.late_until_ms = None;
        if !self.awaits(&load) {
            return;
        }
        let stored = match result {
            Ok(stored) => stored,
            Err(error) => {
                // What cannot be read is replaced.
                self.see(now_ms, Err(error), counters);
                None
            }
        };
        if stored.is_none() {
            counters.store_records_missing.increment();
        }
        let result = self.join(now_ms, &load.client_id, stored, counters);
        self.see(now_ms, result, counters);
        self.count_dropped(counters);
    }

    /// The next write, if one is due. It stays the next until it is [`written`](Self::written).
    pub(super) fn next_write(&self, now_ms: u64) -> Option<&Write> {
        let leaving = self.leaving.first_due(now_ms);
        leaving.or_else(|| self.changed.first_due(now_ms))
    }

    /// The store has the next write, or refuses it for good.
    pub(super) fn written(&mut self, now_ms: u64, counters: &ProxyCounters) {
        if self.leaving.pop_due(now_ms).is_some() {
            return;
        }
        let Some(write) = self.changed.pop_due(now_ms) else {
            return;
        };
        if self.unchanged.write(&write).is_err() {
            // An older one of the client is none to remember.
            self.forget(write.client_id());
            counters.store_records_not_remembered.increment();
        }
    }

    /// Whether a record waits to be written, or to be loaded and then written.
    pub(super) fn has_waiting(&self) -> bool {
        !(self.changed.is_empty() && self.leaving.is_empty() && self.unloaded.is_empty())
    }

    /// Whether loads are asked for or to be asked for, and there is hope for them.
    pub(super) fn awaits_loads(&self) -> bool {
        !self.unloaded.is_empty() && self.late_until_ms.is_none()
    }

    /// The last turn: what waits for a record is dropped.
    pub(super) fn give_up_loads(&mut self, counters: &ProxyCounters) {
        counters
            .store_writes_dropped
            .add(self.unloaded.len() as u64);
        self.unloaded.clear();
        self.unloaded_bytes = 0;
    }

    /// Counts a failure, and says so now and then.
    pub(super) fn see(
        &mut self,
        now_ms: u64,
        result: Result<(), StoreError>,
        counters: &ProxyCounters,
    ) {
        let Err(error) = result else { return };
        counters.store_errors.increment();
        let quiet = |last_ms: u64| now_ms.saturating_sub(last_ms) < FAULTS_LOGGED_EVERY_MS;
        if !self.fault_logged_ms.is_some_and(quiet) {
            self.fault_logged_ms = Some(now_ms);
            tracing::warn!(%error, "a session record could not be read or written");
        }
    }

    fn connect(
        &mut self,
        now_ms: u64,
        at_ms: u64,
        change: &RecordChange,
        session_present: bool,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let client_id = &*change.client_id;
        if self.epoch(client_id)? > Some(change.epoch) {
            return Ok(());
        }
        // Somebody else may have written since this was: the store decides.
        let before = self.changed.take(client_id);
        self.forget(client_id);
        if session_present {
            if let Some(before) = before {
                self.leaving.put(now_ms, before);
            }
            self.defer(at_ms, change, counters);
            return Ok(());
        }
        self.drop_unloaded(client_id);
        self.leaving.take(client_id);
        let mut record = blank(client_id);
        apply(&mut record, &self.node, at_ms, change.epoch, &change.what);
        self.changed.save(now_ms, &record)
    }

    fn change(
        &mut self,
        now_ms: u64,
        at_ms: u64,
        change: &RecordChange,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let client_id = &*change.client_id;
        let there = self.epoch(client_id)?;
        if there > Some(change.epoch) {
            return Ok(());
        }
        if change.what.ends_session() {
            self.drop_unloaded(client_id);
            self.changed.take(client_id);
            self.forget(client_id);
            self.leaving.delete(now_ms, client_id, change.epoch);
            return Ok(());
        }
        let known = if self.unloaded.contains_key(client_id) {
            None
        } else {
            self.known(client_id)?
        };
        let Some(mut record) = known else {
            self.defer(at_ms, change, counters);
            return Ok(());
        };
        apply(&mut record, &self.node, at_ms, change.epoch, &change.what);
        if change.what.ends_connection() {
            self.changed.take(client_id);
            self.forget(client_id);
            return self.leaving.save(now_ms, &record);
        }
        self.changed.save(now_ms, &record)?;
        // Were the changed one dropped at the limit, the unchanged one would be wrong.
        self.forget(client_id);
        Ok(())
    }

    /// The record of a connected client.
    fn known(&self, client_id: &str) -> Result<Option<Record>, StoreError> {
        match self.changed.get(client_id) {
            Some(write) => read(write),
            None => self.unchanged.load_now(client_id),
        }
    }

    /// The epoch of what is known of a client, if anything is.
    fn epoch(&self, client_id: &str) -> Result<Option<u64>, StoreError> {
        if let Some(unloaded) = self.unloaded.get(client_id) {
            return Ok(unloaded.changes.last().map(|last| last.epoch));
        }
        if let Some(write) = self.changed.get(client_id) {
            return Ok(Some(write.epoch()));
        }
        let record = self.unchanged.load_now(client_id)?;
        Ok(record.map(|record| record.epoch))
    }

    fn forget(&self, client_id: &str) {
        self.unchanged
            .forget_now(client_id)
            .expect("its journal is nothing");
    }

    /// Lets a change wait for the client's record.
    fn defer(&mut self, at_ms: u64, change: &RecordChange, counters: &ProxyCounters) {
        let client_id = &change.client_id;
        if !self.unloaded.contains_key(client_id) {
            let load = Load {
                client_id: client_id.clone(),
                number: 0,
            };
            let (changes, bytes) = (Vec::new(), client_id.len());
            let unloaded = Unloaded {
                number: 0,
                changes,
                bytes,
            };
            self.unloaded.insert(client_id.clone(), unloaded);
            self.unloaded_bytes += bytes;
            self.load_again(load);
        }
        let unloaded = self.unloaded.get_mut(client_id).expect("it is there now");
        let bytes = bytes_of(&change.what);
        unloaded.bytes += bytes;
        self.unloaded_bytes += bytes;
        unloaded.changes.push(Waiting {
            at_ms,
            epoch: change.epoch,
            what: change.what.clone(),
        });
        if unloaded.bytes > UNLOADED_CLIENT_BYTES_MAX {
            self.drop_unloaded(client_id);
            counters.store_writes_dropped.increment();
        }
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
    fn load_again(&mut self, mut load: Load) {
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
    fn awaits(&self, load: &Load) -> bool {
        let there = self.unloaded.get(&load.client_id);
        there.is_some_and(|unloaded| unloaded.number == load.number)
    }

    fn drop_unloaded(&mut self, client_id: &str) -> Option<Unloaded> {
        let unloaded = self.unloaded.remove(client_id)?;
        self.unloaded_bytes -= unloaded.bytes;
        Some(unloaded)
    }

    /// Changes the record as it was in the store by what waited for it.
    fn join(
        &mut self,
        now_ms: u64,
        client_id: &str,
        stored: Option<Record>,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let Some(unloaded) = self.drop_unloaded(client_id) else {
            return Ok(());
        };
        let mut record = match self.leaving.take(client_id) {
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
        let mut over = None;
        for Waiting { at_ms, epoch, what } in &unloaded.changes {
            if record.as_ref().is_some_and(|record| record.epoch > *epoch) {
                continue;
            }
            if record.is_none() && matches!(what, What::Connected(_)) {
                record = Some(blank(client_id));
            }
            let Some(record) = &mut record else { continue };
            apply(record, &self.node, *at_ms, *epoch, what);
            over = Some(what.ends_connection());
        }
        match (record, over) {
            (Some(record), Some(true)) => self.leaving.save(now_ms, &record),
            (Some(record), Some(false)) => self.changed.save(now_ms, &record),
            // Another owner's record stands.
            (Some(_), None) => Ok(()),
            // Who it is, nobody knows: its CONNECT was dropped, and so was its record.
            (None, _) => {
                counters.store_writes_dropped.increment();
                Ok(())
            }
        }
    }

    fn count_dropped(&mut self, counters: &ProxyCounters) {
        let dropped = self.changed.stats().dropped + self.leaving.stats().dropped;
        counters
            .store_writes_dropped
            .add(dropped - self.dropped_seen);
        self.dropped_seen = dropped;
    }
}

/// The record that a write leaves.
fn read(write: &Write) -> Result<Option<Record>, StoreError> {
    match write {
        Write::Save { record, .. } => Record::decode(record).map(Some),
        Write::Delete { .. } => Ok(None),
    }
}

/// Bytes of a change, about.
fn bytes_of(what: &What) -> usize {
    let texts = match what {
        What::Connected(connected) => connected.user.as_ref().map_or(0, String::len),
        What::Subscribed { filters, .. } => {
            let of = |filter: &str| filter.len() + CHANGE_BYTES;
            filters.iter().map(|(filter, _)| of(filter.as_str())).sum()
        }
        What::Unsubscribed { filters } => {
            let of = |filter: &str| filter.len() + CHANGE_BYTES;
            filters.iter().map(|filter| of(filter.as_str())).sum()
        }
        What::Ended { .. } => 0,
    };
    CHANGE_BYTES + texts
}

#[cfg(test)]
mod tests;
