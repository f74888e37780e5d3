//! Session records: what changes of a client is written behind to the session store.
//!
//! A record is nobody's only home of a promise, so nothing waits for it, and a failure here is counted and logged
//! and hurts no client.

mod cache;
mod changing;
mod embedded;
mod limits;
mod remote;

use crate::counters::ProxyCounters;
pub use embedded::EmbeddedRecords;
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
