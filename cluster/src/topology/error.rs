//! What can be wrong with a cluster file.

use std::path::PathBuf;

/// One mistake, with its place. The sentence names file, line and key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {problem}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there: the key, what was typed, what is expected.
    pub problem: String,
}
