//! Session records in the store of this process.

use super::changing::apply;
use super::{RecordChange, RecordSink, What};
use crate::counters::ProxyCounters;
use session_store::{EmbeddedStore, Journal, Record, StoreError, Write, WriteBehind};
use std::sync::Arc;

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
        if matches!(change.what, What::Held(_) | What::Listed(_)) {
            return Ok(());
        }
        let current = self.current(&change.client_id)?;
        if current
            .as_ref()
            .is_some_and(|record| record.epoch > change.epoch)
        {
            return Ok(());
        }
        if change.what.ends_session() {
            self.front.delete(now_ms, &change.client_id, change.epoch);
            return Ok(());
        }
        let mut record = current.unwrap_or_else(|| Record::blank(&change.client_id));
        apply(&mut record, &self.node, now_ms, change.epoch, &change.what);
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
    fn take(&mut self, now_ms: u64, change: RecordChange, counters: &ProxyCounters) {
        let dropped = self.front.stats().dropped;
        let result = self.change(now_ms, &change);
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

#[cfg(test)]
mod tests {
    use super::super::{Connected, Held};
    use super::*;
    use protocol::{SubscribeOptions, TopicFilter, Version};
    use session_store::EventKind;

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
            self.records.take(now_ms, change, &self.counters);
        }

        fn stored(&mut self) -> Option<Record> {
            self.records.flush(&self.counters);
            assert!(!self.records.has_waiting());
            assert_eq!(self.counters.store_errors.get(), 0);
            self.store.load_now("c").expect("it loads")
        }
    }

    fn connected(expiry_s: u32, session_present: bool) -> What {
        What::Connected(Box::new(Connected {
            version: Version::V5,
            user: Some("user".to_owned()),
            address: None,
            clean_start: false,
            expiry_s,
            resumed: session_present.then(|| Box::new(nothing_held())),
        }))
    }

    fn nothing_held() -> Held {
        Held {
            handle: cluster::ids::Handle {
                index: 0,
                generation: 0,
            },
            groups: Box::default(),
        }
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
