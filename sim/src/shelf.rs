//! A member's snapshots, and how they go to another member: the file as it is, and all bodies that it may refer to.
//!
//! What production code sends of a log's bodies is not in it; see `broker::transfer`.

use crate::log::{SharedDisk, Snapshot, lock};
use crate::outbox::{Life, Out, Outbox};
use broker::consensus::Position;
use broker::log::{Location, LogError};
use broker::raft::{Incoming, Outgoing, Snapshots};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::time::Duration;

/// Bytes that are sent together.
const PIECE_BYTES: usize = 8_000;

/// So long it takes to store what has come.
const STORE: Duration = Duration::from_millis(30);

/// What a member's disk has beside its log.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) disk: SharedDisk,
    pub(crate) life: Life,
    pub(crate) outbox: Outbox,
}

/// What is left to send.
#[derive(Debug)]
pub(crate) struct Sending(Bytes);

/// What has come.
#[derive(Debug)]
pub(crate) struct Receiving {
    bytes: BytesMut,
    shelf: Shelf,
}

impl Snapshots for Shelf {
    type Outgoing = Sending;
    type Incoming = Receiving;

    async fn open(&self) -> Result<Option<Sending>, LogError> {
        let disk = lock(&self.disk);
        let Some(snapshot) = disk.snapshot() else {
            return Ok(None);
        };
        let mut bytes = BytesMut::new();
        put(&mut bytes, &snapshot.bytes);
        for (at, body) in disk.bodies_up_to(snapshot.position.index) {
            bytes.put_u32(at.segment);
            bytes.put_u32(at.offset);
            put(&mut bytes, &body);
        }
        Ok(Some(Sending(bytes.freeze())))
    }

    async fn receive(&self) -> Result<Receiving, LogError> {
        Ok(Receiving {
            bytes: BytesMut::new(),
            shelf: self.clone(),
        })
    }
}

fn put(to: &mut BytesMut, bytes: &Bytes) {
    to.put_u32(bytes.len() as u32);
    to.extend_from_slice(bytes);
}

fn take(from: &mut Bytes) -> Bytes {
    let len = from.get_u32() as usize;
    from.split_to(len)
}

impl Outgoing for Sending {
    async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        let piece = self.0.split_to(PIECE_BYTES.min(self.0.len()));
        Ok((!piece.is_empty()).then_some(piece))
    }
}

impl Incoming for Receiving {
    async fn take(&mut self, bytes: Bytes) -> Result<(), LogError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self) -> Result<Position, LogError> {
        tokio::time::sleep(STORE).await;
        let mut bytes = self.bytes.freeze();
        let snapshot = Snapshot::of(take(&mut bytes));
        let mut bodies = Vec::new();
        while bytes.has_remaining() {
            let (segment, offset) = (bytes.get_u32(), bytes.get_u32());
            bodies.push((Location { segment, offset }, take(&mut bytes)));
        }
        let position = snapshot.position.clone();
        let mut disk = lock(&self.shelf.disk);
        disk.receive(bodies);
        disk.keep_snapshot(snapshot);
        self.shelf.outbox.put(Out::Received(self.shelf.life));
        Ok(position)
    }
}
