//! What a shard knows of the records of its clients, where the store is remote: which are to be loaded, and which to be
//! written. No clock, no I/O.
//!
//! A record comes here with CONNECT: a blank one for a new session, a loaded one for a session that is resumed, and
//! until that one is there, and is what the groups say ([`mending`]), the client's changes wait. It stays while the
//! client is connected, so that each change is one write of the whole record, and goes with the connection: the next
//! one may be elsewhere.

mod compare;
mod mending;
mod rewriting;
mod unloaded;

use super::changing::apply;
use super::limits::{
    FAULTS_LOGGED_EVERY_MS, LOADS_OPEN_MAX, RELOAD_MS, REMEMBERED_BYTES_MAX, REMEMBERED_MAX,
};
use super::{RecordChange, What};
use crate::counters::ProxyCounters;
use cluster::topology::Routing;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use rewriting::Rewriting;
use session_store::limits::{REMOTE_WRITE_DELAY_MS, WAITING_BYTES_MAX, WAITING_ENTRIES_MAX};
use session_store::{EmbeddedStore, Record, Sink as _, StoreError, Write, WriteBehind};
use std::collections::VecDeque;
use std::sync::Arc;
use unloaded::Unloaded;

/// A record to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The client.
    pub client_id: Box<str>,
    /// Goes with the answer: an answer to an earlier load is not one to this.
    pub(super) number: u64,
}

/// A record that was loaded, or was not.
#[derive(Debug)]
pub struct Loaded {
    /// The question.
    pub load: Load,
    /// The record, if there is one. [`StoreError::Unavailable`]: there was no answer in time.
    pub result: Result<Option<Record>, StoreError>,
}

/// The records of one shard's clients, as far as they are needed.
pub(super) struct Cache {
    node: String,
    /// Which group has what.
    routing: Arc<Routing>,
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
    /// Clients of `unloaded` whose record is being mended, and their order; others may be in that.
    mendings: usize,
    mending_order: VecDeque<(u64, Box<str>)>,
    last_mending: u64,
    /// Those of them that a group is to be asked for; others may be among them.
    to_list: VecDeque<Box<str>>,
    questions_open: usize,
    last_question: u32,
    rebuilt_ms: Option<u64>,
    /// The store lost what it had: what is known is written again.
    rewriting: Option<Rewriting>,
    /// The last load was late. One is tried, not before this time, and then the others.
    late_until_ms: Option<u64>,
    /// Dropped writes that were counted already.
    dropped_seen: u64,
    fault_logged_ms: Option<u64>,
}

fn remembered() -> EmbeddedStore<()> {
    EmbeddedStore::with_limits((), REMEMBERED_MAX, REMEMBERED_BYTES_MAX)
}

impl Cache {
    /// Knows nothing yet. `node` is this node's name in the records.
    pub(super) fn new(node: String, routing: Arc<Routing>) -> Self {
        Self {
            node,
            routing,
            changed: WriteBehind::new(
                WAITING_ENTRIES_MAX,
                WAITING_BYTES_MAX,
                REMOTE_WRITE_DELAY_MS,
            ),
            leaving: WriteBehind::new(WAITING_ENTRIES_MAX, WAITING_BYTES_MAX, 0),
            unchanged: remembered(),
            unloaded: HashMap::default(),
            unloaded_bytes: 0,
            to_load: VecDeque::new(),
            last_number: 0,
            loads_open: 0,
            mendings: 0,
            mending_order: VecDeque::new(),
            last_mending: 0,
            to_list: VecDeque::new(),
            questions_open: 0,
            last_question: 0,
            rebuilt_ms: None,
            rewriting: None,
            late_until_ms: None,
            dropped_seen: 0,
            fault_logged_ms: None,
        }
    }

    /// See [`EmbeddedStore::with_fixed_order`].
    pub(super) fn fix_order(&mut self) {
        self.unchanged = remembered().with_fixed_order();
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
                let resumed = connected.resumed.is_some();
                self.connect(now_ms, at_ms, change, resumed, counters)
            }
            What::Listed(page) => self.page(now_ms, &change.client_id, page, counters),
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

    /// Whether there are more loads to ask for than may be open.
    pub(super) fn loads_queue(&self) -> bool {
        self.loads_waiting() > self.loads_open
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
        let nothing = self.changed.is_empty() && self.leaving.is_empty();
        !nothing || !self.unloaded.is_empty() || self.rewriting.is_some()
    }

    /// Loads that are asked for or to be asked for, while there is hope for them.
    pub(super) fn loads_waiting(&self) -> usize {
        match self.late_until_ms {
            Some(_) => 0,
            None => self.unloaded.len() - self.mendings,
        }
    }

    /// The last turn: what waits for a record is dropped.
    pub(super) fn give_up_loads(&mut self, counters: &ProxyCounters) {
        // What is being mended was written as it was.
        let loads = self.unloaded.len() - self.mendings;
        counters.store_writes_dropped.add(loads as u64);
        self.unloaded.clear();
        self.unloaded_bytes = 0;
        (self.mendings, self.questions_open) = (0, 0);
        self.rewriting = None;
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
        resumed: bool,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        let client_id = &*change.client_id;
        if self.epoch(client_id)? > Some(change.epoch) {
            return Ok(());
        }
        // Somebody else may have written since this was: the store decides.
        let before = self.changed.take(client_id);
        self.forget(client_id);
        if resumed {
            if let Some(before) = before {
                self.leaving.put(now_ms, before);
            }
            return self.defer(now_ms, at_ms, change, counters);
        }
        self.drop_unloaded(client_id);
        self.leaving.take(client_id);
        let mut record = Record::blank(client_id);
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
            return self.defer(now_ms, at_ms, change, counters);
        };
        if let What::Held(held) = &change.what {
            return if compare::differs(&record, held, &self.routing) {
                self.mend_known(now_ms, record, held, change.epoch, counters)
            } else {
                Ok(())
            };
        }
        apply(&mut record, &self.node, at_ms, change.epoch, &change.what);
        let over = Some(change.what.ends_connection());
        self.keep(now_ms, client_id, Some(record), over, counters)
    }

    /// A client's record is to be written. `over`: whether its connection is; `None`: nothing has changed.
    fn keep(
        &mut self,
        now_ms: u64,
        client_id: &str,
        record: Option<Record>,
        over: Option<bool>,
        counters: &ProxyCounters,
    ) -> Result<(), StoreError> {
        match (record, over) {
            (Some(record), Some(true)) => {
                self.changed.take(client_id);
                self.forget(client_id);
                self.leaving.save(now_ms, &record)
            }
            (Some(record), Some(false)) => {
                self.changed.save(now_ms, &record)?;
                // Were the changed one dropped at the limit, the unchanged one would be wrong.
                self.forget(client_id);
                Ok(())
            }
            // Another owner's record stands.
            (Some(_), None) => Ok(()),
            // Who it is, nobody knows: its CONNECT was dropped, and so was its record.
            (None, _) => {
                counters.store_writes_dropped.increment();
                Ok(())
            }
        }
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
            return Ok(unloaded.epoch());
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

#[cfg(test)]
mod tests;
