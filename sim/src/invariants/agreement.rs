//! All members of a group apply the same entries, and come to the same state by them.

use super::{Verdict, Violation};

pub(crate) const NAME: &str = "agreement";

/// What each group has applied, as the first member to apply it had it.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// By group, then index (from 1) less one: hash of the entry.
    groups: Vec<Vec<Option<u64>>>,
}

impl Applied {
    pub(crate) fn new(groups: usize) -> Self {
        Self {
            groups: vec![Vec::new(); groups],
        }
    }

    /// A member applies an entry.
    pub(crate) fn applies(
        &mut self,
        group: usize,
        member: usize,
        index: u64,
        hash: u64,
    ) -> Verdict {
        let entries = &mut self.groups[group];
        let at = index as usize - 1;
        if entries.len() <= at {
            entries.resize(at + 1, None);
        }
        let first = *entries[at].get_or_insert(hash);
        if first == hash {
            return Ok(());
        }
        Err(Violation {
            invariant: NAME,
            text: format!(
                "member {member} of group {group} applies another entry {index} than was applied before"
            ),
            about: vec![format!("group {group} ")],
        })
    }
}

/// At the end: the state that a member has, beside the one that another has, or that its log gives.
pub(crate) fn at_end(group: usize, (one, other): (&str, &str), states: (&[u8], &[u8])) -> Verdict {
    if states.0 == states.1 {
        return Ok(());
    }
    Err(Violation {
        invariant: NAME,
        text: format!("group {group}: {one} and {other} differ"),
        about: vec![format!("group {group} ")],
    })
}
