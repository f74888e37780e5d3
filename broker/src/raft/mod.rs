//! Replicated groups: openraft 0.9 drives the group's log, which is the process's log.
//!
//! | file        | what it holds                                                                          |
//! |-------------|----------------------------------------------------------------------------------------|
//! | `member`    | a member on its thread, with calls over TCP                                              |
//! | `peers`     | those calls                                                                              |
//! | `replica`   | a member at work: its start, and what it answers to others                               |
//! | `answers`   | what it answers to a leader and to candidates                                            |
//! | `tasks`     | what goes on beside openraft                                                             |
//! | `handle`    | the group's end: [`Consensus`](crate::consensus::Consensus)                             |
//! | `inbox`     | the two queues between the group's thread and this one, and the member's reign           |
//! | `storage`   | openraft's log over ours; votes                                                          |
//! | `machine`   | openraft's state machine: hands entries over                                             |
//! | `network`   | calls to other members, over any [`Peers`]                                               |
//! | `addresses` | where the members are                                                                    |
//! | `under_way` | a call with entries that is on its way                                                   |
//! | `carry`     | snapshots on their way to other members                                                  |
//! | `receiver`  | snapshots that come from another member                                                  |
//! | `birth`     | what a member with an empty folder does                                                  |
//! | `change`    | members that join and leave                                                              |
//! | `outsider`  | what one may ask that takes no part in the group                                         |
//! | `newcomer`  | members that come: what they say of themselves, and what is looked at before             |
//! | `election`  | when a member holds an election                                                          |
//! | `pre_vote`  | whether it would win it                                                                  |
//! | `handover`  | a leader that is to stop, or to leave, has another member lead first                     |
//! | `clocks`    | the members' wall clocks                                                                 |
//! | `lease`     | how long a leader may be sure that no other leads                                        |
//! | `reign`     | since when the leader leads                                                              |
//! | `entries`   | where each entry is                                                                      |
//! | `recovered` | what a member finds in its own log                                                       |
//! | `record`, `wire`, `codec` | bytes of records and of calls                                              |
//! | `process`   | where tasks are started: in a program, or in a simulated process                        |
//! | `journal`   | what is asked of the log; a simulated disk can stand in for it                           |
//! | `status`    | what a member says of itself                                                             |
//!
//! # Where the disk is waited for
//!
//! Openraft 0.9 waits in its core for the flush of each append, one after the other. So it is told that an append is
//! complete at once (but for an entry with a membership), and what must wait for the disk waits at the edges:
//!
//! 1. A follower's *success* leaves only when all that it has appended by then is durable (`Replica::answer`).
//! 2. An entry goes to the group only when it is durable here (`machine`).
//! 3. A leader tells others of no more agreed entries than are durable here (`network`).
//! 4. A vote is durable before openraft goes on (`storage`).
//! 5. A vote is read back as not won, so that a leader that was started again never goes on in its old term.
//!
//! This is Raft with the leader's write beside the replication (Ongaro's thesis, 10.2.1), and why it holds:
//!
//! - *What any group is handed is stored by a majority.* Openraft takes an entry for agreed on when a majority has
//!   acknowledged it, the leader's own memory counted. The other acknowledgements are durable (1). The leader's group gets
//!   it when it is durable there too (2), and others hear of it only then (3). So by then it is durable on a majority.
//! - *It stays.* A leader that dies with entries only in memory may come back without them. Nobody was told that
//!   they are agreed on, so they are like entries that a leader could not send to a majority. It cannot offer other
//!   entries under the same term and index, as it never goes on in that term (5) and votes are not forgotten (4). As long
//!   as it lives, it refuses candidates whose log lacks what it has in memory, which is stricter than it need be. When
//!   its log fails, openraft stops, and it votes for nobody.
//! - *A candidate's log is durable*: its vote for itself is in the same log behind its entries, and is durable before
//!   it asks (4).
//!
//! # The promise of an answer
//!
//! A member that answers a leader's call votes for no other for a while, and holds no election itself: the leader's
//! lease counts on both (`lease`). Openraft keeps the first part, `election` the second. An election that begins while
//! a call is on its way through openraft breaks it, so that call gets no answer (`answers`).
//!
//! # Before an election
//!
//! A member holds an election only if a majority says that it would vote for it (`pre_vote`). So a member that alone has
//! missed its leader, as it stood still or was cut off, ends no reign that is well, and one that reaches nobody asks all
//! the time without raising its term. A leader that is gone costs one more question, asked of all at once.
//!
//! # A full disk
//!
//! A member whose disk is full calls nobody: as a leader it loses its lease and the others elect another. It holds no
//! election and has no vote. As a follower it answers no success, but says that it is full; that counts for the lease as
//! long as openraft has heard the call. A new leader's vote holds openraft up until there is space: then it gets no
//! more than so many calls, and who makes others is told as much, which counts for nothing (`answers`). When there is
//! space again all goes on by itself. If too few have space for a majority, nothing is agreed on meanwhile, and the
//! leader, or a candidate, that has been told so says that the group is full.
//!
//! Invariants:
//! - Nothing here starts a thread or reads a clock but tokio's, so that many members run in one simulated world.
//! - Commands that were proposed in one reign never become entries of another: they carry the reign's term, and are void
//!   in any other (`storage`).
//! - A member takes part with an empty folder only if it can know that it never did before (`birth`).

mod addresses;
mod answers;
mod birth;
mod carry;
mod change;
mod clocks;
mod codec;
mod config;
mod election;
mod entries;
mod handle;
mod handover;
mod inbox;
mod journal;
mod lease;
pub mod limits;
mod machine;
mod member;
mod network;
mod newcomer;
mod outsider;
mod pace;
mod peers;
mod pre_vote;
mod process;
mod receiver;
mod record;
mod recovered;
mod reign;
mod replica;
mod status;
#[expect(
    clippy::result_large_err,
    reason = "the error is the one that openraft's traits name"
)]
mod storage;
mod tasks;
#[cfg(test)]
mod tests;
mod under_way;
mod wire;

pub use birth::sole_position;
pub use carry::{Incoming, Outgoing, Snapshots};
pub use change::{Change, ChangeError};
pub use clocks::WallClock;
pub use codec::Malformed;
pub use config::{Node, node_id, seed};
pub use handle::Handle;
pub use journal::{Content, DiskMoved, Journal, NewRecord, Placed};
pub use member::{Found, Member, Options};
pub use network::{CallError, Peers};
pub use outsider::Outsider;
#[cfg(any(test, feature = "faults"))]
pub use process::{Process, panicked, polls};
pub use recovered::Recovered;
pub use replica::{Replica, Settings, StartError};
pub use status::{MemberStatus, Peer, Role, Stage};
