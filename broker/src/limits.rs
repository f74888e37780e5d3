//! Every limit of a group, with the rule at the limit beside it. Each drop or refusal is counted by reason in
//! [`crate::machine::Counters`].

use cluster::ids::Rank;
use std::time::Duration;

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum QueueFull {
    /// The oldest entry that was never sent goes.
    #[default]
    DropOldest,
    /// The new entry goes.
    DropNewest,
    /// The whole publish is refused with 0x97 and nobody gets it, so that a publisher that tries again makes no
    /// duplicates. One full queue among the receivers is enough.
    Refuse,
}

/// How the members of a `$share` or `$queue` subscription take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShareStrategy {
    /// One after the other, in the order of their client numbers.
    #[default]
    RoundRobin,
    /// One member, until it leaves or its window is full.
    Sticky,
    /// The member with the fewest unacknowledged deliveries.
    LeastInFlight,
    /// The messages of one publisher go to one member, as long as the members stay the same.
    HashByClient,
}

/// Packet ids of a session that belong to one group: 65,535 shared by at most 64 groups.
pub const PACKET_IDS: u16 = Rank::PACKET_IDS;

/// A window holds one entry less than there are packet ids. So the newest delivery that a connection has had never
/// has the packet id of an entry of the window that it has not had, when a new link session asks what is missing.
pub const WINDOW_ENTRIES_MAX: u16 = PACKET_IDS - 1;

/// Timers that one `Tick` handles; the rest stays due, so that a command stays short.
pub const TIMERS_PER_TICK: usize = 1_024;

/// Topics that one page of retained messages holds.
pub const RETAINED_PAGE: usize = 64;

/// Steps that the search for one page of retained messages takes at most.
pub const RETAINED_STEPS: usize = 4_096;

/// Items of an ordered or hashed shared queue that are looked at past one whose member is full.
pub const SHARED_LOOK_AHEAD: usize = 256;

/// Parts of the topic space that an `$oshare` queue hands to its members.
pub const SHARED_BUCKETS: usize = 1_024;

/// What is known of a producer is kept this long after its link is gone, in milliseconds.
pub const PRODUCER_MEMORY_MS: u64 = 600_000;

/// Numbers of refused publishes that are kept of a producer, for publishes that are sent again; older ones count as
/// refused.
pub const REFUSED_NUMBERS: usize = 1_024;

/// That a session of another home is over, or that a will of another home was published, is remembered for this
/// long, in milliseconds: a join or an errand may be on its way for as long.
pub const ERRAND_MEMORY_MS: u64 = 600_000;

/// Such memories of each kind; the oldest go. A join that comes after that makes a guest that nobody ends, and a will
/// that comes again is published again.
pub const ERRAND_MEMORIES: usize = 262_144;

/// Bytes of a slice of a snapshot: what a turn of the group spends on it, but for one large session or shared queue.
/// In tests so few that small snapshots have many.
pub const SNAPSHOT_SLICE_BYTES: usize = if cfg!(test) { 64 } else { 64 << 10 };

/// Slices of a snapshot that may wait for the disk.
pub const SNAPSHOT_SLICES: usize = 4;

/// The group takes no frames while more than this many bytes wait for their slice: what tables held that have changed
/// since the snapshot began.
pub const SNAPSHOT_BACKLOG_BYTES: usize = if cfg!(test) { 256 } else { 16 << 20 };

/// A snapshot that found no space on the disk is tried again after this long: it may write much until it finds out.
pub const SNAPSHOT_AGAIN: Duration = Duration::from_secs(5);

/// Memories are forgotten by the minute, so that each does not cost a log entry of its own. Milliseconds.
pub const ERRAND_MEMORY_STEP_MS: u64 = 60_000;

/// Errands that a leader sends in one turn; the others wait for the next one.
pub const ERRANDS_PER_TURN: usize = 256;

/// Errands that may be sent and neither done nor taken for lost: what a group that is away would have its proxies
/// keep. The others wait; their number is a gauge.
pub const ERRANDS_UNDER_WAY: usize = 1_024;

/// An errand that is not done is sent again after this long, in milliseconds of group time.
pub const ERRANDS_AGAIN_MS: u64 = 5_000;

/// New errands that wait for their first turn in leader memory. One above it goes with the next repetition. Errands
/// themselves have no limit of their own: there are as many as sessions and wills.
pub const ERRANDS_NEW: usize = 4_096;

/// Deque places that an empty mailbox of an attached session keeps.
pub const MAILBOX_KEEP: usize = 64;

/// QoS 2 packet ids of publishes that needed no storing, in leader memory; above it such a publish is logged.
pub const UNLOGGED_IDS: usize = 65_536;

/// Limits of a group machine. All members of a group must use the same: they decide in apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineLimits {
    /// Sessions; a claim above it is refused with 0x97.
    pub sessions: usize,
    /// Entries a session's mailbox holds above its window, before `queue_full` says what goes.
    pub queue_messages: usize,
    /// Bytes of those entries' messages.
    pub queue_bytes: u64,
    /// The rule for a full mailbox and a full shared queue.
    pub queue_full: QueueFull,
    /// Entries sent and not completed, counted from the oldest uncompleted one. At most
    /// [`WINDOW_ENTRIES_MAX`]; above it entries wait.
    pub window_entries: u16,
    /// Bytes of those entries' messages; one entry always fits.
    pub window_bytes: u64,
    /// Filters of a session; one more is refused with 0x97 in SUBACK.
    pub filters_per_session: usize,
    /// QoS 2 packet ids a publisher has open; one more is refused with 0x97 in PUBREC.
    pub qos2_ids: usize,
    /// Retained messages; a publish to one more topic is refused with 0x97.
    pub retained_messages: u64,
    /// Bytes of retained messages; a publish above it is refused with 0x97.
    pub retained_bytes: u64,
    /// Messages kept in the group, each counted once; a publish above it is refused with 0x97.
    pub group_messages: u64,
    /// Bytes of those messages.
    pub group_bytes: u64,
    /// Places in mailboxes and shared queues of the group; checked before a publish, which may go above it by its
    /// own receivers; then refused with 0x97.
    pub group_entries: u64,
    /// Items of one shared queue, before `queue_full` says what goes.
    pub shared_messages: usize,
    /// Bytes of those items' messages.
    pub shared_bytes: u64,
    /// Turns of `$share` and `$queue` members.
    pub share_strategy: ShareStrategy,
}

impl Default for MachineLimits {
    fn default() -> Self {
        Self {
            sessions: 4_000_000,
            queue_messages: 100_000,
            queue_bytes: 64 << 20,
            queue_full: QueueFull::DropOldest,
            window_entries: WINDOW_ENTRIES_MAX,
            window_bytes: 256 << 10,
            filters_per_session: 1_000,
            qos2_ids: 1_024,
            retained_messages: 1_000_000,
            retained_bytes: 1 << 30,
            group_messages: 8_000_000,
            group_bytes: 16 << 30,
            group_entries: 32_000_000,
            shared_messages: 100_000,
            shared_bytes: 64 << 20,
            share_strategy: ShareStrategy::RoundRobin,
        }
    }
}

const _: () = {
    assert!(
        PACKET_IDS as usize * 64 <= 65_535,
        "64 groups share the packet ids of a session"
    );
    assert!(RETAINED_PAGE <= RETAINED_STEPS);
    assert!(SNAPSHOT_SLICES * SNAPSHOT_SLICE_BYTES <= SNAPSHOT_BACKLOG_BYTES);
};
