//! The embedded store passes the suite, and the suite finds broken stores.

mod common;

use std::future::Future;

use common::{FileJournal, now};
use mqtt_fleet_session_store::{
    EmbeddedStore, Page, Record, Saved, SessionStore, StoreError, conformance,
};

#[test]
fn the_embedded_store_passes() {
    now(conformance::suite(async || EmbeddedStore::new(())));
}

#[test]
fn it_passes_with_a_journal() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut number = 0;
    now(conformance::suite(|| {
        number += 1;
        let journal = FileJournal::open(&dir.path().join(number.to_string()));
        async { EmbeddedStore::new(journal) }
    }));
}

/// How a store can be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    IgnoresEpochs,
    ComparesAsSigned,
    ComparesAsFloat,
    DeletesWhatIsNewer,
    RemembersDeleted,
    SkipsAPage,
    ForgetsFilters,
    CountsSaves,
}

/// An embedded store with a fault.
struct Broken {
    store: EmbeddedStore<()>,
    fault: Fault,
    saves: std::sync::atomic::AtomicU64,
    deleted: std::sync::Mutex<std::collections::BTreeMap<String, u64>>,
}

impl Broken {
    fn save_wrongly(&self, record: &Record) -> Result<Saved, StoreError> {
        self.saves
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut record = record.clone();
        let there = self
            .store
            .load_now(&record.client_id)?
            .map(|there| there.epoch);
        let signed = |epoch: u64| epoch.cast_signed();
        let float = |epoch: u64| epoch as f64;
        match self.fault {
            Fault::IgnoresEpochs => {
                self.store.delete_now(&record.client_id, u64::MAX)?;
            }
            Fault::ComparesAsSigned
                if there.is_some_and(|there| signed(there) < signed(record.epoch)) =>
            {
                self.store.delete_now(&record.client_id, u64::MAX)?;
            }
            Fault::ComparesAsFloat
                if there.is_some_and(|there| float(there) <= float(record.epoch)) =>
            {
                self.store.delete_now(&record.client_id, u64::MAX)?;
            }
            Fault::RemembersDeleted => {
                let deleted = self.deleted.lock().expect("nobody panics");
                if let Some(epoch) = deleted.get(&record.client_id)
                    && *epoch > record.epoch
                {
                    return Ok(Saved::Newer { epoch: *epoch });
                }
            }
            Fault::ForgetsFilters => record.filters.truncate(1),
            _ => {}
        }
        self.store.save_now(&record)
    }
}

impl SessionStore for Broken {
    async fn load(&self, client_id: &str) -> Result<Option<Record>, StoreError> {
        self.store.load_now(client_id)
    }

    fn save(&self, record: &Record) -> impl Future<Output = Result<Saved, StoreError>> + Send {
        std::future::ready(self.save_wrongly(record))
    }

    async fn delete(&self, client_id: &str, epoch: u64) -> Result<bool, StoreError> {
        if self.fault == Fault::RemembersDeleted {
            self.deleted
                .lock()
                .expect("nobody panics")
                .insert(client_id.to_owned(), epoch);
        }
        let epoch = if self.fault == Fault::DeletesWhatIsNewer {
            u64::MAX
        } else {
            epoch
        };
        self.store.delete_now(client_id, epoch)
    }

    async fn scan(&self, from: u64, limit: usize) -> Result<Page, StoreError> {
        let mut page = self.store.scan(from, limit).await?;
        if self.fault == Fault::SkipsAPage {
            page.next = page.next.map(|next| next + 1);
        }
        Ok(page)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        if self.fault == Fault::CountsSaves {
            return Ok(self.saves.load(std::sync::atomic::Ordering::Relaxed));
        }
        self.store.count().await
    }
}

#[test]
fn the_suite_finds_every_fault() {
    use Fault::{
        ComparesAsFloat, ComparesAsSigned, CountsSaves, DeletesWhatIsNewer, ForgetsFilters,
        IgnoresEpochs, RemembersDeleted, SkipsAPage,
    };
    let faults = [
        (IgnoresEpochs, "a lower epoch never replaces a higher one"),
        (
            ComparesAsSigned,
            "a lower epoch never replaces a higher one",
        ),
        (ComparesAsFloat, "a lower epoch never replaces a higher one"),
        (DeletesWhatIsNewer, "a delete spares what is newer"),
        (
            RemembersDeleted,
            "a delete leaves nothing behind that refuses a save",
        ),
        (SkipsAPage, "a scan has every record, and ends"),
        (ForgetsFilters, "what is saved is loaded, field by field"),
        (CountsSaves, "count is the number of records"),
    ];
    for (fault, rule) in faults {
        let found = std::panic::catch_unwind(|| {
            now(conformance::suite(async || Broken {
                store: EmbeddedStore::new(()),
                fault,
                saves: 0.into(),
                deleted: std::sync::Mutex::default(),
            }));
        });
        let panic = found.expect_err(rule);
        let said = panic.downcast_ref::<String>().map_or("", |said| said);
        assert!(said.contains(rule), "{rule}: {said}");
    }
}
