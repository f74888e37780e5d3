//! Calls to the other members, over whatever carries bytes to them.

use super::addresses::Addresses;
use super::carry::{self, CarryError, Failures, Snapshots, Transfer};
use super::config::{Entry, Node, Types, random};
use super::election::Election;
use super::inbox::Heard;
use super::journal::Journal;
use super::limits::{CALL, CALL_AGAIN, EASE_ENTRY_BYTES, carrying};
use super::pace::Pace;
use super::process;
use super::storage::Store;
use super::under_way::{Load, Outcome, UnderWay};
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
use openraft::{EntryPayload, OptionalSend, Snapshot, Vote};
use rand_core::RngCore;
use std::future::Future;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

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
    pub(super) addresses: Addresses,
}

/// Calls one member.
#[derive(Debug)]
pub(super) struct Client<J, P, S> {
    network: Network<J, P, S>,
    target: u64,
    /// Where it is by the log.
    logged: Node,
    failures: Failures,
    pace: Pace,
    under_way: Option<UnderWay>,
}

/// Calls a member and reads its answer.
pub(super) async fn call(
    peers: &impl Peers,
    node: &Node,
    call: &Call,
) -> Result<Answer, CallError> {
    exchange(peers, node, call.bytes()).await
}

/// The same, with the call's bytes; gives up after [`CALL`] and what so many bytes may take.
async fn exchange(peers: &impl Peers, node: &Node, call: Bytes) -> Result<Answer, CallError> {
    let failed = |why: &str| CallError {
        address: node.address.clone(),
        why: why.into(),
    };
    let within = CALL + carrying(call.len());
    let answer = tokio::time::timeout(within, peers.call(node, call)).await;
    let answer = answer.map_err(|_| failed("it does not answer"))??;
    Answer::read(&answer).map_err(|error| failed(&format!("its answer is {error}")))
}

/// Bytes of commands in these.
fn bytes_of(entries: &[Entry]) -> usize {
    let bytes = entries.iter().map(|entry| match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.body.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    });
    bytes.sum()
}

/// Whether a call with so many bytes is one of many that come one right after the other.
fn is_much(bytes: usize) -> bool {
    bytes >= EASE_ENTRY_BYTES / 2
}

impl<J: Journal, P: Peers, S: Snapshots> RaftNetworkFactory<Types> for Network<J, P, S> {
    type Network = Client<J, P, S>;

    async fn new_client(&mut self, target: u64, node: &Node) -> Client<J, P, S> {
        Client {
            network: self.clone(),
            target,
            logged: node.clone(),
            failures: Failures::default(),
            pace: Pace::new(self.store.ease.clone()),
            under_way: None,
        }
    }
}

impl<J: Journal, P: Peers, S: Snapshots> Client<J, P, S> {
    /// Where the member is now.
    fn node(&self) -> Node {
        self.network.addresses.of(&self.logged)
    }

    /// Openraft gives up soon, and asks again. The answer is waited for all the same, and noted by `read`.
    fn ask<R: Send + 'static>(
        &self,
        request: Request,
        read: impl FnOnce(Answer) -> Option<R> + Send + 'static,
    ) -> Result<JoinHandle<Outcome<R>>, CallError> {
        let (peers, node) = (self.network.peers.clone(), self.node());
        if self.network.store.log.is_full() {
            // It could not store what it would lead with. The others hear nothing of it and elect another.
            return Err(CallError {
                address: node.address,
                why: "this member's own disk is full".into(),
            });
        }
        let to = self.target;
        // The entries themselves need not be kept as long as their copy.
        let call = Call { to, request }.bytes();
        Ok(process::spawn(async move {
            let answer = exchange(&peers, &node, call).await?;
            Ok(read(answer))
        }))
    }

    async fn answered<R>(
        &self,
        call: impl Future<Output = Result<Outcome<R>, JoinError>>,
    ) -> Result<R, RpcError> {
        let outcome = call.await;
        let answer = outcome.map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        let answer = answer.and_then(|answer| {
            answer.ok_or_else(|| CallError {
                address: self.node().address,
                why: "it takes no part, or has no space on its disk".into(),
            })
        });
        answer.map_err(|error| unreachable(&error))
    }

    /// Makes a leader's call.
    fn append(
        &self,
        append: AppendEntriesRequest<Types>,
    ) -> Result<JoinHandle<Outcome<AppendEntriesResponse<u64>>>, CallError> {
        let (term, target) = (append.vote.leader_id.term, self.target);
        let inbox = self.network.store.inbox.clone();
        let sent = Instant::now().into_std();
        let read = move |answer| {
            let (response, follows, wall_ms) = match answer {
                Answer::Append(higher @ AppendEntriesResponse::HigherVote(_), _) => {
                    return Some(higher);
                }
                Answer::Append(response, wall_ms) => (Some(response), Some(sent), Some(wall_ms)),
                // It follows, and votes for no other: that is in its memory.
                Answer::Full => (None, Some(sent), None),
                Answer::NoSpace => (None, None, None),
                _ => return None,
            };
            let is_full = response.is_none();
            let heard = Heard {
                follows,
                wall_ms,
                is_full,
            };
            inbox.answered(term, target, heard);
            response
        };
        let wall_ms = self.network.store.wall.now_ms();
        self.ask(Request::Append(append, wall_ms), read)
    }

    /// Sends entries, unless they are on their way: then the member hears meanwhile that its leader is there.
    async fn bring(
        &mut self,
        mut append: AppendEntriesRequest<Types>,
        load: &Load,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let bytes = bytes_of(&append.entries);
        let (inbox, target) = (&self.network.store.inbox, self.target);
        let is_paced = is_much(bytes) && !inbox.change_lease(|lease| lease.is_voter(target));
        if !is_paced {
            self.pace.over();
        }
        let known = self.under_way.take().filter(|known| known.brings(load));
        let mut beside = None;
        let under_way = if let Some(known) = known {
            append.entries.clear();
            let call = self.append(append);
            beside = Some(call.map_err(|error| unreachable(&error))?);
            known
        } else {
            if is_paced {
                self.pace.rest().await;
            }
            let call = self.append(append).map_err(|error| unreachable(&error))?;
            UnderWay::new(load.clone(), bytes, call)
        };
        // Openraft may give up at the wait.
        let under_way = self.under_way.insert(under_way);
        let outcome = tokio::select! {
            biased;
            outcome = under_way.outcome(load) => outcome,
            trouble = trouble(beside) => trouble,
        };
        if is_paced {
            self.pace.ended(under_way.begun);
        }
        self.under_way = None;
        self.answered(async { outcome }).await
    }
}

fn unreachable<E: std::error::Error>(error: &CallError) -> RPCError<u64, Node, E> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// What a sign of life says that ends the wait for the call it was made beside: that there is a higher vote, or that there
/// is no way to the member.
async fn trouble(
    beside: Option<JoinHandle<Outcome<AppendEntriesResponse<u64>>>>,
) -> Result<Outcome<AppendEntriesResponse<u64>>, JoinError> {
    if let Some(beside) = beside {
        let outcome = beside.await;
        if let Ok(Ok(Some(AppendEntriesResponse::HigherVote(_))) | Err(_)) | Err(_) = outcome {
            return outcome;
        }
    }
    std::future::pending().await
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
        if let Some(load) = Load::of(&rpc, &self.node()) {
            return self.bring(rpc, &load).await;
        }
        let call = self.append(rpc).map_err(|error| unreachable(&error))?;
        self.answered(call).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError> {
        let (inbox, own) = (self.network.store.inbox.clone(), rpc.last_log_id);
        let (term, target) = (rpc.vote.leader_id.term, self.target);
        let is_given_way_to = inbox.change_election(|election| election.is_given_way_to(term));
        let request = if is_given_way_to == Some(true) {
            Request::TransferVote(rpc)
        } else {
            Request::Vote(rpc)
        };
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
        let call = self.ask(request, read);
        self.answered(call.map_err(|error| unreachable(&error))?)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, openraft::error::Fatal<u64>>> {
        let node = &self.node();
        let Self {
            network,
            target,
            failures,
            ..
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
        let damage = match &sent {
            Err(CarryError::Read(error)) if error.is_damage() => Some(error.clone()),
            _ => None,
        };
        network.store.inbox.snapshot_is_unreadable(damage);
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

#[cfg(test)]
mod tests {
    use super::super::codec::log_id;
    use super::super::config::{Body, Proposal};
    use super::*;

    fn entry(bytes: usize) -> Entry {
        Entry {
            log_id: log_id(1, 1),
            payload: EntryPayload::Normal(Proposal {
                term: 1,
                body: Body::Here(vec![0; bytes].into()),
            }),
        }
    }

    #[test]
    fn only_calls_with_many_bytes_are_kept_apart() {
        let is_much = |entries: &[Entry]| is_much(bytes_of(entries));
        assert!(!is_much(&[]));
        assert!(!is_much(&[entry(EASE_ENTRY_BYTES / 2 - 1)]));
        assert!(is_much(&[entry(1), entry(EASE_ENTRY_BYTES / 2 - 1)]));
    }
}
