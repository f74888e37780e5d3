//! Keeps an unlogged publish behind earlier logged ones of the same topic and QoS (promise P4).

use foldhash::fast::FixedState;
use protocol::QoS;
use std::hash::{BuildHasher, Hasher};

/// Topics are kept apart by hash; two topics that share a bucket only cost a needless log entry.
const BUCKETS: usize = 4_096;

/// For each QoS and topic bucket, the last log entry that carries a publish of it.
#[derive(Debug)]
pub(super) struct PublishOrder {
    last: [Box<[u64]>; 3],
    newest: [u64; 3],
}

impl Default for PublishOrder {
    fn default() -> Self {
        let table = || vec![0; BUCKETS].into_boxed_slice();
        Self {
            last: [table(), table(), table()],
            newest: [0; 3],
        }
    }
}

impl PublishOrder {
    pub(super) fn bucket(topic: &[u8]) -> usize {
        let mut hasher = FixedState::with_seed(0).build_hasher();
        hasher.write(topic);
        hasher.finish() as usize % BUCKETS
    }

    /// Whether an earlier publish of this topic and QoS is in the log and not applied yet.
    pub(super) fn must_follow_log(&self, qos: QoS, bucket: usize, applied: u64) -> bool {
        let qos = qos as usize;
        self.newest[qos] > applied && self.last[qos][bucket] > applied
    }

    /// Entry `index` carries a publish of this topic and QoS.
    pub(super) fn logged(&mut self, qos: QoS, bucket: usize, index: u64) {
        self.last[qos as usize][bucket] = index;
        self.newest[qos as usize] = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlogged_publish_waits_only_for_its_own_topic_and_qos() {
        let mut order = PublishOrder::default();
        let (a, b) = (PublishOrder::bucket(b"a"), PublishOrder::bucket(b"b"));
        assert_ne!(a, b);
        order.logged(QoS::AtLeastOnce, a, 7);
        assert!(order.must_follow_log(QoS::AtLeastOnce, a, 6));
        assert!(!order.must_follow_log(QoS::AtLeastOnce, b, 6));
        assert!(!order.must_follow_log(QoS::AtMostOnce, a, 6));
        assert!(
            !order.must_follow_log(QoS::AtLeastOnce, a, 7),
            "applied: nothing to wait for"
        );
    }
}
