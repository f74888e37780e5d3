//! Snapshots of members as files, as far as openraft's world needs them.

use crate::consensus::Position;
use crate::log::LogError;
use crate::raft::{Incoming, Outgoing, Snapshots};
use bytes::Bytes;
use std::path::PathBuf;

/// The snapshots of a member's folder: one file.
#[derive(Clone, Debug)]
pub(super) struct Files(pub(super) PathBuf);

/// One that is sent, in small pieces, or received.
#[derive(Debug)]
pub(super) struct Transfer {
    bytes: Vec<u8>,
    files: Files,
}

impl Files {
    fn path(&self) -> PathBuf {
        self.0.join("snapshot")
    }

    pub(super) fn read(&self) -> Option<Vec<u8>> {
        std::fs::read(self.path()).ok()
    }

    pub(super) fn write(&self, bytes: &[u8]) {
        std::fs::write(self.path(), bytes).expect("written");
    }
}

/// A snapshot of which this is a byte cannot be read.
pub(super) const DAMAGED: u8 = 0xff;

impl Snapshots for Files {
    type Outgoing = Transfer;
    type Incoming = Transfer;

    async fn open(&self) -> Result<Option<Transfer>, LogError> {
        Ok(self.read().map(|bytes| Transfer {
            bytes,
            files: self.clone(),
        }))
    }

    async fn receive(&self) -> Result<Transfer, LogError> {
        Ok(Transfer {
            bytes: Vec::new(),
            files: self.clone(),
        })
    }
}

impl Outgoing for Transfer {
    async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        let rest = self.bytes.split_off(self.bytes.len().min(500));
        let piece = std::mem::replace(&mut self.bytes, rest);
        if piece.contains(&DAMAGED) {
            return Err(LogError::Damaged {
                file: self.files.path(),
                offset: 9,
                what: "a whole snapshot",
            });
        }
        Ok((!piece.is_empty()).then(|| piece.into()))
    }
}

impl Incoming for Transfer {
    async fn take(&mut self, bytes: Bytes) -> Result<(), LogError> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self) -> Result<Position, LogError> {
        self.files.write(&self.bytes);
        Ok(Position::read(&mut &self.bytes[..]).expect("a position"))
    }
}
