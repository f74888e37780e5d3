//! What a shard does with the records of its clients, over any store that is elsewhere. What it knows of them, and decides
//! of each, is in `cache`; here that meets the store. No clock, no I/O.

use super::cache::{Cache, Load, Loaded};
use super::incoming::Incoming;
use super::limits::{STORE_WRITES_MAX, WRITES_PER_TURN};
use super::{FilterQuestion, RecordChange};
use crate::counters::ProxyCounters;
use cluster::topology::Routing;
use session_store::{StoreError, Write};
use std::sync::Arc;

/// A store as a shard uses it: nothing here waits.
pub trait Store {
    /// Whether it answers, as far as is known.
    fn is_up(&self) -> bool;

    /// Writes that wait there for the store, or are on their way to it.
    fn writes_waiting(&self) -> usize;

    /// How often it was found to have lost what it had.
    fn wipes(&self) -> u64;

    /// Takes a write, to be carried out behind. [`StoreError::Waiting`]: it has no room now.
    fn put(&mut self, write: Write) -> Result<bool, StoreError>;

    /// Begins to load a record; what waits to be written is seen. The answer goes into a later [`Keeping::turn`].
    fn load(&mut self, load: Load);
}

/// The records of one shard's clients: what is to be taken up, loaded and written.
pub struct Keeping {
    /// Changes for which the store has no room yet.
    incoming: Incoming,
    cache: Cache,
    /// Changes that may be taken up before the store is looked at again.
    room: usize,
    /// How often the store was found to have lost what it had, as far as that is dealt with.
    wipes: u64,
}

impl Keeping {
    /// Knows nothing yet. `node` is this node's name in the records, `routing` says which group has which filter.
    pub fn new(node: String, routing: Arc<Routing>) -> Self {
        Self {
            incoming: Incoming::default(),
            cache: Cache::new(node, routing),
            room: STORE_WRITES_MAX,
            wipes: 0,
        }
    }

    /// Writes records again in the same order in every process, before it knows anything: for simulations alone.
    #[must_use]
    pub fn with_fixed_order(mut self) -> Self {
        self.cache.fix_order();
        self
    }

    /// Takes a change that people are told happened at `at_ms` milliseconds since 1970. `now_ms` never goes back, here and
    /// elsewhere; it alone decides anything.
    pub fn take(
        &mut self,
        now_ms: u64,
        at_ms: u64,
        change: RecordChange,
        counters: &ProxyCounters,
    ) {
        if self.room > 0 && self.incoming.is_empty() {
            self.room -= 1;
            self.cache.take(now_ms, at_ms, &change, counters);
        } else {
            self.incoming.put(at_ms, change);
        }
    }

    /// Does what is due: takes up what the store has answered and changes that wait, hands writes over, and asks for records.
    pub fn turn(
        &mut self,
        now_ms: u64,
        answers: Vec<Loaded>,
        store: &mut impl Store,
        counters: &ProxyCounters,
    ) {
        let wipes = store.wipes();
        if wipes != self.wipes {
            self.wipes = wipes;
            self.cache.rewrite_all();
        }
        self.answered(now_ms, answers, counters);
        self.cache.rewrite_some(now_ms, counters);
        self.room = self.room_of(store);
        self.take_up(now_ms, counters);
        let limit = store_room(store).min(WRITES_PER_TURN);
        self.hand_over(now_ms, limit, store, counters);
        // Behind the writes: a load sees what was handed over.
        self.ask(now_ms, store);
        self.room = self.room_of(store);
    }

    /// Whether something waits to be written, or to be loaded and then written.
    pub fn has_waiting(&self, store: &impl Store) -> bool {
        !self.incoming.is_empty() || self.cache.has_waiting() || self.wipes != store.wipes()
    }

    /// See [`RecordSink::next_question`](super::RecordSink::next_question).
    pub fn next_question(&mut self) -> Option<FilterQuestion> {
        self.cache.next_question()
    }

    /// Whether something waits for room in the store: it shall wake the shard.
    pub(super) fn waits_for_room(&self, now_ms: u64) -> bool {
        let writes_wait = self.cache.next_write(now_ms).is_some();
        writes_wait || !self.incoming.is_empty() || self.cache.loads_queue()
    }

    pub(super) fn loads_waiting(&self) -> usize {
        self.cache.loads_waiting()
    }

    /// The shard stops: takes up everything, whether there is room or not.
    pub(super) fn take_up_all(&mut self, now_ms: u64, counters: &ProxyCounters) {
        self.room = usize::MAX;
        self.take_up(now_ms, counters);
    }

    /// The shard stops: hands everything over, due or not. What waits for a record is dropped.
    pub(super) fn hand_over_all(&mut self, store: &mut impl Store, counters: &ProxyCounters) {
        self.cache.give_up_loads(counters);
        self.hand_over(u64::MAX, usize::MAX, store, counters);
    }

    pub(super) fn answered(&mut self, now_ms: u64, answers: Vec<Loaded>, counters: &ProxyCounters) {
        for loaded in answers {
            self.cache.loaded(now_ms, loaded, counters);
        }
    }

    pub(super) fn ask(&mut self, now_ms: u64, store: &mut impl Store) {
        while let Some(load) = self.cache.next_load(now_ms) {
            store.load(load);
        }
    }

    /// Changes that shall be taken up now: each makes a write, or a load and then a write.
    fn room_of(&self, store: &impl Store) -> usize {
        store_room(store).saturating_sub(self.cache.loads_waiting())
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

    /// Hands over up to `limit` of the writes that are due, as long as the store has room. Then they wait here.
    fn hand_over(
        &mut self,
        now_ms: u64,
        limit: usize,
        store: &mut impl Store,
        counters: &ProxyCounters,
    ) {
        for _ in 0..limit {
            let Some(write) = self.cache.next_write(now_ms) else {
                return;
            };
            match store.put(write.clone()) {
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
}

/// Writes that the store shall still be given now. While it is away it takes all that may wait.
fn store_room(store: &impl Store) -> usize {
    if store.is_up() {
        STORE_WRITES_MAX.saturating_sub(store.writes_waiting())
    } else {
        usize::MAX
    }
}
