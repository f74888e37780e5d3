//! Snapshots on their way to a member that lacks entries which the others have no more.
//!
//! The leader sends the newest snapshot in numbered pieces, each a call of its own, so that entries and heartbeats pass
//! between them. The receiver keeps one transfer at a time; one that begins anew drops what came before. A piece
//! that takes long is answered with "wait", and asked for again. Openraft hears of a snapshot only when it is whole
//! and durable at the receiver.

use super::codec::Malformed;
use super::config::{Carried, Node, Raft, Types, Vote};
use super::inbox::Inbox;
use super::limits::{PIECE_AGAIN, PIECE_WAIT};
use super::machine::snapshot_meta;
use super::network::{CallError, Peers, call};
use super::process;
use super::wire::{Answer, Call, Piece, Request};
use crate::consensus::Position;
use crate::log::LogError;
use bytes::Bytes;
use openraft::Snapshot;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

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
}

/// Sends the newest snapshot to a member. Returns the member's vote when it has it.
pub(super) async fn send<P: Peers, S: Snapshots>(
    peers: &P,
    snapshots: &S,
    (to, node): (u64, &Node),
    vote: Vote,
    transfer: u64,
) -> Result<Vote, CarryError> {
    let mut outgoing = snapshots.open().await?.ok_or(CarryError::None)?;
    let mut number = 0;
    loop {
        let bytes = outgoing.next().await?;
        let last = bytes.is_none();
        let piece = Piece {
            vote,
            transfer,
            number,
            last,
            bytes: bytes.unwrap_or_default(),
        };
        match send_piece(peers, node, to, piece).await? {
            Answer::Taken if !last => number += 1,
            Answer::Installed(vote) => return Ok(vote),
            _ => return Err(CarryError::Refused(node.address.clone())),
        }
    }
}

async fn send_piece<P: Peers>(
    peers: &P,
    node: &Node,
    to: u64,
    piece: Piece,
) -> Result<Answer, CarryError> {
    loop {
        let request = Request::Piece(piece.clone());
        match call(peers, node, &Call { to, request }).await? {
            Answer::Wait => tokio::time::sleep(PIECE_AGAIN).await,
            answer => return Ok(answer),
        }
    }
}

/// The receiver's side.
#[derive(Debug)]
pub(super) struct Receiver<S: Snapshots> {
    snapshots: S,
    inbox: Arc<Inbox>,
    /// Locked while a piece is being taken.
    state: Arc<Mutex<State<S::Incoming>>>,
}

#[derive(Debug)]
struct State<I> {
    transfer: u64,
    /// The piece that is expected.
    next: u32,
    incoming: Option<I>,
    /// The answer to the last piece, once there is one.
    installed: Option<Vote>,
}

impl<S: Snapshots> Receiver<S> {
    pub(super) fn new(snapshots: S, inbox: Arc<Inbox>) -> Self {
        let state = State {
            transfer: 0,
            next: 0,
            incoming: None,
            installed: None,
        };
        Self {
            snapshots,
            inbox,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Takes a piece; goes on with it after an answer to wait.
    pub(super) async fn take(&self, raft: &Raft, piece: Piece) -> Answer {
        let Ok(state) = Arc::clone(&self.state).try_lock_owned() else {
            return Answer::Wait;
        };
        if piece.number == 0 && piece.transfer != state.transfer {
            self.inbox.snapshot_begins();
        }
        let (snapshots, raft) = (self.snapshots.clone(), raft.clone());
        let inbox = Arc::clone(&self.inbox);
        let taking = process::spawn(async move {
            let is_last = piece.last;
            let taken = take(state, snapshots, raft, piece).await;
            if is_last || taken.is_err() {
                inbox.snapshot_ends();
            }
            taken
        });
        match timeout(PIECE_WAIT, taking).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "a snapshot from the leader cannot be stored");
                Answer::Absent
            }
            Ok(Err(_ended)) => Answer::Absent,
            Err(_elapsed) => Answer::Wait,
        }
    }
}

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("its position is {0}")]
    Position(#[from] Malformed),
    #[error("the member stops: {0}")]
    Stopped(#[from] openraft::error::Fatal<u64>),
}

async fn take<S: Snapshots>(
    mut state: OwnedMutexGuard<State<S::Incoming>>,
    snapshots: S,
    raft: Raft,
    piece: Piece,
) -> Result<Answer, TakeError> {
    if piece.transfer != state.transfer {
        if piece.number != 0 {
            return Ok(Answer::Absent);
        }
        state.incoming = None;
        state.incoming = Some(snapshots.receive().await?);
        (state.transfer, state.next, state.installed) = (piece.transfer, 0, None);
    }
    if piece.number < state.next {
        // It was taken when the sender had been told to wait, or the answer got lost.
        return Ok(state.installed.map_or(Answer::Taken, Answer::Installed));
    }
    let Some(mut incoming) = state.incoming.take().filter(|_| piece.number == state.next) else {
        return Ok(Answer::Absent);
    };
    if !piece.last {
        incoming.take(piece.bytes).await?;
        state.incoming = Some(incoming);
        state.next += 1;
        return Ok(Answer::Taken);
    }
    let position = incoming.finish().await?;
    let snapshot = Snapshot::<Types> {
        meta: snapshot_meta(&position)?,
        snapshot: Box::new(Carried),
    };
    let installed = raft.install_full_snapshot(piece.vote, snapshot).await?;
    state.installed = Some(installed.vote);
    state.next += 1;
    Ok(Answer::Installed(installed.vote))
}
