//! The network between members of one group: it can be cut, and large calls can take their time.

use super::fleet::Member;
use crate::raft::limits::SMALL_CALL_BYTES_MAX;
use crate::raft::wire::{Answer, Call, Request};
use crate::raft::{CallError, Node, Peers, Process};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Who is there, and who does not hear whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Net(Arc<Mutex<Switch>>);

#[derive(Debug, Default)]
pub(super) struct Switch {
    pub(super) members: BTreeMap<Box<str>, (Member, Process)>,
    /// Caller and called.
    pub(super) cut: BTreeSet<(Box<str>, Box<str>)>,
    /// As long as somebody has this, pieces of snapshots do not arrive.
    pub(super) pieces: Arc<tokio::sync::RwLock<()>>,
    /// What some members answer instead.
    pub(super) instead: BTreeMap<Box<str>, Instead>,
    /// A large call is on its way to a member for this long, one after the other, whether or not anybody still waits.
    pub(super) large_takes: Duration,
    /// Caller, called, and their large calls.
    ways: BTreeMap<(Box<str>, Box<str>), Way>,
    /// Most large calls that were on the way between two members at a time.
    pub(super) large_at_once: usize,
    /// Bytes of the large calls so far.
    pub(super) large_bytes: Vec<usize>,
    /// How often each has asked somebody whether it would vote for it.
    pub(super) pre_votes: BTreeMap<Box<str>, u64>,
}

/// What a member answers to this, if that is not what it would.
pub(super) type Instead = fn(&Request) -> Option<Answer>;

/// As a release answers that does not know how one leader hands over to another.
pub(super) fn knows_no_handover(request: &Request) -> Option<Answer> {
    let is_new = matches!(
        request,
        Request::TimeoutNow { .. } | Request::TransferVote(_)
    );
    is_new.then_some(Answer::Absent)
}

/// Whoever has it is being carried.
type Way = Arc<tokio::sync::Mutex<()>>;

/// One member's end of it.
#[derive(Clone, Debug)]
pub(super) struct Wires {
    pub(super) own: Box<str>,
    pub(super) net: Net,
}

impl Peers for Wires {
    fn call(
        &self,
        to: &Node,
        call: Bytes,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + 'static {
        let (net, own, to) = (self.net.clone(), self.own.clone(), to.address.clone());
        async move {
            let request = Call::read(&call).expect("a member's call").request;
            let instead = net.switch().instead.get(&to).copied();
            if let Some(answer) = instead.and_then(|instead| instead(&request)) {
                return Ok(answer.bytes());
            }
            if matches!(request, Request::PreVote { .. }) {
                *net.switch().pre_votes.entry(own.clone()).or_default() += 1;
            }
            let (there, process) = net.reach(&own, &to)?;
            if matches!(request, Request::Piece(_)) {
                let pieces = Arc::clone(&net.switch().pieces);
                let _may_arrive = pieces.read().await;
            }
            if call.len() > SMALL_CALL_BYTES_MAX {
                net.switch().large_bytes.push(call.len());
                net.carry((own.clone(), to.clone())).await;
            }
            let answer = process.spawn(async move { there.answer(call).await });
            let answer = answer.await.expect("no panic");
            net.reach(&to, &own)?;
            Ok(answer)
        }
    }
}

impl Net {
    pub(super) fn switch(&self) -> MutexGuard<'_, Switch> {
        self.0.lock().expect("no panic")
    }

    fn reach(&self, from: &str, to: &str) -> Result<(Member, Process), CallError> {
        let switch = self.switch();
        let there = switch.members.get(to).cloned();
        let cut = switch.cut.contains(&(from.into(), to.into()));
        there.filter(|_| !cut).ok_or_else(|| CallError {
            address: to.into(),
            why: "cut".into(),
        })
    }

    /// Comes back when a large call has been carried.
    async fn carry(&self, between: (Box<str>, Box<str>)) {
        let (way, takes) = {
            let mut switch = self.switch();
            let way = Arc::clone(switch.ways.entry(between).or_default());
            // Each that is on the way has one, and so have the map and this.
            switch.large_at_once = switch.large_at_once.max(Arc::strong_count(&way) - 1);
            (way, switch.large_takes)
        };
        let carried = tokio::spawn(async move {
            let _is_next = way.lock().await;
            tokio::time::sleep(takes).await;
        });
        carried.await.expect("no panic");
    }
}
