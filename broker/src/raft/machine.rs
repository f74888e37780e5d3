//! Openraft's state machine: entries go on to the group, which applies them on its own thread.
//!
//! Snapshots are the group's as well. Openraft is told of the newest one, so that it forgets entries behind it and
//! sends it to members that are further back; the file goes around openraft.

use super::codec::{log_id, read_stored_membership, stored_membership_bytes};
use super::config::{Body, Carried, Entry, LogId, Payload, StorageError, StoredMembership, Types};
use super::journal::Journal;
use super::record::ENTRY_HEAD;
use super::storage::Store;
use crate::consensus::{self, Event, Position};
use crate::log::Location;
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError,
};
use std::sync::{Arc, Mutex, PoisonError};

type Meta = SnapshotMeta<u64, super::config::Node>;

/// Where entries go that are agreed on.
#[derive(Debug)]
pub(super) struct Machine<J> {
    store: Store<J>,
    applied: Option<LogId>,
    membership: StoredMembership,
    newest: NewestSnapshot,
}

/// The newest snapshot, as openraft has to know it.
#[derive(Clone, Debug)]
pub(super) struct NewestSnapshot(Arc<Mutex<Meta>>);

/// A snapshot's position in openraft's terms.
pub(super) fn snapshot_meta(position: &Position) -> Result<Meta, super::codec::Malformed> {
    let last_membership = read_stored_membership(&position.members)?;
    let id = position.index.checked_sub(1);
    Ok(Meta {
        last_log_id: id.map(|index| log_id(position.term, index)),
        last_membership,
        snapshot_id: position.index.to_string(),
    })
}

impl NewestSnapshot {
    /// What is known of the snapshot at this position. An error names what cannot be read of it.
    pub(super) fn at(position: &Position) -> Result<Self, super::codec::Malformed> {
        let newest = Self(Arc::default());
        newest.set(position)?;
        Ok(newest)
    }

    /// There is a newer one.
    pub(super) fn set(&self, position: &Position) -> Result<(), super::codec::Malformed> {
        let meta = snapshot_meta(position)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = meta;
        Ok(())
    }

    pub(super) fn meta(&self) -> Meta {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn snapshot(&self) -> Option<Snapshot<Types>> {
        let meta = self.meta();
        meta.last_log_id?;
        Some(Snapshot {
            meta,
            snapshot: Box::new(Carried),
        })
    }
}

/// Where no record is: for entries without commands, which nobody reads again.
const NOWHERE: Location = Location {
    segment: 0,
    offset: 0,
};

impl<J: Journal> Machine<J> {
    pub(super) fn new(store: Store<J>, newest: NewestSnapshot) -> Self {
        let meta = newest.meta();
        Self {
            store,
            applied: meta.last_log_id,
            membership: meta.last_membership,
            newest,
        }
    }

    /// The entry as the group gets it. Its record is durable: what is behind a failed write comes to nobody.
    async fn entry(&mut self, entry: Entry) -> Result<consensus::Entry, StorageError> {
        let index = entry.log_id.index + 1;
        let failed = |error: &crate::log::LogError| {
            StorageError::from(StorageIOError::apply(entry.log_id, AnyError::new(error)))
        };
        let durable = self.store.entry_durable(index).await;
        durable.map_err(|error| failed(&error))?;
        // A snapshot that waits behind this entry may have had it forgotten already.
        let slot = self.store.slot(index);
        let mut at = slot.map_or(NOWHERE, |slot| slot.at);
        let payload = match entry.payload {
            Payload::Blank => consensus::Payload::Blank,
            Payload::Membership(membership) => {
                let stored = StoredMembership::new(Some(entry.log_id), membership);
                let bytes = stored_membership_bytes(&stored);
                self.membership = stored;
                consensus::Payload::Members(bytes.into())
            }
            Payload::Normal(proposal) => {
                let body = match proposal.body {
                    Body::Here(bytes) => bytes,
                    Body::Stored { at: stored_at, len } => {
                        at = stored_at;
                        let read = self.store.log.read(at, ENTRY_HEAD as u32, len);
                        read.map_err(|error| {
                            self.store.inbox.fail(error.clone());
                            failed(&error)
                        })?
                    }
                };
                consensus::Payload::Commands {
                    body,
                    offset: ENTRY_HEAD as u32,
                }
            }
        };
        Ok(consensus::Entry {
            term: entry.log_id.leader_id.term,
            index,
            at,
            payload,
        })
    }
}

impl<J: Journal> RaftStateMachine<Types> for Machine<J> {
    type SnapshotBuilder = NewestSnapshot;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let id = entry.log_id;
            let entry = self.entry(entry).await?;
            self.store.inbox.hand_over(Event::Entry(entry)).await;
            self.applied = Some(id);
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> NewestSnapshot {
        self.newest.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Carried>, StorageError> {
        Ok(Box::new(Carried))
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        _snapshot: Box<Carried>,
    ) -> Result<(), StorageError> {
        let id = meta.last_log_id;
        let index = id.map_or(0, |id| id.index + 1);
        let position = Position {
            index,
            term: id.map_or(0, |id| id.leader_id.term),
            members: stored_membership_bytes(&meta.last_membership).into(),
        };
        let failed = |error: super::codec::Malformed| {
            StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error))
        };
        self.newest.set(&position).map_err(failed)?;
        self.applied = id;
        self.membership = meta.last_membership.clone();
        self.store.membership_changed(self.membership.membership());
        self.store.inbox.hand_over(Event::Install { index }).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        Ok(self.newest.snapshot())
    }
}

impl RaftSnapshotBuilder<Types> for NewestSnapshot {
    /// There is nothing to build: the group has written the newest before openraft heard of it.
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        self.snapshot().ok_or_else(|| {
            let missing = AnyError::error("the group has not written a snapshot");
            StorageIOError::read_snapshot(None, missing).into()
        })
    }
}
