//! What a session is given to decide with, and where its effects go.

use crate::auth::{Authenticator, Peer};
use crate::counters::ProxyCounters;
use crate::limits::{ASSIGNED_ID_BYTES, ProxyLimits, WAITING_BYTES_MAX};
use crate::records::RecordChange;
use cluster::frame::ToGroup;
use cluster::ids::Handle;
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What holds for all sessions of a shard, and the time of the turn.
pub struct Rules {
    /// Limits of connections.
    pub limits: ProxyLimits,
    /// Where the shard counts.
    pub counters: Arc<ProxyCounters>,
    /// Who may connect.
    pub authenticator: Arc<dyn Authenticator>,
    /// Seconds since some fixed moment, read once a turn.
    pub now_s: u32,
    /// Whether somebody takes the changes of session records.
    pub keeps_records: bool,
    /// Makes client ids.
    pub ids: AssignedIds,
    /// Which group has what.
    pub routing: Arc<Routing>,
}

/// Client ids for clients that leave it to the server (MQTT-3.1.3-6): random per process, then counted.
#[derive(Debug)]
pub struct AssignedIds {
    seed: u64,
    count: Cell<u32>,
}

impl AssignedIds {
    /// `seed` must differ between shards, processes and starts.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            count: Cell::new(0),
        }
    }

    pub(crate) fn next(&self) -> Box<str> {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let id = format!(
            "auto-{:016x}",
            self.seed
                .wrapping_add(u64::from(count).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        );
        debug_assert_eq!(id.len(), ASSIGNED_ID_BYTES);
        id.into_boxed_str()
    }
}

/// Frames a shard has for its groups, in order for each.
#[derive(Debug, Default)]
pub struct Frames {
    /// By group number.
    lanes: Vec<Lane>,
    /// Bytes of all lanes.
    bytes: usize,
    /// Changes of session records, which leave the shard by another way.
    pub changes: Vec<RecordChange>,
}

/// Frames for one group.
#[derive(Debug, Default)]
pub struct Lane {
    /// The frames, in order.
    pub list: Vec<ToGroup>,
    /// What they take on their way: payloads and a fixed cost each.
    pub bytes: usize,
    /// There is a way to this group.
    linked: bool,
    /// The group's bag has its limit. Never set where there is one group: then the shard stops reading instead.
    pub full: bool,
    /// The group says that it can store nothing more.
    pub(crate) refuses: bool,
    /// Bytes that wait in sessions until those have joined the group.
    waiting_bytes: usize,
    /// Connections that are over and whose claim the group has not answered yet. As many as there are claims on
    /// their way, which the link bounds.
    void: BTreeSet<Handle>,
    /// Connections that wait for room, in the order they came. Some may be gone, or in it twice; the shard sees to
    /// that.
    pub waits: Waits,
}

/// Connections that wait until a group's link takes more.
#[derive(Debug, Default)]
pub struct Waits {
    /// With a join. They come first: what waits in sessions can only leave behind one.
    pub joins: Vec<Handle>,
    /// With a packet, see [`Frames::is_full`].
    pub packets: Vec<Handle>,
}

impl Waits {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.packets.is_empty()
    }
}

/// What a frame costs beside its message.
pub(crate) const FRAME_BYTES: usize = 64;

impl Frames {
    /// No frames yet for any of these groups.
    pub fn new(groups: &[GroupNo]) -> Self {
        let mut frames = Self::default();
        for group in groups {
            let at = usize::from(group.0);
            if frames.lanes.len() <= at {
                frames.lanes.resize_with(at + 1, Lane::default);
            }
            frames.lanes[at].linked = true;
        }
        frames
    }

    /// Appends a frame for a known group that carries `message_bytes` bytes of a client's packet.
    #[inline]
    pub fn push(&mut self, group: GroupNo, frame: ToGroup, message_bytes: usize) {
        let lane = &mut self.lanes[usize::from(group.0)];
        debug_assert!(lane.linked, "nobody takes what is for group {}", group.0);
        lane.list.push(frame);
        lane.bytes += FRAME_BYTES + message_bytes;
        self.bytes += FRAME_BYTES + message_bytes;
    }

    /// A connection is over before its home has answered the claim.
    pub(crate) fn give_claim_up(&mut self, home: GroupNo, handle: Handle) {
        self.lanes[usize::from(home.0)].void.insert(handle);
    }

    /// A claim of a connection that may be over is answered.
    pub fn claim_answered(&mut self, home: GroupNo, handle: Handle) {
        let void = &mut self.lanes[usize::from(home.0)].void;
        if !void.is_empty() {
            void.remove(&handle);
        }
    }

    /// Claims that a new link session is to void.
    pub fn void_claims(&self, group: GroupNo) -> Vec<Handle> {
        self.lanes[usize::from(group.0)]
            .void
            .iter()
            .copied()
            .collect()
    }

    /// Bytes of the frames for all groups.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames for one group, to be taken away with their bytes.
    pub fn lane(&mut self, group: GroupNo) -> &mut Lane {
        &mut self.lanes[usize::from(group.0)]
    }

    /// Nothing is left for any group.
    pub fn taken(&mut self) {
        debug_assert!(self.lanes.iter().all(|lane| lane.list.is_empty()));
        self.bytes = 0;
    }

    /// Whether there is a way to this group.
    pub fn knows(&self, group: GroupNo) -> bool {
        self.lanes
            .get(usize::from(group.0))
            .is_some_and(|lane| lane.linked)
    }

    /// Whether publishes for this group may leave now.
    #[inline]
    pub(crate) fn takes_publishes(&self, group: GroupNo) -> bool {
        !self.is_full(group) && !self.refuses(group)
    }

    /// Whether the group says that it can store nothing more. What has been handed to its link stays on its way.
    #[inline]
    pub(crate) fn refuses(&self, group: GroupNo) -> bool {
        self.lanes[usize::from(group.0)].refuses
    }

    /// Whether nothing more may be made of clients' packets for this group now.
    #[inline]
    pub fn is_full(&self, group: GroupNo) -> bool {
        let lane = &self.lanes[usize::from(group.0)];
        lane.full || lane.waiting_bytes >= WAITING_BYTES_MAX
    }

    /// Whether the link to this group takes no more now. A connection that is to join must not add to it: clients come
    /// and go while a group is away.
    pub fn is_link_full(&self, group: GroupNo) -> bool {
        self.lanes[usize::from(group.0)].full
    }

    /// Bytes that wait in sessions for a group.
    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self, group: GroupNo) -> usize {
        self.lanes[usize::from(group.0)].waiting_bytes
    }

    /// Bytes wait in a session, until it has joined the group.
    pub(crate) fn hold(&mut self, group: GroupNo, bytes: usize) {
        self.lanes[usize::from(group.0)].waiting_bytes += bytes;
    }

    /// Bytes that waited in a session wait there no more.
    pub(crate) fn release(&mut self, group: GroupNo, bytes: usize) {
        self.lanes[usize::from(group.0)].waiting_bytes -= bytes;
    }
}

/// One call's surroundings.
pub struct Context<'a> {
    /// Bytes for the client's socket, behind those that wait there already.
    pub bytes: &'a mut Vec<u8>,
    /// Frames for the groups.
    pub frames: &'a mut Frames,
    /// What holds for the shard.
    pub rules: &'a Rules,
    /// Who is at the other end; asked for at CONNECT only. `None`: the connection is gone.
    pub peer: &'a dyn Fn() -> Option<Peer>,
}

impl Context<'_> {
    pub(crate) fn counters(&self) -> &ProxyCounters {
        &self.rules.counters
    }

    pub(crate) fn limits(&self) -> &ProxyLimits {
        &self.rules.limits
    }
}
