//! Snapshots on their way to a member that lacks entries which the others have no more.
//!
//! The leader sends the newest snapshot in numbered pieces, each a call of its own, so that entries and heartbeats pass
//! between them. A piece whose call failed is sent again for a while, so that a connection that breaks does not cost the
//! whole transfer; a transfer that failed is begun again after a pause that grows. A piece that takes long is answered
//! with "wait", and asked for again. After each piece the sender rests for some times as long as that took: a member that
//! joins can wait, and those who publish meanwhile cannot. The other end is [`receiver`](super::receiver).

use super::config::{Node, Vote};
use super::limits::{
    PIECE_AGAIN, PIECE_AGAIN_MAX, PIECE_PATIENCE, PIECE_REST, PIECE_REST_MAX, PIECE_STORED,
    TRANSFER_AGAIN, TRANSFER_AGAIN_MAX,
};
use super::network::{CallError, Peers, call};
use super::wire::{Answer, Call, Piece, Request};
use crate::consensus::Position;
use crate::log::LogError;
use bytes::Bytes;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// The group's snapshots, as members send them to each other.
pub trait Snapshots: Clone + Send + Sync + 'static {
    /// One that is read.
    type Outgoing: Outgoing;
    /// One that is written.
    type Incoming: Incoming;

    /// Opens the newest snapshot; `None`: there is none. It can be read to its end whatever becomes newer meanwhile.
    fn open(&self) -> impl Future<Output = Result<Option<Self::Outgoing>, LogError>> + Send;

    /// Begins to receive one. What was received before and not finished is gone.
    fn receive(&self) -> impl Future<Output = Result<Self::Incoming, LogError>> + Send;
}

/// A snapshot that is read to be sent.
pub trait Outgoing: Send + 'static {
    /// The next bytes, as many as are well sent together (some hundred KiB); `None`: that was all.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, LogError>> + Send;
}

/// A snapshot that is received.
pub trait Incoming: Send + 'static {
    /// Takes the next bytes.
    fn take(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), LogError>> + Send;

    /// That was all: makes it durable, as the newest snapshot of this member. Returns where it stands.
    fn finish(self) -> impl Future<Output = Result<Position, LogError>> + Send;
}

/// Why a snapshot did not arrive.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CarryError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the snapshot cannot be read: {0}")]
    Read(#[from] LogError),
    #[error("there is no snapshot to send")]
    None,
    #[error("{0} does not take the snapshot")]
    Refused(Box<str>),
    #[error("{0} cannot store a piece of the snapshot in time")]
    Slow(Box<str>),
}

/// What is sent, and to whom.
#[derive(Debug)]
pub(super) struct Transfer<'a> {
    /// The member's id.
    pub(super) to: u64,
    pub(super) node: &'a Node,
    /// The leader's.
    pub(super) vote: Vote,
    /// Group's index of the last entry that the snapshot covers, or of an earlier one.
    pub(super) index: u64,
    /// Which transfer this is; never 0.
    pub(super) number: u64,
}

/// Sends the newest snapshot to a member. Returns the member's vote when it has it.
pub(super) async fn send<P: Peers, S: Snapshots>(
    peers: &P,
    snapshots: &S,
    transfer: &Transfer<'_>,
) -> Result<Vote, CarryError> {
    let mut outgoing = snapshots.open().await?.ok_or(CarryError::None)?;
    let mut number = 0;
    loop {
        let began = Instant::now();
        let bytes = outgoing.next().await?;
        let last = bytes.is_none();
        let piece = Piece {
            vote: transfer.vote,
            transfer: transfer.number,
            index: transfer.index,
            number,
            last,
            bytes: bytes.unwrap_or_default(),
        };
        match send_piece(peers, transfer, piece).await? {
            Answer::Taken if !last => number += 1,
            Answer::Installed(vote) => return Ok(vote),
            _ => return Err(CarryError::Refused(transfer.node.address.clone())),
        }
        let rest = PIECE_REST * began.elapsed();
        tokio::time::sleep(rest.min(PIECE_REST_MAX)).await;
    }
}

/// Sends a piece until it is answered with more than "wait", or has not reached the member for too long.
async fn send_piece<P: Peers>(
    peers: &P,
    transfer: &Transfer<'_>,
    piece: Piece,
) -> Result<Answer, CarryError> {
    let request = Request::Piece(piece);
    let to = transfer.to;
    let again = Call { to, request };
    let began = Instant::now();
    let mut pause = PIECE_AGAIN;
    let mut failing_since = None;
    loop {
        match call(peers, transfer.node, &again).await {
            Ok(Answer::Wait) => {
                if began.elapsed() > PIECE_STORED {
                    return Err(CarryError::Slow(transfer.node.address.clone()));
                }
                (pause, failing_since) = (PIECE_AGAIN, None);
            }
            Ok(answer) => return Ok(answer),
            Err(error) => {
                let since = *failing_since.get_or_insert_with(Instant::now);
                if since.elapsed() + pause > PIECE_PATIENCE {
                    return Err(error.into());
                }
                tracing::debug!(%error, "a piece of a snapshot is sent again");
            }
        }
        tokio::time::sleep(pause).await;
        if failing_since.is_some() {
            pause = (2 * pause).min(PIECE_AGAIN_MAX);
        }
    }
}

/// Transfers to one member that failed, one right after the other.
#[derive(Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// How long to wait before the next one.
    pub(super) fn pause(&self) -> Duration {
        let Some(doublings) = self.0.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        TRANSFER_AGAIN
            .saturating_mul(factor)
            .min(TRANSFER_AGAIN_MAX)
    }

    /// Takes note of how one has ended.
    pub(super) fn ended(&mut self, failed: bool) {
        self.0 = if failed { self.0.saturating_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A snapshot of three pieces, and how often it was opened.
    #[derive(Clone, Debug, Default)]
    struct Three(Arc<Mutex<u32>>);

    #[derive(Debug)]
    struct Pieces(u32);

    impl Snapshots for Three {
        type Outgoing = Pieces;
        type Incoming = Pieces;

        async fn open(&self) -> Result<Option<Pieces>, LogError> {
            *self.0.lock().expect("no panic") += 1;
            Ok(Some(Pieces(0)))
        }

        async fn receive(&self) -> Result<Pieces, LogError> {
            Ok(Pieces(0))
        }
    }

    impl Outgoing for Pieces {
        async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
            self.0 += 1;
            Ok((self.0 <= 3).then(|| vec![self.0 as u8].into()))
        }
    }

    impl Incoming for Pieces {
        async fn take(&mut self, _bytes: Bytes) -> Result<(), LogError> {
            Ok(())
        }

        async fn finish(self) -> Result<Position, LogError> {
            Ok(Position::default())
        }
    }

    /// A network that loses so many calls of each piece before one arrives, and the pieces that arrived.
    #[derive(Clone, Debug)]
    struct Lossy {
        losses: u32,
        /// How long each call takes.
        takes: Duration,
        tries: Arc<Mutex<u32>>,
        arrived: Arc<Mutex<Vec<u32>>>,
    }

    impl Peers for Lossy {
        fn call(
            &self,
            to: &Node,
            call: Bytes,
        ) -> impl Future<Output = Result<Bytes, CallError>> + Send + 'static {
            let (network, address) = (self.clone(), to.address.clone());
            async move {
                tokio::time::sleep(network.takes).await;
                let mut tries = network.tries.lock().expect("no panic");
                *tries += 1;
                if *tries <= network.losses {
                    let why = "lost".into();
                    return Err(CallError { address, why });
                }
                *tries = 0;
                let call = Call::read(&call).expect("a call");
                let Request::Piece(piece) = call.request else {
                    panic!("no piece");
                };
                network.arrived.lock().expect("no panic").push(piece.number);
                let answer = if piece.last {
                    Answer::Installed(piece.vote)
                } else {
                    Answer::Taken
                };
                Ok(answer.bytes())
            }
        }
    }

    /// Sends over a network that loses so many calls of each piece: how that ended, the pieces that arrived, how often the
    /// snapshot was opened, and how long it took.
    async fn sent(
        losses: u32,
        takes: Duration,
    ) -> (Result<Vote, CarryError>, Vec<u32>, u32, Duration) {
        let network = Lossy {
            losses,
            takes,
            tries: Arc::default(),
            arrived: Arc::default(),
        };
        let snapshots = Three::default();
        let node = Node::default();
        let transfer = Transfer {
            to: 7,
            node: &node,
            vote: Vote::new_committed(1, 2),
            index: 5,
            number: 3,
        };
        let began = Instant::now();
        let sent = send(&network, &snapshots, &transfer).await;
        let arrived = network.arrived.lock().expect("no panic").clone();
        let opened = *snapshots.0.lock().expect("no panic");
        (sent, arrived, opened, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_is_lost_is_sent_again_and_not_the_whole_snapshot() {
        for losses in [0, 1, 5] {
            let (sent, arrived, opened, _) = sent(losses, Duration::ZERO).await;
            assert_eq!(sent.expect("sent"), Vote::new_committed(1, 2));
            assert_eq!((&arrived[..], opened), (&[0, 1, 2, 3][..], 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_stays_away_ends_the_transfer() {
        let (sent, arrived, _, took) = sent(u32::MAX, Duration::ZERO).await;
        assert!(matches!(sent, Err(CarryError::Call(_))));
        assert_eq!(arrived, []);
        assert!(took <= PIECE_PATIENCE && took > PIECE_PATIENCE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sender_rests_between_pieces_and_not_for_long() {
        let slow = Duration::from_secs(1);
        for (takes, rests) in [
            (slow / 100, PIECE_REST * slow / 100),
            (slow, PIECE_REST_MAX),
        ] {
            let (sent, .., took) = sent(0, takes).await;
            sent.expect("sent");
            let expected = 4 * takes + 3 * rests;
            // Timers have a grain.
            assert!(took >= expected && took <= expected + Duration::from_millis(20));
        }
    }

    #[test]
    fn the_pause_between_transfers_that_fail_grows_to_its_limit_and_is_over_with_success() {
        let mut failures = Failures::default();
        assert_eq!(failures.pause(), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            failures.ended(true);
            pauses.push(failures.pause());
        }
        assert_eq!(pauses[..3], [1, 2, 4].map(|n| n * TRANSFER_AGAIN));
        assert_eq!(pauses[39], TRANSFER_AGAIN_MAX);
        failures.ended(false);
        assert_eq!(failures.pause(), Duration::ZERO);
    }
}
