//! What the threads that use a store and the thread that talks to Redis share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use super::outbox::{Offered, Outbox};
use super::question::{Question, closed};
use super::stats::{RedisStats, count, set};
use crate::limits::{QUESTION_BYTES_MAX, QUESTIONS_MAX, WRITES_FEW};
use crate::{StoreError, Write};

/// Called once; must not wait, nor ask the store for anything.
pub(super) type Callback = Box<dyn FnOnce() + Send>;

pub(super) struct Shared {
    outbox: Mutex<Outbox>,
    /// Signalled when nothing waits any more.
    empty: Condvar,
    /// To be called when few writes wait. Changed with the outbox locked.
    room_wanted: Mutex<Vec<Callback>>,
    /// Something to write, or the end.
    pub(super) news: Notify,
    questions: mpsc::Sender<Question>,
    questions_open: AtomicUsize,
    question_bytes: AtomicUsize,
    /// Once set: until when what waits may still be written.
    closing: Mutex<Option<Instant>>,
    /// Names this process, as far as its writes go.
    writer: String,
    pub(super) stats: RedisStats,
}

impl Shared {
    pub(super) fn new(outbox: Outbox, questions: mpsc::Sender<Question>, writer: String) -> Self {
        Self {
            outbox: Mutex::new(outbox),
            empty: Condvar::new(),
            room_wanted: Mutex::default(),
            news: Notify::new(),
            questions,
            questions_open: AtomicUsize::new(0),
            question_bytes: AtomicUsize::new(0),
            closing: Mutex::new(None),
            writer,
            stats: RedisStats::default(),
        }
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // It is whole at every point where its user could panic.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a write in. Says whether it waits now; a newer one may wait instead.
    pub(super) fn offer(&self, write: Write) -> Result<bool, StoreError> {
        if self.closing_at().is_some() {
            return Err(closed());
        }
        let mut outbox = self.outbox();
        let offered = outbox.offer(write);
        self.show(&outbox);
        let (writes, bytes) = (outbox.len(), outbox.byte_len());
        drop(outbox);
        let figure = match offered {
            Offered::Taken => &self.stats.writes_taken,
            Offered::Coalesced => &self.stats.writes_coalesced,
            Offered::Outdated => &self.stats.writes_outdated,
            Offered::Full => &self.stats.writes_refused_full,
        };
        count(figure);
        match offered {
            Offered::Taken | Offered::Coalesced => {
                self.news.notify_one();
                Ok(true)
            }
            Offered::Outdated => Ok(false),
            Offered::Full => Err(StoreError::Waiting { writes, bytes }),
        }
    }

    /// Takes a question in, or answers it at once if too many are open.
    pub(super) fn ask(&self, question: Question) {
        let bytes = question.byte_len();
        let open = self.questions_open.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.question_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let full = || StoreError::Unavailable(format!("{open} questions are open already"));
        let (refused, why) = if open > QUESTIONS_MAX || total > QUESTION_BYTES_MAX {
            (question, full())
        } else {
            match self.questions.try_send(question) {
                Ok(()) => return,
                Err(TrySendError::Full(question)) => (question, full()),
                Err(TrySendError::Closed(question)) => (question, closed()),
            }
        };
        self.answered(bytes);
        count(&self.stats.questions_refused);
        refused.refuse(&why);
    }

    /// A question of this size is answered.
    pub(super) fn answered(&self, bytes: usize) {
        self.questions_open.fetch_sub(1, Ordering::Relaxed);
        self.question_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Who writes: `WRITER-NUMBER`.
    pub(super) fn write_name(&self, number: u64) -> String {
        format!("{}-{number}", self.writer)
    }

    /// Puts the outbox's figures where they can be seen, and wakes who waits for it to be empty.
    pub(super) fn show(&self, outbox: &Outbox) {
        set(&self.stats.writes_waiting, outbox.len());
        set(&self.stats.bytes_waiting, outbox.byte_len());
        if outbox.is_empty() {
            self.empty.notify_all();
        }
        if outbox.len() <= WRITES_FEW {
            for tell in self.room_wanted().drain(..) {
                tell();
            }
        }
    }

    /// Calls back as soon as few writes wait, which may be now.
    pub(super) fn when_few_wait(&self, tell: Callback) {
        let outbox = self.outbox();
        self.room_wanted().push(tell);
        self.show(&outbox);
    }

    fn room_wanted(&self) -> MutexGuard<'_, Vec<Callback>> {
        self.room_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing waits, at most `wait`. Returns the number of writes left.
    pub(super) fn wait_until_empty(&self, wait: Duration) -> usize {
        let outbox = self.outbox();
        let (outbox, _) = self
            .empty
            .wait_timeout_while(outbox, wait, |outbox| !outbox.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        outbox.len()
    }

    /// Nothing more is taken in; what waits may be written until then.
    pub(super) fn close(&self, until: Instant) {
        *self.closing() = Some(until);
        self.news.notify_one();
    }

    pub(super) fn closing_at(&self) -> Option<Instant> {
        *self.closing()
    }

    fn closing(&self) -> MutexGuard<'_, Option<Instant>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
