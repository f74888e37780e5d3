//! What must always hold, one promise a file.
//!
//! Each function looks at what has just happened, or at the end at everything, and says what is wrong.

use crate::ledger::Receipt;

pub(crate) mod agreement;
pub(crate) mod expiry;
pub(crate) mod no_panic;
pub(crate) mod nothing_left;
pub(crate) mod one_leader;
pub(crate) mod p1_ack_means_stored;
pub(crate) mod p2_nothing_lost;
pub(crate) mod p3_exactly_once;
pub(crate) mod p4_order;
pub(crate) mod p5_one_owner;
pub(crate) mod p6_session_present;
pub(crate) mod progress;
pub(crate) mod records;
pub(crate) mod shared;
pub(crate) mod wills_once;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub invariant: &'static str,
    /// What happened, in a sentence.
    pub text: String,
    /// Words of the lines of the trace that tell how it came.
    pub about: Vec<String>,
}

/// How often a message came, as far as these receipts of it count.
pub(crate) fn times<'a>(
    receipts: impl Iterator<Item = &'a Receipt>,
    number: u32,
    counts: impl Fn(&Receipt) -> bool,
) -> usize {
    let of_it = receipts.filter(|it| it.number == number);
    of_it.filter(|it| counts(it)).count()
}

pub(crate) type Verdict = Result<(), Violation>;

/// A message's name in the trace.
pub(crate) fn message(number: u32) -> String {
    format!("m{number}.")
}

/// A device's name in the trace.
pub(crate) fn device(number: usize) -> String {
    format!("device {number}:")
}
