//! Calls to the other members, over whatever carries bytes to them.

use super::carry::{self, CarryError, Failures, Snapshots, Transfer};
use super::config::{Node, Types, random};
use super::election::Election;
use super::journal::Journal;
use super::limits::{CALL, CALL_AGAIN};
use super::process;
use super::storage::Store;
use super::wire::{Answer, Call, Request};
use crate::faults::{self, Fault};
use bytes::Bytes;
use openraft::error::{
    NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot, Vote};
use rand_core::RngCore;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

/// Why a member could not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot reach {address}: {why}")]
pub struct CallError {
    /// Where it should be.
    pub address: Box<str>,
    /// What happened.
    pub why: Box<str>,
}

/// Carries calls to other members. Calls may overtake one another, and an answer may be lost with or without the call
/// having arrived.
pub trait Peers: Clone + Send + Sync + 'static {
    /// Sends a call to the member at this address and waits for its answer.
    fn call(
        &self,
        to: &Node,
        call: Bytes,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + 'static;
}

type RpcError<E = RaftError<u64>> = RPCError<u64, Node, E>;

/// Makes a [`Client`] for each member.
#[derive(Clone, Debug)]
pub(super) struct Network<J, P, S> {
    pub(super) store: Store<J>,
    pub(super) peers: P,
    pub(super) snapshots: S,
    /// Where members take calls by the cluster file of today, which counts more than what the log says.
    pub(super) addresses: Arc<BTreeMap<Box<str>, Box<str>>>,
}

/// Calls one member.
#[derive(Debug)]
pub(super) struct Client<J, P, S> {
    network: Network<J, P, S>,
    target: u64,
    node: Node,
    failures: Failures,
}

/// Calls a member and reads its answer; gives up after [`CALL`].
pub(super) async fn call(
    peers: &impl Peers,
    node: &Node,
    call: &Call,
) -> Result<Answer, CallError> {
    let failed = |why: &str| CallError {
        address: node.address.clone(),
        why: why.into(),
    };
    let answer = tokio::time::timeout(CALL, peers.call(node, call.bytes())).await;
    let answer = answer.map_err(|_| failed("it does not answer"))??;
    Answer::read(&answer).map_err(|error| failed(&format!("its answer is {error}")))
}

impl<J: Journal, P: Peers, S: Snapshots> RaftNetworkFactory<Types> for Network<J, P, S> {
    type Network = Client<J, P, S>;

    async fn new_client(&mut self, target: u64, node: &Node) -> Client<J, P, S> {
        let address = self.addresses.get(&node.name).unwrap_or(&node.address);
        Client {
            network: self.clone(),
            target,
            node: Node {
                name: node.name.clone(),
                address: address.clone(),
            },
            failures: Failures::default(),
        }
    }
}

impl<J: Journal, P: Peers, S: Snapshots> Client<J, P, S> {
    /// Openraft gives up soon, and asks again. The answer is waited for all the same, and noted.
    async fn ask<R: Send + 'static>(
        &self,
        request: Request,
        read: impl FnOnce(Answer) -> Option<R> + Send + 'static,
    ) -> Result<R, RpcError> {
        let (peers, node) = (self.network.peers.clone(), self.node.clone());
        let to = self.target;
        if self.network.store.log.is_full() {
            // It could not store what it would lead with. The others hear nothing of it and elect another.
            let full = CallError {
                address: node.address,
                why: "this member's own disk is full".into(),
            };
            return Err(RPCError::Unreachable(Unreachable::new(&full)));
        }
        let asked = process::spawn(async move {
            let answer = call(&peers, &node, &Call { to, request }).await?;
            read(answer).ok_or_else(|| CallError {
                address: node.address.clone(),
                why: "it takes no part, or has no space on its disk".into(),
            })
        });
        match asked.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(RPCError::Unreachable(Unreachable::new(&error))),
            Err(error) => Err(RPCError::Network(NetworkError::new(&error))),
        }
    }
}

impl<J: Journal, P: Peers, S: Snapshots> RaftNetwork<Types> for Client<J, P, S> {
    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        if !faults::is_on(Fault::CommitBeforeStore) {
            rpc.leader_commit = self.network.store.cap_to_durable(rpc.leader_commit);
        }
        let (term, target) = (rpc.vote.leader_id.term, self.target);
        let inbox = self.network.store.inbox.clone();
        let sent = tokio::time::Instant::now().into_std();
        let read = move |answer| match answer {
            Answer::Append(AppendEntriesResponse::HigherVote(vote), _) => {
                Some(AppendEntriesResponse::HigherVote(vote))
            }
            Answer::Append(response, wall_ms) => {
                inbox.clock_heard(target, wall_ms);
                inbox.change_lease(|lease| lease.heard(term, target, sent));
                inbox.space(term, target, false);
                Some(response)
            }
            // It follows, and votes for no other: that is in its memory.
            Answer::Full => {
                inbox.change_lease(|lease| lease.heard(term, target, sent));
                inbox.space(term, target, true);
                None
            }
            Answer::NoSpace => {
                inbox.space(term, target, true);
                None
            }
            _ => None,
        };
        let wall_ms = self.network.store.wall.now_ms();
        self.ask(Request::Append(rpc, wall_ms), read).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError> {
        let (inbox, own) = (self.network.store.inbox.clone(), rpc.last_log_id);
        let (term, target) = (rpc.vote.leader_id.term, self.target);
        let read = move |answer| match answer {
            Answer::NoSpace => {
                inbox.space(term, target, true);
                None
            }
            Answer::Vote(response) => {
                inbox.space(term, target, false);
                if response.last_log_id > own {
                    inbox.change_election(Election::is_behind);
                }
                Some(response)
            }
            _ => None,
        };
        self.ask(Request::Vote(rpc), read).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, openraft::error::Fatal<u64>>> {
        let Self {
            network,
            target,
            node,
            failures,
        } = self;
        let transfer = Transfer {
            to: *target,
            node,
            vote,
            index: snapshot.meta.last_log_id.map_or(0, |id| id.index + 1),
            // Also the second attempt at the same snapshot is a transfer of its own.
            number: random().next_u64().max(1),
        };
        let sent = async {
            tokio::time::sleep(failures.pause()).await;
            let sending = network.store.inbox.sends();
            tracing::info!(to = %node.name, snapshot = %snapshot.meta.snapshot_id, "sends a snapshot");
            let vote = carry::send(&network.peers, &network.snapshots, &transfer).await?;
            sending.arrived(transfer.to);
            Ok::<_, CarryError>(vote)
        };
        let sent = tokio::select! {
            sent = sent => sent,
            closed = cancel => return Err(closed.into()),
        };
        failures.ended(sent.is_err());
        match sent {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(error) => {
                tracing::warn!(to = %node.name, %error, "a snapshot did not arrive");
                Err(StreamingError::Unreachable(Unreachable::new(&error)))
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(CALL_AGAIN))
    }
}
