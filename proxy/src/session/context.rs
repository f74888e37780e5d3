//! What a session is given to decide with, and where its effects go.

use crate::auth::{Authenticator, Peer};
use crate::counters::ProxyCounters;
use crate::limits::{ASSIGNED_ID_BYTES, ProxyLimits};
use crate::records::RecordChange;
use cluster::frame::ToGroup;
use std::cell::Cell;
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

/// Frames a shard has for its group, in order, and their bytes.
#[derive(Debug, Default)]
pub struct Frames {
    /// The frames.
    pub list: Vec<ToGroup>,
    /// What they take on their way: payloads and a fixed cost each.
    pub bytes: usize,
    /// Changes of session records, which leave the shard by another way.
    pub changes: Vec<RecordChange>,
}

/// What a frame costs beside its message.
const FRAME_BYTES: usize = 64;

impl Frames {
    /// Appends a frame that carries `message_bytes` bytes of a client's packet.
    pub fn push(&mut self, frame: ToGroup, message_bytes: usize) {
        self.list.push(frame);
        self.bytes += FRAME_BYTES + message_bytes;
    }
}

/// One call's surroundings.
pub struct Context<'a> {
    /// Bytes for the client's socket, behind those that wait there already.
    pub bytes: &'a mut Vec<u8>,
    /// Frames for the group.
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
