//! When faults are over, everything that is owed comes about in a while.

use super::{Verdict, Violation};

pub(crate) const NAME: &str = "progress";

/// Faults have been over for long. `owed`: what is not done yet, and words of the trace about it.
pub(crate) fn at_end(owed: Option<(String, Vec<String>)>) -> Verdict {
    let Some((owed, about)) = owed else {
        return Ok(());
    };
    Err(Violation {
        invariant: NAME,
        text: format!("a long time after the last fault: {owed}"),
        about,
    })
}
