//! The types that openraft is used with, and its settings.

use super::limits::{
    CALL_ENTRIES_MAX, ELECTION_MAX, HEARTBEAT, LAG_OF_VOTERS, SNAPSHOT_CALL, VOTE,
};
use super::process;
use crate::log::Location;
use bytes::Bytes;
use cluster::topology::{HostPort, NodeName};
use openraft::{AsyncRuntime, Config, OptionalSend, SnapshotPolicy, TokioRuntime};
use rand_core::{RngCore, impls};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// What openraft is told to work with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Proposal;
    type R = ();
    type NodeId = u64;
    type Node = Node;
    type Entry = openraft::Entry<Self>;
    type SnapshotData = Carried;
    type AsyncRuntime = Runtime;
    type Responder = openraft::impls::OneshotResponder<Self>;
}

pub(super) type Raft = openraft::Raft<Types>;
pub(super) type Entry = openraft::Entry<Types>;
pub(super) type Payload = openraft::EntryPayload<Types>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Membership = openraft::Membership<u64, Node>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, Node>;
pub(super) type StorageError = openraft::StorageError<u64>;

/// A member as the others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name in the cluster file.
    pub name: Box<str>,
    /// Host and port where it takes calls of the other members.
    pub address: Box<str>,
}

impl Node {
    /// A member that takes calls there.
    pub(super) fn at(name: &NodeName, address: &HostPort) -> Self {
        Self {
            name: name.as_str().into(),
            address: address.as_str().into(),
        }
    }
}

/// The id of a member. A member that lost its folder comes back with another `life`, so that nobody takes it for the
/// one that has voted and stored before.
pub fn node_id(name: &str, life: u64) -> u64 {
    let mut bytes = Vec::with_capacity(name.len() + 8);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&life.to_le_bytes());
    // openraft's default vote is for 0.
    xxh3_64(&bytes).max(1)
}

/// The commands of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    /// The term that the group proposed it in. In an entry of another term it is void.
    pub(super) term: u64,
    /// The commands.
    pub(super) body: Body,
}

/// Where the bytes of commands are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Here.
    Here(Bytes),
    /// In the log: openraft reads all it has to hand over at once, which may be more than memory holds.
    Stored {
        /// The record.
        at: Location,
        /// Bytes of the commands.
        len: u32,
    },
}

impl Body {
    /// Bytes of the commands.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Stored { len, .. } => *len as usize,
        }
    }
}

/// A snapshot on its way through openraft: the file itself goes around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried;

/// Openraft's settings.
pub(super) fn settings(group: &str, kept_entries: u64) -> Config {
    let millis = |time: Duration| time.as_millis() as u64;
    Config {
        cluster_name: group.to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(VOTE),
        election_timeout_max: millis(ELECTION_MAX),
        install_snapshot_timeout: millis(SNAPSHOT_CALL),
        max_payload_entries: CALL_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: kept_entries,
        replication_lag_threshold: LAG_OF_VOTERS,
        purge_batch_size: 1,
        // See `election`.
        enable_elect: false,
        ..Config::default()
    }
}

/// Tokio, with random numbers that a test can repeat.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Runtime;

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// Begins this thread's random numbers anew. They decide when elections are held.
pub fn seed(seed: u64) {
    RANDOM.set(seed);
}

/// A thread's random numbers (splitmix64: nothing secret is made of them).
pub(super) struct Random(());

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        let state = RANDOM.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        RANDOM.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        impls::fill_bytes_via_next(self, bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

/// This thread's random numbers.
pub(super) fn random() -> Random {
    Random(())
}

type Tokio = TokioRuntime;

impl AsyncRuntime for Runtime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Random;
    type OneshotSender<T: OptionalSend> = <Tokio as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <Tokio as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <Tokio as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        process::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Tokio::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        Tokio::is_panic(error)
    }

    fn thread_rng() -> Random {
        random()
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        Tokio::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_ones_that_openraft_accepts() {
        let config = settings("test", 0).validate().expect("valid");
        assert!(
            !config.enable_elect,
            "its own elections could split votes for ever"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let draw = |number| {
            seed(number);
            [0; 4].map(|_: u8| Runtime::thread_rng().next_u64())
        };
        let (first, again, other) = (draw(7), draw(7), draw(8));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn another_life_is_another_id() {
        assert_ne!(node_id("a", 0), node_id("a", 1));
        assert_ne!(node_id("a", 0), node_id("b", 0));
    }
}
