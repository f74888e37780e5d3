//! Every limit and time of a replicated group, with its reason and the rule at the limit.

use std::time::Duration;

/// A leader says something to each member at least every one and a half of these (openraft looks at its clock that
/// often), and waits that long for an answer before it asks again.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// So long a follower that has heard its leader votes for no other. (What openraft calls the upper end of the election
/// timeout.)
pub const ELECTION_MAX: Duration = Duration::from_millis(600);

/// And after a time between these two, drawn anew for each election, it holds one. The lower end lets the promises of
/// the others end, who may have heard the leader one heartbeat later; the spread keeps members apart.
pub const ELECTION_DRAW_MIN: Duration = Duration::from_millis(150);
/// See [`ELECTION_DRAW_MIN`].
pub const ELECTION_DRAW_MAX: Duration = Duration::from_millis(450);

/// A leader that is to stop, or to leave the group, leads on for so long until some follower has nearly all of its log. If
/// none has it stops as if it were killed, or does not leave.
pub const SUCCESSOR_WAIT: Duration = Duration::from_secs(1);

/// A leader that has given way waits for so long until another leads. Nobody is acknowledged anything meanwhile, so it is
/// less than what the others would wait for one that is silent.
pub const HAND_OVER: Duration = Duration::from_millis(500);

/// How long a candidate waits for a vote. (What openraft calls the lower end of the election timeout.)
pub const VOTE: Duration = Duration::from_millis(300);

/// A leader counts on its followers' promise for this long, which is less than they keep it: clocks do not run alike,
/// and what is decided is not done at once.
pub const LEASE: Duration = Duration::from_millis(400);

/// A leader that is not heard for this long after the promise to it has ended is one no more, as far as people are told.
/// Longer than elections take, so that nobody is alarmed by those.
pub const LEADER_UNKNOWN: Duration = Duration::from_millis(1_400);

/// What a member has said of the space on its disk counts for this long: a leader asks several times a second, a candidate
/// with each election, and one that reaches nobody does not know any more.
pub const SPACE_KNOWN: Duration = Duration::from_secs(3);

/// A call to another member that has had no answer for this long has failed. Longer than openraft waits: a late
/// answer still prolongs the lease.
pub const CALL: Duration = Duration::from_secs(2);

/// A call may take longer than its time by what its bytes take at this many a second: where less comes through, a group
/// does not get on.
pub const CARRIED_PER_SECOND_MIN: u64 = 1 << 20;

/// How long so many bytes may take to another member.
pub(super) const fn carrying(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / CARRIED_PER_SECOND_MIN)
}

/// A call with entries that has had no answer for this long, and for what its bytes may take, is made again, as it may
/// have been lost. Until then what openraft asks to be sent again gets the answer of the first call.
pub const RESEND: Duration = Duration::from_millis(300);

/// Calls of more bytes go over a connection of their own: a sign of life never waits behind one.
pub const SMALL_CALL_BYTES_MAX: usize = 64 << 10;

/// A connection to another member, from the first packet to the proof of who it is, takes no longer than this.
pub const CONNECT: Duration = Duration::from_secs(1);

/// That a member cannot be reached, or that a stranger calls, is said again after this for the same reason: it comes up
/// several times a second.
pub const COMPLAINT_AGAIN: Duration = Duration::from_secs(60);
/// And after this for another reason.
pub const COMPLAINT_OTHER: Duration = Duration::from_secs(5);

/// A leader leaves a member alone for this long that could not be reached.
pub const CALL_AGAIN: Duration = Duration::from_millis(100);

/// A snapshot takes as long as it takes; this ends a transfer that got stuck between its pieces.
pub const SNAPSHOT_CALL: Duration = Duration::from_secs(3600);

/// A piece of a snapshot that is not stored after this long is answered with "wait".
pub const PIECE_WAIT: Duration = Duration::from_secs(1);

/// And sent again after this. So is one whose call failed, and then after twice as long each time, up to
/// [`PIECE_AGAIN_MAX`].
pub const PIECE_AGAIN: Duration = Duration::from_millis(100);
/// See [`PIECE_AGAIN`].
pub const PIECE_AGAIN_MAX: Duration = Duration::from_secs(1);

/// A piece that a member has not stored after so long ends the transfer: as long as that goes on, the sender keeps its
/// whole log.
pub const PIECE_STORED: Duration = Duration::from_secs(60);

/// After each piece its sender rests for so many times as long as it took to read, send and store it, so that a transfer
/// takes a quarter of a thread and of a disk at most. Bounded by [`PIECE_REST_MAX`], for pieces that waited.
pub const PIECE_REST: u32 = 3;
/// See [`PIECE_REST`].
pub const PIECE_REST_MAX: Duration = Duration::from_millis(200);

/// After a call with half of [`EASE_ENTRY_BYTES`] or more to a member without a vote its leader rests for so many times as
/// long as the call took, for the same reason: nobody waits for that member. Bounded by [`ENTRIES_REST_MAX`], so that it
/// catches up also where calls take long or the group is written to all the time.
pub const ENTRIES_REST: u32 = 3;
/// See [`ENTRIES_REST`].
pub const ENTRIES_REST_MAX: Duration = Duration::from_millis(5);

/// Bytes of entries in one call to a member that lacks more than [`EASE_LAG`], as long as one without a vote catches up with
/// ease: nothing else comes through the leader's thread meanwhile.
pub const EASE_ENTRY_BYTES: usize = 128 << 10;

/// A member that lacks no more entries than this keeps up: a leader has a few on their way all the time.
pub const EASE_LAG: u64 = 16;

/// So long a member without a vote catches up in small calls with rests. If that is not enough the group is written to
/// faster than that, and it gets its entries as fast as they come through.
pub const EASE: Duration = Duration::from_secs(10);

/// A piece that has not reached the member for this long ends the transfer.
pub const PIECE_PATIENCE: Duration = Duration::from_secs(6);

/// A member that has had no piece for this long ends the transfer: until then nothing of its log is given back.
pub const TRANSFER_SILENCE: Duration = Duration::from_secs(10);

/// A transfer that failed is begun again after this, and after twice as long each time, up to
/// [`TRANSFER_AGAIN_MAX`]: each reads the snapshot and writes to the member's disk from the beginning.
pub const TRANSFER_AGAIN: Duration = Duration::from_millis(500);
/// See [`TRANSFER_AGAIN`].
pub const TRANSFER_AGAIN_MAX: Duration = Duration::from_secs(8);

/// A member with an empty folder asks the others again after this long.
pub const BIRTH_AGAIN: Duration = Duration::from_millis(100);

/// Bytes of entries in one call. One entry may go above it; the others come with the next call.
pub const CALL_ENTRY_BYTES: usize = 512 << 10;

/// Entries in one call at most, however small.
pub const CALL_ENTRIES_MAX: u64 = 256;

/// See [`Settings::kept_entries`](super::Settings::kept_entries).
pub const KEPT_ENTRIES: u64 = 1_000;

/// A member that has got a snapshot lacks fewer of the entries behind it after this long than before, by one in
/// [`CATCH_UP_GAIN`], or the leader forgets some of those. Until then its whole log grows.
pub const CATCH_UP: Duration = Duration::from_secs(10);
/// See [`CATCH_UP`].
pub const CATCH_UP_GAIN: u64 = 8;

/// A new member gets its vote when it lacks fewer entries than this: until it has them, a group that needs its vote
/// waits.
pub const LAG_OF_VOTERS: u64 = 64;

/// Events that wait for the group. At the limit no more entries are handed over; calls of members are answered all the
/// same.
pub const INBOX_EVENTS_MAX: usize = 1_024;

/// Bytes of commands that wait for the group. One entry may go above it.
pub const INBOX_BYTES_MAX: usize = 8 << 20;

/// Proposals that openraft has taken and not answered. At the limit no more are given to it; how many wait before
/// that is bounded by the group, which looks at the bytes that are pending.
pub const PROPOSALS_MAX: usize = 1_024;

/// Bytes of one call between members. A larger one closes the connection.
pub const CALL_BYTES_MAX: usize = crate::log::limits::RECORD_BYTES_MAX + (1 << 20);

/// Bytes taken from a socket at a time.
pub const READ_BYTES: usize = 16 << 10;

/// Calls that wait for one member's answer. At the limit a further call fails at once, as if it could not be reached.
pub const CALLS_MAX: usize = 64;

/// Calls of a leader and of candidates that openraft has been given and not answered. At the limit a further one is
/// refused at once. A leader makes its calls one after the other and repeats one only after a heartbeat, so more of
/// them wait only where the disk keeps openraft from answering.
pub const CALLS_IN_CORE_MAX: usize = 8;

/// Connections that a member takes from others. More are closed at once: there are at most a few members, each with
/// two connections and perhaps old ones.
pub const CONNECTIONS_MAX: usize = 64;

/// Bytes of the name of a member's host and port.
pub const ADDRESS_BYTES_MAX: usize = 512;

const _: () = {
    // Otherwise openraft has not asked again by then.
    assert!(HEARTBEAT.as_millis() < RESEND.as_millis());
    assert!(RESEND.as_millis() < CALL.as_millis());
    assert!(SMALL_CALL_BYTES_MAX < CALL_ENTRY_BYTES);
    assert!(EASE_ENTRY_BYTES < CALL_ENTRY_BYTES);
    assert!(HEARTBEAT.as_millis() * 3 / 2 <= ELECTION_DRAW_MIN.as_millis());
    assert!(ELECTION_DRAW_MIN.as_millis() < ELECTION_DRAW_MAX.as_millis());
    assert!(VOTE.as_millis() < ELECTION_MAX.as_millis());
    // A second follower can be asked when the first one's election has failed.
    assert!(VOTE.as_millis() < HAND_OVER.as_millis());
    assert!(HAND_OVER.as_millis() < ELECTION_MAX.as_millis());
    // A group has another leader before the links to the old one are given up.
    assert!(
        ELECTION_MAX.as_millis() + 2 * ELECTION_DRAW_MAX.as_millis()
            < cluster::limits::LINK_DEAD.as_millis()
    );
    // A lease outlives several heartbeats, else a leader that is well would stop at each late answer.
    assert!(HEARTBEAT.as_millis() * 3 < LEASE.as_millis());
    assert!(LEASE.as_millis() * 3 / 2 <= ELECTION_MAX.as_millis());
    assert!(CALL_ENTRY_BYTES < CALL_BYTES_MAX);
    assert!(PIECE_WAIT.as_millis() < CALL.as_millis());
    // The receiver waits for longer than the sender tries.
    assert!(PIECE_PATIENCE.as_millis() + CALL.as_millis() < TRANSFER_SILENCE.as_millis());
    assert!(CALL_ENTRY_BYTES <= INBOX_BYTES_MAX);
};
