//! Every limit of the session records that a shard keeps for a remote store, with the rule at the limit.

use cluster::limits::FILTER_PAGE_BYTES;
use session_store::limits::{IN_FLIGHT_MAX, WAITING_ENTRIES_MAX, WRITES_FEW};
use std::time::Duration;

/// Records of connected clients that a shard remembers, as they were written last. At the limit further ones are not
/// remembered, and counted: such a client's record is loaded again before its next change is written.
pub(super) const REMEMBERED_MAX: u64 = 1_000_000;

/// Bytes of those records; same rule. A device with one subscription takes about 150.
pub(super) const REMEMBERED_BYTES_MAX: u64 = 256 << 20;

/// Clients of a shard whose changes wait for their record to be loaded, or for what groups say of it. At the limit the
/// rebuild of the one that waits longest for groups is given up and counted: its record is written as it is. Where
/// none does, the changes of the client that has waited longest for a load are dropped and counted: the record in the
/// store stands as it is.
pub(super) const UNLOADED_MAX: usize = 100_000;

/// Bytes of changes that wait so; same rule.
pub(super) const UNLOADED_BYTES_MAX: usize = 32 << 20;

/// Bytes of the changes of one client that wait so. At the limit they are dropped and counted.
pub(super) const UNLOADED_CLIENT_BYTES_MAX: usize = 64 << 10;

/// Bytes of one client's filters, in its record and in the groups' answers, while its record is built again. At the
/// limit that is given up and counted: the record stands as it is until the session is resumed again.
pub(super) const MENDED_CLIENT_BYTES_MAX: usize = 16 << 20;

/// Questions of a shard for what groups hold that have no answer yet, one a client. The others wait their turn.
pub(super) const QUESTIONS_OPEN_MAX: usize = 256;

/// Places in the orders of clients whose records are built again that are there no more, beside two for each that is.
pub(super) const QUESTIONS_IN_ORDER: usize = 64;

/// A record that is built again is worth a log line where none was for so many milliseconds.
pub(super) const REBUILDS_QUIET_MS: u64 = 60_000;

/// Records of connected clients that a shard writes again in a second, after the store has lost them: a tenth of what
/// Redis takes, so that it has room for what happens meanwhile.
pub(super) const REWRITES_PER_S: u64 = 2_000;

/// While so many changed records wait to be written, no more are written again.
pub(super) const REWRITES_WAITING_MAX: usize = 10_000;

/// Bytes that a change takes beside its texts, about.
pub(super) const CHANGE_BYTES: usize = 160;

/// Loads of a shard that are open at once: with its answer one takes some KiB. The others wait their turn, which comes with the
/// next answer.
pub(super) const LOADS_OPEN_MAX: usize = 64;

/// Bytes of loaded records that wait for the shard. At the limit a record counts as late and is loaded again.
pub(super) const LOADED_BYTES_MAX: usize = 32 << 20;

/// Least milliseconds between a load that was late and the next; then one is tried before there are more.
pub(super) const RELOAD_MS: u64 = 1_000;

/// Places in the order of loads of clients that need none any more, beside two for each that does.
pub(super) const UNLOADED_IN_ORDER: usize = 64;

/// Writes of a process that wait in the store or are on their way, while it answers: some times what may be on its way. Shards
/// hand over no more then, and take up no more changes: those wait as they are.
pub(super) const STORE_WRITES_MAX: usize = 1_024;

/// Changes of a shard that wait to be taken up. At the limit the oldest are taken up all the same: their writes wait, by the
/// limits of those.
pub(super) const INCOMING_MAX: usize = 100_000;

/// Bytes of these changes; same rule.
pub(super) const INCOMING_BYTES_MAX: usize = 32 << 20;

/// Writes handed to the store in one turn of the shard: about a millisecond. The others follow in the next turns.
pub(super) const WRITES_PER_TURN: usize = 2_048;

/// Least milliseconds between two log lines about records that cannot be read or written.
pub(super) const FAULTS_LOGGED_EVERY_MS: u64 = 60_000;

/// Longest time that a shard which stops waits for records of clients that left in the last moment.
pub(super) const LAST_LOADS_WAIT: Duration = Duration::from_secs(1);

// What may be on its way is there to be sent while the shards are woken.
const _: () = assert!(IN_FLIGHT_MAX < WRITES_FEW && WRITES_FEW < STORE_WRITES_MAX);
const _: () = assert!(LOADS_OPEN_MAX * UNLOADED_CLIENT_BYTES_MAX < UNLOADED_BYTES_MAX);
const _: () = assert!(LOADS_OPEN_MAX < UNLOADED_MAX);
// Answers of the usual size fit, and one client's at the limit.
const _: () = assert!(QUESTIONS_OPEN_MAX * FILTER_PAGE_BYTES < UNLOADED_BYTES_MAX);
const _: () = assert!(MENDED_CLIENT_BYTES_MAX < UNLOADED_BYTES_MAX);
const _: () = assert!(REWRITES_WAITING_MAX < WAITING_ENTRIES_MAX);
