//! Session records: the store trait, the embedded store, the store on Redis, and the suite every
//! store must pass.
//!
//! A session record says who a client is, where it is connected, what happened to it last and what
//! it subscribes to. Any proxy can pick a client up with it. It is not the only home of a promise:
//! filters and messages are with the broker groups, and a record that is lost or late is rebuilt
//! from them. So writes go behind ([`WriteBehind`]), and a store at its limit may refuse.
//!
//! What a store must never do is go back in time: records carry the epoch of the client's owner,
//! and a record of a lower epoch never replaces one of a higher one. A delete counts as well: for a
//! while it stands against saves of its epoch and lower ones, which are late.
//!
//! Invariant: nothing here knows MQTT packets. Sockets and clocks are in the thread of the store on
//! Redis only (`remote/driver.rs` and what it runs); elsewhere times are arguments.

mod conformance_steps;
mod deleted;
mod embedded;
mod error;
mod journal;
pub mod limits;
mod record;
mod remote;
mod store;
mod write_behind;

/// The suite every store must pass.
pub mod conformance {
    pub use crate::conformance_steps::suite;
}

pub use embedded::{EmbeddedStore, StoreStats};
pub use error::StoreError;
pub use journal::Journal;
pub use record::{Event, EventKind, Filter, FilterOptions, Record};
pub use remote::{
    Numbered, Offered, Outbox, RedisConfig, RedisConfigError, RedisMode, RedisStartError,
    RedisStats, RedisStore, StoredTicketKey, StoredTicketKeys, TICKET_KEY_BYTES, TicketKeyring,
    TicketRules, seconds_to_live,
};
pub use store::{Page, Saved, SessionStore};
pub use write_behind::{Flushed, Sink, Write, WriteBehind, WriteBehindStats};
