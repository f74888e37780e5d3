//! Session records in Redis: the shard's side. What is decided is decided in `cache`; here it meets the store.
//!
//! Nothing waits here: writes go into the store's outbox, loads are answered into an inbox that the shard looks into.

use super::cache::{Cache, Loaded};
use super::incoming::Incoming;
use super::limits::{LAST_LOADS_WAIT, LOADED_BYTES_MAX, STORE_WRITES_MAX, WRITES_PER_TURN};
use super::{FilterQuestion, RecordChange, RecordSink};
use crate::counters::ProxyCounters;
use cluster::mailbag::Wake;
use cluster::topology::Routing;
use session_store::limits::{STORE_WAIT_MS, WRITES_FEW};
use session_store::{Record, RedisStore, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records of one shard's clients in Redis, written behind and coalesced per client, loaded when a session is resumed.
pub struct RemoteRecords {
    store: RedisStore,
    /// Changes for which the store has no room yet.
    incoming: Incoming,
    cache: Cache,
    /// Changes that may be taken up before the store is looked at again.
    room: usize,
    caller: Arc<Caller>,
    /// How often the store was found to have lost what it had, as far as that is dealt with.
    wipes: u64,
    inbox: Arc<Inbox>,
    /// What is due is told by a clock that nobody sets.
    started: Instant,
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

impl RemoteRecords {
    /// `node` is this node's name in the records.
    /// `routing` says which group has which filter, `wake` wakes the shard.
    pub fn new(store: RedisStore, node: String, routing: Arc<Routing>, wake: Wake) -> Self {
        Self {
            store,
            incoming: Incoming::default(),
            cache: Cache::new(node, routing),
            room: STORE_WRITES_MAX,
            caller: Arc::new(Caller {
                asked: AtomicBool::new(false),
                wake,
            }),
            wipes: 0,
            inbox: Arc::default(),
            started: Instant::now(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn store_wipes(&self) -> u64 {
        self.store.stats().wipes.load(Ordering::Relaxed)
    }

    fn take_answers(&mut self, now_ms: u64, counters: &ProxyCounters) {
        let loaded = std::mem::take(&mut *self.inbox.answers()).loaded;
        for loaded in loaded {
            self.cache.loaded(now_ms, loaded, counters);
        }
    }

    /// Writes that the store shall still be given now. While it is away it takes all that may wait.
    fn store_room(&self) -> usize {
        let stats = self.store.stats();
        if stats.up.load(Ordering::Relaxed) == 0 {
            return usize::MAX;
        }
        let waiting = stats.writes_waiting.load(Ordering::Relaxed) as usize;
        STORE_WRITES_MAX.saturating_sub(waiting)
    }

    /// Changes that shall be taken up now: each makes a write, or a load and then a write.
    fn room(&self) -> usize {
        self.store_room().saturating_sub(self.cache.loads_waiting())
    }

    /// Takes up the oldest changes, as long as there is room for them, or too many wait.
    fn take_up(&mut self, now_ms: u64, counters: &ProxyCounters) {
        while self.room > 0 || self.incoming.is_over() {
            let Some((at_ms, change)) = self.incoming.pop() else {
                break;
            };
            self.room = self.room.saturating_sub(1);
            self.cache.take(now_ms, at_ms, &change, counters);
        }
        counters
            .store_changes_waiting
            .set(self.incoming.len() as u64);
    }

    /// Lets the store wake the shard, if something waits for room: with the next answer to a load, or when few writes wait.
    fn ask_for_room(&self, now_ms: u64) {
        let writes_wait = self.cache.next_write(now_ms).is_some();
        let waits = writes_wait || !self.incoming.is_empty() || self.cache.loads_queue();
        if !waits || self.caller.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        let writes = self.store.stats().writes_waiting.load(Ordering::Relaxed);
        if writes > WRITES_FEW as u64 || self.cache.loads_waiting() == 0 {
            let caller = Arc::clone(&self.caller);
            self.store.when_few_wait(move || caller.call());
        }
    }

    /// Hands over up to `limit` of the writes that are due, as long as the store has room. Then they wait here.
    fn hand_over(&mut self, now_ms: u64, limit: usize, counters: &ProxyCounters) {
        for _ in 0..limit {
            let Some(write) = self.cache.next_write(now_ms) else {
                return;
            };
            match self.store.put(write.clone()) {
                Ok(_) => {}
                Err(StoreError::Waiting { .. }) => return,
                Err(error) => {
                    counters.store_writes_dropped.increment();
                    self.cache.see(now_ms, Err(error), counters);
                }
            }
            self.cache.written(now_ms, counters);
        }
    }

    fn ask(&mut self, now_ms: u64) {
        while let Some(load) = self.cache.next_load(now_ms) {
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
}

impl RecordSink for RemoteRecords {
    fn take(&mut self, now_ms: u64, change: RecordChange, counters: &ProxyCounters) {
        if self.room > 0 && self.incoming.is_empty() {
            self.room -= 1;
            self.cache
                .take(self.elapsed_ms(), now_ms, &change, counters);
        } else {
            self.incoming.put(now_ms, change);
        }
    }

    fn flush_due(&mut self, _now_ms: u64, counters: &ProxyCounters) {
        let now_ms = self.elapsed_ms();
        let wipes = self.store_wipes();
        if wipes != self.wipes {
            self.wipes = wipes;
            self.cache.rewrite_all();
        }
        self.take_answers(now_ms, counters);
        self.cache.rewrite_some(now_ms, counters);
        self.room = self.room();
        self.take_up(now_ms, counters);
        let limit = self.store_room().min(WRITES_PER_TURN);
        self.hand_over(now_ms, limit, counters);
        // Behind the writes: a load sees what was handed over.
        self.ask(now_ms);
        self.room = self.room();
        self.ask_for_room(now_ms);
    }

    fn flush(&mut self, counters: &ProxyCounters) {
        let until = Instant::now() + LAST_LOADS_WAIT;
        self.room = usize::MAX;
        self.take_up(self.elapsed_ms(), counters);
        while self.cache.loads_waiting() > 0 && Instant::now() < until {
            self.ask(self.elapsed_ms());
            self.inbox.await_one(until);
            self.take_answers(self.elapsed_ms(), counters);
        }
        self.cache.give_up_loads(counters);
        // Due or not.
        self.hand_over(u64::MAX, usize::MAX, counters);
    }

    fn has_waiting(&self) -> bool {
        !self.incoming.is_empty() || self.cache.has_waiting() || self.wipes != self.store_wipes()
    }

    fn next_question(&mut self) -> Option<FilterQuestion> {
        self.cache.next_question()
    }
}

impl Inbox {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        // They are whole at every point where their user could panic.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
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
