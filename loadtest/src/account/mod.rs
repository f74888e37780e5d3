//! The oracle: what was promised, and what came. Pure: no socket, no clock.
//!
//! | module     | what it holds                                                                     |
//! |------------|-----------------------------------------------------------------------------------|
//! | `stamp`    | what each payload begins with                                                     |
//! | `promise`  | who is owed the messages of a stream, and at which `QoS`                           |
//! | `ledger`   | the sender's side: what is not yet both acknowledged and received                 |
//! | `arrivals` | the receiver's side: first, reordered, repeated                                   |
//! | `outbox`   | receipts on their way from the receiver to the sender's worker                    |
//! | `findings` | broken promises: all are counted, the first ones kept                             |
//!
//! Invariant: memory is bounded by what is under way and by what is missing, not by the length of a run; where a bound
//! is hit the run fails, because whatever were said from there on might be false.

mod arrivals;
mod findings;
mod ledger;
mod outbox;
mod promise;
mod stamp;

pub(crate) use arrivals::{Feed, Gaps, Heard, Meaning, is_late, meaning};
pub(crate) use findings::Findings;
pub(crate) use ledger::{Ledger, Message, Resent};
pub(crate) use outbox::Outbox;
pub(crate) use promise::{Promise, hears, of_commands, of_telemetry};
pub(crate) use stamp::{Stamp, Unreadable};

/// What there is no room for. The run fails with these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the oracle has no room for {what}: at most {limit}; nothing certain could be said from here on"
)]
pub(crate) struct Full {
    pub(crate) what: &'static str,
    pub(crate) limit: usize,
}
