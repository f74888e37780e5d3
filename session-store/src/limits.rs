//! Every bound of the session stores, with the rule at the bound.

/// Events kept per client. At the bound the oldest goes.
pub const HISTORY_EVENTS: usize = 4;

/// Default bound of records in an embedded store. At the bound new clients are refused with
/// [`StoreError::Full`](crate::StoreError::Full) and counted; known ones may still change.
pub const RECORDS_MAX: u64 = 4_000_000;

/// Default bound of bytes of records in an embedded store. At the bound what makes the table grow
/// is refused and counted.
pub const RECORD_BYTES_TOTAL_MAX: u64 = 2 << 30;

/// Largest encoded record in bytes: the most filters a session may have, at their longest, fit.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// Default bound of clients whose write waits in a [`WriteBehind`](crate::WriteBehind). At the
/// bound the longest waiting write is dropped and counted: the groups can rebuild the record.
pub const WAITING_ENTRIES_MAX: usize = 100_000;

/// Default bound of bytes that wait in a [`WriteBehind`](crate::WriteBehind); same rule.
pub const WAITING_BYTES_MAX: usize = 32 << 20;

/// Default time in milliseconds that a write waits for the next one of the same client: a CONNECT
/// and its SUBSCRIBE become one write.
pub const WRITE_DELAY_MS: u64 = 50;

/// Tables the embedded store is divided into by client id: a lock, a page of a scan and a growing
/// table each concern one of them only.
pub const TABLES: usize = 256;

const _: () = assert!(TABLES.is_power_of_two());
const _: () = assert!(
    RECORD_BYTES_MAX < WAITING_BYTES_MAX,
    "one record fits in the waiting room"
);
