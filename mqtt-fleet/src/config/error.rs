//! What can be wrong with a configuration. Each message names the place, the key and what is
//! allowed there.

use std::path::PathBuf;

use super::typed::Origin;
use crate::node::NodeError;

/// One mistake in the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file given by `--config` cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the TOML parser says.
        problem: String,
    },
    /// A section, key or variable that does not exist.
    #[error("{origin}: unknown {what} {name}{}", hint(suggestion.as_deref()))]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// "section", "key", or "setting" for environment variables.
        what: &'static str,
        /// What was typed.
        name: String,
        /// The nearest name that exists, where one is near.
        suggestion: Option<String>,
    },
    /// A value of the wrong type, out of bounds, or not one of the allowed words.
    #[error("{origin}: {key} = {typed}: expected {allowed}")]
    BadValue {
        /// Where it stands.
        origin: Origin,
        /// The key, `section.name`.
        key: String,
        /// What was typed.
        typed: String,
        /// What is allowed.
        allowed: String,
    },
    /// A file of the fleet that the configuration names.
    #[error(transparent)]
    Fleet(NodeError),
    /// Values that are fine alone and wrong together.
    #[error("{origin}: {problem}")]
    Conflict {
        /// Where the value stands that has to change.
        origin: Origin,
        /// The sentence: what is wrong and what to do.
        problem: String,
    },
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// The candidate nearest to `typed`, if it is near enough to be a likely slip: at most a third of
/// the letters wrong.
pub(super) fn nearest(typed: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let near = candidates.map(|candidate| (distance(typed, &candidate), candidate));
    let (wrong, candidate) = near.min_by_key(|(wrong, _)| *wrong)?;
    (wrong * 3 <= candidate.len()).then_some(candidate)
}

/// Levenshtein distance in bytes: single insertions, removals and replacements from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.bytes().enumerate() {
            let replaced = previous[j] + usize::from(x != y);
            row.push(replaced.min(previous[j + 1] + 1).min(row[j] + 1));
        }
        previous = row;
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("durabilty", "durability"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_near_names_are_suggested() {
        let names = || ["queue_bytes".to_owned(), "queue_full".to_owned()].into_iter();
        assert_eq!(
            nearest("queue_byte", names()).as_deref(),
            Some("queue_bytes")
        );
        assert_eq!(nearest("colour", names()), None);
    }
}
