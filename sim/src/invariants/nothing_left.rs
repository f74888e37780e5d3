//! When sessions are over nothing is left of them: at no group, and in no record.

use super::{Verdict, Violation};

pub(crate) const NAME: &str = "nothing is left";

/// All sessions have ended long ago, and this is left of them.
pub(crate) fn at_end(left: &str) -> Verdict {
    Err(Violation {
        invariant: NAME,
        text: format!("all sessions are over, and {left}"),
        about: vec!["device".to_owned(), "record".to_owned()],
    })
}
