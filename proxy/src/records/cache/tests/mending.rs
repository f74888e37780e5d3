//! Records that differ from what the groups hold, and groups that answer when the test says so.

use super::*;
use crate::records::changing::to_options;
use crate::records::limits::{MENDED_CLIENT_BYTES_MAX, QUESTIONS_OPEN_MAX, REWRITES_PER_S};
use crate::records::{FilterQuestion, Listed};
use cluster::filters::{FilterDigest, HeldFilter};
use cluster::ring::GroupWeight;
use cluster::shard_key::{HomeKey, ShardKeyRules};
use cluster::slots::SlotTable;
use cluster::topology::{FilterGroups, FixedPart};
use session_store::Filter;

mod random;

const GROUPS: usize = 3;
/// Everyone's home.
const HOME: usize = 0;
/// Filters: two at each group, and two at all.
const FILTERS: usize = 2 * GROUPS + 2;
const NONE_LATE: [bool; GROUPS] = [false; GROUPS];

fn routing() -> Routing {
    let fixed = FixedPart {
        cluster_id: "fleet".to_owned(),
        rules: ShardKeyRules::default(),
        home_key: HomeKey::ClientId,
    };
    let weights = [0, 1, 2].map(|group| GroupWeight {
        group: GroupNo(group),
        weight: 1,
    });
    let table = SlotTable::from_ring(1, &weights).expect("three groups");
    Routing::new(&fixed, &table)
}

/// [`FILTERS`] filters: `2 g` and `2 g + 1` are of group g.
fn filters_of(routing: &Routing) -> Vec<TopicFilter> {
    let filter = |text: &str| TopicFilter::new(text).expect("valid");
    let mut filters = Vec::new();
    for group in 0..GROUPS as u8 {
        let at = FilterGroups::One(GroupNo(group));
        let own = (0..).map(|n| filter(&format!("t/{n}")));
        let own = own.filter(|it| routing.groups_of_filter(it) == at);
        filters.extend(own.take(2));
    }
    filters.extend(["#", "+/x"].map(filter));
    filters
}

/// The groups that filter n is registered at.
fn groups_of(n: usize) -> std::ops::Range<usize> {
    let group = n / 2;
    if group < GROUPS {
        group..group + 1
    } else {
        0..GROUPS
    }
}

/// One client's session as the groups have it, and its connection.
#[derive(Default)]
struct Session {
    epoch: u64,
    exists: bool,
    online: bool,
    held: [BTreeMap<String, HeldFilter>; GROUPS],
    /// Groups that the connection has not come to.
    late: [bool; GROUPS],
    /// The groups have done it, and the connection has not heard so.
    unheard: VecDeque<What>,
}

impl Session {
    fn digest(&self, group: usize) -> FilterDigest {
        let mut digest = FilterDigest::default();
        for (text, held) in &self.held[group] {
            digest.add(text, held.options, held.subscription_id);
        }
        digest
    }

    /// All that is held, as a record would have it.
    fn filters(&self) -> BTreeMap<String, Filter> {
        let mut all = BTreeMap::new();
        for (text, held) in self.held.iter().flatten() {
            let filter = Filter {
                filter: text.clone(),
                options: to_options(held.options),
                subscription_id: (held.subscription_id > 0).then_some(held.subscription_id),
            };
            all.entry(text.clone()).or_insert(filter);
        }
        all
    }

    /// What the connection tells of the groups: of the home, and of those that may hold something.
    fn says(&self, handle: Handle, said: impl Fn(usize) -> Said) -> Held {
        let at = |group: &usize| *group == HOME || !self.held[*group].is_empty();
        let groups = (0..GROUPS).filter(at);
        let groups = groups.map(|group| (GroupNo(group as u8), said(group)));
        Held {
            handle,
            groups: groups.collect(),
        }
    }
}

/// What is done to a stored record behind everybody's back.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Lose,
    LoseFilter(usize),
    Add(usize),
    AddNonsense,
    Repeat,
    Change(usize),
}

struct World {
    bench: Bench,
    texts: Vec<TopicFilter>,
    clients: [Session; 2],
    questions: VecDeque<FilterQuestion>,
    asked: usize,
}

impl World {
    fn new() -> Self {
        let routing = routing();
        Self {
            texts: filters_of(&routing),
            bench: Bench::with(routing),
            clients: Default::default(),
            questions: VecDeque::new(),
            asked: 0,
        }
    }

    fn handle(&self, n: usize) -> Handle {
        Handle {
            index: n as u32,
            generation: self.clients[n].epoch as u32,
        }
    }

    fn take(&mut self, n: usize, what: What) {
        let epoch = self.clients[n].epoch;
        self.bench.take(&n.to_string(), epoch, what);
    }

    /// Connects, by a clean start or not; the groups of `late` take their time.
    fn connect(&mut self, n: usize, clean: bool, late: [bool; GROUPS]) {
        let client = &mut self.clients[n];
        client.epoch += 1;
        client.online = true;
        client.unheard.clear();
        let resumed = client.exists && !clean;
        client.exists = true;
        if !resumed {
            client.held = Default::default();
        }
        client.late = std::array::from_fn(|group| group != HOME && late[group] && resumed);
        let handle = self.handle(n);
        let client = &self.clients[n];
        let held = client.says(handle, |group| {
            if client.late[group] {
                Said::Nothing
            } else {
                Said::Digest(client.digest(group))
            }
        });
        self.take(n, connected_with(resumed.then_some(held)));
    }

    /// A late group lets the connection in, or one that had forgotten it.
    fn join(&mut self, n: usize, group: usize) {
        if !self.clients[n].online || group == HOME {
            return;
        }
        self.clients[n].late[group] = false;
        let handle = self.handle(n);
        let client = &self.clients[n];
        let held = client.says(handle, |it| match it {
            _ if it == group => Said::Digest(client.digest(group)),
            _ if client.late[it] => Said::Nothing,
            _ => Said::Before,
        });
        self.take(n, What::Held(Box::new(held)));
    }

    fn may_change(&self, n: usize, filter: usize) -> bool {
        let client = &self.clients[n];
        client.online && groups_of(filter).all(|group| !client.late[group])
    }

    fn subscribe(&mut self, n: usize, filter: usize, options: u8, subscription_id: u32) {
        if !self.may_change(n, filter) {
            return;
        }
        let options = SubscribeOptions::from_u8(options).expect("valid");
        let filter_itself = self.texts[filter].clone();
        let client = &mut self.clients[n];
        for group in groups_of(filter) {
            let held = HeldFilter {
                filter: filter_itself.clone(),
                options,
                subscription_id,
            };
            client.held[group].insert(filter_itself.as_str().to_owned(), held);
        }
        client.unheard.push_back(What::Subscribed {
            filters: vec![(filter_itself, options)],
            subscription_id,
        });
    }

    fn unsubscribe(&mut self, n: usize, filter: usize) {
        if !self.may_change(n, filter) {
            return;
        }
        let client = &mut self.clients[n];
        for group in groups_of(filter) {
            client.held[group].remove(self.texts[filter].as_str());
        }
        let filters = vec![self.texts[filter].clone()];
        client.unheard.push_back(What::Unsubscribed { filters });
    }

    /// The connection hears what the groups have done.
    fn hear(&mut self, n: usize) {
        while let Some(what) = self.clients[n].unheard.pop_front() {
            self.take(n, what);
        }
    }

    fn end(&mut self, n: usize, session: bool) {
        let client = &mut self.clients[n];
        if !client.online {
            return;
        }
        client.online = false;
        client.unheard.clear();
        if session {
            client.exists = false;
            client.held = Default::default();
        }
        self.take(n, lost(if session { 0 } else { 60 }));
    }

    /// Passes the questions there are on to the groups.
    fn ask(&mut self) {
        while let Some(question) = self.bench.cache.next_question() {
            self.asked += 1;
            self.questions.push_back(question);
        }
    }

    /// A group answers the oldest question, with so many filters at most. Whoever is gone gets no answer.
    fn answer_question(&mut self, most: usize) {
        let Some(question) = self.questions.pop_front() else {
            return;
        };
        let n = question.handle.index as usize;
        if question.handle != self.handle(n) || !self.clients[n].online {
            return;
        }
        let group = &self.clients[n].held[usize::from(question.group.0)];
        let after = question.after.as_ref().map_or("", TopicFilter::as_str);
        let behind = group.values().filter(|held| held.filter.as_str() > after);
        let filters: Vec<_> = behind.clone().take(most).cloned().collect();
        let page = Listed {
            number: question.number,
            more: filters.len() < behind.count(),
            filters,
        };
        self.take(n, What::Listed(Box::new(page)));
    }

    fn damage(&mut self, n: usize, damage: Damage) {
        let stored = &mut self.bench.stored;
        let Some(record) = stored.get_mut(&n.to_string()) else {
            return;
        };
        let filter = |text: &str| Filter {
            filter: text.to_owned(),
            options: session_store::FilterOptions::default(),
            subscription_id: Some(9),
        };
        match damage {
            Damage::Lose => {
                stored.remove(&n.to_string());
            }
            Damage::LoseFilter(at) => {
                let at = at.min(record.filters.len());
                record.filters.drain(at..record.filters.len().min(at + 1));
            }
            Damage::Add(at) => record.filters.push(filter(self.texts[at].as_str())),
            Damage::AddNonsense => record.filters.push(filter("a/#/b")),
            Damage::Repeat => record.filters.extend(record.filters.clone()),
            Damage::Change(at) => {
                if let Some(filter) = record.filters.get_mut(at) {
                    filter.options.no_local ^= true;
                }
            }
        }
    }

    /// Everything that waits for something gets it, until nothing does.
    fn quiet(&mut self) {
        while self.bench.cache.has_waiting() {
            self.bench.write_after(REMOTE_WRITE_DELAY_MS);
            self.bench.answer_all();
            self.ask();
            while !self.questions.is_empty() {
                self.answer_question(2);
                self.ask();
            }
            let now_ms = self.bench.now_ms;
            self.bench.cache.rewrite_some(now_ms, &self.bench.counters);
        }
    }

    /// The record's filters by text; one that is there twice is none.
    fn recorded(&self, n: usize) -> BTreeMap<String, Filter> {
        let record = &self.bench.stored[&n.to_string()];
        let filters = record.filters.iter();
        let all: BTreeMap<_, _> = filters.map(|it| (it.filter.clone(), it.clone())).collect();
        assert_eq!(all.len(), record.filters.len(), "{record:?}");
        all
    }

    fn rebuilt(&self) -> u64 {
        self.bench.counters.store_records_rebuilt.get()
    }
}

/// A client that has left, with one filter at each group and one at all.
fn away() -> World {
    let mut world = World::new();
    world.connect(0, false, NONE_LATE);
    for filter in [0, 2, 4, 6] {
        world.subscribe(0, filter, 0b10_1101, 7);
    }
    world.hear(0);
    world.end(0, false);
    world.quiet();
    assert_eq!(world.recorded(0).len(), 4);
    world
}

#[test]
fn a_record_that_is_right_costs_no_question_and_one_write() {
    let mut world = away();
    let writes = world.bench.writes;
    world.connect(0, false, NONE_LATE);
    world.quiet();
    assert_eq!((world.asked, world.rebuilt()), (0, 0));
    assert_eq!(world.bench.writes, writes + 1);
    assert_eq!(world.recorded(0), world.clients[0].filters());
}

#[test]
fn whatever_was_done_to_a_record_is_mended_when_its_session_is_resumed() {
    for damage in [
        Damage::Lose,
        Damage::LoseFilter(0),
        Damage::LoseFilter(3),
        Damage::Add(1),
        Damage::Add(7),
        Damage::AddNonsense,
        Damage::Repeat,
        Damage::Change(2),
    ] {
        let mut world = away();
        let writes = world.bench.writes;
        world.damage(0, damage);
        world.connect(0, false, NONE_LATE);
        world.quiet();
        assert_eq!(world.recorded(0), world.clients[0].filters(), "{damage:?}");
        assert_eq!(world.bench.writes, writes + 1, "{damage:?}");
        assert_eq!(world.rebuilt(), 1, "{damage:?}");
        assert!(world.asked >= GROUPS, "{damage:?}: {}", world.asked);
        let events = world.bench.stored["0"].history.len();
        let kept = !matches!(damage, Damage::Lose);
        assert_eq!(events, if kept { 3 } else { 1 }, "{damage:?}");
    }
}

#[test]
fn what_the_record_has_of_groups_that_hold_nothing_goes_unasked() {
    let mut world = World::new();
    world.connect(0, false, NONE_LATE);
    world.end(0, false);
    world.quiet();
    world.damage(0, Damage::Add(5));
    world.connect(0, false, NONE_LATE);
    world.quiet();
    assert!(world.recorded(0).is_empty());
    assert_eq!((world.asked, world.rebuilt()), (0, 1));
}

#[test]
fn what_happens_meanwhile_joins_what_the_groups_say() {
    let mut world = away();
    world.damage(0, Damage::Lose);
    world.connect(0, false, NONE_LATE);
    world.bench.answer_all();
    world.ask();
    // One page is out, and the client goes on.
    world.answer_question(1);
    world.subscribe(0, 1, 1, 0);
    world.unsubscribe(0, 0);
    world.hear(0);
    world.quiet();
    let filters = world.recorded(0);
    assert_eq!(filters, world.clients[0].filters());
    assert!(filters.contains_key(world.texts[1].as_str()));
    assert!(!filters.contains_key(world.texts[0].as_str()));
    assert_eq!(world.rebuilt(), 1);
}

#[test]
fn a_group_that_comes_late_is_compared_then() {
    for damage in [None, Some(Damage::Lose)] {
        let mut world = away();
        if let Some(damage) = damage {
            world.damage(0, damage);
        }
        world.connect(0, false, [false, true, false]);
        world.quiet();
        let has_it = world.recorded(0).contains_key(world.texts[2].as_str());
        assert_eq!(has_it, damage.is_none(), "nobody has said what it holds");
        let writes = world.bench.writes;
        world.join(0, 1);
        world.quiet();
        assert_eq!(world.recorded(0), world.clients[0].filters());
        let mended = usize::from(damage.is_some());
        assert_eq!(world.bench.writes, writes + mended);
        assert_eq!(world.rebuilt(), 2 * mended as u64);
    }
}

#[test]
fn a_record_is_written_though_the_groups_never_answer() {
    let mut world = away();
    world.damage(0, Damage::LoseFilter(0));
    world.connect(0, false, NONE_LATE);
    world.bench.answer_all();
    world.ask();
    world.bench.write_after(REMOTE_WRITE_DELAY_MS);
    let record = &world.bench.stored["0"];
    assert_eq!((record.epoch, record.filters.len()), (2, 3));
    // Its connection ends: nobody will answer.
    world.end(0, false);
    world.bench.write_after(0);
    assert!(world.bench.stored["0"].disconnected_at_ms.is_some());
    assert_eq!(world.bench.cache.questions_open, 0);
    assert!(!world.bench.cache.has_waiting());
    let page = Listed {
        number: world.questions[0].number,
        filters: Vec::new(),
        more: false,
    };
    let stale = world.bench.counters.answers_stale.get();
    world.take(0, What::Listed(Box::new(page)));
    assert_eq!(world.bench.counters.answers_stale.get(), stale + 1);
}

/// Also where the record is right as far as that group goes: others were asked too.
#[test]
fn a_group_that_forgot_the_connection_is_asked_again() {
    for damage in [Damage::Lose, Damage::LoseFilter(0)] {
        let mut world = away();
        world.damage(0, damage);
        world.connect(0, false, NONE_LATE);
        world.bench.answer_all();
        world.ask();
        // The question is lost with the link.
        world.questions.clear();
        world.join(0, 1);
        world.quiet();
        assert_eq!(world.recorded(0), world.clients[0].filters(), "{damage:?}");
    }
}

/// A client of which a group holds what no record has.
fn differing(index: u32) -> What {
    let digest = Said::Digest(FilterDigest(1));
    connected_with(Some(Held {
        handle: Handle {
            index,
            generation: 0,
        },
        groups: [(GroupNo(0), digest)].into(),
    }))
}

fn page(number: u32, text: &str, more: bool) -> What {
    let held = HeldFilter {
        filter: TopicFilter::new(text).expect("valid"),
        options: SubscribeOptions::default(),
        subscription_id: 0,
    };
    What::Listed(Box::new(Listed {
        number,
        filters: vec![held],
        more,
    }))
}

#[test]
fn questions_are_bounded_and_so_is_one_clients_answer() {
    let mut bench = Bench::new();
    for n in 0..=QUESTIONS_OPEN_MAX {
        bench.take(&n.to_string(), 1, differing(n as u32));
        bench.answer_all();
    }
    let asked: Vec<_> = std::iter::from_fn(|| bench.cache.next_question()).collect();
    assert_eq!(asked.len(), QUESTIONS_OPEN_MAX);
    let long = "x".repeat(60_000);
    bench.take("1", 1, page(asked[1].number, &long, false));
    let next = bench.cache.next_question().expect("one has answered");
    assert_eq!(next.handle.index as usize, QUESTIONS_OPEN_MAX);
    // One that has more and more to say.
    let (mut number, mut pages) = (asked[0].number, 0);
    loop {
        bench.take("0", 1, page(number, &long, true));
        pages += 1;
        let Some(next) = bench.cache.next_question() else {
            break;
        };
        number = next.number;
    }
    assert!(
        pages * 130_000 > MENDED_CLIENT_BYTES_MAX && pages < 200,
        "{pages}"
    );
    assert_eq!(bench.counters.store_rebuilds_given_up.get(), 1);
    assert_eq!(bench.cache.questions_open, QUESTIONS_OPEN_MAX - 1);
}

#[test]
fn at_the_limit_the_oldest_rebuild_is_given_up() {
    let mut bench = Bench::new();
    for n in 0..=UNLOADED_MAX {
        bench.take(&n.to_string(), 1, differing(n as u32));
        bench.answer_all();
    }
    assert_eq!(bench.cache.unloaded.len(), UNLOADED_MAX);
    assert_eq!(bench.counters.store_rebuilds_given_up.get(), 1);
    assert!(!bench.cache.unloaded.contains_key("0"));
    assert!(bench.cache.unloaded.contains_key("1"));
}

#[test]
fn a_wiped_store_gets_the_records_of_connected_clients_again_at_a_bounded_rate() {
    let mut bench = Bench::new();
    let clients = 2 * REWRITES_PER_S + 10;
    for n in 0..clients {
        bench.take(&n.to_string(), 1, connected(false));
        bench.take(&n.to_string(), 1, subscribed(&format!("t/{n}")));
    }
    bench.take("gone", 1, connected(false));
    bench.take("gone", 1, lost(60));
    bench.write_after(REMOTE_WRITE_DELAY_MS);
    let before = std::mem::take(&mut bench.stored);
    assert_eq!(before.len() as u64, clients + 1);
    bench.cache.rewrite_all();
    let mut seconds = 0;
    while bench.cache.has_waiting() {
        let written = bench.stored.len() as u64;
        bench.cache.rewrite_some(bench.now_ms, &bench.counters);
        bench.cache.rewrite_some(bench.now_ms, &bench.counters);
        bench.write_after(REMOTE_WRITE_DELAY_MS);
        let now = bench.stored.len() as u64;
        assert!(now - written <= REWRITES_PER_S, "{}", now - written);
        seconds += 1;
    }
    assert!((3..=4).contains(&seconds), "{seconds}");
    assert_eq!(bench.counters.store_records_rewritten.get(), clients);
    assert!(bench.stored.iter().all(|(n, record)| before[n] == *record));
    assert_eq!(
        bench.stored.len() as u64,
        clients,
        "those that are connected"
    );
}
