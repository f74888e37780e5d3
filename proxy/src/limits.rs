//! Every limit of the proxy: its default, its reason, and the rule at the limit.
//!
//! Units come last in the names. What matters to an MQTT 5.0 client is said in CONNACK.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Bytes of the block that all connections of a shard are read into.
pub const READ_BLOCK_BYTES: usize = 64 * 1024;

/// A read is given at least this much of the block; below it a new block begins.
pub const READ_ROOM_BYTES_MIN: usize = 8 * 1024;

/// An unfinished packet larger than this is read into a buffer of its own, which grows with what has arrived.
pub const SHARED_READ_PACKET_BYTES_MAX: usize = 32 * 1024;

/// Events taken from the kernel in one go.
pub const POLL_EVENTS: usize = 1024;

/// Connections accepted in one go, so that a storm of connects does not starve the connected.
pub const ACCEPT_BATCH: usize = 64;

/// Output buffers a shard keeps for re-use, and the largest one it keeps.
pub const POOL_BUFFERS: usize = 256;
/// See [`POOL_BUFFERS`].
pub const POOL_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the block that TLS records are opened in, one a shard. It holds the largest record, and the largest handshake
/// message that is let in, a client's chain of certificates: a peer whose message does not fit is refused.
pub const TLS_BLOCK_BYTES: usize = 64 * 1024;

/// A read of TLS records takes at least this much: a record of the largest size.
pub const TLS_READ_BYTES_MIN: usize = 17 * 1024;

/// Plaintext sealed in one go. So much, as records, may wait for a socket beside the connection's plaintext.
pub const TLS_SEAL_BYTES: usize = 32 * 1024;

/// How long a session ticket is good for: a working day, so that a device that sleeps over night pays a full handshake once.
pub const TICKET_LIFETIME_S: u32 = 12 * 3600;

/// Ticket keys that no file gives are replaced so often: a process's own, and those that proxies share.
pub const TICKET_KEY_ROTATE_S: u64 = 6 * 3600;

/// Ticket keys in use: one seals, all open; the oldest go first. Four are about when all goes as planned; two more are for a
/// store that forgot its keys, and for the key a process had before the store answered.
pub const TICKET_KEYS_MAX: usize = 6;

/// A shared key seals from this age on. By then every proxy has asked for it, also one that was without the store for some
/// minutes.
pub const TICKET_KEY_SPREAD_S: u64 = 300;

/// A shared key is kept so long: while it seals, and then while its tickets live.
pub const TICKET_KEY_KEEP_S: u64 =
    TICKET_KEY_ROTATE_S + 2 * TICKET_KEY_SPREAD_S + TICKET_LIFETIME_S as u64;

/// Milliseconds between two questions for the shared keys.
pub const TICKET_KEYS_ASK_MS: u64 = 60_000;

/// A ticket may seem to come from so far in the future: proxies' clocks differ.
pub const TICKET_CLOCK_SKEW_S: u64 = 300;

/// Bytes of a PROXY protocol header. The largest address takes 232, extensions of load balancers some hundred.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;

/// Listening sockets of one shard: plain and TLS, each for devices and for a load balancer.
pub const LISTENERS_MAX: usize = 8;

/// Seconds of the timing wheel; every connection is visited at least this often.
pub const WHEEL_SECONDS: u32 = 64;

/// A connection that the server ends is kept so long, for the peer to read the reason before the socket goes.
pub const LINGER_S: u32 = 2;

/// Longest client id the proxy assigns; shorter than any sensible `client_id_bytes_max`.
pub const ASSIGNED_ID_BYTES: usize = 21;

/// Frames without an answer a 5.0 client may have beyond its publishes (PUBREL, SUBSCRIBE, UNSUBSCRIBE).
pub const OTHER_REQUESTS_MAX: u16 = 64;

/// A home that has not answered CONNECT for so long is away: CONNACK says 0x88 (3.x: 3).
pub const CLAIM_WAIT_S: u32 = 5;

/// CONNACK waits so long for the other groups that a session is at; those that come later attach it then.
pub const ATTACH_WAIT_S: u32 = 2;

/// A group that has not answered a SUBSCRIBE for so long is away: its filters have failed (0x80). With one group there is
/// no limit, as there is nothing else to serve the client with. The time runs from when the packet was read.
pub const SUBSCRIBE_WAIT_S: u32 = 10;

/// Of that time a SUBSCRIBE waits so long for room on the way to its groups; then it goes to those that have some, and
/// its filters at the others have failed.
pub const SUBSCRIBE_ROOM_WAIT_S: u32 = 5;

/// A QoS 1 or 2 publish that has had no answer for so long is given up, counted, and its connection closed with 0x89:
/// the client sends it again on the next one, with DUP, by a proxy or to a group that may be better off. What is on its
/// way already stays there: whether the group has stored it nobody can know.
pub const PUBLISH_WAIT_S: u32 = 300;

/// Bytes of packets that wait in the sessions of a shard until those have joined a group. At the limit it counts as
/// full: QoS 0 publishes for it are dropped, and of clients with others no more is read.
pub const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Limits of one shard and of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyLimits {
    /// Connections of all shards that were given clones of these limits. At the limit a new one is closed at once,
    /// counted and, now and then, logged. Best below what the process has descriptors for.
    pub connections_max: u32,
    /// The connections those shards have.
    pub connections_open: SharedCount,
    /// Time from accept to a complete CONNECT. After it the connection is closed (MQTT5 3.1.4).
    pub connect_timeout_s: u32,
    /// Largest packet a client may send. A larger one ends its connection with 0x95.
    pub packet_bytes_max: u32,
    /// Unanswered QoS 1 and 2 publishes of one client. A 5.0 client that exceeds it is ended with 0x93; of a
    /// 3.x client no more is read until an answer leaves.
    pub receive_maximum: u16,
    /// Bytes of unanswered publishes of one client; at the limit no more is read from it. One packet may exceed it.
    pub unanswered_bytes_max: u32,
    /// Topic aliases a client may set (0x94 beyond).
    pub topic_alias_max: u16,
    /// Topic aliases the server sets towards one client, if it allows so many. The first topics get them.
    pub topic_alias_out_max: u16,
    /// Bytes of a client id; a longer one is refused with 0x85.
    pub client_id_bytes_max: usize,
    /// Bytes of a topic in a PUBLISH; a longer one is refused with 0x90.
    pub topic_bytes_max: usize,
    /// Levels of a topic or filter; more are refused with 0x90 or 0x8F.
    pub topic_levels_max: usize,
    /// Longest keep alive; 0: no limit. A 5.0 client is told (Server Keep Alive).
    pub keep_alive_s_max: u16,
    /// Longest session expiry; `u32::MAX`: no limit. A 5.0 client is told.
    pub session_expiry_s_max: u32,
    /// Session expiry of a 3.x client without Clean Session, to which the standard gives no say.
    pub v3_session_expiry_s: u32,
    /// Bytes that wait for one socket before QoS 0 messages to it are dropped and counted. QoS 1 and 2 are
    /// bounded by the window of the group instead and never dropped here.
    pub out_bytes_max: usize,
    /// QoS 1 and 2 deliveries a 3.x client gets without completing one; 3.x has no word for it. The group's window
    /// is usually smaller.
    pub v3_receive_maximum: u16,
    /// Largest CONNECT, of someone who is nobody yet. A larger one is refused with 0x95.
    pub connect_bytes_max: u32,
    /// How long a drain waits for sockets to take their last bytes.
    pub drain: Duration,
}

impl ProxyLimits {
    /// Bytes waiting for one socket from which on no more is read from it: a client that does not take its answers
    /// gets no further ones. More than deliveries can come to, so that a client that publishes and receives on
    /// one thread is not kept from either.
    pub(crate) fn unread_answers_bytes_max(&self) -> usize {
        self.out_bytes_max
            .saturating_mul(2)
            .saturating_add(self.packet_bytes_max as usize)
    }
}

/// A figure that clones share. Two are equal whatever they count: it is not a setting.
#[derive(Clone, Debug, Default)]
pub struct SharedCount(Arc<AtomicU32>);

impl SharedCount {
    /// Counts one more, if that is not more than `max`.
    pub(crate) fn try_increment(&self, max: u32) -> bool {
        let up = |count| (count < max).then_some(count + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, up)
            .is_ok()
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PartialEq for SharedCount {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SharedCount {}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            connections_open: SharedCount::default(),
            connect_timeout_s: 10,
            packet_bytes_max: 1024 * 1024,
            receive_maximum: 1024,
            unanswered_bytes_max: 1024 * 1024,
            topic_alias_max: 64,
            topic_alias_out_max: 16,
            client_id_bytes_max: 256,
            topic_bytes_max: 4096,
            topic_levels_max: 32,
            keep_alive_s_max: 0,
            session_expiry_s_max: u32::MAX,
            v3_session_expiry_s: 7 * 24 * 3600,
            out_bytes_max: 1024 * 1024,
            v3_receive_maximum: u16::MAX,
            connect_bytes_max: 256 * 1024,
            drain: Duration::from_secs(10),
        }
    }
}

// A packet below the shared-read limit always fits behind its own unfinished part in one block.
const _: () = assert!(SHARED_READ_PACKET_BYTES_MAX + READ_ROOM_BYTES_MIN <= READ_BLOCK_BYTES);
// Tickets of keys of our own making live as long as they say.
const _: () =
    assert!(TICKET_KEY_ROTATE_S * (TICKET_KEYS_MAX as u64 - 1) >= TICKET_LIFETIME_S as u64);
// So do those of shared ones.
const _: () = assert!(TICKET_KEY_ROTATE_S * (TICKET_KEYS_MAX as u64 - 1) >= TICKET_KEY_KEEP_S);
// A new key is known everywhere before it seals, even where a few questions fail.
const _: () = assert!(3 * TICKET_KEYS_ASK_MS <= 1000 * TICKET_KEY_SPREAD_S);
// The largest record fits into what is read at least, that into the block, and what is sealed into a kept buffer.
const _: () = assert!(5 + 16 * 1024 + 256 <= TLS_READ_BYTES_MIN);
const _: () = assert!(2 * TLS_READ_BYTES_MIN <= TLS_BLOCK_BYTES);
const _: () = assert!(2 * TLS_SEAL_BYTES <= POOL_BUFFER_BYTES_MAX);
// Who waits for room has the time to be answered.
const _: () = assert!(SUBSCRIBE_ROOM_WAIT_S < SUBSCRIBE_WAIT_S);
// A peer has the time to read the reason within one round of the wheel.
const _: () = assert!(LINGER_S < WHEEL_SECONDS);
