//! What is asked of Redis and answered: loads of resuming clients, and the operations of the trait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{RedisError, RedisResult};
use tokio::sync::{Semaphore, mpsc, watch};

use super::connect::Connection;
use super::mark;
use super::meaning::{Meaning, meaning};
use super::scan;
use super::script::{self, Changed, Scripts};
use super::shared::Shared;
use super::stats::count;
use super::tickets::{self, TicketKeyring, TicketRules};
use crate::{Page, Record, Saved, StoreError, Write};

/// What takes an answer. It is always called, once, on the store's thread: with an error if nobody
/// got round to answering because the store was closed.
pub(super) struct Reply<T>(Option<Callback<T>>);

type Callback<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

impl<T> Reply<T> {
    pub(super) fn new(callback: impl FnOnce(Result<T, StoreError>) + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }

    fn send(mut self, answer: Result<T, StoreError>) {
        if let Some(callback) = self.0.take() {
            callback(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            callback(Err(closed()));
        }
    }
}

/// The answer when there is no store any more.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".to_owned())
}

/// A question with what takes its answer.
pub(super) enum Question {
    Load {
        client_id: String,
        /// Asked at this time; the answer is due `wait` later.
        asked: Instant,
        wait: Duration,
        reply: Reply<Option<Record>>,
    },
    Save {
        record: Box<Record>,
        reply: Reply<Saved>,
    },
    Delete {
        client_id: String,
        epoch: u64,
        reply: Reply<bool>,
    },
    Scan {
        from: u64,
        limit: usize,
        reply: Reply<Page>,
    },
    Count {
        reply: Reply<u64>,
    },
    /// Stays open as long as the store.
    ShareTickets {
        rules: TicketRules,
        keyring: Box<dyn TicketKeyring>,
    },
    /// Stays open as long as the store.
    WatchMark,
}

impl Question {
    /// Bytes it holds while it is open, about.
    pub(super) fn byte_len(&self) -> usize {
        match self {
            Self::Load { client_id, .. } | Self::Delete { client_id, .. } => client_id.len(),
            Self::Save { record, .. } => weight(record),
            Self::Scan { .. }
            | Self::Count { .. }
            | Self::ShareTickets { .. }
            | Self::WatchMark => 0,
        }
    }

    /// Answers with an error.
    pub(super) fn refuse(self, error: &StoreError) {
        let error = error.clone();
        match self {
            Self::Load { reply, .. } => reply.send(Err(error)),
            Self::Save { reply, .. } => reply.send(Err(error)),
            Self::Delete { reply, .. } => reply.send(Err(error)),
            Self::Scan { reply, .. } => reply.send(Err(error)),
            Self::Count { reply } => reply.send(Err(error)),
            Self::ShareTickets { .. } => {
                tracing::warn!("keys of TLS session tickets are not shared: {error}");
            }
            Self::WatchMark => {
                tracing::warn!("nobody looks whether Redis loses session records: {error}");
            }
        }
    }
}

/// Bytes of a record, about.
fn weight(record: &Record) -> usize {
    let filters = record.filters.iter().map(|filter| filter.filter.len());
    let user = record.user.as_ref().map_or(0, String::len);
    record.client_id.len() + record.node.len() + user + filters.sum::<usize>()
}

/// A connection with a number: later ones have higher numbers.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) number: u64,
}

/// A connection that failed, and how.
pub(super) type Lost = (u64, RedisError);

/// What answering takes.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) link: watch::Receiver<Option<Link>>,
    /// Where failed connections are reported.
    pub(super) lost: mpsc::Sender<Lost>,
    /// One for each question that may be on its way.
    pub(super) permits: Arc<Semaphore>,
    /// How long the operations of the trait may take.
    pub(super) patience: Duration,
    /// How long a count may take.
    pub(super) count_patience: Duration,
}

impl Desk {
    /// Answers a question. Loads are many at a time: what the other questions need for their way is not in each of them.
    pub(super) async fn answer(mut self, question: Question) {
        let bytes = question.byte_len();
        let (patience, count_patience) = (self.patience, self.count_patience);
        match question {
            Question::Load {
                client_id,
                asked,
                wait,
                reply,
            } => reply.send(self.load(&client_id, asked, wait).await),
            Question::Save { record, reply } => {
                let saved = self.within(patience, async |desk| desk.save(&record).await);
                let saved = Box::pin(saved).await;
                reply.send(saved);
            }
            Question::Delete {
                client_id,
                epoch,
                reply,
            } => {
                let deleted =
                    self.within(patience, async |desk| desk.delete(&client_id, epoch).await);
                reply.send(Box::pin(deleted).await);
            }
            Question::Scan { from, limit, reply } => {
                let page = self.within(patience, async |desk| desk.scan(from, limit).await);
                reply.send(Box::pin(page).await);
            }
            Question::Count { reply } => {
                let counted = self.within(count_patience, async |desk| {
                    desk.ask(async |connection| scan::count(connection).await)
                        .await
                });
                reply.send(Box::pin(counted).await);
            }
            Question::ShareTickets { rules, keyring } => {
                Box::pin(tickets::share(self.clone(), rules, keyring)).await;
            }
            Question::WatchMark => Box::pin(mark::watch(self.clone())).await,
        }
        self.shared.answered(bytes);
    }

    async fn load(
        &mut self,
        client_id: &str,
        asked: Instant,
        wait: Duration,
    ) -> Result<Option<Record>, StoreError> {
        count(&self.shared.stats.loads);
        // What waits to be written is newer than what is stored.
        let waiting = self.shared.outbox().newest(client_id).cloned();
        if let Some(waiting) = waiting {
            return match &*waiting.write {
                Write::Save { record, .. } => Record::decode(record).map(Some),
                Write::Delete { .. } => Ok(None),
            };
        }
        let left = wait.saturating_sub(asked.elapsed());
        let stored = self
            .within(left, async |desk| {
                desk.ask(async |connection| script::load(connection, client_id).await)
                    .await
            })
            .await;
        match stored {
            Ok(Ok(record)) => Ok(record),
            Ok(Err(malformed)) => {
                count(&self.shared.stats.malformed);
                Err(malformed)
            }
            Err(late) => {
                count(&self.shared.stats.loads_late);
                Err(late)
            }
        }
    }

    async fn save(&mut self, record: &Record) -> Result<Saved, StoreError> {
        record.encode()?; // For its limit of size.
        let number = self.shared.outbox().next_number();
        let write = self.shared.write_name(number);
        let scripts = Arc::clone(&self.scripts);
        let save = async |connection: &Connection| scripts.save(connection, record, &write).await;
        let (changed, again) = self.ask(save).await?;
        self.count_reload(again);
        Ok(match changed {
            Changed::Done | Changed::Nothing => Saved::Stored,
            Changed::Superseded => Saved::Newer {
                epoch: record.epoch,
            },
            Changed::Newer(epoch) => Saved::Newer { epoch },
        })
    }

    async fn delete(&mut self, client_id: &str, epoch: u64) -> Result<bool, StoreError> {
        let scripts = Arc::clone(&self.scripts);
        let delete =
            async |connection: &Connection| scripts.delete(connection, client_id, epoch).await;
        let (changed, again) = self.ask(delete).await?;
        self.count_reload(again);
        Ok(changed == Changed::Done)
    }

    async fn scan(&mut self, from: u64, limit: usize) -> Result<Page, StoreError> {
        let scanned = self
            .ask(async |connection| scan::page(connection, from, limit).await)
            .await??;
        let unread = scanned.unread as u64;
        self.shared
            .stats
            .malformed
            .fetch_add(unread, std::sync::atomic::Ordering::Relaxed);
        Ok(scanned.page)
    }

    fn count_reload(&self, again: bool) {
        if again {
            count(&self.shared.stats.scripts_reloaded);
        }
    }

    /// The answer, if it comes in time.
    async fn within<T>(
        &mut self,
        time: Duration,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(time, work(self)).await;
        answer.unwrap_or_else(|_| {
            let late = format!("no answer within {} ms", time.as_millis());
            Err(StoreError::Unavailable(late))
        })
    }

    /// Asks over the connection there is, or the next one, and over the next one again if this one
    /// fails. Ends by the caller's time limit if there never is one.
    async fn ask<T>(
        &mut self,
        mut question: impl AsyncFnMut(&Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let mut after = 0;
        loop {
            let link = self.next_link(after).await?;
            let permits = Arc::clone(&self.permits);
            let permit = permits.acquire().await;
            let answer = question(&link.connection).await;
            drop(permit);
            match answer {
                Ok(answer) => return Ok(answer),
                // A cluster repairs its connections itself, and there will be no other one.
                Err(error)
                    if meaning(&error) == Meaning::Refused
                        || matches!(link.connection, Connection::Cluster(_)) =>
                {
                    return Err(StoreError::Unavailable(error.to_string()));
                }
                Err(error) => {
                    after = link.number;
                    // If the driver has that many to look at, it knows.
                    drop(self.lost.try_send((after, error)));
                }
            }
        }
    }

    /// The connection there is, or will be, later than `after`.
    pub(super) async fn next_link(&mut self, after: u64) -> Result<Link, StoreError> {
        let later = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.number > after);
        let link = self.link.wait_for(later).await;
        let link = link.ok().and_then(|link| link.clone());
        link.ok_or_else(closed)
    }
}
