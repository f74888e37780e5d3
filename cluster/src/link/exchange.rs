//! What the two ends of a link session tell each other of the fleet: whoever knows a newer topology says it, at the
//! beginning and whenever it hears of one. So the links of proxies carry it from group 0 to all nodes.

use crate::limits::TOPOLOGY_BYTES_MAX;
use crate::topology::{Announcement, Topology, TopologyVersion};
use crate::wire::{Batch, BatchKind, BatchStart, WireError};
use std::sync::Arc;

/// One end's part of it.
#[derive(Debug)]
pub(super) struct Exchange {
    own: Arc<Announcement>,
    /// The newest that the other end is known to have; `None` while there is no session.
    theirs: Option<TopologyVersion>,
}

impl Exchange {
    pub(super) fn new(own: Arc<Announcement>) -> Self {
        Self { own, theirs: None }
    }

    /// What this end knows.
    pub(super) fn own(&self) -> &Announcement {
        &self.own
    }

    /// A session begins with an end that knows this.
    pub(super) fn begin(&mut self, theirs: TopologyVersion) {
        self.theirs = Some(theirs);
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        self.theirs = None;
    }

    /// This end knows this from now on.
    pub(super) fn know(&mut self, newest: Arc<Announcement>) {
        self.own = newest;
    }

    /// Tells the other end what it does not know, once.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>) {
        let version = self.own.version();
        if self.theirs.is_some_and(|theirs| theirs < version) {
            self.theirs = Some(version);
            let batch = BatchStart::begin(BatchKind::Topology, out);
            out.extend_from_slice(self.own.text());
            batch.end(out);
        }
    }

    /// The other end tells of this one.
    pub(super) fn hear(&mut self, batch: &Batch) -> Result<Topology, WireError> {
        let bytes = batch.wire_bytes();
        if bytes > TOPOLOGY_BYTES_MAX {
            let max = TOPOLOGY_BYTES_MAX;
            return Err(WireError::BatchTooLarge { bytes, max });
        }
        let text = std::str::from_utf8(&batch.body).ok();
        let topology = text.and_then(|text| Topology::read(text).ok());
        let topology = topology.ok_or(WireError::Invalid("topology"))?;
        self.theirs = self.theirs.max(Some(topology.version()));
        Ok(topology)
    }
}
