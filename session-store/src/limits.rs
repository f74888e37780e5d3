//! Every bound of the session stores, with the rule at the bound.

/// Events kept per client. At the bound the oldest goes.
pub const HISTORY_EVENTS: usize = 4;

/// Bytes that a client's history takes in Redis from its first event on: those of four events of a client that loses its
/// connection once a day and comes back within minutes. Its record keeps its size then, so Redis has nothing to move. Longer
/// ones take what they need.
pub const HISTORY_TEXT_BYTES_MIN: usize = 34;

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

/// Writes taken out of a [`WriteBehind`](crate::WriteBehind) whose place in its order may stay, beside two for each
/// that waits: so that tidying up costs little for each.
pub const TAKEN_IN_ORDER: usize = 64;

/// Tables the embedded store is divided into by client id: a lock, a page of a scan and a growing
/// table each concern one of them only.
pub const TABLES: usize = 256;

const _: () = assert!(TABLES.is_power_of_two());
const _: () = assert!(
    RECORD_BYTES_MAX < WAITING_BYTES_MAX,
    "one record fits in the waiting room"
);

/// Deletes that each table of the embedded store remembers, to refuse saves that come after them
/// but are older. Those wait for [`WRITE_DELAY_MS`] at most, in which no proxy ends as many sessions
/// as all tables remember. At the bound the oldest is forgotten.
pub const DELETED_PER_TABLE: usize = 64;

/// Bytes of client ids in the deletes of a table; same rule, but the last one always stays.
pub const DELETED_BYTES_PER_TABLE: usize = 64 << 10;

/// Default of the longest time in milliseconds to open one connection to Redis.
pub const CONNECT_TIMEOUT_MS: u64 = 2_000;

/// Default of the longest time in milliseconds until Redis answers a command. What takes longer
/// counts as Redis being away: the connection is given up and opened again.
pub const RESPONSE_TIMEOUT_MS: u64 = 1_000;

/// Default of the time in milliseconds that a resuming client waits for its record. After it the
/// session goes on without.
pub const STORE_WAIT_MS: u64 = 200;

/// Default of the first wait in milliseconds before Redis is tried again.
pub const RETRY_MS_MIN: u64 = 50;

/// Default of the longest wait in milliseconds before Redis is tried again.
pub const RETRY_MS_MAX: u64 = 2_000;

/// Default of the time in milliseconds that a write waits for the next one of the same client where
/// each write is a command over the network.
pub const REMOTE_WRITE_DELAY_MS: u64 = 1_000;

/// Default of commands on their way to Redis at once, on the one connection (in a cluster: one to
/// each node). More would only wait in sockets; the rest waits where newer writes replace it.
pub const IN_FLIGHT_MAX: usize = 256;

/// Writes that wait for Redis or are on their way, so few that whoever asked for room is told: enough to go on with meanwhile.
pub const WRITES_FEW: usize = 512;

/// Writes tried while Redis has just failed, to find out whether it is back.
pub const PROBES: usize = 16;

/// Questions (loads and the operations of the trait) open at once. At the bound more are refused
/// and counted: the session goes on without its record.
pub const QUESTIONS_MAX: usize = 16_384;

/// Bytes of client ids and records in open questions; same rule. One record of the largest size
/// fits.
pub const QUESTION_BYTES_MAX: usize = 32 << 20;

/// Times a command is sent on to another node of a cluster before it counts as failed and waits.
pub const CLUSTER_REDIRECTS_MAX: usize = 4;

/// Masters of a cluster, each with a connection. More are refused.
pub const CLUSTER_MASTERS_MAX: usize = 256;

/// Fields given to one HSET of a script: Lua spreads a few thousand values at most.
pub const FIELDS_PER_HSET: usize = 500;

/// Records that a page of a scan reads at once.
pub const SCAN_READS: usize = 64;

/// Seconds that a record outlives its session in Redis if nobody deletes it. The session's home
/// decides when a session ends; it may be away for a while.
pub const RECORD_GRACE_S: u64 = 24 * 60 * 60;

/// Seconds that a delete is remembered in Redis, to refuse saves that come after it but are older.
/// Such a save has waited for [`REMOTE_WRITE_DELAY_MS`] and, if its proxy does not reach Redis, for as
/// long as that lasts; no time outlasts every outage. This one outlasts restarts, elections of
/// masters and most cuts, and costs the memory of ten minutes' ended sessions, which are smaller than
/// records.
pub const DELETED_S: u64 = 10 * 60;

/// Longest time in milliseconds of one operation of the trait on a remote store.
pub const OPERATION_TIME_MS_MAX: u64 = 3_000;

/// Longest time in milliseconds to count the records of a remote store: it goes through all keys.
pub const COUNT_TIME_MS_MAX: u64 = 300_000;

/// Reports of failed connections that may wait; more would say the same.
pub const LOST_MAX: usize = 16;

/// Least milliseconds between two log lines about commands that Redis refuses.
pub const REFUSALS_LOGGED_EVERY_MS: u64 = 60_000;

/// Milliseconds between two looks whether Redis still has what it had: one small command of each process, in a cluster one
/// to each master.
pub const MARK_ASK_MS: u64 = 5_000;

/// Milliseconds after which a question about the keys of TLS session tickets that failed is asked again.
pub const TICKET_KEYS_RETRY_MS: u64 = 2_000;

const _: () = assert!(RETRY_MS_MIN <= RETRY_MS_MAX);
const _: () = assert!(STORE_WAIT_MS <= RESPONSE_TIMEOUT_MS);
const _: () = assert!(PROBES <= IN_FLIGHT_MAX);
const _: () = assert!(
    DELETED_S * 1_000 > 10 * REMOTE_WRITE_DELAY_MS,
    "a delete is remembered for longer than a write waits"
);
const _: () = assert!(
    RECORD_BYTES_MAX + 65_535 < QUESTION_BYTES_MAX,
    "one record fits in a question"
);
