//! Session records in Redis: the shard's side. What is decided is decided in `cache`; here it meets the store.
//!
//! Nothing waits here: writes go into the store's outbox, loads are answered into an inbox that the shard looks into.

use super::cache::{Cache, Loaded};
use super::limits::{LAST_LOADS_WAIT, LOADED_BYTES_MAX, WRITES_PER_TURN};
use super::{FilterQuestion, RecordChange, RecordSink};
use crate::counters::ProxyCounters;
use cluster::topology::Routing;
use session_store::limits::STORE_WAIT_MS;
use session_store::{Record, RedisStore, StoreError};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records of one shard's clients in Redis, written behind and coalesced per client, loaded when a session is resumed.
pub struct RemoteRecords {
    store: RedisStore,
    cache: Cache,
    /// How often the store was found to have lost what it had, as far as that is dealt with.
    wipes: u64,
    inbox: Arc<Inbox>,
    /// What is due is told by a clock that nobody sets.
    started: Instant,
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
    /// `routing` says which group has which filter.
    pub fn new(store: RedisStore, node: String, routing: Arc<Routing>) -> Self {
        Self {
            store,
            cache: Cache::new(node, routing),
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
            let reply = move |result| inbox.put(Loaded { load, result });
            let wait = Duration::from_millis(STORE_WAIT_MS);
            self.store.load_later(&client_id, wait, reply);
        }
    }
}

impl RecordSink for RemoteRecords {
    fn take(&mut self, now_ms: u64, change: &RecordChange, counters: &ProxyCounters) {
        self.cache.take(self.elapsed_ms(), now_ms, change, counters);
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
        self.hand_over(now_ms, WRITES_PER_TURN, counters);
        // Behind the writes: a load sees what was handed over.
        self.ask(now_ms);
    }

    fn flush(&mut self, counters: &ProxyCounters) {
        let until = Instant::now() + LAST_LOADS_WAIT;
        while self.cache.awaits_loads() && Instant::now() < until {
            self.ask(self.elapsed_ms());
            self.inbox.await_one(until);
            self.take_answers(self.elapsed_ms(), counters);
        }
        self.cache.give_up_loads(counters);
        // Due or not.
        self.hand_over(u64::MAX, usize::MAX, counters);
    }

    fn has_waiting(&self) -> bool {
        self.cache.has_waiting() || self.wipes != self.store_wipes()
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
mod tests {
    use super::super::{Connected, Held, What};
    use super::*;
    use cluster::ids::Handle;
    use cluster::slots::GroupNo;
    use protocol::Version;
    use session_store::RedisConfig;
    use std::net::TcpListener;

    const CLIENTS: u64 = 1_000;

    fn resumed(n: u64) -> RecordChange {
        RecordChange {
            client_id: n.to_string().into(),
            epoch: 2,
            what: What::Connected(Connected {
                version: Version::V311,
                user: None,
                address: None,
                clean_start: false,
                expiry_s: 60,
                resumed: Some(Box::new(Held {
                    handle: Handle {
                        index: 0,
                        generation: 0,
                    },
                    groups: Box::default(),
                })),
            }),
        }
    }

    /// The system accepts connections for it.
    #[test]
    fn a_server_that_never_answers_holds_nobody_up() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = silent.local_addr().expect("its own");
        let config = RedisConfig::new([format!("redis://{address}")]);
        let store = RedisStore::start(config).expect("a store");
        let routing = Arc::new(Routing::one_group(GroupNo(0)));
        let mut records = RemoteRecords::new(store.clone(), "node".to_owned(), routing);
        let counters = ProxyCounters::default();
        let started = Instant::now();
        for n in 0..CLIENTS {
            records.take(n, &resumed(n), &counters);
            records.flush_due(n, &counters);
        }
        let one_wait = Duration::from_millis(STORE_WAIT_MS);
        let all = started.elapsed();
        assert!(all < one_wait * 10, "{all:?} for {CLIENTS} clients");
        assert!(records.has_waiting());
        let stopping = Instant::now();
        records.flush(&counters);
        let end = stopping.elapsed();
        assert!(end < LAST_LOADS_WAIT * 3, "{end:?} for the last of them");
        assert!(!records.has_waiting());
        assert_eq!(counters.store_writes_dropped.get(), CLIENTS);
        store.close(Duration::ZERO);
    }
}
