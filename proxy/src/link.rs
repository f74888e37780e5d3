//! The link between one shard and a group, as the shard sees it.

use cluster::frame::{FromGroup, ToGroup};
use cluster::mailbag::{Mailbag, Wake};
use mio::{Poll, Waker};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Both directions of a link. Order is kept in each.
#[derive(Debug)]
pub struct GroupLink {
    /// Frames of the shard.
    pub to_group: Arc<Mailbag<ToGroup>>,
    /// Frames of the group. It never waits for room in this one: QoS 1 and 2 deliveries are bounded by the
    /// sessions' windows, and what has no window it drops when the bag is full.
    pub to_shard: Arc<Mailbag<FromGroup>>,
    group_full: AtomicBool,
}

/// Bytes on their way from one shard to the group; at the limit the shard reads no more from its sockets.
pub const TO_GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes on their way from the group to one shard; at the limit the group drops QoS 0 deliveries to it.
pub const TO_SHARD_BYTES_MAX: usize = 64 * 1024 * 1024;

impl GroupLink {
    /// A link between `shard` and a group that `wake_group` wakes.
    pub fn new(shard: &ShardWaker, wake_group: Wake) -> Self {
        let nobody: Wake = Box::new(|| {});
        Self::of_bags(
            Mailbag::new(TO_GROUP_BYTES_MAX, wake_group, shard.wake()),
            Mailbag::new(TO_SHARD_BYTES_MAX, shard.wake(), nobody),
        )
    }

    /// A link over these bags.
    pub(crate) fn of_bags(to_group: Mailbag<ToGroup>, to_shard: Mailbag<FromGroup>) -> Self {
        Self {
            to_group: Arc::new(to_group),
            to_shard: Arc::new(to_shard),
            group_full: AtomicBool::new(false),
        }
    }

    /// Whether the group says that it can store nothing more. What is on its way is kept all the same.
    pub fn is_group_full(&self) -> bool {
        self.group_full.load(Ordering::Relaxed)
    }

    /// The group says so, or does not any more: the shard hears of it.
    pub fn set_group_full(&self, full: bool) {
        if self.is_group_full() != full {
            self.group_full.store(full, Ordering::Relaxed);
            self.to_shard.ring();
        }
    }
}

/// What a shard sleeps on, made before it so that its link can be.
#[derive(Debug)]
pub struct ShardPoll {
    pub(crate) poll: Poll,
    waker: ShardWaker,
}

/// Wakes one shard; cheap to clone.
#[derive(Clone, Debug)]
pub struct ShardWaker(Arc<Waker>);

pub(crate) const WAKER: mio::Token = mio::Token(1);

impl ShardPoll {
    /// Fails if the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = ShardWaker(Arc::new(Waker::new(poll.registry(), WAKER)?));
        Ok(Self { poll, waker })
    }

    /// What wakes the shard.
    pub fn waker(&self) -> &ShardWaker {
        &self.waker
    }
}

impl ShardWaker {
    /// Wakes the shard, or makes its next sleep return at once.
    pub fn ring(&self) {
        if let Err(error) = self.0.wake() {
            // The write of eight bytes into an eventfd that only a full counter can refuse, and then it is awake.
            tracing::error!(%error, "cannot wake a shard");
        }
    }

    /// The same as a function for a [`Mailbag`].
    pub fn wake(&self) -> Wake {
        let waker = self.clone();
        Box::new(move || waker.ring())
    }
}
