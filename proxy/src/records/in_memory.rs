//! Session records in a map that the proxies of a test share. It answers at once.

use super::cache::{Cache, Loaded};
use super::{FilterQuestion, RecordChange};
use crate::counters::ProxyCounters;
use cluster::topology::Routing;
use session_store::{Record, Write};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// The records by client id.
pub(crate) type Stored = Rc<RefCell<BTreeMap<String, Record>>>;

/// One proxy's end of it.
pub(crate) struct InMemoryRecords {
    cache: Cache,
    stored: Stored,
}

impl InMemoryRecords {
    pub(crate) fn new(stored: &Stored, node: &str, routing: &Arc<Routing>) -> Self {
        Self {
            cache: Cache::new(node.to_owned(), Arc::clone(routing)),
            stored: Rc::clone(stored),
        }
    }

    pub(crate) fn take(&mut self, now_ms: u64, change: &RecordChange, counters: &ProxyCounters) {
        self.cache.take(now_ms, now_ms, change, counters);
    }

    /// Writes what is due, and loads what is asked for.
    pub(crate) fn turn(&mut self, now_ms: u64, counters: &ProxyCounters) {
        while let Some(write) = self.cache.next_write(now_ms) {
            put(&mut self.stored.borrow_mut(), write);
            self.cache.written(now_ms, counters);
        }
        while let Some(load) = self.cache.next_load(now_ms) {
            let result = Ok(self.stored.borrow().get(&*load.client_id).cloned());
            self.cache.loaded(now_ms, Loaded { load, result }, counters);
        }
    }

    pub(crate) fn next_question(&mut self) -> Option<FilterQuestion> {
        self.cache.next_question()
    }
}

/// A record of a higher epoch stands.
fn put(stored: &mut BTreeMap<String, Record>, write: &Write) {
    let client_id = write.client_id().to_string();
    let there = stored.get(&client_id);
    if there.is_some_and(|there| there.epoch > write.epoch()) {
        return;
    }
    match write {
        Write::Save { record, .. } => {
            let record = Record::decode(record).expect("it was encoded here");
            stored.insert(client_id, record);
        }
        Write::Delete { .. } => {
            stored.remove(&client_id);
        }
    }
}
