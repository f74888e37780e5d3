//! The operations of an embedded store as bytes, and where they go.
//!
//! ```text
//! 1 | stored record                       a save
//! 2 | epoch 8, little endian | client id  a delete
//! ```

use crate::{Record, StoreError};

const SAVE: u8 = 1;
const DELETE: u8 = 2;

/// Where an embedded store writes its operations, in their order, before they take effect.
///
/// `append` must not wait for a disk: it is called with a part of the store locked.
pub trait Journal: Send + Sync {
    /// Takes an operation, to be given to [`EmbeddedStore::replay`](crate::EmbeddedStore::replay)
    /// after a restart. On an error the store does not change.
    fn append(&self, op: &[u8]) -> Result<(), StoreError>;
}

/// No journal: the store does not survive its process.
impl Journal for () {
    fn append(&self, _op: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// An operation as read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Save {
        client_id: &'a str,
        epoch: u64,
        record: &'a [u8],
    },
    Delete {
        client_id: &'a str,
        epoch: u64,
    },
}

pub(crate) fn encode_save(record: &[u8]) -> Vec<u8> {
    let mut op = Vec::with_capacity(1 + record.len());
    op.push(SAVE);
    op.extend_from_slice(record);
    op
}

pub(crate) fn encode_delete(client_id: &str, epoch: u64) -> Vec<u8> {
    let mut op = Vec::with_capacity(9 + client_id.len());
    op.push(DELETE);
    op.extend_from_slice(&epoch.to_le_bytes());
    op.extend_from_slice(client_id.as_bytes());
    op
}

pub(crate) fn decode(op: &[u8]) -> Result<Op<'_>, StoreError> {
    match op.split_first() {
        Some((&SAVE, record)) => {
            // The whole record, so that a store never holds one that cannot be loaded.
            Record::decode(record)?;
            let (client_id, epoch, _) = Record::head(record)?;
            Ok(Op::Save {
                client_id,
                epoch,
                record,
            })
        }
        Some((&DELETE, rest)) => {
            let malformed = StoreError::Malformed { what: "a delete" };
            let (epoch, client_id) = rest.split_first_chunk().ok_or(malformed.clone())?;
            let client_id = std::str::from_utf8(client_id).map_err(|_| malformed)?;
            Ok(Op::Delete {
                client_id,
                epoch: u64::from_le_bytes(*epoch),
            })
        }
        _ => Err(StoreError::Malformed {
            what: "an operation",
        }),
    }
}
