//! The thread that talks to Redis: it opens the connection, sends what waits, and tries again.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{RedisError, RedisResult};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::config::{RedisConfig, RedisMode};
use super::connect::{self, Connection, Opener};
use super::health::Health;
use super::in_flight::InFlight;
use super::meaning::{Meaning, meaning};
use super::outbox::Numbered;
use super::question::{Desk, Link, Lost, Question, closed};
use super::script::{Changed, Scripts};
use super::shared::Shared;
use super::stats::{count, set};
use crate::limits::{
    COUNT_TIME_MS_MAX, LOST_MAX, OPERATION_TIME_MS_MAX, PROBES, REFUSALS_LOGGED_EVERY_MS,
};
use crate::{Record, StoreError, Write};

/// A write that was answered, or was not.
struct Sent {
    client_id: Arc<str>,
    is_save: bool,
    link: u64,
    result: RedisResult<(Changed, bool)>,
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    config: RedisConfig,
    opener: Arc<Opener>,
    scripts: Arc<Scripts>,
    questions: mpsc::Receiver<Question>,
    lost: mpsc::Receiver<Lost>,
    desk: Desk,
    /// The connection, while there is one.
    link: watch::Sender<Option<Link>>,
    links: u64,
    opening: JoinSet<RedisResult<Connection>>,
    sends: JoinSet<Sent>,
    answers: JoinSet<()>,
    health: Health,
    in_flight: InFlight,
    /// Clients whose failed writes were let go again, in a cluster, to see whether they pass now.
    probes: Vec<Arc<str>>,
    refusal_logged: Option<Instant>,
    greeted: bool,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: RedisConfig,
        opener: Opener,
        questions: mpsc::Receiver<Question>,
    ) -> Self {
        let (link, link_seen) = watch::channel(None);
        let (lost_reports, lost) = mpsc::channel(LOST_MAX);
        let scripts = Arc::new(Scripts::new());
        let desk = Desk {
            shared: Arc::clone(&shared),
            scripts: Arc::clone(&scripts),
            link: link_seen,
            lost: lost_reports,
            permits: Arc::new(Semaphore::new(config.in_flight_max)),
            patience: Duration::from_millis(OPERATION_TIME_MS_MAX),
            count_patience: Duration::from_millis(COUNT_TIME_MS_MAX),
        };
        Self {
            health: Health::new(config.retry_min, config.retry_max),
            in_flight: InFlight::new(config.in_flight_max),
            opener: Arc::new(opener),
            shared,
            config,
            scripts,
            questions,
            lost,
            desk,
            link,
            links: 0,
            opening: JoinSet::new(),
            sends: JoinSet::new(),
            answers: JoinSet::new(),
            probes: Vec::new(),
            refusal_logged: None,
            greeted: false,
        }
    }

    /// Runs until the store is closed and nothing waits, or the time for that is over.
    pub(super) async fn run(mut self) {
        self.open();
        loop {
            self.send_ready();
            let closing = self.shared.closing_at();
            if closing.is_some() && self.shared.outbox().is_empty() {
                break;
            }
            tokio::select! {
                () = self.shared.news.notified() => {}
                Some(question) = self.questions.recv() => self.take(question),
                Some(answered) = self.answers.join_next() => unless_it_panicked(answered),
                Some(sent) = self.sends.join_next() => {
                    let sent = unless_it_panicked(sent);
                    self.sent(sent);
                }
                Some((link, error)) = self.lost.recv() => self.away(&error, link),
                Some(opened) = self.opening.join_next() => {
                    let opened = unless_it_panicked(opened);
                    self.opened(opened);
                }
                () = until(self.health.retry_at()) => self.retry(),
                () = until(closing) => break,
            }
        }
        self.refuse_the_rest();
    }

    /// Sends what may leave. Where one server is all there is and it has just failed, a few writes
    /// find out whether it is back.
    fn send_ready(&mut self) {
        let Some(link) = self.link.borrow().clone() else {
            return;
        };
        let probing = self.health.trouble().is_some() && !self.in_cluster();
        let limit = if probing {
            PROBES
        } else {
            self.in_flight.limit()
        };
        let shared = Arc::clone(&self.shared);
        let mut outbox = shared.outbox();
        while self.sends.len() < limit {
            let Some(next) = outbox.take_next() else {
                break;
            };
            let name = shared.write_name(next.number);
            let send = send(link.clone(), Arc::clone(&self.scripts), next, name);
            self.sends.spawn_local(send);
        }
    }

    /// A write was answered, or failed.
    fn sent(&mut self, sent: Sent) {
        let probed = self
            .probes
            .iter()
            .position(|probe| *probe == sent.client_id);
        if let Some(at) = probed {
            self.probes.swap_remove(at);
        }
        let passed = match &sent.result {
            Ok((changed, again)) => {
                self.count_change(sent.is_save, *changed, *again);
                true
            }
            Err(error) => meaning(error) == Meaning::Refused,
        };
        let parked = !passed && self.in_cluster();
        let mut outbox = self.shared.outbox();
        if passed {
            outbox.done(&sent.client_id);
        } else {
            outbox.failed(&sent.client_id, parked);
        }
        let none_parked = outbox.parked_len() == 0;
        drop(outbox);
        match sent.result {
            Err(error) if passed => self.refused(&error),
            Err(error) => {
                count(&self.shared.stats.writes_retried);
                self.away(&error, sent.link);
            }
            Ok(_) => {}
        }
        // A late answer on a connection that was given up says nothing: there is none to send on. And in a cluster a part
        // may be away: what passed elsewhere says nothing about that part.
        let present = self.present() == Some(sent.link);
        if passed && present {
            self.in_flight.answered();
        }
        if passed && present && (probed.is_some() || none_parked || !self.in_cluster()) {
            self.well();
        }
        // Last: whoever waits for the end of it sees all the figures.
        self.shared.show(&self.shared.outbox());
    }

    fn count_change(&self, is_save: bool, changed: Changed, again: bool) {
        let stats = &self.shared.stats;
        count(match changed {
            Changed::Done if is_save => &stats.saves,
            Changed::Done => &stats.deletes,
            Changed::Nothing | Changed::Superseded => &stats.writes_without_effect,
            Changed::Newer(_) => &stats.writes_newer,
        });
        if again {
            count(&stats.scripts_reloaded);
        }
    }

    /// Redis refuses the command itself. Sending it again would change nothing.
    fn refused(&mut self, error: &RedisError) {
        count(&self.shared.stats.writes_failed);
        let every = Duration::from_millis(REFUSALS_LOGGED_EVERY_MS);
        let now = Instant::now();
        if self.refusal_logged.is_none_or(|last| now - last >= every) {
            self.refusal_logged = Some(now);
            tracing::warn!("Redis refuses to write a session record: {error}");
        }
    }

    /// Something failed on the connection of this number. The connection is given up, if it is the
    /// present one. That to a cluster repairs itself.
    fn away(&mut self, error: &RedisError, link: u64) {
        if self.present() != Some(link) {
            return; // Known already.
        }
        if !self.in_cluster() {
            self.in_flight.gave_up();
            self.link.send_replace(None);
        }
        self.trouble(error);
    }

    /// Number of the connection, while there is one.
    fn present(&self) -> Option<u64> {
        self.link.borrow().as_ref().map(|link| link.number)
    }

    fn trouble(&mut self, error: &RedisError) {
        let why = connect::in_words(error, &self.config);
        if !self.health.failed(Instant::now(), &why, dice()) {
            return;
        }
        set(&self.shared.stats.up, 0);
        count(&self.shared.stats.outages);
        tracing::warn!(
            waiting = self.shared.outbox().len(),
            waiting_max = self.config.waiting_entries_max,
            "session records cannot be written: {why}. Clients are served on; what changes waits"
        );
    }

    /// Redis has done what it was asked for.
    fn well(&mut self) {
        set(&self.shared.stats.up, 1);
        if let Some(outage) = self.health.well(Instant::now()) {
            let waiting = {
                let mut outbox = self.shared.outbox();
                drop(outbox.unpark(usize::MAX));
                outbox.len()
            };
            self.probes.clear();
            let after_ms = outage.as_millis() as u64;
            tracing::info!(after_ms, waiting, "session records are written again");
        } else if !self.greeted {
            tracing::info!(
                redis = self.config.addresses(),
                "session records are kept in Redis"
            );
        }
        self.greeted = true;
    }

    fn open(&mut self) {
        if !self.opening.is_empty() {
            return;
        }
        let opener = Arc::clone(&self.opener);
        self.opening.spawn_local(async move { opener.open().await });
    }

    fn opened(&mut self, opened: RedisResult<Connection>) {
        match opened {
            Ok(connection) => {
                count(&self.shared.stats.connects);
                self.links += 1;
                let number = self.links;
                self.link.send_replace(Some(Link { connection, number }));
                // It may answer and still write nothing: then the first write shows.
                let nothing_waits = self.shared.outbox().is_empty();
                if nothing_waits || self.health.trouble().is_none() {
                    self.well();
                } else {
                    self.probe();
                }
            }
            Err(error) => {
                count(&self.shared.stats.connects_failed);
                self.trouble(&error);
            }
        }
    }

    /// The time for the next attempt has come.
    fn retry(&mut self) {
        self.health.retry();
        if self.link.borrow().is_some() {
            self.probe();
        } else {
            self.open();
        }
    }

    /// Lets some of the parked writes go.
    fn probe(&mut self) {
        self.probes = self.shared.outbox().unpark(PROBES);
    }

    fn take(&mut self, question: Question) {
        // While it is known that no answer will come in time, nobody needs to wait for it. In a
        // cluster it is a node that is away, and those who ask it are told so.
        let all_away = !self.in_cluster() || self.link.borrow().is_none();
        let trouble = self.health.trouble().filter(|_| all_away);
        if let (
            Question::Load {
                wait, client_id, ..
            },
            Some(trouble),
        ) = (&question, trouble)
            && trouble.since.elapsed() > *wait
            && self.shared.outbox().newest(client_id).is_none()
        {
            let why = StoreError::Unavailable(trouble.why.clone());
            self.shared.answered(question.byte_len());
            count(&self.shared.stats.loads);
            count(&self.shared.stats.loads_late);
            question.refuse(&why);
            return;
        }
        let desk = self.desk.clone();
        self.answers.spawn_local(desk.answer(question));
    }

    /// The end: nobody waits in vain.
    fn refuse_the_rest(mut self) {
        self.questions.close();
        while let Ok(question) = self.questions.try_recv() {
            self.shared.answered(question.byte_len());
            question.refuse(&closed());
        }
        set(&self.shared.stats.up, 0);
    }

    fn in_cluster(&self) -> bool {
        self.config.mode == RedisMode::Cluster
    }
}

async fn send(link: Link, scripts: Arc<Scripts>, sent: Numbered, name: String) -> Sent {
    let Link { connection, number } = link;
    let result = match &*sent.write {
        Write::Save { record, .. } => match Record::decode(record) {
            Ok(record) => scripts.save(&connection, &record, &name).await,
            Err(error) => Err(RedisError::from((
                redis::ErrorKind::Client,
                "a waiting record is no record",
                error.to_string(),
            ))),
        },
        Write::Delete { client_id, epoch } => scripts.delete(&connection, client_id, *epoch).await,
    };
    Sent {
        client_id: Arc::clone(sent.write.client_id()),
        is_save: matches!(&*sent.write, Write::Save { .. }),
        link: number,
        result,
    }
}

/// Waits until then; for ever, if there is no then.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// A panic in a task is one of the thread.
fn unless_it_panicked<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Any number, each time another.
pub(super) fn dice() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// When many devices come or go at once there are some hundred of each.
    #[test]
    fn what_is_on_its_way_is_small() {
        let write = bytes_of(send);
        let question = |desk: Desk, question, (): (), (): ()| desk.answer(question);
        let question = bytes_of(question);
        assert!(write <= 1_280, "{write} bytes of a write");
        assert!(question <= 1_280, "{question} bytes of a question");
    }
}
