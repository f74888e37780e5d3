//! The trait that the embedded store and Redis implement.

use std::future::Future;

use crate::{Record, StoreError};

/// What became of a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The record is the stored one now.
    Stored,
    /// A record of a higher epoch is there and stays, or a delete of this epoch or a higher one was.
    Newer {
        /// Its epoch.
        epoch: u64,
    },
}

/// A part of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Some records, in no order.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u64>,
}

/// A home for session records. [`conformance::suite`](crate::conformance::suite) says in full what
/// an implementation must do; each operation is atomic per client.
pub trait SessionStore: Send + Sync {
    /// The record of a client.
    fn load(
        &self,
        client_id: &str,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// Stores a record, unless one of a higher epoch is there, or a delete of at least its epoch is
    /// remembered.
    fn save(&self, record: &Record) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Removes the record of a client, unless it is of a higher epoch than `epoch`. Says whether
    /// one was removed. In any case the store remembers the epoch for a while (bounded in time or
    /// number): a save of an earlier owner may be under way, and nobody would delete it again.
    fn delete(
        &self,
        client_id: &str,
        epoch: u64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Some of the records, about `limit` (more where the store keeps them together), from `from`
    /// on (0: the beginning). A record that is there during a whole scan is in one of its pages;
    /// one that comes or goes meanwhile may be.
    fn scan(
        &self,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Number of records.
    fn count(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}
