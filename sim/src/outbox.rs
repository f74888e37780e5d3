//! What members have for the world, whoever runs them at the time.

use broker::raft::ChangeError;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};

/// One life of a broker: its number, and how often it has started.
pub(crate) type Life = (usize, u32);

/// `None`: nobody is there.
pub(crate) type Reply = oneshot::Sender<Option<Bytes>>;

/// What a member has for the world.
#[derive(Debug)]
pub(crate) enum Out {
    /// There is something for its group.
    Woken(Life),
    /// Its disk has something to sync.
    Appended(Life),
    /// It has stored another member's snapshot.
    Received(Life),
    /// It calls the member at this address.
    Call {
        from: Life,
        to: Box<str>,
        call: Bytes,
        reply: Reply,
    },
    /// What has come of a change of the members that it was asked for.
    Changed(Life, Result<(), ChangeError>),
    /// It is to stop: the member that leads in its place, if there is one.
    HandedOver(Life, Option<Box<str>>),
    /// It has ended its work in order.
    Stopped(Life),
    /// It has an answer to a call.
    Answer { call: usize, answer: Bytes },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    queue: Mutex<Vec<Out>>,
    any: Notify,
}

impl Outbox {
    pub(crate) fn put(&self, out: Out) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(out);
        self.0.any.notify_one();
    }

    pub(crate) fn take(&self) -> Vec<Out> {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut queue)
    }

    pub(crate) fn is_empty(&self) -> bool {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.is_empty()
    }

    /// Waits until there may be something.
    pub(crate) async fn filled(&self) {
        self.0.any.notified().await;
    }
}
