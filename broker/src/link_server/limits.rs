//! Every limit of the link server, with its reason and the rule at the limit. Those of a link are in
//! [`cluster::limits`].

use cluster::ids::LinkNo;
use cluster::limits::{CREDIT_BYTES, CREDIT_STEP_BYTES};

/// Connections at once: the links of a group, and as many again that are about to take the place of an earlier
/// session or are in a handshake. One more is closed at once and counted.
pub(super) const CONNECTIONS_MAX: usize = 2 * LinkNo::MAX as usize;

/// Bytes of frames on their way to one link, as the group counts them. At the limit the group drops QoS 0 deliveries
/// to it; the others are bounded by the sessions' windows.
pub(super) const FROM_GROUP_BYTES_MAX: usize = 16 << 20;

/// The server asks to be told when the group has taken a bag that holds this much or more. Below it the proxy has
/// credit left, and sends, or has nothing to send.
pub(super) const TO_GROUP_BYTES_TOLD: usize = CREDIT_STEP_BYTES as usize;

/// Bytes of one read.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Reads of one connection in a turn, so that one link does not keep the others waiting.
pub(super) const READS_PER_TURN: usize = 4;

/// Events taken from the kernel in one go.
pub(super) const EVENTS: usize = 256;

/// A server that is out of descriptors tries to accept again after this long.
pub(super) const ACCEPT_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Connections that are refused are named in the log at most this often; all are counted.
pub(super) const COMPLAIN_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

// A proxy without credit has more than that in the bag, or the server owes it a heartbeat.
const _: () = assert!(TO_GROUP_BYTES_TOLD as u64 + CREDIT_STEP_BYTES < CREDIT_BYTES as u64);
