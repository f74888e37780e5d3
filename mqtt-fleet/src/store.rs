//! The embedded session store of a standalone broker: a table whose journal is in the group's log.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use broker::log::{Appends, LogError, LogHandle, STORE_STREAM};
use broker::{Journalled, OpenGroup};
use proxy::records::{EmbeddedRecords, RecordSink};
use session_store::{EmbeddedStore, Journal, StoreError};

/// This process's name in the records it writes.
const NODE: &str = "standalone";

/// The store of the process.
pub(crate) struct Store {
    table: Arc<EmbeddedStore<LogJournal>>,
}

/// The store's stream in the log. All shards write into it: one lock gives each record its index and its place.
#[derive(Clone, Default)]
struct LogJournal(Arc<OnceLock<Mutex<Writer>>>);

struct Writer {
    log: LogHandle,
    next_index: u64,
    appends: Appends,
}

/// The table as the group's snapshots know it: the live one, or a second instance.
struct Table(Arc<EmbeddedStore<LogJournal>>);

impl Store {
    /// A store whose journal is not open yet.
    pub(crate) fn new() -> (Self, StoreOpener) {
        let journal = LogJournal::default();
        let table = Arc::new(EmbeddedStore::new(journal.clone()));
        (Self { table }, StoreOpener(journal))
    }

    /// The table, still empty, for the replay.
    pub(crate) fn live(&self) -> Box<dyn Journalled> {
        Box::new(Table(Arc::clone(&self.table)))
    }

    /// The write-behind front of one shard.
    pub(crate) fn records(&self) -> Box<dyn RecordSink> {
        Box::new(EmbeddedRecords::new(Arc::clone(&self.table), NODE.into()))
    }
}

/// Opens the journal once the log has been replayed.
pub(crate) struct StoreOpener(LogJournal);

impl StoreOpener {
    /// From here on changes go into the log.
    pub(crate) fn open(self, group: &OpenGroup) {
        let writer = Writer {
            log: group.log().clone(),
            next_index: group.journalled() + 1,
            appends: Appends::new(),
        };
        if self.0.0.set(Mutex::new(writer)).is_err() {
            unreachable!("opening consumes the only opener");
        }
    }
}

impl Journal for LogJournal {
    fn append(&self, op: &[u8]) -> Result<(), StoreError> {
        let writer = self
            .0
            .get()
            .expect("nobody writes before the replay is over");
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.append(op).map_err(StoreError::journal)
    }
}

impl Writer {
    fn append(&mut self, op: &[u8]) -> Result<(), LogError> {
        self.appends.clear();
        self.appends.push(STORE_STREAM, self.next_index, op)?;
        self.log.append(&mut self.appends)?;
        self.next_index += 1;
        Ok(())
    }
}

impl Journalled for Table {
    fn fresh(&self) -> Box<dyn Journalled> {
        Box::new(Table(Arc::new(EmbeddedStore::new(LogJournal::default()))))
    }

    fn restore(&mut self, from: &mut dyn Read) -> io::Result<()> {
        self.0.restore(from).map(|_| ()).map_err(io::Error::other)
    }

    fn replay(&mut self, body: &[u8]) -> io::Result<()> {
        self.0.replay(body).map_err(io::Error::other)
    }

    fn snapshot(&self, to: &mut dyn Write) -> io::Result<()> {
        self.0.snapshot(to).map(|_| ()).map_err(io::Error::other)
    }
}
