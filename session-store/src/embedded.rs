//! The store inside the process: records in memory in their stored form, every change in a
//! journal, snapshots to shorten it.

use std::future::{Future, ready};
use std::hash::BuildHasher;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::quality::SeedableRandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::deleted::Deleted;
use crate::journal::{self, Op};
use crate::limits::{RECORD_BYTES_MAX, RECORD_BYTES_TOTAL_MAX, RECORDS_MAX, TABLES};
use crate::{Journal, Page, Record, Saved, SessionStore, StoreError};

const SNAPSHOT_MAGIC: [u8; 8] = *b"mqstore\x01";

/// A part of the clients.
#[derive(Default)]
struct Table {
    /// Records by client id; one allocation each, of the size of its bytes.
    records: HashTable<Box<[u8]>>,
    /// Not in journal or snapshot: a save that was under way ends with the process.
    deleted: Deleted,
}

/// A session store in memory with a journal.
///
/// A client costs the bytes of its record (about a hundred for a device with one subscription)
/// plus 16 to 32 for its place in the table.
pub struct EmbeddedStore<J> {
    tables: Box<[Mutex<Table>]>,
    hasher: SeedableRandomState,
    journal: J,
    records_max: u64,
    bytes_max: u64,
    stats: StoreStats,
}

/// What an embedded store counts.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Records held.
    pub records: AtomicU64,
    /// Bytes of records held.
    pub bytes: AtomicU64,
    /// Saves taken.
    pub saves: AtomicU64,
    /// Saves and deletes refused because a record of a higher epoch is there, or was deleted.
    pub newer: AtomicU64,
    /// Saves refused because the store is full.
    pub full: AtomicU64,
    /// Records removed.
    pub deletes: AtomicU64,
}

impl<J: Journal> EmbeddedStore<J> {
    /// An empty store that writes to `journal`, with the default limits.
    pub fn new(journal: J) -> Self {
        Self::with_limits(journal, RECORDS_MAX, RECORD_BYTES_TOTAL_MAX)
    }

    /// An empty store that holds at most `records_max` records of together `bytes_max` bytes.
    pub fn with_limits(journal: J, records_max: u64, bytes_max: u64) -> Self {
        Self {
            tables: (0..TABLES).map(|_| Mutex::default()).collect(),
            hasher: SeedableRandomState::random(),
            journal,
            records_max,
            bytes_max,
            stats: StoreStats::default(),
        }
    }

    /// An empty store whose clients are in the same order in every process: for simulations alone, as whoever knows the
    /// order can choose client ids that make it slow.
    #[must_use]
    pub fn with_fixed_order(mut self) -> Self {
        assert_eq!(self.stats.saves.load(Ordering::Relaxed), 0, "it is empty");
        self.hasher = SeedableRandomState::fixed();
        self
    }

    /// The counters.
    pub fn stats(&self) -> &StoreStats {
        &self.stats
    }

    /// [`SessionStore::load`], at once.
    pub fn load_now(&self, client_id: &str) -> Result<Option<Record>, StoreError> {
        let hash = self.hasher.hash_one(client_id);
        let table = self.table(hash);
        let found = table.records.find(hash, |bytes| id_of(bytes) == client_id);
        found.map(|bytes| Record::decode(bytes)).transpose()
    }

    /// [`SessionStore::save`], at once. When this returns the journal has it (which may not be
    /// durable yet).
    pub fn save_now(&self, record: &Record) -> Result<Saved, StoreError> {
        self.save_bytes(&record.client_id, record.epoch, &record.encode()?)
    }

    /// [`SessionStore::delete`], at once.
    pub fn delete_now(&self, client_id: &str, epoch: u64) -> Result<bool, StoreError> {
        self.remove(client_id, epoch, true)
    }

    /// Removes a client's record, whatever its epoch, and remembers no delete: for stores that hold
    /// copies, whose records are elsewhere. Says whether one was removed.
    pub fn forget_now(&self, client_id: &str) -> Result<bool, StoreError> {
        let hash = self.hasher.hash_one(client_id);
        self.take_out(&mut self.table(hash), hash, client_id, u64::MAX, true)
    }

    /// The clients whose records are in one of the tables, counted from 0; `None` behind the last table.
    pub fn clients_of(&self, table: usize) -> Option<Vec<Box<str>>> {
        let table = locked(self.tables.get(table)?);
        Some(
            table
                .records
                .iter()
                .map(|bytes| id_of(bytes).into())
                .collect(),
        )
    }

    /// Saves a record in its stored form.
    pub(crate) fn save_bytes(
        &self,
        client_id: &str,
        epoch: u64,
        record: &[u8],
    ) -> Result<Saved, StoreError> {
        self.put(client_id, epoch, record, true)
    }

    /// Takes an operation back from the journal. Operations that a snapshot already has the effect
    /// of may come again, if all that followed them come too.
    pub fn replay(&self, op: &[u8]) -> Result<(), StoreError> {
        match journal::decode(op)? {
            Op::Save {
                client_id,
                epoch,
                record,
            } => self.put(client_id, epoch, record, false).map(|_| ()),
            // It took effect when it was written; so did every save that follows it.
            Op::Delete { client_id, epoch } => self.remove(client_id, epoch, false).map(|_| ()),
        }
    }

    /// Writes all records to `out`. Changes may go on meanwhile: note the place in the journal
    /// before this is called, and replay from there after [`restore`](Self::restore). No lock is
    /// held while `out` is written to. Returns the number of records.
    pub fn snapshot(&self, out: &mut dyn Write) -> Result<u64, StoreError> {
        out.write_all(&SNAPSHOT_MAGIC)?;
        let mut count = 0;
        let mut part = Vec::new();
        for table in &self.tables {
            part.clear();
            for record in &locked(table).records {
                part.extend_from_slice(&(record.len() as u32).to_le_bytes());
                part.extend_from_slice(record);
                count += 1;
            }
            out.write_all(&part)?;
        }
        out.write_all(&0_u32.to_le_bytes())?;
        out.write_all(&u64::to_le_bytes(count))?;
        Ok(count)
    }

    /// Reads what [`snapshot`](Self::snapshot) wrote into an empty store; nothing goes to the
    /// journal. Returns the number of records.
    pub fn restore(&self, from: &mut dyn Read) -> Result<u64, StoreError> {
        let mut magic = [0; 8];
        from.read_exact(&mut magic)?;
        if magic[..7] != SNAPSHOT_MAGIC[..7] {
            return Err(StoreError::Malformed {
                what: "a snapshot of the session store",
            });
        }
        if magic != SNAPSHOT_MAGIC {
            return Err(StoreError::Unsupported { version: magic[7] });
        }
        let mut count: u64 = 0;
        let mut record = Vec::new();
        loop {
            let mut len = [0; 4];
            from.read_exact(&mut len)?;
            let len = u32::from_le_bytes(len) as usize;
            if len == 0 {
                break;
            }
            if len > RECORD_BYTES_MAX {
                return Err(StoreError::TooLarge { len });
            }
            record.resize(len, 0);
            from.read_exact(&mut record)?;
            let Record {
                client_id, epoch, ..
            } = Record::decode(&record)?;
            self.put(&client_id, epoch, &record, false)?;
            count += 1;
        }
        let mut stated = [0; 8];
        from.read_exact(&mut stated)?;
        if u64::from_le_bytes(stated) != count {
            return Err(StoreError::Malformed {
                what: "as many records as the snapshot states",
            });
        }
        Ok(count)
    }

    fn put(
        &self,
        client_id: &str,
        epoch: u64,
        record: &[u8],
        write: bool,
    ) -> Result<Saved, StoreError> {
        let hash = self.hasher.hash_one(client_id);
        let mut table = self.table(hash);
        let Table { records, deleted } = &mut *table;
        let entry = records.entry(
            hash,
            |bytes| id_of(bytes) == client_id,
            |bytes| self.hasher.hash_one(id_of(bytes)),
        );
        let before = match &entry {
            Entry::Occupied(there) => {
                let there_bytes = there.get().len() as u64;
                let there = epoch_of(there.get());
                if there > epoch {
                    self.stats.newer.fetch_add(1, Ordering::Relaxed);
                    return Ok(Saved::Newer { epoch: there });
                }
                Some(there_bytes)
            }
            Entry::Vacant(_) => {
                let deleted = deleted.epoch(hash, client_id).filter(|_| write);
                if let Some(deleted) = deleted.filter(|deleted| *deleted >= epoch) {
                    self.stats.newer.fetch_add(1, Ordering::Relaxed);
                    return Ok(Saved::Newer { epoch: deleted });
                }
                None
            }
        };
        if write {
            // What the journal has must be taken again after a restart, whatever the limits.
            self.admit(before, record.len() as u64)?;
            self.journal.append(&journal::encode_save(record))?;
        }
        self.stats.saves.fetch_add(1, Ordering::Relaxed);
        self.stats
            .bytes
            .fetch_add(record.len() as u64, Ordering::Relaxed);
        match before {
            Some(bytes) => self.stats.bytes.fetch_sub(bytes, Ordering::Relaxed),
            None => self.stats.records.fetch_add(1, Ordering::Relaxed),
        };
        entry.insert(record.into());
        Ok(Saved::Stored)
    }

    /// Refuses what would grow the store beyond its limits; `before`: bytes it replaces.
    fn admit(&self, before: Option<u64>, after: u64) -> Result<(), StoreError> {
        let records = self.stats.records.load(Ordering::Relaxed);
        let bytes = self.stats.bytes.load(Ordering::Relaxed);
        let grows = after > before.unwrap_or(0);
        let too_many = before.is_none() && records >= self.records_max;
        if too_many || (grows && bytes + after - before.unwrap_or(0) > self.bytes_max) {
            self.stats.full.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Full { records, bytes });
        }
        Ok(())
    }

    fn remove(&self, client_id: &str, epoch: u64, write: bool) -> Result<bool, StoreError> {
        let hash = self.hasher.hash_one(client_id);
        let mut table = self.table(hash);
        let removed = self.take_out(&mut table, hash, client_id, epoch, write)?;
        if write {
            table.deleted.remember(hash, client_id, epoch);
        }
        Ok(removed)
    }

    fn take_out(
        &self,
        table: &mut Table,
        hash: u64,
        client_id: &str,
        epoch: u64,
        write: bool,
    ) -> Result<bool, StoreError> {
        let found = table
            .records
            .find_entry(hash, |bytes| id_of(bytes) == client_id);
        let Ok(there) = found else {
            return Ok(false);
        };
        if epoch_of(there.get()) > epoch {
            self.stats.newer.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        if write {
            self.journal
                .append(&journal::encode_delete(client_id, epoch))?;
        }
        let (removed, _) = there.remove();
        self.stats.deletes.fetch_add(1, Ordering::Relaxed);
        self.stats.records.fetch_sub(1, Ordering::Relaxed);
        self.stats
            .bytes
            .fetch_sub(removed.len() as u64, Ordering::Relaxed);
        Ok(true)
    }

    /// The table for a hash. The table itself uses other bits of it.
    fn table(&self, hash: u64) -> MutexGuard<'_, Table> {
        locked(&self.tables[(hash >> 40) as usize % TABLES])
    }

    fn page(&self, from: u64, limit: usize) -> Result<Page, StoreError> {
        let mut records = Vec::new();
        let mut at = usize::try_from(from).unwrap_or(TABLES).min(TABLES);
        while at < TABLES && (records.is_empty() || records.len() < limit) {
            for bytes in &locked(&self.tables[at]).records {
                records.push(Record::decode(bytes)?);
            }
            at += 1;
        }
        Ok(Page {
            records,
            next: (at < TABLES).then_some(at as u64),
        })
    }
}

/// Client id of a stored record in the table.
fn id_of(bytes: &[u8]) -> &str {
    Record::head(bytes)
        .expect("only whole records are in the table")
        .0
}

fn epoch_of(bytes: &[u8]) -> u64 {
    Record::head(bytes)
        .expect("only whole records are in the table")
        .1
}

/// A table is whole at every point where its user could panic.
fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<J: Journal> SessionStore for EmbeddedStore<J> {
    fn load(
        &self,
        client_id: &str,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send {
        ready(self.load_now(client_id))
    }

    fn save(&self, record: &Record) -> impl Future<Output = Result<Saved, StoreError>> + Send {
        ready(self.save_now(record))
    }

    fn delete(
        &self,
        client_id: &str,
        epoch: u64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        ready(self.delete_now(client_id, epoch))
    }

    fn scan(
        &self,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        ready(self.page(from, limit))
    }

    fn count(&self) -> impl Future<Output = Result<u64, StoreError>> + Send {
        ready(Ok(self.stats.records.load(Ordering::Relaxed)))
    }
}

impl<J> std::fmt::Debug for EmbeddedStore<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
