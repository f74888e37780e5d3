//! Snapshots that come from another member.
//!
//! One transfer at a time; one that begins anew drops what came before. It ends when it is whole, when it fails, or when
//! no piece comes for [`TRANSFER_SILENCE`]: its sender may be gone, and as long as it goes on the log gives nothing back.
//! Openraft hears of a snapshot only when it is whole and durable here.

use super::carry::{Incoming, Snapshots};
use super::codec::Malformed;
use super::config::{Carried, Raft, Types, Vote, random};
use super::election::Election;
use super::inbox::Inbox;
use super::limits::{PIECE_WAIT, TRANSFER_SILENCE};
use super::machine::snapshot_meta;
use super::process;
use super::wire::{Answer, Piece};
use crate::consensus::Position;
use crate::log::LogError;
use openraft::Snapshot;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until, timeout};

/// The member that a snapshot is for.
pub(super) trait Installs: Clone + Send + Sync + 'static {
    /// The group's index of the last entry that its group has been handed, and its vote.
    fn standing(&self) -> (u64, Vote);

    /// Has it go on from the snapshot at this position, which a leader with this vote has sent. Returns its own vote.
    fn install(
        &self,
        leader: Vote,
        position: &Position,
    ) -> impl Future<Output = Result<Vote, TakeError>> + Send;
}

impl Installs for Raft {
    fn standing(&self) -> (u64, Vote) {
        let metrics = self.metrics();
        let now = metrics.borrow();
        (now.last_applied.map_or(0, |id| id.index + 1), now.vote)
    }

    async fn install(&self, leader: Vote, position: &Position) -> Result<Vote, TakeError> {
        let snapshot = Snapshot::<Types> {
            meta: snapshot_meta(position)?,
            snapshot: Box::new(Carried),
        };
        Ok(self.install_full_snapshot(leader, snapshot).await?.vote)
    }
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("its position is {0}")]
    Position(#[from] Malformed),
    #[error("the member stops: {0}")]
    Stopped(#[from] openraft::error::Fatal<u64>),
}

/// Takes the pieces.
#[derive(Debug)]
pub(super) struct Receiver<S: Snapshots> {
    snapshots: S,
    shared: Arc<Shared<S::Incoming>>,
}

#[derive(Debug)]
struct Shared<I> {
    inbox: Arc<Inbox>,
    /// Locked while a piece is being taken.
    state: Arc<Mutex<State<I>>>,
    cut_short: AtomicU64,
}

#[derive(Debug)]
struct State<I> {
    transfer: u64,
    /// The piece that is expected.
    next: u32,
    /// `None`: no transfer is under way.
    incoming: Option<I>,
    /// The answer to the last piece, once there is one.
    installed: Option<Vote>,
    /// Where the newest snapshot stands that was stored. The member may not have gone on from it: it does so only for a
    /// leader that is not deposed.
    stored: Option<Position>,
    /// When the newest piece was taken.
    heard: Instant,
}

impl<S: Snapshots> Receiver<S> {
    pub(super) fn new(snapshots: S, inbox: Arc<Inbox>) -> Self {
        let state = State {
            transfer: 0,
            next: 0,
            incoming: None,
            installed: None,
            stored: None,
            heard: Instant::now(),
        };
        let shared = Shared {
            inbox,
            state: Arc::new(Mutex::new(state)),
            cut_short: AtomicU64::new(0),
        };
        Self {
            snapshots,
            shared: Arc::new(shared),
        }
    }

    /// Transfers that have ended before they were whole.
    pub(super) fn cut_short(&self) -> u64 {
        self.shared.cut_short.load(Ordering::Relaxed)
    }

    /// Takes a piece; goes on with it after an answer to wait.
    pub(super) async fn take(&self, member: &impl Installs, piece: Piece) -> Answer {
        if piece.vote >= member.standing().1 {
            // Its leader lives, and sends it no heartbeats meanwhile.
            let heard = |election: &mut Election| election.put_off(Instant::now(), &mut random());
            self.shared.inbox.change_election(heard);
        }
        let Ok(state) = Arc::clone(&self.shared.state).try_lock_owned() else {
            return Answer::Wait;
        };
        let taking = Taking {
            state,
            shared: Arc::clone(&self.shared),
        };
        let taking = process::spawn(taking.take(self.snapshots.clone(), member.clone(), piece));
        match timeout(PIECE_WAIT, taking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_ended)) => Answer::Absent,
            Err(_elapsed) => Answer::Wait,
        }
    }
}

impl<I> Shared<I> {
    /// The transfer is not to become whole.
    fn cut_short(&self, state: &mut State<I>, why: &str) {
        if state.incoming.take().is_some() {
            self.cut_short.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(why, "a snapshot of another member does not come in whole");
        }
    }
}

/// A piece that is being taken.
struct Taking<I> {
    state: OwnedMutexGuard<State<I>>,
    shared: Arc<Shared<I>>,
}

impl<I: Incoming> Taking<I> {
    async fn take<S: Snapshots<Incoming = I>>(
        mut self,
        snapshots: S,
        member: impl Installs,
        piece: Piece,
    ) -> Answer {
        let taken = self.try_take(&snapshots, &member, piece).await;
        if self.state.incoming.is_none() {
            self.shared.inbox.snapshot_ends();
        }
        taken.unwrap_or_else(|error| {
            self.shared.cut_short.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a snapshot from the leader cannot be stored");
            Answer::Absent
        })
    }

    async fn try_take<S: Snapshots<Incoming = I>>(
        &mut self,
        snapshots: &S,
        member: &impl Installs,
        piece: Piece,
    ) -> Result<Answer, TakeError> {
        if piece.transfer != self.state.transfer {
            if piece.number != 0 {
                return Ok(Answer::Absent);
            }
            let (applied, vote) = member.standing();
            // The leader has not heard that an earlier transfer was successful, or that it is deposed.
            if piece.index <= applied || piece.vote < vote {
                return Ok(Answer::Installed(vote));
            }
            let stored = self.state.stored.as_ref();
            if let Some(position) = stored.filter(|stored| piece.index <= stored.index) {
                return Ok(Answer::Installed(
                    member.install(piece.vote, position).await?,
                ));
            }
            self.begin(snapshots, piece.transfer).await?;
        }
        let state = &mut *self.state;
        if piece.number < state.next {
            // It was taken when the sender had been told to wait, or the answer got lost.
            return Ok(state.installed.map_or(Answer::Taken, Answer::Installed));
        }
        if piece.number > state.next {
            self.shared.cut_short(state, "a piece is missing");
        }
        let Some(mut incoming) = state.incoming.take() else {
            return Ok(Answer::Absent);
        };
        if !piece.last {
            incoming.take(piece.bytes).await?;
            (state.incoming, state.heard) = (Some(incoming), Instant::now());
            state.next += 1;
            return Ok(Answer::Taken);
        }
        let position = incoming.finish().await?;
        let position = state.stored.insert(position);
        let vote = member.install(piece.vote, position).await?;
        state.installed = Some(vote);
        state.next += 1;
        Ok(Answer::Installed(vote))
    }

    async fn begin<S: Snapshots<Incoming = I>>(
        &mut self,
        snapshots: &S,
        transfer: u64,
    ) -> Result<(), LogError> {
        let state = &mut *self.state;
        self.shared.cut_short(state, "another one begins");
        self.shared.inbox.snapshot_begins();
        state.incoming = Some(snapshots.receive().await?);
        state.heard = Instant::now();
        (state.transfer, state.next, state.installed) = (transfer, 0, None);
        process::spawn(watch(Arc::downgrade(&self.shared), transfer));
        Ok(())
    }
}

/// Ends a transfer that has had no piece for too long.
async fn watch<I>(shared: Weak<Shared<I>>, transfer: u64) {
    let mut due = Instant::now() + TRANSFER_SILENCE;
    loop {
        sleep_until(due).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut state = shared.state.lock().await;
        if state.transfer != transfer || state.incoming.is_none() {
            return;
        }
        due = state.heard + TRANSFER_SILENCE;
        if due <= Instant::now() {
            shared.cut_short(&mut state, "no more of it came");
            shared.inbox.snapshot_ends();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::carry::Outgoing;
    use super::*;
    use crate::consensus::Event;
    use bytes::Bytes;
    use std::sync::Mutex as Lock;
    use std::time::Duration;

    /// Snapshots in memory, and how many are being received.
    #[derive(Clone, Debug, Default)]
    struct Memory(Arc<()>);

    #[derive(Debug)]
    struct Half(
        Vec<u8>,
        #[expect(dead_code, reason = "it is counted")] Arc<()>,
    );

    impl Memory {
        fn receiving(&self) -> usize {
            Arc::strong_count(&self.0) - 1
        }
    }

    impl Snapshots for Memory {
        type Outgoing = Half;
        type Incoming = Half;

        async fn open(&self) -> Result<Option<Half>, LogError> {
            Ok(None)
        }

        async fn receive(&self) -> Result<Half, LogError> {
            Ok(Half(Vec::new(), Arc::clone(&self.0)))
        }
    }

    impl Outgoing for Half {
        async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
            Ok(None)
        }
    }

    impl Incoming for Half {
        async fn take(&mut self, bytes: Bytes) -> Result<(), LogError> {
            self.0.extend_from_slice(&bytes);
            Ok(())
        }

        /// Its index is how many bytes it has.
        async fn finish(self) -> Result<Position, LogError> {
            Ok(Position {
                index: self.0.len() as u64,
                ..Position::default()
            })
        }
    }

    /// Where it stands, and its vote.
    #[derive(Clone, Debug)]
    struct Member(Arc<Lock<(u64, Vote)>>);

    impl Member {
        fn votes(&self, vote: Vote) {
            self.0.lock().expect("no panic").1 = vote;
        }
    }

    impl Installs for Member {
        fn standing(&self) -> (u64, Vote) {
            *self.0.lock().expect("no panic")
        }

        async fn install(&self, leader: Vote, position: &Position) -> Result<Vote, TakeError> {
            let (applied, vote) = &mut *self.0.lock().expect("no panic");
            if leader >= *vote {
                (*applied, *vote) = (position.index, leader);
            }
            Ok(*vote)
        }
    }

    fn vote() -> Vote {
        Vote::new_committed(3, 7)
    }

    struct World {
        inbox: Arc<Inbox>,
        memory: Memory,
        receiver: Receiver<Memory>,
        member: Member,
    }

    impl World {
        fn new() -> Self {
            let inbox = Arc::new(Inbox::new(Box::new(|| ())));
            inbox.keeps_from(5);
            let memory = Memory::default();
            Self {
                receiver: Receiver::new(memory.clone(), Arc::clone(&inbox)),
                inbox,
                member: Member(Arc::new(Lock::new((0, vote())))),
                memory,
            }
        }

        /// Sends a piece of a snapshot of five bytes.
        async fn piece(&self, transfer: u64, number: u32) -> Answer {
            self.piece_of(vote(), transfer, number).await
        }

        /// As a leader with this vote.
        async fn piece_of(&self, vote: Vote, transfer: u64, number: u32) -> Answer {
            let last = number == 5;
            let piece = Piece {
                vote,
                transfer,
                index: 5,
                number,
                last,
                bytes: if last { Bytes::new() } else { "x".into() },
            };
            self.receiver.take(&self.member, piece).await
        }

        /// Pieces being received, whether the log may give anything back, transfers that were cut short.
        fn standing(&self) -> (usize, bool, u64) {
            // The receiver itself has one.
            let receiving = self.memory.receiving() - 1;
            let gives_back = self.inbox.kept_from() > 0;
            (receiving, gives_back, self.receiver.cut_short())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_whose_sender_is_gone_ends_and_the_log_gives_back_again() {
        let world = World::new();
        for number in 0..3 {
            assert_eq!(world.piece(1, number).await, Answer::Taken);
            // Slow, but it goes on.
            tokio::time::sleep(Duration::from_secs(9)).await;
            assert_eq!(world.standing(), (1, false, 0));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(world.standing(), (0, true, 1));
        assert_eq!(world.piece(1, 3).await, Answer::Absent, "it is over");
        assert_eq!(world.standing(), (0, true, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_sent_a_snapshot_by_its_leader_or_a_later_one_puts_its_election_off() {
        let world = World::new();
        world
            .inbox
            .takes_part(Election::new(Instant::now(), &mut random()));
        let due = || world.inbox.change_election(|election| election.due());
        let later = Vote::new_committed(4, 8);
        for (own, leader, puts_off) in [
            (vote(), vote(), true),
            (vote(), later, true),
            (later, vote(), false),
        ] {
            world.member.votes(own);
            let before = due().expect("it takes part");
            tokio::time::sleep_until(before).await;
            world.piece_of(leader, 1, 0).await;
            let after = due().expect("it takes part");
            assert_eq!(after > before, puts_off, "{leader}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_begins_anew_is_watched_on_its_own() {
        let world = World::new();
        assert_eq!(world.piece(1, 0).await, Answer::Taken);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(world.piece(2, 0).await, Answer::Taken);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(world.standing(), (1, false, 1));
        for number in 1..5 {
            assert_eq!(world.piece(2, number).await, Answer::Taken);
        }
        assert_eq!(world.piece(2, 5).await, Answer::Installed(vote()));
        assert_eq!(world.standing(), (0, true, 1));
        tokio::time::sleep(2 * TRANSFER_SILENCE).await;
        assert_eq!(
            world.standing(),
            (0, true, 1),
            "that it ended is no failure"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_the_member_has_is_not_taken_again() {
        let world = World::new();
        for number in 0..5 {
            assert_eq!(world.piece(1, number).await, Answer::Taken);
        }
        assert_eq!(world.piece(1, 5).await, Answer::Installed(vote()));
        // The leader has not heard that. It asks again, and later begins anew.
        assert_eq!(world.piece(1, 5).await, Answer::Installed(vote()));
        assert_eq!(world.piece(2, 0).await, Answer::Installed(vote()));
        assert_eq!(world.standing(), (0, true, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_came_too_late_for_its_leader_is_there_for_the_next() {
        let world = World::new();
        for number in 0..5 {
            assert_eq!(world.piece(1, number).await, Answer::Taken);
        }
        let (elected, next) = (Vote::new(4, 8), Vote::new_committed(5, 9));
        world.member.votes(elected);
        assert_eq!(world.piece(1, 5).await, Answer::Installed(elected));
        assert_eq!(world.member.standing().0, 0, "it is stored, no more");
        assert_eq!(world.piece_of(next, 2, 0).await, Answer::Installed(next));
        assert_eq!(world.member.standing().0, 5);
        assert_eq!(world.standing(), (0, true, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deposed_leader_takes_no_ones_place() {
        let world = World::new();
        let next = Vote::new_committed(5, 9);
        world.member.votes(next);
        assert_eq!(world.piece_of(next, 2, 0).await, Answer::Taken);
        assert_eq!(world.piece(1, 0).await, Answer::Installed(next));
        assert_eq!(world.piece_of(next, 2, 1).await, Answer::Taken);
        assert_eq!(world.standing(), (1, false, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_gives_nothing_back_while_an_earlier_snapshot_is_taken() {
        let world = World::new();
        world.inbox.hand_over(Event::Install { index: 3 }).await;
        assert_eq!(world.piece(2, 0).await, Answer::Taken);
        assert_eq!(world.inbox.next(), Some(Event::Install { index: 3 }));
        assert_eq!(world.standing(), (1, false, 0));
        world.inbox.hand_over(Event::Install { index: 4 }).await;
        tokio::time::sleep(2 * TRANSFER_SILENCE).await;
        assert_eq!(world.standing(), (0, false, 1), "one is not taken yet");
        assert_eq!(world.inbox.next(), Some(Event::Install { index: 4 }));
        assert_eq!(world.standing(), (0, true, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_may_come_twice_and_none_may_be_missing() {
        let world = World::new();
        for number in [0, 0, 1, 0, 1] {
            assert_eq!(world.piece(1, number).await, Answer::Taken);
        }
        assert_eq!(world.piece(1, 3).await, Answer::Absent);
        assert_eq!(world.standing(), (0, true, 1));
    }
}
