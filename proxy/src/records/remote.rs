//! Session records in Redis: the shard's side. What is decided is decided in `keeping` and `cache`; here it meets the store.
//!
//! Nothing waits here: writes go into the store's outbox, loads are answered into an inbox that the shard looks into.

use super::cache::{Load, Loaded};
use super::keeping::{Keeping, Store};
use super::limits::{LAST_LOADS_WAIT, LOADED_BYTES_MAX};
use super::{FilterQuestion, RecordChange, RecordSink};
use crate::counters::ProxyCounters;
use cluster::mailbag::Wake;
use cluster::topology::Routing;
use session_store::limits::{STORE_WAIT_MS, WRITES_FEW};
use session_store::{Record, RedisStore, StoreError, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records of one shard's clients in Redis, written behind and coalesced per client, loaded when a session is resumed.
pub struct RemoteRecords {
    keeping: Keeping,
    redis: Redis,
    /// What is due is told by a clock that nobody sets.
    started: Instant,
}

/// The store, with the way for its answers.
struct Redis {
    store: RedisStore,
    caller: Arc<Caller>,
    inbox: Arc<Inbox>,
}

/// Wakes the shard when the store has room, if it has asked for that.
struct Caller {
    asked: AtomicBool,
    wake: Wake,
}

impl Caller {
    fn call(&self) {
        if self.asked.swap(false, Ordering::AcqRel) {
            (self.wake)();
        }
    }
}

/// Answers of the store that the shard has not looked at.
#[derive(Default)]
struct Inbox {
    answers: Mutex<Answers>,
    came: Condvar,
}

#[derive(Default)]
struct Answers {
    loaded: Vec<Loaded>,
    bytes: usize,
}

impl Store for Redis {
    fn is_up(&self) -> bool {
        self.store.stats().up.load(Ordering::Relaxed) != 0
    }

    fn writes_waiting(&self) -> usize {
        self.store.stats().writes_waiting.load(Ordering::Relaxed) as usize
    }

    fn wipes(&self) -> u64 {
        self.store.stats().wipes.load(Ordering::Relaxed)
    }

    fn put(&mut self, write: Write) -> Result<bool, StoreError> {
        self.store.put(write)
    }

    fn load(&mut self, load: Load) {
        let client_id = load.client_id.clone();
        let inbox = Arc::clone(&self.inbox);
        let caller = Arc::clone(&self.caller);
        let reply = move |result| {
            inbox.put(Loaded { load, result });
            caller.call();
        };
        let wait = Duration::from_millis(STORE_WAIT_MS);
        self.store.load_later(&client_id, wait, reply);
    }
}

impl RemoteRecords {
    /// `node` is this node's name in the records.
    /// `routing` says which group has which filter, `wake` wakes the shard.
    pub fn new(store: RedisStore, node: String, routing: Arc<Routing>, wake: Wake) -> Self {
        Self {
            keeping: Keeping::new(node, routing),
            redis: Redis {
                store,
                caller: Arc::new(Caller {
                    asked: AtomicBool::new(false),
                    wake,
                }),
                inbox: Arc::default(),
            },
            started: Instant::now(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Lets the store wake the shard, if something waits for room: with the next answer to a load, or when few writes wait.
    fn ask_for_room(&self, now_ms: u64) {
        let Redis { store, caller, .. } = &self.redis;
        if !self.keeping.waits_for_room(now_ms) || caller.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.redis.writes_waiting() > WRITES_FEW || self.keeping.loads_waiting() == 0 {
            let caller = Arc::clone(caller);
            store.when_few_wait(move || caller.call());
        }
    }
}

impl RecordSink for RemoteRecords {
    fn take(&mut self, now_ms: u64, change: RecordChange, counters: &ProxyCounters) {
        let elapsed_ms = self.elapsed_ms();
        self.keeping.take(elapsed_ms, now_ms, change, counters);
    }

    fn flush_due(&mut self, _now_ms: u64, counters: &ProxyCounters) {
        let now_ms = self.elapsed_ms();
        let answers = self.redis.inbox.take();
        self.keeping
            .turn(now_ms, answers, &mut self.redis, counters);
        self.ask_for_room(now_ms);
    }

    fn flush(&mut self, counters: &ProxyCounters) {
        let until = Instant::now() + LAST_LOADS_WAIT;
        self.keeping.take_up_all(self.elapsed_ms(), counters);
        while self.keeping.loads_waiting() > 0 && Instant::now() < until {
            self.keeping.ask(self.elapsed_ms(), &mut self.redis);
            self.redis.inbox.await_one(until);
            let answers = self.redis.inbox.take();
            self.keeping.answered(self.elapsed_ms(), answers, counters);
        }
        self.keeping.hand_over_all(&mut self.redis, counters);
    }

    fn has_waiting(&self) -> bool {
        self.keeping.has_waiting(&self.redis)
    }

    fn next_question(&mut self) -> Option<FilterQuestion> {
        self.keeping.next_question()
    }
}

impl Inbox {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        // They are whole at every point where their user could panic.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Loaded> {
        std::mem::take(&mut *self.answers()).loaded
    }

    /// Called by the store's thread.
    fn put(&self, mut loaded: Loaded) {
        let record = loaded.result.as_ref().ok().and_then(Option::as_ref);
        let bytes = record.map_or(0, bytes_of);
        let mut answers = self.answers();
        if answers.bytes + bytes > LOADED_BYTES_MAX {
            let full = "loaded records wait for the shard already".to_owned();
            loaded.result = Err(StoreError::Unavailable(full));
        } else {
            answers.bytes += bytes;
        }
        answers.loaded.push(loaded);
        drop(answers);
        self.came.notify_one();
    }

    /// Waits until there is an answer, at most until then.
    fn await_one(&self, until: Instant) {
        let wait = until.saturating_duration_since(Instant::now());
        let none = |answers: &mut Answers| answers.loaded.is_empty();
        drop(self.came.wait_timeout_while(self.answers(), wait, none));
    }
}

/// Bytes of a record, about.
fn bytes_of(record: &Record) -> usize {
    let filters = record.filters.iter().map(|filter| filter.filter.len() + 64);
    let texts = record.client_id.len() + record.user.as_ref().map_or(0, String::len);
    size_of::<Record>() + texts + filters.sum::<usize>()
}

#[cfg(test)]
mod tests;
