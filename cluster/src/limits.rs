//! Every limit and time of a link between processes, with its reason and the rule at the limit.
//!
//! What a link drops or refuses is counted in [`crate::link::ProducerFigures`] and [`crate::link::GroupFigures`].

use std::time::Duration;

/// Either end says something at least this often, and each tells by its absence that the other is gone.
pub const LINK_HEARTBEAT: Duration = Duration::from_millis(500);

/// A link on which nothing was heard for this long is dead and closed: three heartbeats may be late.
pub const LINK_DEAD: Duration = Duration::from_secs(2);

/// A handshake takes no longer than this, from the connection to `Welcome`; then it is closed.
pub const LINK_HANDSHAKE: Duration = Duration::from_secs(5);

/// A connection of TCP is given up after this long: the member may be gone with its machine, and another one leads.
pub const LINK_CONNECT: Duration = Duration::from_secs(1);

/// The wait before the first new connection after a loss; it doubles with each further one, and a random half of it
/// is left out, so that the proxies of a fleet do not come back all at once.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two connections.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// The longest wait of a proxy that has asked all members in vain who leads the group: an election takes 0.3 to 0.6 s, and
/// devices wait.
pub const SEARCH_WAIT_MAX: Duration = Duration::from_millis(200);

/// So many times a proxy asks all members with such short waits: some five seconds. A group that has no leader by then has
/// lost its majority.
pub const QUICK_ROUNDS: u32 = 32;

/// A member that was waited for in vain is not tried again for this long, as long as others are there: each try costs
/// [`LINK_CONNECT`], in which no other is asked.
pub const MEMBER_SILENT: Duration = Duration::from_secs(2);

/// Largest batch before both ends know each other: anybody may send one. A larger one closes the link.
pub const HANDSHAKE_BYTES_MAX: usize = 1024;

/// Largest batch. Holds the largest message, or a `Resume` of some ten million connections. A larger one closes the
/// link. A reader's memory grows with what has come, not with what was announced.
pub const BATCH_BYTES_MAX: usize = 512 << 20;

/// Largest topology that a link tells of: 34 KiB of slots, and some 350 bytes a member. A larger one closes the link.
pub const TOPOLOGY_BYTES_MAX: usize = 1 << 20;

/// A batch is ended at this size. One frame may go above it.
pub const BATCH_BYTES_GOAL: usize = 64 << 10;

/// Bytes of frames that a proxy keeps until their group has stored them. At the limit no more is taken from the
/// shard, whose bag fills, so that it stops reading from its sockets.
pub const KEPT_BYTES_MAX: usize = 8 << 20;

/// Encoded bytes that wait for the socket. At the limit no more frames are taken from the bag behind them; a bag that
/// is full then has its own rule (a shard stops reading, a group drops QoS 0 deliveries).
pub const OUT_BYTES_MAX: usize = 1 << 20;

/// Bytes of TLS records that wait for the socket, and of plaintext before the handshake of TLS is over. At the limit
/// no more is taken, and bytes wait as plaintext, where [`OUT_BYTES_MAX`] holds. What comes in is bounded by TLS: one record,
/// or a handshake message of 64 KiB.
pub const TLS_OUT_BYTES_MAX: usize = 64 << 10;

/// An output buffer larger than this is given back when it is empty.
pub const OUT_BYTES_SPARE: usize = 256 << 10;

/// Bytes of frames that a proxy may send beyond what the group has taken. At the limit it sends no more, and keeps.
/// A broker never stops reading a link, so it always hears the heartbeats.
pub const CREDIT_BYTES: u32 = 4 << 20;

/// Bytes of filters in one answer to a question for those of a session, each with [`FILTER_BYTES`]. One filter may go
/// above it; the others come with the next question.
pub const FILTER_PAGE_BYTES: usize = 64 << 10;

/// What a filter counts for in a page beside its text.
pub const FILTER_BYTES: usize = 16;

/// A broker says how much its group has taken whenever that has grown by this much, besides the heartbeats.
pub const CREDIT_STEP_BYTES: u64 = CREDIT_BYTES as u64 / 8;

const _: () = {
    assert!(LINK_HEARTBEAT.as_millis() * 3 < LINK_DEAD.as_millis());
    assert!(BACK_OFF_MIN.as_millis() < SEARCH_WAIT_MAX.as_millis());
    assert!(SEARCH_WAIT_MAX.as_millis() < BACK_OFF_MAX.as_millis());
    assert!(LINK_CONNECT.as_millis() < MEMBER_SILENT.as_millis());
    assert!(protocol::limits::MESSAGE_BYTES_MAX < BATCH_BYTES_MAX);
    assert!(BATCH_BYTES_GOAL < CREDIT_BYTES as usize && BATCH_BYTES_GOAL < OUT_BYTES_MAX);
    // All that may be under way may be kept.
    assert!(CREDIT_BYTES as usize <= KEPT_BYTES_MAX);
};
