//! Which subscribers a topic reaches.
//!
//! Filters without wildcards are one hash table from topic to subscribers; filters with wildcards are a
//! trie, which a publish does not touch while it is empty.
//!
//! Invariant: the hash tables are only looked up, never listed, and every list is sorted. So what a
//! caller sees depends on the subscriptions only, and the hash seed, random against crafted
//! collisions, cannot make replicas differ.

use super::subscriber_list::SubscriberList;
use super::trie::Trie;
use cluster::ids::ClientNo;
use compact_str::CompactString;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use protocol::{QoS, SubscribeOptions};
use std::hash::{BuildHasher, Hasher};
use std::ops::ControlFlow;

/// A shared subscription's queue: one per (share name, filter) of the group. Numbers are the caller's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueNo(pub u32);

/// The options of one subscription in a byte: [`SubscribeOptions`] is four, and there are millions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Options(u8);

impl From<SubscribeOptions> for Options {
    fn from(options: SubscribeOptions) -> Self {
        Self(options.as_u8())
    }
}

impl From<Options> for SubscribeOptions {
    fn from(options: Options) -> Self {
        Self::from_u8(options.0).expect("only valid options were packed")
    }
}

impl Options {
    /// The granted maximum quality of service.
    #[inline]
    pub fn qos(self) -> QoS {
        QoS::from_u8(self.0 & 0b11).expect("only valid options were packed")
    }

    /// Whether the client's own messages are kept from it (MQTT-3.8.3-3).
    #[inline]
    pub fn no_local(self) -> bool {
        self.0 & 0b100 != 0
    }

    /// Whether the RETAIN flag is forwarded as it was published (MQTT5 3.3.1.3).
    #[inline]
    pub fn retain_as_published(self) -> bool {
        self.0 & 0b1000 != 0
    }
}

/// Who gets what a filter matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subscriber {
    /// A client's own subscription.
    Client {
        /// The client's number in the group.
        client: ClientNo,
        /// Its options.
        options: Options,
        /// Subscription Identifier; 0 when absent (MQTT5 3.8.2.1.2).
        subscription_id: u32,
    },
    /// The queue of a shared subscription (MQTT5 4.8.2).
    Shared(QueueNo),
}

const _: () = assert!(size_of::<Subscriber>() == 12);

/// What is unique among the subscribers of one filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SubscriberKey {
    /// A client.
    Client(ClientNo),
    /// A shared subscription's queue.
    Shared(QueueNo),
}

impl SubscriberKey {
    /// The key as a number that sorts the same: clients by number, then queues by number.
    pub fn order(self) -> u64 {
        match self {
            Self::Client(client) => u64::from(client.0),
            Self::Shared(queue) => 1 << 32 | u64::from(queue.0),
        }
    }
}

impl Subscriber {
    /// What is unique among the subscribers of one filter.
    pub fn key(&self) -> SubscriberKey {
        match *self {
            Self::Client { client, .. } => SubscriberKey::Client(client),
            Self::Shared(queue) => SubscriberKey::Shared(queue),
        }
    }

    /// See [`SubscriberKey::order`].
    #[inline]
    pub fn order(&self) -> u64 {
        self.key().order()
    }

    /// A total order in which equal keys are adjacent.
    fn total_order(&self) -> (u64, u32, u8) {
        match *self {
            Self::Client {
                options,
                subscription_id,
                ..
            } => (self.order(), subscription_id, options.0),
            Self::Shared(_) => (self.order(), 0, 0),
        }
    }
}

/// All subscriptions of a group.
///
/// Filters are given as text: valid filters, and for shared subscriptions the inner filter, without
/// `$share/name/`. Topics are valid topic names as bytes, without wildcards.
#[derive(Debug, Default)]
pub struct Subscriptions {
    exact: HashTable<Exact>,
    wildcards: Trie,
    hasher: RandomState,
    len: usize,
}

#[derive(Debug)]
struct Exact {
    topic: CompactString,
    subscribers: SubscriberList,
}

const _: () = assert!(size_of::<Exact>() == 40);

/// Below this many slots a table is not worth shrinking.
const SHRINK_ABOVE: usize = 1024;

impl Subscriptions {
    /// No subscriptions.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many subscriptions there are: pairs of filter and subscriber.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a subscription. Returns the one of the same subscriber and filter that it replaces; `None`
    /// says it is new, which is what retain handling 1 asks (MQTT-3.3.1-10).
    pub fn insert(&mut self, filter: &str, subscriber: Subscriber) -> Option<Subscriber> {
        let replaced = if is_wildcard(filter) {
            self.wildcards.insert(filter, subscriber)
        } else {
            self.insert_exact(filter, subscriber)
        };
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Removes a subscription and returns it; `None` when there was none.
    pub fn remove(&mut self, filter: &str, key: SubscriberKey) -> Option<Subscriber> {
        let removed = if is_wildcard(filter) {
            self.wildcards.remove(filter, key)
        } else {
            self.remove_exact(filter, key)
        };
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// The subscription of a subscriber to a filter.
    pub fn get(&self, filter: &str, key: SubscriberKey) -> Option<&Subscriber> {
        if is_wildcard(filter) {
            return self.wildcards.get(filter, key);
        }
        self.exact_list(filter.as_bytes())?.get(key)
    }

    /// Shows every match of `topic`: a client once for each of its filters that match.
    ///
    /// The order is a function of the topic and the subscriptions alone: filter by filter, by
    /// [`Subscriber::order`] within a filter. Across filters it is not sorted: use
    /// [`Subscriptions::collect`] to merge the matches of one client.
    #[inline]
    pub fn for_each_match(&self, topic: &[u8], mut visit: impl FnMut(&Subscriber)) {
        let flow = self.try_for_each_list(topic, |list| {
            list.try_for_each(|subscriber| {
                visit(subscriber);
                ControlFlow::Continue(())
            })
        });
        debug_assert!(flow.is_continue(), "nothing breaks the walk");
    }

    /// Whether `wanted` holds for a match of `topic`; it is not asked again after it did.
    #[inline]
    pub fn any_match(&self, topic: &[u8], mut wanted: impl FnMut(&Subscriber) -> bool) -> bool {
        let flow = self.try_for_each_list(topic, |list| {
            list.try_for_each(|subscriber| {
                if wanted(subscriber) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        });
        flow.is_break()
    }

    /// Puts every match of `topic` into `out`, which it empties first, sorted by
    /// [`Subscriber::order`]: the matches of one client are adjacent, its subscription ids ascending.
    pub fn collect(&self, topic: &[u8], out: &mut Vec<Subscriber>) {
        out.clear();
        let mut lists = 0;
        let flow = self.try_for_each_list(topic, |list| {
            lists += 1;
            list.try_for_each(|subscriber| {
                out.push(*subscriber);
                ControlFlow::Continue(())
            })
        });
        debug_assert!(flow.is_continue(), "nothing breaks the walk");
        if lists > 1 {
            // The stable sort merges runs that are sorted already; the order is total, so it is
            // the same on every replica.
            out.sort_by_key(Subscriber::total_order);
        }
    }

    #[inline]
    fn try_for_each_list(
        &self,
        topic: &[u8],
        mut visit: impl FnMut(&SubscriberList) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let Some(list) = self.exact_list(topic) {
            visit(list)?;
        }
        if self.wildcards.is_empty() {
            return ControlFlow::Continue(());
        }
        self.wildcards.try_for_each_list(topic, visit)
    }

    #[inline]
    fn exact_list(&self, topic: &[u8]) -> Option<&SubscriberList> {
        let hash = hash_of(&self.hasher, topic);
        let exact = self
            .exact
            .find(hash, |exact| exact.topic.as_bytes() == topic)?;
        Some(&exact.subscribers)
    }

    fn insert_exact(&mut self, topic: &str, subscriber: Subscriber) -> Option<Subscriber> {
        let hasher = &self.hasher;
        let hash = hash_of(hasher, topic.as_bytes());
        let is_it = |exact: &Exact| exact.topic == topic;
        let rehash = |exact: &Exact| hash_of(hasher, exact.topic.as_bytes());
        match self.exact.entry(hash, is_it, rehash) {
            Entry::Occupied(mut held) => held.get_mut().subscribers.insert(subscriber),
            Entry::Vacant(vacant) => {
                let subscribers = SubscriberList::One(subscriber);
                vacant.insert(Exact {
                    topic: CompactString::from(topic),
                    subscribers,
                });
                None
            }
        }
    }

    fn remove_exact(&mut self, topic: &str, key: SubscriberKey) -> Option<Subscriber> {
        let hash = hash_of(&self.hasher, topic.as_bytes());
        let mut held = self
            .exact
            .find_entry(hash, |exact| exact.topic == topic)
            .ok()?;
        let removed = held.get_mut().subscribers.remove(key)?;
        if held.get().subscribers.is_empty() {
            held.remove();
            self.shrink_exact();
        }
        Some(removed)
    }

    /// Gives memory back after a fleet has left. Rare by its factor of eight, so its cost is spread
    /// over as many removals.
    fn shrink_exact(&mut self) {
        let (len, capacity) = (self.exact.len(), self.exact.capacity());
        if capacity > SHRINK_ABOVE && len * 8 < capacity {
            let hasher = &self.hasher;
            self.exact
                .shrink_to(len * 2, |exact| hash_of(hasher, exact.topic.as_bytes()));
        }
    }
}

#[inline]
fn hash_of(hasher: &RandomState, bytes: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(bytes);
    state.finish()
}

fn is_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::filter_matches;
    use std::collections::BTreeMap;

    fn client(number: u32) -> Subscriber {
        with_options(number, 0, 0)
    }

    fn with_options(number: u32, bits: u8, subscription_id: u32) -> Subscriber {
        let options = SubscribeOptions::from_u8(bits)
            .expect("the tests use valid options")
            .into();
        Subscriber::Client {
            client: ClientNo(number),
            options,
            subscription_id,
        }
    }

    /// Few names, so that filters overlap; an empty level, a `$` name and one too long to lie in place.
    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "a",
            "b",
            "",
            "$s",
            "a-level-that-is-longer-than-24-bytes",
        ])
    }

    fn topic() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic is not empty", |topic| !topic.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let levels = prop::collection::vec(prop_oneof![3 => level(), 2 => Just("+")], 0..4);
        (levels, any::<bool>())
            .prop_map(|(mut levels, multi)| {
                levels.extend(multi.then_some("#"));
                levels.join("/")
            })
            .prop_filter("a filter is not empty", |filter| !filter.is_empty())
    }

    fn subscriber() -> impl Strategy<Value = Subscriber> {
        prop_oneof![
            4 => (0..6u32, prop::sample::select(vec![0, 1, 2, 4, 9, 0x1e, 0x21]), 0..3u32).prop_map(|(n, bits, id)| with_options(n, bits, id)),
            1 => (0..3u32).prop_map(|n| Subscriber::Shared(QueueNo(n))),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(String, Subscriber),
        Remove(String, SubscriberKey),
    }

    fn op() -> impl Strategy<Value = Op> {
        (filter(), subscriber(), any::<bool>()).prop_map(|(filter, subscriber, insert)| {
            if insert {
                Op::Insert(filter, subscriber)
            } else {
                Op::Remove(filter, subscriber.key())
            }
        })
    }

    type Model = BTreeMap<(String, SubscriberKey), Subscriber>;

    fn check_topic(
        subscriptions: &Subscriptions,
        model: &Model,
        topic: &str,
    ) -> Result<(), TestCaseError> {
        let mut expected: Vec<_> = model
            .iter()
            .filter(|((filter, _), _)| filter_matches(filter, topic))
            .map(|(_, subscriber)| *subscriber)
            .collect();
        expected.sort_by_key(Subscriber::total_order);

        let mut collected = vec![client(99)];
        subscriptions.collect(topic.as_bytes(), &mut collected);
        prop_assert_eq!(&collected, &expected, "{}", topic);

        let mut shown = Vec::new();
        subscriptions.for_each_match(topic.as_bytes(), |subscriber| shown.push(*subscriber));
        shown.sort_by_key(Subscriber::total_order);
        prop_assert_eq!(&shown, &expected);

        for number in 0..6 {
            let key = SubscriberKey::Client(ClientNo(number));
            let any = subscriptions.any_match(topic.as_bytes(), |held| held.key() == key);
            prop_assert_eq!(any, expected.iter().any(|held| held.key() == key));
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Every answer is that of a plain list of (filter, subscriber).
        #[test]
        fn behaves_like_a_list_of_filters(
            ops in prop::collection::vec(op(), 1..80),
            topics in prop::collection::vec(topic(), 1..20),
        ) {
            let mut subscriptions = Subscriptions::new();
            let mut model = Model::new();
            for op in ops {
                match op {
                    Op::Insert(filter, new) => {
                        let expected = model.insert((filter.clone(), new.key()), new);
                        prop_assert_eq!(subscriptions.insert(&filter, new), expected);
                        prop_assert_eq!(subscriptions.get(&filter, new.key()), Some(&new));
                    }
                    Op::Remove(filter, key) => {
                        let expected = model.remove(&(filter.clone(), key));
                        prop_assert_eq!(subscriptions.remove(&filter, key), expected);
                        prop_assert_eq!(subscriptions.get(&filter, key), None);
                    }
                }
                prop_assert_eq!(subscriptions.len(), model.len());
            }
            for topic in &topics {
                check_topic(&subscriptions, &model, topic)?;
            }
            for (filter, key) in model.keys() {
                prop_assert!(subscriptions.remove(filter, *key).is_some());
            }
            prop_assert!(subscriptions.is_empty() && subscriptions.wildcards.is_empty());
            prop_assert!(subscriptions.exact.is_empty());
        }

        /// Two replicas show the same order, whatever their hash seeds and however they got there.
        #[test]
        fn order_depends_on_the_subscriptions_only(
            filters in prop::collection::vec((filter(), subscriber()), 1..40),
            topics in prop::collection::vec(topic(), 1..10),
        ) {
            let (mut one, mut other) = (Subscriptions::new(), Subscriptions::new());
            let model: Model =
                filters.into_iter().map(|(filter, held)| ((filter, held.key()), held)).collect();
            for ((filter, _), held) in &model {
                one.insert(filter, *held);
            }
            for ((filter, _), held) in model.iter().rev() {
                other.insert(filter, *held);
            }
            for topic in &topics {
                let (mut left, mut right) = (Vec::new(), Vec::new());
                one.for_each_match(topic.as_bytes(), |held| left.push(*held));
                other.for_each_match(topic.as_bytes(), |held| right.push(*held));
                prop_assert_eq!(left, right);
            }
        }
    }

    /// MQTT-4.7.2-1, and that an exact or literal `$` level is no exception to matching.
    #[test]
    fn leading_wildcards_do_not_match_dollar_topics() {
        let mut subscriptions = Subscriptions::new();
        for (number, filter) in ["#", "+/x", "+/#", "$SYS/#", "$SYS/+", "$SYS/x"]
            .iter()
            .enumerate()
        {
            subscriptions.insert(filter, client(number as u32));
        }
        let mut out = Vec::new();
        subscriptions.collect(b"$SYS/x", &mut out);
        assert_eq!(out, [client(3), client(4), client(5)]);
        subscriptions.collect(b"SYS/x", &mut out);
        assert_eq!(out, [client(0), client(1), client(2)]);
        subscriptions.collect(b"$SYS", &mut out);
        assert_eq!(out, [client(3)]);
    }

    #[test]
    fn matches_of_one_client_are_adjacent_and_its_ids_ascend() {
        let mut subscriptions = Subscriptions::new();
        for number in (0..300).rev() {
            subscriptions.insert("t/#", with_options(number, 1, 9));
            subscriptions.insert("t/x", with_options(number, 0, 4));
        }
        subscriptions.insert("+/x", Subscriber::Shared(QueueNo(0)));
        let mut out = Vec::new();
        subscriptions.collect(b"t/x", &mut out);
        assert_eq!(out.len(), 601);
        for (number, pair) in out[..600].chunks(2).enumerate() {
            let number = number as u32;
            assert_eq!(
                pair,
                [with_options(number, 0, 4), with_options(number, 1, 9)]
            );
        }
        assert_eq!(out[600], Subscriber::Shared(QueueNo(0)));
    }

    #[test]
    fn a_replaced_subscription_is_returned() {
        let mut subscriptions = Subscriptions::new();
        for filter in ["a/b", "a/+"] {
            assert_eq!(subscriptions.insert(filter, with_options(1, 1, 0)), None);
            assert_eq!(subscriptions.insert(filter, with_options(2, 0, 0)), None);
            let replaced = subscriptions.insert(filter, with_options(1, 2, 7));
            assert_eq!(replaced, Some(with_options(1, 1, 0)));
        }
        assert_eq!(subscriptions.len(), 4);
    }

    #[test]
    fn a_departed_fleet_gives_its_table_back() {
        let mut subscriptions = Subscriptions::new();
        for number in 0..20_000 {
            subscriptions.insert(&format!("devices/{number}/cmd"), client(number));
        }
        let full = subscriptions.exact.capacity();
        for number in 0..19_990 {
            let key = SubscriberKey::Client(ClientNo(number));
            assert!(
                subscriptions
                    .remove(&format!("devices/{number}/cmd"), key)
                    .is_some()
            );
        }
        assert!(subscriptions.exact.capacity() * 8 < full);
        assert!(subscriptions.any_match(b"devices/19995/cmd", |_| true));
        assert!(!subscriptions.any_match(b"devices/1/cmd", |_| true));
    }

    #[test]
    fn options_survive_packing() {
        let valid: Vec<_> = (0..=u8::MAX)
            .filter_map(SubscribeOptions::from_u8)
            .collect();
        assert_eq!(valid.len(), 36);
        for options in valid {
            let packed = Options::from(options);
            assert_eq!(SubscribeOptions::from(packed), options);
            assert_eq!(packed.qos(), options.qos);
            assert_eq!(packed.no_local(), options.no_local);
            assert_eq!(packed.retain_as_published(), options.retain_as_published);
        }
    }
}
