//! Openraft's log over ours.
//!
//! Openraft counts entries from 0, the group from 1: `index + 1` here is always that.

use super::clocks::WallClock;
use super::codec::{self, Malformed, log_id};
use super::config::{
    Body, Entry, LogId, Payload, Proposal, StorageError, StoredMembership, Types, Vote,
};
use super::entries::{Durability, Entries};
use super::inbox::Inbox;
use super::journal::{Content, DiskMoved, Journal, NewRecord, Placed};
use super::limits::{CALL_ENTRY_BYTES, EASE_ENTRY_BYTES, EASE_LAG};
use super::pace::Ease;
use super::record::{self, ENTRY_HEAD, Identity, Kind, Meta, MetaRecord, Slot};
use super::recovered::Recovered;
use crate::group::GROUP_STREAM;
use crate::log::{LogError, META_STREAM};
use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageIOError, Vote as RaftVote};
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The log of a member: what openraft writes and applies from. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Store<J> {
    pub(super) log: J,
    pub(super) moved: DiskMoved,
    pub(super) inbox: Arc<Inbox>,
    pub(super) wall: WallClock,
    /// Whether calls to who is far behind are to be small.
    pub(super) ease: Ease,
    state: Arc<Mutex<State>>,
    /// The group's index of the last entry that a majority has stored, as far as known. For people.
    committed: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    entries: Entries,
    durability: Durability,
    /// Sequence number of the last append.
    appended: u64,
    meta: Meta,
    /// Index of the next record of [`META_STREAM`].
    meta_next: u64,
}

impl<J: Journal> Store<J> {
    pub(super) fn new(
        log: J,
        moved: DiskMoved,
        inbox: Arc<Inbox>,
        recovered: Recovered,
        wall: WallClock,
    ) -> Self {
        let durability = Durability::up_to(recovered.entries.last().0);
        inbox.keeps_from(recovered.entries.purged().0 + 1);
        let state = State {
            entries: recovered.entries,
            durability,
            appended: 0,
            meta: recovered.meta.unwrap_or_default(),
            meta_next: recovered.meta_next,
        };
        Self {
            log,
            moved,
            inbox,
            wall,
            ease: Ease::default(),
            state: Arc::new(Mutex::new(state)),
            committed: Arc::default(),
        }
    }

    /// Index of the last entry that is known to be stored by a majority; 0 until openraft says one.
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Index of the last entry, which may be in memory only.
    pub(super) fn last(&self) -> u64 {
        self.lock().entries.last().0
    }

    /// The last entry, which may be in memory only.
    pub(super) fn last_log_id(&self) -> Option<LogId> {
        let (index, term) = self.lock().entries.last();
        index.checked_sub(1).map(|index| log_id(term, index))
    }

    /// Bytes of the entries behind this one in the log; `None` if some of them are not there any more.
    pub(super) fn bytes_behind(&self, index: u64) -> Option<u64> {
        let state = self.lock();
        if index < state.entries.purged().0 {
            return None;
        }
        let entries = state.entries.range(index + 1..u64::MAX);
        Some(
            entries
                .map(|(_, slot)| (ENTRY_HEAD + slot.len as usize) as u64)
                .sum(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked has left whole values behind, and its panic ends the member's service.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all that was appended by now is durable.
    pub(super) async fn all_durable(&self) -> Result<(), LogError> {
        let appended = self.lock().appended;
        self.durable(appended).await
    }

    /// Waits until this entry is durable.
    pub(super) async fn entry_durable(&self, index: u64) -> Result<(), LogError> {
        let wanted = {
            let mut state = self.lock();
            let durable = self.log.durable();
            state.durability.advance(durable);
            state.durability.wanted(index)
        };
        match wanted {
            Some(sequence) => self.durable(sequence).await,
            None => Ok(()),
        }
    }

    async fn durable(&self, sequence: u64) -> Result<(), LogError> {
        let durable = self.moved.durable(&self.log, sequence).await;
        durable.inspect_err(|error| {
            if !self.moved.is_closed() {
                self.inbox.fail(error.clone());
            }
        })
    }

    /// The later of the ids is not durable here: the last one that is instead.
    pub(super) fn cap_to_durable(&self, id: Option<LogId>) -> Option<LogId> {
        let id = id?;
        let mut state = self.lock();
        let durable = self.log.durable();
        let index = state.durability.advance(durable);
        if id.index < index {
            return Some(id);
        }
        let term = state.entries.term(index)?;
        Some(log_id(term, index - 1))
    }

    /// The place and term of an entry that is still here.
    pub(super) fn slot(&self, index: u64) -> Option<Slot> {
        self.lock().entries.get(index).copied()
    }

    /// Drops the entries from this one on, which a snapshot of another member has made void.
    pub(super) async fn drop_branch(&self, from: u64) -> Result<(), LogError> {
        let record = NewRecord {
            stream: GROUP_STREAM,
            index: from,
            content: Content::Truncate,
        };
        let placed = self.append_with(|_| vec![record.clone()]).await?;
        self.durable(placed.sequence).await
    }

    /// Gives this folder its number.
    pub(super) async fn write_folder(&self, number: u64) -> Result<(), LogError> {
        self.write_record(&MetaRecord::Folder(number)).await
    }

    /// Says who this folder belongs to, before it takes part in anything.
    pub(super) async fn write_identity(&self, identity: Identity) -> Result<(), LogError> {
        let vote = self.lock().meta.vote;
        self.write_meta(Meta { identity, vote }).await
    }

    async fn write_vote(&self, vote: Vote) -> Result<(), LogError> {
        let identity = self.lock().meta.identity.clone();
        self.write_meta(Meta { identity, vote }).await
    }

    async fn write_meta(&self, meta: Meta) -> Result<(), LogError> {
        self.write_record(&MetaRecord::Member(meta)).await
    }

    async fn write_record(&self, record: &MetaRecord) -> Result<(), LogError> {
        let body = record.bytes();
        let new = |state: &State| NewRecord {
            stream: META_STREAM,
            index: state.meta_next,
            content: Content::Body(body.clone(), Bytes::new()),
        };
        let placed = self.append_with(|state| vec![new(state)]).await?;
        if let MetaRecord::Member(meta) = record {
            self.lock().meta = meta.clone();
        }
        self.durable(placed.sequence).await
    }

    /// Appends as soon as the log takes more.
    async fn append_with(
        &self,
        records: impl Fn(&State) -> Vec<NewRecord>,
    ) -> Result<Placed, LogError> {
        loop {
            let durable = self.log.durable();
            {
                let mut state = self.lock();
                let records = records(&state);
                match self.log.append(&records) {
                    Ok(placed) => {
                        state.placed(&records, &placed);
                        return Ok(placed);
                    }
                    Err(LogError::Backlog { .. }) => {}
                    Err(error) => {
                        self.inbox.fail(error.clone());
                        return Err(error);
                    }
                }
            }
            self.durable(durable + 1).await?;
        }
    }

    /// Openraft's indexes as the group's.
    fn slots(&self, range: &impl RangeBounds<u64>) -> Vec<(u64, Slot)> {
        let start = match range.start_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => index + 2,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 2,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => u64::MAX,
        };
        let state = self.lock();
        if start <= state.entries.purged().0 && start > 0 {
            // Calls name only the index before the first entry: none must be missing.
            return Vec::new();
        }
        let slots = state.entries.range(start..end);
        slots.map(|(index, slot)| (index, *slot)).collect()
    }

    /// An entry; its commands only `with_bodies`.
    fn entry(&self, (index, slot): (u64, Slot), with_bodies: bool) -> Result<Entry, StorageError> {
        let read = || self.log.read(slot.at, ENTRY_HEAD as u32, slot.len);
        let payload = match slot.kind {
            Kind::Blank => Payload::Blank,
            Kind::Members => {
                let bytes = read().map_err(|error| self.unreadable(index, error))?;
                let members = record::read_members(&bytes);
                Payload::Membership(members.map_err(|error| unreadable(index, &error))?)
            }
            Kind::Commands => Payload::Normal(Proposal {
                term: slot.term,
                body: if with_bodies {
                    Body::Here(read().map_err(|error| self.unreadable(index, error))?)
                } else {
                    Body::Stored {
                        at: slot.at,
                        len: slot.len,
                    }
                },
            }),
        };
        Ok(Entry {
            log_id: log_id(slot.term, index - 1),
            payload,
        })
    }

    fn unreadable(&self, index: u64, error: LogError) -> StorageError {
        let told = unreadable(index, &error);
        self.inbox.fail(error);
        told
    }

    /// The newest membership of the log has a say in who may lead.
    pub(super) fn membership_changed(&self, membership: &super::config::Membership) {
        let voters = membership.get_joint_config().clone();
        self.inbox.change_lease(|lease| lease.voters(voters));
    }
}

impl State {
    /// Takes note of records that were appended.
    fn placed(&mut self, records: &[NewRecord], placed: &Placed) {
        self.appended = self.appended.max(placed.sequence);
        let mut last_entry = None;
        for (record, at) in records.iter().zip(&placed.locations) {
            match (&record.content, record.stream) {
                (Content::Truncate, _) => {
                    self.entries.truncate(record.index);
                    self.durability.truncated(record.index);
                }
                (Content::Body(..), META_STREAM) => self.meta_next = record.index + 1,
                (Content::Body(head, body), _) => {
                    let (term, kind, _) =
                        record::read_entry(head).expect("a head that was just written");
                    self.entries.push(Slot {
                        term,
                        at: *at,
                        len: body.len() as u32,
                        kind,
                    });
                    last_entry = Some(record.index);
                }
            }
        }
        if let Some(index) = last_entry {
            self.durability.appended(placed.sequence, index);
        }
    }
}

fn unreadable(index: u64, error: &(impl std::error::Error + 'static)) -> StorageError {
    StorageIOError::read_log_at_index(index - 1, openraft::AnyError::new(error)).into()
}

fn unwritable(error: &LogError) -> StorageError {
    StorageIOError::write_logs(openraft::AnyError::new(error)).into()
}

/// The record of an entry. Commands that were proposed in another term than openraft took them in are void: the
/// group that proposed them has been told since that it does not lead.
fn entry_record(entry: &Entry) -> NewRecord {
    let term = entry.log_id.leader_id.term;
    let (kind, body) = match &entry.payload {
        Payload::Blank => (Kind::Blank, Bytes::new()),
        Payload::Normal(proposal) if proposal.term != term => (Kind::Blank, Bytes::new()),
        Payload::Normal(proposal) => match &proposal.body {
            Body::Here(bytes) => (Kind::Commands, bytes.clone()),
            Body::Stored { .. } => unreachable!("what is read to be applied is not appended"),
        },
        Payload::Membership(membership) => {
            let mut bytes = Vec::new();
            codec::put_membership(membership, &mut bytes);
            (Kind::Members, bytes.into())
        }
    };
    NewRecord {
        stream: GROUP_STREAM,
        index: entry.log_id.index + 1,
        content: Content::Body(record::entry_head(term, kind).to_vec(), body),
    }
}

impl<J: Journal> RaftLogStorage<Types> for Store<J> {
    type LogReader = Reader<J>;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let state = self.lock();
        let id = |(index, term): (u64, u64)| index.checked_sub(1).map(|index| log_id(term, index));
        Ok(LogState {
            last_purged_log_id: id(state.entries.purged()),
            last_log_id: id(state.entries.last()),
        })
    }

    async fn get_log_reader(&mut self) -> Reader<J> {
        Reader(self.clone())
    }

    async fn save_vote(&mut self, vote: &RaftVote<u64>) -> Result<(), StorageError> {
        self.inbox.vote_changed(vote);
        // A vote is read back as not committed, so that it has become so need not be stored.
        if self.lock().meta.vote.leader_id == vote.leader_id {
            return Ok(());
        }
        let written = self.write_vote(*vote).await;
        written.map_err(|error| StorageIOError::write_vote(openraft::AnyError::new(&error)).into())
    }

    /// Not kept: after a start the leader says it again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let index = committed.map_or(0, |id| id.index + 1);
        self.committed.store(index, Ordering::Relaxed);
        Ok(())
    }

    /// What the log itself shows. Without it openraft takes the first change of members in the log for the one agreed on, and
    /// breaks an assertion of its own when a snapshot comes in place of entries behind it.
    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let agreed = self.lock().entries.agreed_membership();
        Ok(agreed.map(|(index, term)| log_id(term, index - 1)))
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote<u64>>, StorageError> {
        let vote = self.lock().meta.vote;
        Ok(Some(RaftVote {
            committed: false,
            ..vote
        }))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut membership = None;
        for entry in entries {
            records.push(entry_record(&entry));
            if let Payload::Membership(members) = entry.payload {
                membership = Some(members);
            }
        }
        if let Some(membership) = &membership {
            self.membership_changed(membership);
        }
        let appended = self.append_with(|_| records.clone()).await;
        let placed = appended.map_err(|error| unwritable(&error))?;
        if membership.is_some() {
            let durable = self.durable(placed.sequence).await;
            durable.map_err(|error| unwritable(&error))?;
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, id: LogId) -> Result<(), StorageError> {
        let index = id.index + 1;
        let appended = self.append_with(|_| {
            vec![NewRecord {
                stream: GROUP_STREAM,
                index,
                content: Content::Truncate,
            }]
        });
        appended.await.map_err(|error| unwritable(&error))?;
        Ok(())
    }

    async fn purge(&mut self, id: LogId) -> Result<(), StorageError> {
        let index = id.index + 1;
        {
            let mut state = self.lock();
            state.entries.purge(index, id.leader_id.term);
            state.durability.covered(index);
        }
        self.inbox.keeps_from(index + 1);
        Ok(())
    }
}

impl<J: Journal> RaftLogReader<Types> for Store<J> {
    /// For openraft itself, which hands what it reads to [`Machine`](super::machine::Machine): bodies stay in the log.
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let slots = self.slots(&range).into_iter();
        slots.map(|slot| self.entry(slot, false)).collect()
    }
}

/// What calls to other members are filled from.
#[derive(Debug)]
pub(super) struct Reader<J>(Store<J>);

impl<J: Journal> RaftLogReader<Types> for Reader<J> {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let slots = self.0.slots(&range).into_iter();
        slots.map(|slot| self.0.entry(slot, true)).collect()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let is_easy = self.0.ease.is_wanted() && end - start > EASE_LAG;
        let bytes_max = if is_easy {
            EASE_ENTRY_BYTES
        } else {
            CALL_ENTRY_BYTES
        };
        let mut bytes = 0;
        let fits = |(_, slot): &(u64, Slot)| {
            let first = bytes == 0;
            bytes += slot.len as usize + ENTRY_HEAD;
            first || bytes <= bytes_max
        };
        let slots = self.0.slots(&(start..end)).into_iter().take_while(fits);
        slots.map(|slot| self.0.entry(slot, true)).collect()
    }
}

/// The newest membership among entries that are in the log.
pub(super) fn newest_membership<J: Journal>(
    store: &Store<J>,
) -> Result<Option<StoredMembership>, StorageError> {
    let members: Vec<_> = {
        let state = store.lock();
        let all = state.entries.range(0..u64::MAX);
        let members = all.filter(|(_, slot)| slot.kind == Kind::Members);
        members
            .map(|(index, slot)| (index, *slot))
            .last()
            .into_iter()
            .collect()
    };
    let Some(found) = members.into_iter().next() else {
        return Ok(None);
    };
    let entry = store.entry(found, false)?;
    match entry.payload {
        Payload::Membership(membership) => {
            Ok(Some(StoredMembership::new(Some(entry.log_id), membership)))
        }
        _ => Err(unreadable(found.0, &Malformed("a membership"))),
    }
}
