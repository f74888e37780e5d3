//! Session records: what changes of a client is written behind to the session store.
//!
//! A record is nobody's only home of a promise, so nothing waits for it, and a failure here is counted and logged
//! and hurts no client.

use crate::counters::ProxyCounters;
use protocol::{SubscribeOptions, TopicFilter, Version};
use session_store::{
    EmbeddedStore, EventKind, Filter, FilterOptions, Journal, Record, StoreError, Write,
    WriteBehind,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// Something that happened to a client, to be seen in its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// The client.
    pub client_id: Box<str>,
    /// The epoch its owner had then; a record of a later one stands.
    pub epoch: u64,
    /// What happened.
    pub what: What,
}

/// What happened to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// CONNACK said success.
    Connected(Connected),
    /// SUBACK granted these.
    Subscribed {
        /// Filters with options.
        filters: Vec<(TopicFilter, SubscribeOptions)>,
        /// Their Subscription Identifier; 0 when absent.
        subscription_id: u32,
    },
    /// UNSUBACK removed these.
    Unsubscribed {
        /// Filters.
        filters: Vec<TopicFilter>,
    },
    /// The connection ended.
    Ended {
        /// Seconds the session lives on; 0: it ended with the connection.
        expiry_s: u32,
        /// How.
        how: EventKind,
    },
}

/// A connection as its CONNECT described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Protocol version.
    pub version: Version,
    /// User name.
    pub user: Option<String>,
    /// Where it came from.
    pub address: Option<SocketAddr>,
    /// Clean Start.
    pub clean_start: bool,
    /// Session Expiry Interval granted, in seconds.
    pub expiry_s: u32,
    /// Whether the session existed before.
    pub session_present: bool,
}

/// Takes the changes of one shard's clients. Called on the shard's thread: it must not wait.
pub trait RecordSink: Send {
    /// Takes a change that happened at `now_ms` milliseconds since 1970.
    fn take(&mut self, now_ms: u64, change: &RecordChange, counters: &ProxyCounters);

    /// Writes what has waited long enough.
    fn flush_due(&mut self, now_ms: u64, counters: &ProxyCounters);

    /// Writes everything: the shard stops.
    fn flush(&mut self, counters: &ProxyCounters);

    /// Whether something waits to be written.
    fn has_waiting(&self) -> bool;
}

/// Records in the store of this process, written behind and coalesced per client.
pub struct EmbeddedRecords<J> {
    store: Arc<EmbeddedStore<J>>,
    front: WriteBehind,
    node: String,
}

impl<J: Journal> EmbeddedRecords<J> {
    /// `node` is this node's name in the records.
    pub fn new(store: Arc<EmbeddedStore<J>>, node: String) -> Self {
        Self {
            store,
            front: WriteBehind::default(),
            node,
        }
    }

    /// The client's record as of now: what waits to be written is newer than what is.
    fn current(&self, client_id: &str) -> Result<Option<Record>, StoreError> {
        match self.front.get(client_id) {
            Some(Write::Save { record, .. }) => Record::decode(record).map(Some),
            Some(Write::Delete { .. }) => Ok(None),
            None => self.store.load_now(client_id),
        }
    }

    fn change(&mut self, now_ms: u64, change: &RecordChange) -> Result<(), StoreError> {
        let current = self.current(&change.client_id)?;
        if current
            .as_ref()
            .is_some_and(|record| record.epoch > change.epoch)
        {
            return Ok(());
        }
        let mut record = current.unwrap_or_else(|| blank(&change.client_id, &self.node));
        record.epoch = change.epoch;
        match &change.what {
            What::Connected(connected) => connect(&mut record, &self.node, now_ms, connected),
            What::Subscribed {
                filters,
                subscription_id,
            } => {
                subscribe(&mut record, filters, *subscription_id);
            }
            What::Unsubscribed { filters } => {
                record
                    .filters
                    .retain(|old| filters.iter().all(|gone| gone.as_str() != old.filter));
            }
            What::Ended { expiry_s: 0, .. } => {
                self.front.delete(now_ms, &change.client_id, change.epoch);
                return Ok(());
            }
            What::Ended { expiry_s, how } => {
                record.expiry_s = *expiry_s;
                record.disconnected_at_ms = Some(now_ms);
                record.push_event(now_ms, *how);
            }
        }
        self.front.save(now_ms, &record)
    }

    fn report(
        &self,
        dropped_before: u64,
        result: Result<(), StoreError>,
        counters: &ProxyCounters,
    ) {
        let dropped = self.front.stats().dropped - dropped_before;
        counters.store_writes_dropped.add(dropped);
        if let Err(error) = result {
            counters.store_errors.increment();
            tracing::warn!(%error, "a session record was not written");
        }
    }
}

impl<J: Journal> RecordSink for EmbeddedRecords<J> {
    fn take(&mut self, now_ms: u64, change: &RecordChange, counters: &ProxyCounters) {
        let dropped = self.front.stats().dropped;
        let result = self.change(now_ms, change);
        self.report(dropped, result, counters);
    }

    fn flush_due(&mut self, now_ms: u64, counters: &ProxyCounters) {
        let result = self.front.flush_due(now_ms, &*self.store).map(|_| ());
        self.report(self.front.stats().dropped, result, counters);
    }

    fn flush(&mut self, counters: &ProxyCounters) {
        let result = self.front.flush(&*self.store).map(|_| ());
        self.report(self.front.stats().dropped, result, counters);
    }

    fn has_waiting(&self) -> bool {
        !self.front.is_empty()
    }
}

fn blank(client_id: &str, node: &str) -> Record {
    Record {
        client_id: client_id.to_owned(),
        epoch: 0,
        protocol_version: Version::V311.level(),
        user: None,
        node: node.to_owned(),
        address: None,
        clean_start: false,
        expiry_s: 0,
        connected_at_ms: 0,
        disconnected_at_ms: None,
        history: Vec::new(),
        filters: Vec::new(),
    }
}

/// The history outlives sessions, the filters do not.
fn connect(record: &mut Record, node: &str, now_ms: u64, connected: &Connected) {
    node.clone_into(&mut record.node);
    record.protocol_version = connected.version.level();
    record.user.clone_from(&connected.user);
    record.address = connected.address;
    record.clean_start = connected.clean_start;
    record.expiry_s = connected.expiry_s;
    record.connected_at_ms = now_ms;
    record.disconnected_at_ms = None;
    if !connected.session_present {
        record.filters.clear();
    }
    record.push_event(now_ms, EventKind::Connected);
}

/// A filter that is there already is replaced (MQTT-3.8.4-3).
fn subscribe(
    record: &mut Record,
    filters: &[(TopicFilter, SubscribeOptions)],
    subscription_id: u32,
) {
    for (filter, options) in filters {
        let new = Filter {
            filter: filter.as_str().to_owned(),
            options: FilterOptions {
                qos: options.qos.as_u8(),
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling: options.retain_handling as u8,
            },
            subscription_id: (subscription_id > 0).then_some(subscription_id),
        };
        match record
            .filters
            .iter_mut()
            .find(|old| old.filter == new.filter)
        {
            Some(old) => *old = new,
            None => record.filters.push(new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "node-1";

    struct Bench {
        store: Arc<EmbeddedStore<()>>,
        records: EmbeddedRecords<()>,
        counters: ProxyCounters,
    }

    impl Bench {
        fn new() -> Self {
            let store = Arc::new(EmbeddedStore::new(()));
            let records = EmbeddedRecords::new(Arc::clone(&store), NODE.to_owned());
            Self {
                store,
                records,
                counters: ProxyCounters::default(),
            }
        }

        fn take(&mut self, now_ms: u64, epoch: u64, what: What) {
            let change = RecordChange {
                client_id: "c".into(),
                epoch,
                what,
            };
            self.records.take(now_ms, &change, &self.counters);
        }

        fn stored(&mut self) -> Option<Record> {
            self.records.flush(&self.counters);
            assert!(!self.records.has_waiting());
            assert_eq!(self.counters.store_errors.get(), 0);
            self.store.load_now("c").expect("it loads")
        }
    }

    fn connected(expiry_s: u32, session_present: bool) -> What {
        What::Connected(Connected {
            version: Version::V5,
            user: Some("user".to_owned()),
            address: None,
            clean_start: false,
            expiry_s,
            session_present,
        })
    }

    fn subscribed(filter: &str) -> What {
        let filters = vec![(
            TopicFilter::new(filter).expect("valid"),
            SubscribeOptions::default(),
        )];
        What::Subscribed {
            filters,
            subscription_id: 3,
        }
    }

    #[test]
    fn a_record_follows_its_client() {
        let mut bench = Bench::new();
        bench.take(1_000, 1, connected(60, false));
        bench.take(1_001, 1, subscribed("a"));
        bench.take(1_002, 1, subscribed("b"));
        bench.take(1_003, 1, subscribed("a"));
        let record = bench.stored().expect("saved");
        assert_eq!((record.protocol_version, record.node.as_str()), (5, NODE));
        assert_eq!(record.filters.len(), 2);
        assert_eq!(record.filters[0].subscription_id, Some(3));
        let filters = vec![TopicFilter::new("a").expect("valid")];
        bench.take(1_004, 1, What::Unsubscribed { filters });
        bench.take(
            1_005,
            1,
            What::Ended {
                expiry_s: 60,
                how: EventKind::Lost,
            },
        );
        bench.take(1_006, 2, connected(60, true));
        let record = bench.stored().expect("saved");
        assert_eq!(
            (record.epoch, record.filters.len(), record.history.len()),
            (2, 1, 3)
        );
        assert_eq!(record.disconnected_at_ms, None);
        bench.take(1_007, 3, connected(60, false));
        assert!(bench.stored().expect("saved").filters.is_empty());
    }

    #[test]
    fn a_session_without_expiry_leaves_no_record() {
        let mut bench = Bench::new();
        bench.take(1_000, 1, connected(0, false));
        assert!(bench.stored().is_some());
        bench.take(
            1_001,
            1,
            What::Ended {
                expiry_s: 0,
                how: EventKind::LeftWith(0),
            },
        );
        assert!(bench.stored().is_none());
    }

    #[test]
    fn an_earlier_owner_changes_nothing() {
        let mut bench = Bench::new();
        bench.take(1_000, 5, connected(60, false));
        bench.take(
            1_001,
            4,
            What::Ended {
                expiry_s: 0,
                how: EventKind::Lost,
            },
        );
        bench.take(1_002, 4, subscribed("a"));
        let record = bench.stored().expect("saved");
        assert_eq!(
            (record.epoch, record.filters.len(), record.history.len()),
            (5, 0, 1)
        );
    }
}
