//! Every limit of the link client, with its reason and the rule at the limit. Those of a link are in
//! [`cluster::limits`].

use cluster::limits::KEPT_BYTES_MAX;
use std::time::Duration;

/// Bytes on their way from one shard to its link, which is emptied while the link keeps less than its limit. At the
/// limit the shard reads no more from its sockets.
pub(super) const TO_GROUP_BYTES_MAX: usize = 1 << 20;

/// Bytes on their way from a link to its shard. At the limit nothing more is read from the connection, so that
/// frames wait at the broker, which drops QoS 0 deliveries at its own limit.
pub(super) const TO_SHARD_BYTES_MAX: usize = 16 << 20;

/// Bytes of one read.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Reads of one connection in a turn, so that one link does not keep the others waiting.
pub(super) const READS_PER_TURN: usize = 4;

/// Events taken from the kernel in one go.
pub(super) const EVENTS: usize = 64;

/// A link to where the broker is not any more goes on for so long: a broker that is still there hears of its new address.
pub(super) const LEAVE_AFTER: Duration = Duration::from_secs(1);

/// The same trouble of a link is named in the log again after this long; all of it is counted.
pub(super) const REPEAT_EVERY: Duration = Duration::from_secs(60);

const _: () = assert!(TO_GROUP_BYTES_MAX <= KEPT_BYTES_MAX);
