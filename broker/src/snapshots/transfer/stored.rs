//! A member's snapshots, as members send them to each other. What waits for the disk does so on threads for that.

use super::{Receiver, Sender, not_received, not_sent};
use crate::consensus::Position;
use crate::log::{LogError, LogHandle, SnapshotStore};
use crate::raft::{Incoming, Outgoing, Snapshots};
use bytes::Bytes;
use std::io;
use tokio::task::spawn_blocking;

/// The snapshots in a member's folder, with the log that has their messages.
#[derive(Clone, Debug)]
pub struct StoredSnapshots {
    /// The files.
    pub files: SnapshotStore,
    /// The log.
    pub log: LogHandle,
}

/// One end of a transfer; `None` while a thread works on it, and for good if nobody waited for that.
#[derive(Debug)]
pub struct End<T>(Option<T>);

impl Snapshots for StoredSnapshots {
    type Outgoing = End<Sender>;
    type Incoming = End<Receiver>;

    async fn open(&self) -> Result<Option<End<Sender>>, LogError> {
        let Self { files, log } = self.clone();
        let opened = spawn_blocking(move || Sender::open(&files, &log)).await;
        let sender = opened.map_err(|error| not_sent(io::Error::other(error)))??;
        Ok(sender.map(|sender| End(Some(sender))))
    }

    async fn receive(&self) -> Result<End<Receiver>, LogError> {
        Ok(End(Some(Receiver::new(&self.files, &self.log))))
    }
}

impl Outgoing for End<Sender> {
    async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        let mut sender = self.0.take().ok_or_else(|| not_sent(cut_short()))?;
        let read = spawn_blocking(move || (sender.next_chunk(), sender)).await;
        let (chunk, sender) = read.map_err(|error| not_sent(io::Error::other(error)))?;
        self.0 = Some(sender);
        chunk
    }
}

impl Incoming for End<Receiver> {
    async fn take(&mut self, bytes: Bytes) -> Result<(), LogError> {
        let mut receiver = self.0.take().ok_or_else(|| not_received(cut_short()))?;
        let written = spawn_blocking(move || (receiver.take(&bytes), receiver)).await;
        let (taken, receiver) = written.map_err(|error| not_received(io::Error::other(error)))?;
        self.0 = Some(receiver);
        taken
    }

    async fn finish(mut self) -> Result<Position, LogError> {
        let receiver = self.0.take().ok_or_else(|| not_received(cut_short()))?;
        let finished = spawn_blocking(move || receiver.finish()).await;
        finished.map_err(|error| not_received(io::Error::other(error)))?
    }
}

fn cut_short() -> io::Error {
    io::Error::other("it was cut short")
}
