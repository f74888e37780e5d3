//! What a store can answer instead of doing it.

use std::sync::Arc;

/// Why a store refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store is at its limit.
    #[error("the session store is full: {records} records, {bytes} bytes")]
    Full {
        /// Records held.
        records: u64,
        /// Bytes of records held.
        bytes: u64,
    },
    /// A record is larger than any store takes.
    #[error("a session record of {len} bytes is larger than the store takes")]
    TooLarge {
        /// Its encoded size.
        len: usize,
    },
    /// Bytes that are no record, operation or snapshot.
    #[error("malformed session data: {what}")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },
    /// Data of a version this program does not know.
    #[error("session data has format version {version}, which this program does not know")]
    Unsupported {
        /// The version it states.
        version: u8,
    },
    /// The journal did not take the operation; the store is unchanged.
    #[error("the session store's journal refused: {0}")]
    Journal(Arc<dyn std::error::Error + Send + Sync>),
    /// A snapshot could not be written or read.
    #[error("session snapshot: {0}")]
    Io(Arc<std::io::Error>),
    /// The store is remote, and as much waits for it already as may.
    #[error("{writes} writes of {bytes} bytes wait for the session store already")]
    Waiting {
        /// Writes that wait.
        writes: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The store is remote and does not answer.
    #[error("the session store does not answer: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// Wraps what a journal failed with.
    pub fn journal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Journal(Arc::new(error))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
