//! The session store on Redis: one server, a master that sentinels know, or Redis Cluster.
//!
//! ```text
//! shard ──write──► outbox ──► thread: EVALSHA, 256 at once ──► Redis
//! shard ──load───► questions ─► thread: HGETALL ─► callback (wakes the shard)
//! ```
//!
//! Nothing here waits on the caller's thread. Writes go behind: they wait in one bounded outbox,
//! the newest per client, while Redis is away, and none that was taken is lost but by the end of the
//! process. Reads have a deadline, after which a session goes on without its record.
//!
//! The hash of a client is described in `docs/session-store.md`.

mod backoff;
mod cluster;
mod config;
mod connect;
mod driver;
mod fields;
mod health;
mod history;
mod in_flight;
mod key;
mod mark;
mod meaning;
mod outbox;
mod question;
mod scan;
mod script;
mod shared;
mod stats;
mod tickets;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

pub use config::{RedisConfig, RedisConfigError, RedisMode};
use connect::Opener;
use driver::Driver;
pub use outbox::{Numbered, Offered, Outbox};
use question::{Question, Reply};
pub use script::seconds_to_live;
use shared::Shared;
pub use stats::RedisStats;
pub use tickets::{
    StoredTicketKey, StoredTicketKeys, TICKET_KEY_BYTES, TicketKeyring, TicketRules,
};

use crate::limits::QUESTIONS_MAX;
use crate::{Page, Record, Saved, SessionStore, Sink, StoreError, Write};

/// Session records in Redis. Clones are the same store; with the last one the thread ends.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
    thread: Arc<Thread>,
}

/// The thread that talks to Redis.
struct Thread {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// Why a store could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RedisStartError {
    /// A setting cannot be right.
    #[error(transparent)]
    Config(#[from] RedisConfigError),
    /// The system gives no thread, or none that can wait for sockets.
    #[error("the thread for Redis cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl RedisStore {
    /// Starts a store. Redis need not be there yet: until it is, writes wait and loads come late.
    pub fn start(config: RedisConfig) -> Result<Self, RedisStartError> {
        let opener = Opener::new(config.place()?, config.clone());
        let outbox = Outbox::new(config.waiting_entries_max, config.waiting_bytes_max);
        let (asked, questions) = mpsc::channel(QUESTIONS_MAX);
        let writer = format!("{:08x}", driver::dice() as u32);
        let shared = Arc::new(Shared::new(outbox, asked, writer));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let for_driver = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("redis".to_owned())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                let driver = Driver::new(for_driver, config, opener, questions);
                local.block_on(&runtime, driver.run());
            })?;
        let thread = Thread {
            shared: Arc::clone(&shared),
            handle: Mutex::new(Some(handle)),
        };
        Ok(Self {
            shared,
            thread: Arc::new(thread),
        })
    }

    /// Takes a write, to be carried out behind. Says whether it waits now: `false` if a newer one
    /// of the same client does. At the bound it is refused with [`StoreError::Waiting`].
    pub fn put(&self, write: Write) -> Result<bool, StoreError> {
        self.shared.offer(write)
    }

    /// Asks for the record of a client that resumes its session. `reply` is called once, on the
    /// store's thread, after at most about `wait`, with an error if there is no answer by then: it
    /// must not wait itself, but hand over and wake. What waits to be written is seen.
    pub fn load_later(
        &self,
        client_id: &str,
        wait: Duration,
        reply: impl FnOnce(Result<Option<Record>, StoreError>) + Send + 'static,
    ) {
        self.shared.ask(Question::Load {
            client_id: client_id.to_owned(),
            asked: Instant::now(),
            wait,
            reply: Reply::new(reply),
        });
    }

    /// Shares keys of TLS session tickets with all processes that do the same on this Redis: `keyring` gets them now
    /// (or once Redis is there), and again and again until the store is closed.
    pub fn share_ticket_keys(&self, rules: TicketRules, keyring: Box<dyn TicketKeyring>) {
        self.shared.ask(Question::ShareTickets { rules, keyring });
    }

    /// Finds out, from now on, when Redis has lost what it had, and counts that as [`RedisStats::wipes`].
    pub fn watch_for_wipes(&self) {
        self.shared.ask(Question::WatchMark);
    }

    /// Calls `tell` once, on the store's thread or on this one, as soon as at most [`WRITES_FEW`](crate::limits::WRITES_FEW)
    /// writes wait or are on their way. It must not wait, nor ask the store for anything.
    pub fn when_few_wait(&self, tell: impl FnOnce() + Send + 'static) {
        self.shared.when_few_wait(Box::new(tell));
    }

    /// The counters.
    pub fn stats(&self) -> &RedisStats {
        &self.shared.stats
    }

    /// Waits on this thread until no write waits any more, at most `wait`. Returns the number of
    /// writes that still do.
    pub fn wait_until_written(&self, wait: Duration) -> usize {
        self.shared.wait_until_empty(wait)
    }

    /// Takes nothing more, writes what waits, for at most `wait`, and ends the thread. Returns the
    /// number of writes that were left. Waits on this thread.
    pub fn close(&self, wait: Duration) -> usize {
        self.shared.close(Instant::now() + wait);
        let handle = &self.thread.handle;
        let handle = handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle
            && let Err(panic) = handle.join()
        {
            std::panic::resume_unwind(panic);
        }
        self.shared.outbox().len()
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Reply<T>) -> Question,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.shared.ask(question(Reply::new(move |result| {
            // Whoever does not wait any more does not want to know.
            drop(answer.send(result));
        })));
        answered.await.unwrap_or_else(|_| Err(question::closed()))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.close(Instant::now());
    }
}

/// Taken means that it waits, and will be written.
impl Sink for RedisStore {
    fn write(&self, write: &Write) -> Result<bool, StoreError> {
        self.put(write.clone())
    }
}

/// The operations are carried out at once, past what waits; only a load sees what waits.
impl SessionStore for RedisStore {
    fn load(
        &self,
        client_id: &str,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send {
        let client_id = client_id.to_owned();
        self.ask(move |reply| Question::Load {
            client_id,
            asked: Instant::now(),
            wait: Duration::from_millis(crate::limits::OPERATION_TIME_MS_MAX),
            reply,
        })
    }

    fn save(&self, record: &Record) -> impl Future<Output = Result<Saved, StoreError>> + Send {
        let record = Box::new(record.clone());
        self.ask(move |reply| Question::Save { record, reply })
    }

    fn delete(
        &self,
        client_id: &str,
        epoch: u64,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let client_id = client_id.to_owned();
        self.ask(move |reply| Question::Delete {
            client_id,
            epoch,
            reply,
        })
    }

    fn scan(
        &self,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        self.ask(move |reply| Question::Scan { from, limit, reply })
    }

    fn count(&self) -> impl Future<Output = Result<u64, StoreError>> + Send {
        self.ask(|reply| Question::Count { reply })
    }
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("stats", &self.shared.stats)
            .finish_non_exhaustive()
    }
}
