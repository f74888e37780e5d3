//! Of the members of a group, only one at a time may act without asking the others.

use super::{Verdict, Violation};

pub(crate) const NAME: &str = "one leader";

/// These members of a group are sure to lead at the same time.
pub(crate) fn sure(group: usize, members: &[usize]) -> Verdict {
    if members.len() < 2 {
        return Ok(());
    }
    Err(Violation {
        invariant: NAME,
        text: format!("members {members:?} of group {group} are sure to lead at the same time"),
        about: vec![format!("group {group} ")],
    })
}
