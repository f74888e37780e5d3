//! A cache and a store that is a map, answers when the test says so, and takes no record of a lower epoch.

mod mending;

use super::super::limits::{
    CHANGE_BYTES, UNLOADED_CLIENT_BYTES_MAX, UNLOADED_IN_ORDER, UNLOADED_MAX,
};
use super::super::{Connected, Held, Said};
use super::*;
use cluster::ids::Handle;
use cluster::slots::GroupNo;
use proptest::prelude::*;
use protocol::{SubscribeOptions, TopicFilter, Version};
use session_store::EventKind;
use std::collections::BTreeMap;

const NODE: &str = "proxy-1";
const C: &str = "c";
const HANDLE: Handle = Handle {
    index: 3,
    generation: 1,
};
/// The wall clock is ahead by this.
const EPOCH_MS: u64 = 1_790_000_000_000;

struct Bench {
    cache: Cache,
    counters: ProxyCounters,
    stored: BTreeMap<String, Record>,
    now_ms: u64,
    writes: usize,
    loads: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with(Routing::one_group(GroupNo(0)))
    }

    fn with(routing: Routing) -> Self {
        Self {
            cache: Cache::new(NODE.to_owned(), Arc::new(routing)),
            counters: ProxyCounters::default(),
            stored: BTreeMap::new(),
            now_ms: 1_000,
            writes: 0,
            loads: 0,
        }
    }

    fn take(&mut self, client_id: &str, epoch: u64, what: What) {
        let change = RecordChange {
            client_id: client_id.into(),
            epoch,
            what,
        };
        let at_ms = self.now_ms + EPOCH_MS;
        self.cache.take(self.now_ms, at_ms, &change, &self.counters);
    }

    /// Carries out what is due after some milliseconds.
    fn write_after(&mut self, ms: u64) {
        self.now_ms += ms;
        while let Some(write) = self.cache.next_write(self.now_ms) {
            carry_out(&mut self.stored, write);
            self.writes += 1;
            self.cache.written(self.now_ms, &self.counters);
        }
    }

    fn answer(&mut self, load: Load) {
        let result = Ok(self.stored.get(&*load.client_id).cloned());
        let loaded = Loaded { load, result };
        self.cache.loaded(self.now_ms, loaded, &self.counters);
    }

    fn late(&mut self, load: Load) {
        let result = Err(StoreError::Unavailable("late".to_owned()));
        let loaded = Loaded { load, result };
        self.cache.loaded(self.now_ms, loaded, &self.counters);
    }

    fn load(&mut self) -> Option<Load> {
        let load = self.cache.next_load(self.now_ms);
        self.loads += usize::from(load.is_some());
        load
    }

    /// Answers everything that is asked for.
    fn answer_all(&mut self) {
        while let Some(load) = self.load() {
            self.answer(load);
        }
    }

    fn filters(&self) -> Vec<&str> {
        filters(&self.stored[C])
    }
}

fn filters(record: &Record) -> Vec<&str> {
    let filters = record.filters.iter();
    filters.map(|filter| filter.filter.as_str()).collect()
}

fn carry_out(stored: &mut BTreeMap<String, Record>, write: &Write) {
    let client_id = write.client_id().to_string();
    if stored
        .get(&client_id)
        .is_some_and(|there| there.epoch > write.epoch())
    {
        return;
    }
    match read(write).expect("it was encoded here") {
        Some(record) => stored.insert(client_id, record),
        None => stored.remove(&client_id),
    };
}

/// Where the session was there before: its group says nothing new of it.
fn connected(session_present: bool) -> What {
    let held = Held {
        handle: HANDLE,
        groups: [(GroupNo(0), Said::Before)].into(),
    };
    connected_with(session_present.then_some(held))
}

fn connected_with(resumed: Option<Held>) -> What {
    What::Connected(Box::new(Connected {
        version: Version::V5,
        user: None,
        address: None,
        clean_start: false,
        expiry_s: 60,
        resumed: resumed.map(Box::new),
    }))
}

fn subscribed(filter: &str) -> What {
    let filter = TopicFilter::new(filter).expect("valid");
    What::Subscribed {
        filters: vec![(filter, SubscribeOptions::default())],
        subscription_id: 0,
    }
}

fn unsubscribed(filter: &str) -> What {
    let filters = vec![TopicFilter::new(filter).expect("valid")];
    What::Unsubscribed { filters }
}

fn lost(expiry_s: u32) -> What {
    let how = EventKind::Lost;
    What::Ended { expiry_s, how }
}

fn of_another_proxy(epoch: u64) -> Record {
    let mut record = Record::blank(C);
    apply(&mut record, "proxy-2", 10, epoch, &connected(false));
    apply(&mut record, "proxy-2", 11, epoch, &subscribed("theirs"));
    apply(&mut record, "proxy-2", 12, epoch, &lost(60));
    record
}

#[test]
fn a_new_session_takes_one_write_and_its_end_another() {
    let mut bench = Bench::new();
    bench.take(C, 1, connected(false));
    bench.take(C, 1, subscribed("a"));
    bench.write_after(REMOTE_WRITE_DELAY_MS - 1);
    assert_eq!(bench.writes, 0, "something may still join them");
    bench.write_after(1);
    assert_eq!((bench.writes, bench.filters()), (1, vec!["a"]));
    assert!(!bench.cache.has_waiting());
    bench.now_ms += 3_600_000;
    bench.take(C, 1, lost(60));
    bench.write_after(0);
    let record = &bench.stored[C];
    assert_eq!((bench.writes, filters(record)), (2, vec!["a"]));
    assert_eq!(record.disconnected_at_ms, Some(bench.now_ms + EPOCH_MS));
    assert_eq!((bench.loads, record.history.len()), (0, 2));
}

#[test]
fn a_session_that_ends_with_its_connection_leaves_no_record() {
    let mut bench = Bench::new();
    bench.take(C, 1, connected(false));
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert!(bench.stored.contains_key(C));
    bench.take(C, 1, lost(0));
    bench.write_after(0);
    assert!(bench.stored.is_empty() && !bench.cache.has_waiting());
}

#[test]
fn a_resumed_session_keeps_what_the_record_holds() {
    let mut bench = Bench::new();
    bench.stored.insert(C.to_owned(), of_another_proxy(7));
    bench.take(C, 8, connected(true));
    bench.take(C, 8, subscribed("ours"));
    bench.write_after(10 * REMOTE_WRITE_DELAY_MS);
    assert_eq!(bench.writes, 0, "a write waits for the record");
    assert!(bench.cache.has_waiting());
    bench.answer_all();
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert_eq!((bench.loads, bench.writes), (1, 1));
    assert_eq!(bench.filters(), ["theirs", "ours"]);
    let record = &bench.stored[C];
    assert_eq!((record.node.as_str(), record.epoch), (NODE, 8));
    assert_eq!((record.history.len(), record.disconnected_at_ms), (3, None));
    bench.take(C, 8, unsubscribed("theirs"));
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert_eq!((bench.loads, bench.filters()), (1, vec!["ours"]), "once");
}

#[test]
fn whoever_leaves_before_the_record_is_there_is_written_when_it_is() {
    let mut bench = Bench::new();
    bench.stored.insert(C.to_owned(), of_another_proxy(7));
    bench.take(C, 8, connected(true));
    bench.take(C, 8, unsubscribed("theirs"));
    bench.take(C, 8, lost(60));
    bench.answer_all();
    bench.write_after(0);
    assert_eq!(bench.filters(), Vec::<&str>::new());
    let history = &bench.stored[C].history;
    assert_eq!(history.len(), 4, "theirs and ours: {history:?}");
    assert!(!bench.cache.has_waiting());
}

#[test]
fn a_late_record_is_asked_for_again_by_one_and_then_by_all() {
    let mut bench = Bench::new();
    bench.stored.insert(C.to_owned(), of_another_proxy(7));
    for n in 0..3 {
        bench.take(&format!("other-{n}"), 1, connected(true));
    }
    bench.take(C, 8, connected(true));
    let loads: Vec<Load> = std::iter::from_fn(|| bench.load()).collect();
    assert_eq!(loads.len(), 4);
    for load in loads {
        bench.late(load);
    }
    assert_eq!(bench.load(), None, "not at once");
    bench.take(C, 9, connected(true));
    bench.take(C, 9, subscribed("ours"));
    bench.write_after(RELOAD_MS);
    let probe = bench.load().expect("one");
    assert_eq!(bench.load(), None);
    bench.answer(probe);
    bench.answer_all();
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert_eq!((bench.stored.len(), bench.writes), (4, 4));
    assert_eq!(bench.filters(), ["theirs", "ours"]);
    assert_eq!(bench.counters.store_records_missing.get(), 3);
    assert_eq!(bench.counters.store_writes_dropped.get(), 0);
}

#[test]
fn a_record_that_is_missing_or_unreadable_begins_anew() {
    for (unreadable, errors) in [(false, 0), (true, 1)] {
        let mut bench = Bench::new();
        bench.take(C, 8, connected(true));
        bench.take(C, 8, subscribed("ours"));
        let load = bench.load().expect("one");
        if unreadable {
            let result = Err(StoreError::Unsupported { version: 9 });
            let loaded = Loaded { load, result };
            bench.cache.loaded(bench.now_ms, loaded, &bench.counters);
        } else {
            bench.answer(load);
        }
        bench.write_after(REMOTE_WRITE_DELAY_MS);
        assert_eq!(bench.filters(), ["ours"]);
        assert_eq!(bench.counters.store_records_missing.get(), 1);
        assert_eq!(bench.counters.store_errors.get(), errors);
    }
}

#[test]
fn an_earlier_owner_changes_nothing() {
    let mut bench = Bench::new();
    bench.take(C, 5, connected(true));
    bench.take(C, 4, subscribed("before"));
    bench.take(C, 4, lost(0));
    bench.stored.insert(C.to_owned(), of_another_proxy(3));
    bench.answer_all();
    bench.take(C, 4, subscribed("before"));
    bench.take(C, 4, connected(false));
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    bench.take(C, 4, lost(0));
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert_eq!(bench.filters(), ["theirs"]);

    bench.take("late", 5, connected(true));
    let mut newer = of_another_proxy(6);
    newer.client_id = "late".to_owned();
    bench.stored.insert("late".to_owned(), newer.clone());
    bench.answer_all();
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert_eq!(bench.stored["late"], newer, "its owner is another one");
    assert_eq!(bench.counters.store_writes_dropped.get(), 0);
}

#[test]
fn an_answer_to_an_earlier_load_is_none_to_this_one() {
    let mut bench = Bench::new();
    bench.stored.insert(C.to_owned(), of_another_proxy(1));
    bench.take(C, 2, connected(true));
    let earlier = bench.load().expect("one");
    bench.take(C, 3, connected(false));
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    bench.take(C, 4, connected(true));
    let loaded = Loaded {
        load: earlier,
        result: Ok(Some(of_another_proxy(1))),
    };
    bench.cache.loaded(bench.now_ms, loaded, &bench.counters);
    bench.answer_all();
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert_eq!(bench.filters(), Vec::<&str>::new());
    assert_eq!(bench.stored[C].epoch, 4);
}

#[test]
fn the_last_write_may_still_wait_when_the_client_is_back() {
    let mut bench = Bench::new();
    bench.take(C, 1, connected(false));
    bench.take(C, 1, subscribed("a"));
    bench.take(C, 1, lost(60));
    bench.take(C, 2, connected(true));
    bench.answer_all();
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    assert_eq!((bench.writes, bench.filters()), (1, vec!["a"]));
    assert_eq!(bench.stored[C].history.len(), 3);
}

#[test]
fn a_client_that_changes_without_end_while_its_record_is_away_is_bounded() {
    let mut bench = Bench::new();
    bench.stored.insert(C.to_owned(), of_another_proxy(1));
    bench.take(C, 2, connected(true));
    for n in 0..UNLOADED_CLIENT_BYTES_MAX / CHANGE_BYTES {
        bench.take(C, 2, unsubscribed(&format!("no/{n}")));
        assert!(bench.cache.unloaded_bytes <= UNLOADED_CLIENT_BYTES_MAX);
    }
    let dropped = bench.counters.store_writes_dropped.get();
    assert!(dropped > 0);
    bench.answer_all();
    bench.take(C, 2, lost(60));
    bench.answer_all();
    bench.write_after(0);
    assert_eq!(bench.filters(), ["theirs"], "and the next change joins it");
}

#[test]
fn whoever_has_waited_longest_for_a_record_is_dropped_at_the_limit() {
    let mut bench = Bench::new();
    for n in 0..=UNLOADED_MAX {
        bench.take(&n.to_string(), 1, connected(true));
    }
    assert_eq!(bench.cache.unloaded.len(), UNLOADED_MAX);
    assert_eq!(bench.counters.store_writes_dropped.get(), 1);
    assert_eq!(bench.load().map(|load| load.client_id), Some("1".into()));
    bench.cache.give_up_loads(&bench.counters);
    assert!(!bench.cache.has_waiting());
}

#[test]
fn coming_and_going_while_the_store_is_away_leaves_nothing_behind() {
    let mut bench = Bench::new();
    for epoch in 0..1_000 {
        bench.take(C, 2 * epoch, connected(true));
        bench.take(C, 2 * epoch, lost(0));
    }
    assert!(bench.cache.to_load.len() <= UNLOADED_IN_ORDER + 2);
    assert_eq!(bench.cache.unloaded_bytes, 0);
    assert_eq!(bench.load(), None);
}

/// What a client does next.
#[derive(Debug, Clone)]
enum Step {
    Connect(bool),
    Subscribe(u8),
    Unsubscribe(u8),
    End(bool),
    Answer,
    Late,
    Write(u64),
}

fn steps() -> impl Strategy<Value = Vec<(u8, Step)>> {
    let step = prop_oneof![
        3 => any::<bool>().prop_map(Step::Connect),
        3 => (0..4_u8).prop_map(Step::Subscribe),
        2 => (0..4_u8).prop_map(Step::Unsubscribe),
        2 => any::<bool>().prop_map(Step::End),
        3 => Just(Step::Answer),
        2 => Just(Step::Late),
        3 => (0..1_500_u64).prop_map(Step::Write),
    ];
    prop::collection::vec((0..3_u8, step), 1..80)
}

/// A client as it is: its epoch, whether it is connected, and its record as it ought to be.
#[derive(Default)]
struct Truth {
    epoch: u64,
    online: bool,
    record: Option<Record>,
}

impl Truth {
    /// What this step means to the records, if it means anything now.
    fn change(&mut self, client_id: &str, step: &Step, now_ms: u64) -> Option<What> {
        let what = match step {
            Step::Connect(clean) => {
                let present = self.record.is_some() && !clean;
                self.epoch += 1;
                self.online = true;
                if !present {
                    self.record = Some(Record::blank(client_id));
                }
                connected(present)
            }
            Step::Subscribe(n) if self.online => subscribed(&n.to_string()),
            Step::Unsubscribe(n) if self.online => unsubscribed(&n.to_string()),
            Step::End(session) if self.online => lost(if *session { 0 } else { 60 }),
            _ => return None,
        };
        self.online &= !what.ends_connection();
        if what.ends_session() {
            self.record = None;
        }
        if let Some(record) = &mut self.record {
            apply(record, NODE, now_ms, self.epoch, &what);
        }
        Some(what)
    }
}

proptest! {
    /// Whatever is late, in the end the store has what happened.
    #[test]
    fn the_store_has_what_happened_in_the_end(steps in steps()) {
        let mut bench = Bench::new();
        let mut truth: [Truth; 3] = Default::default();
        let mut open = VecDeque::new();
        for (n, step) in steps {
            let client = &mut truth[usize::from(n)];
            if let Some(what) = client.change(&n.to_string(), &step, bench.now_ms + EPOCH_MS) {
                bench.take(&n.to_string(), client.epoch, what);
            }
            match step {
                Step::Write(ms) => bench.write_after(ms),
                Step::Answer => {
                    // As the shard does: a load sees what was written before.
                    bench.write_after(0);
                    while let Some(load) = bench.load() {
                        let result = Ok(bench.stored.get(&*load.client_id).cloned());
                        open.push_back(Loaded { load, result });
                    }
                    if let Some(loaded) = open.pop_front() {
                        bench.cache.loaded(bench.now_ms, loaded, &bench.counters);
                    }
                }
                Step::Late => if let Some(load) = bench.load() { bench.late(load); },
                _ => {}
            }
        }
        for loaded in open {
            bench.cache.loaded(bench.now_ms, loaded, &bench.counters);
        }
        while bench.cache.has_waiting() {
            bench.write_after(REMOTE_WRITE_DELAY_MS);
            bench.answer_all();
        }
        for (n, client) in truth.iter().enumerate() {
            let stored = bench.stored.get(&n.to_string());
            prop_assert_eq!(stored, client.record.as_ref());
        }
        prop_assert_eq!((bench.cache.unloaded_bytes, bench.cache.loads_open), (0, 0));
        prop_assert_eq!(bench.counters.store_writes_dropped.get(), 0);
    }
}
