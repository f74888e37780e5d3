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
    ForgetsDeletes,
    ForgetsDeletesOfNothing,
    SkipsAPage,
    ForgetsFilters,
    CountsSaves,
}

/// An embedded store with a fault.
struct Broken {
    store: EmbeddedStore<()>,
    fault: Fault,
    saves: std::sync::atomic::AtomicU64,
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
                self.store.forget_now(&record.client_id)?;
            }
            Fault::ComparesAsSigned
                if there.is_some_and(|there| signed(there) < signed(record.epoch)) =>
            {
                self.store.forget_now(&record.client_id)?;
            }
            Fault::ComparesAsFloat
                if there.is_some_and(|there| float(there) <= float(record.epoch)) =>
            {
                self.store.forget_now(&record.client_id)?;
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
        let there = self.store.load_now(client_id)?.map(|there| there.epoch);
        match self.fault {
            Fault::ForgetsDeletes if there.is_some_and(|there| there <= epoch) => {
                return self.store.forget_now(client_id);
            }
            Fault::ForgetsDeletesOfNothing if there.is_none() => return Ok(false),
            _ => {}
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
        ComparesAsFloat, ComparesAsSigned, CountsSaves, DeletesWhatIsNewer, ForgetsDeletes,
        ForgetsDeletesOfNothing, ForgetsFilters, IgnoresEpochs, SkipsAPage,
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
            ForgetsDeletes,
            "a save does nothing after a delete of its epoch or a higher one",
        ),
        (
            ForgetsDeletesOfNothing,
            "a delete of nothing stands against late saves as well",
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
            }));
        });
        let panic = found.expect_err(rule);
        let said = panic.downcast_ref::<String>().map_or("", |said| said);
        assert!(said.contains(rule), "{rule}: {said}");
    }
}
