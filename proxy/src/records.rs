//! Session records: what changes of a client is written behind to the session store.
//!
//! A record is nobody's only home of a promise, so nothing waits for it, and a failure here is counted and logged
//! and hurts no client.

mod cache;
mod changing;
mod embedded;
#[cfg(test)]
pub(crate) mod in_memory;
mod incoming;
mod keeping;
mod limits;
mod remote;

use crate::counters::ProxyCounters;
pub use cache::{Load, Loaded};
use cluster::filters::{FilterDigest, HeldFilter};
use cluster::ids::Handle;
use cluster::slots::GroupNo;
pub use embedded::EmbeddedRecords;
pub use keeping::{Keeping, Store};
use protocol::{SubscribeOptions, TopicFilter, Version};
pub use remote::RemoteRecords;
use session_store::EventKind;
use std::net::SocketAddr;

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
    Connected(Box<Connected>),
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
    /// A group that took its time, or had forgotten the connection, has let it in.
    Held(Box<Held>),
    /// A page of the filters that a group holds, asked for with [`RecordSink::next_question`].
    Listed(Box<Listed>),
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
    /// Where the session existed before: what the groups hold of it.
    pub resumed: Option<Box<Held>>,
}

/// What the groups of a session say that they hold of it. A group that is not named holds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The connection, which can ask them.
    pub handle: Handle,
    /// The groups, the session's home first.
    pub groups: Box<[(GroupNo, Said)]>,
}

/// What a group has said of the filters that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// This, now.
    Digest(FilterDigest),
    /// Something before, that was taken up then.
    Before,
    /// Nothing yet: it has not let the connection in.
    Nothing,
}

/// A page of the filters that a group holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The number of the question.
    pub number: u32,
    /// The filters.
    pub filters: Vec<HeldFilter>,
    /// Whether there are more behind the last of these.
    pub more: bool,
}

/// A question for the filters that a group holds of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterQuestion {
    /// The connection that asks.
    pub handle: Handle,
    /// The group.
    pub group: GroupNo,
    /// Goes with the answer.
    pub number: u32,
    /// Behind which filter; `None`: from the first.
    pub after: Option<TopicFilter>,
}

/// Takes the changes of one shard's clients. Called on the shard's thread: it must not wait.
pub trait RecordSink: Send {
    /// Takes a change that happened at `now_ms` milliseconds since 1970.
    fn take(&mut self, now_ms: u64, change: RecordChange, counters: &ProxyCounters);

    /// Writes what has waited long enough.
    fn flush_due(&mut self, now_ms: u64, counters: &ProxyCounters);

    /// Writes everything: the shard stops.
    fn flush(&mut self, counters: &ProxyCounters);

    /// Whether something waits to be written.
    fn has_waiting(&self) -> bool;

    /// A question that a connection of the shard shall ask now; what it says comes as [`What::Listed`]. Where the
    /// connection is gone nobody is asked: its end was told, or will be.
    fn next_question(&mut self) -> Option<FilterQuestion> {
        None
    }
}
