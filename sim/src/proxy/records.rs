//! A proxy's session records: the production machine that keeps them, the production outbox of writes, and around them what
//! the thread does that talks to one Redis.

use crate::env::Env;
use crate::redis::{Answer, CallId, Caller, Command};
use cluster::topology::Routing;
use proxy::counters::ProxyCounters;
use proxy::records::{FilterQuestion, Keeping, Load, Loaded, RecordChange, Store};
use session_store::limits::{
    IN_FLIGHT_MAX, MARK_ASK_MS, PROBES, RESPONSE_TIMEOUT_MS, RETRY_MS_MAX, RETRY_MS_MIN,
    STORE_WAIT_MS, WAITING_BYTES_MAX, WAITING_ENTRIES_MAX,
};
use session_store::{Offered, Outbox, Record, StoreError, Write};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A call without an answer.
struct Open {
    link: u64,
    /// Given up then.
    until: u64,
    what: What,
}

enum What {
    Write(Arc<str>),
    Load(Asked),
    Mark,
}

/// A load, and until when it may be answered.
struct Asked {
    load: Load,
    until: u64,
}

/// The way to Redis.
struct Client {
    proxy: usize,
    life: u32,
    now: u64,
    outbox: Outbox,
    /// The connection, while there is one, and how many there have been.
    link: Option<u64>,
    links: u64,
    opening: bool,
    retry_at: u64,
    up: bool,
    /// It has failed, and done nothing since.
    in_trouble: bool,
    open: BTreeMap<CallId, Open>,
    /// Loads that wait for a connection.
    asked: Vec<Asked>,
    loaded: Vec<Loaded>,
    mark: Option<u64>,
    mark_at: u64,
    wipes: u64,
}

/// What a shard does with the changes of its clients.
pub(super) struct Records {
    keeping: Keeping,
    client: Client,
}

impl Store for Client {
    fn is_up(&self) -> bool {
        self.up
    }

    fn writes_waiting(&self) -> usize {
        self.outbox.len()
    }

    fn wipes(&self) -> u64 {
        self.wipes
    }

    fn put(&mut self, write: Write) -> Result<bool, StoreError> {
        match self.outbox.offer(write) {
            Offered::Taken | Offered::Coalesced => Ok(true),
            Offered::Outdated => Ok(false),
            Offered::Full => Err(StoreError::Waiting {
                writes: self.outbox.len(),
                bytes: self.outbox.byte_len(),
            }),
        }
    }

    fn load(&mut self, load: Load) {
        let until = self.now + STORE_WAIT_MS * 1_000;
        self.asked.push(Asked { load, until });
    }
}

impl Records {
    pub(super) fn new(proxy: usize, life: u32, routing: &Arc<Routing>) -> Self {
        Self {
            keeping: Keeping::new(name_of(proxy), Arc::clone(routing)).with_fixed_order(),
            client: Client {
                proxy,
                life,
                now: 0,
                outbox: Outbox::new(WAITING_ENTRIES_MAX, WAITING_BYTES_MAX),
                link: None,
                links: 0,
                opening: false,
                retry_at: 0,
                up: false,
                in_trouble: false,
                open: BTreeMap::new(),
                asked: Vec::new(),
                loaded: Vec::new(),
                mark: None,
                mark_at: 0,
                wipes: 0,
            },
        }
    }

    /// Takes changes in, and does what is due. `now_ms` is the proxy's own time.
    pub(super) fn turn(
        &mut self,
        env: &mut Env,
        now_ms: u64,
        changes: Vec<RecordChange>,
        counters: &ProxyCounters,
    ) {
        self.client.now = env.now;
        let wall_ms = env.wall_ms(0);
        for change in changes {
            self.keeping.take(now_ms, wall_ms, change, counters);
        }
        self.client.give_up_late(env);
        let answers = std::mem::take(&mut self.client.loaded);
        self.keeping
            .turn(now_ms, answers, &mut self.client, counters);
        self.client.send(env);
        if !self.client.loaded.is_empty() {
            // What waited to be written was the answer.
            self.turn(env, now_ms, Vec::new(), counters);
        }
    }

    /// The attempt to make a connection has come to its end.
    pub(super) fn opened(&mut self, env: &mut Env, link: u64) {
        self.client.opened(env, link);
    }

    /// An answer has come.
    pub(super) fn hears(&mut self, env: &mut Env, call: CallId) {
        let answer = env.redis_answer(call);
        if let Some(open) = self.client.open.remove(&call) {
            self.client.answered(env, open, answer);
        }
    }

    pub(super) fn next_question(&mut self) -> Option<FilterQuestion> {
        self.keeping.next_question()
    }

    /// When it has something to do without being told, beside each second.
    pub(super) fn due(&self) -> Option<u64> {
        let client = &self.client;
        let calls = client.open.values().map(|open| open.until);
        let loads = client.asked.iter().map(|asked| asked.until);
        let retry = (client.link.is_none() && !client.opening).then_some(client.retry_at);
        let mark = client.link.map(|_| client.mark_at);
        calls.chain(loads).chain(retry).chain(mark).min()
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.keeping.has_waiting(&self.client) || !self.client.outbox.is_empty()
    }
}

impl Client {
    fn caller(&self, link: u64) -> Caller {
        Caller {
            proxy: self.proxy,
            life: self.life,
            link,
        }
    }

    fn call(&mut self, env: &mut Env, link: u64, command: Command, what: What) {
        let call = env.call_redis(self.caller(link), command);
        let mut until = env.now + RESPONSE_TIMEOUT_MS * 1_000;
        if let What::Load(asked) = &what {
            until = until.min(asked.until);
        }
        self.open.insert(call, Open { link, until, what });
    }

    /// What may leave leaves; without a connection one is made.
    fn send(&mut self, env: &mut Env) {
        let Some(link) = self.link else {
            if !self.opening && env.now >= self.retry_at {
                self.links += 1;
                self.opening = true;
                env.open_redis(self.caller(self.links));
            }
            return;
        };
        let of_write = |open: &&Open| matches!(open.what, What::Write(_));
        let limit = if self.in_trouble {
            PROBES
        } else {
            IN_FLIGHT_MAX
        };
        while self.open.values().filter(of_write).count() < limit
            && let Some(next) = self.outbox.take_next()
        {
            let by = (
                (self.proxy as u64) << 32 | u64::from(self.life),
                next.number,
            );
            let command = match &*next.write {
                Write::Save { record, .. } => {
                    let record = Record::decode(record).expect("it was encoded before");
                    Command::Save(record, by)
                }
                Write::Delete { client_id, epoch } => {
                    Command::Delete(client_id.to_string(), *epoch)
                }
            };
            let client_id = Arc::clone(next.write.client_id());
            self.call(env, link, command, What::Write(client_id));
        }
        for asked in std::mem::take(&mut self.asked) {
            self.send_load(env, link, asked);
        }
        if env.now >= self.mark_at {
            self.mark_at = env.now + MARK_ASK_MS * 1_000;
            let offered = env.rng.next();
            self.call(env, link, Command::Mark(offered), What::Mark);
        }
    }

    fn send_load(&mut self, env: &mut Env, link: u64, asked: Asked) {
        let client_id = asked.load.client_id.to_string();
        // What waits to be written is newer than what is stored.
        if let Some(waiting) = self.outbox.newest(&client_id) {
            let result = match &*waiting.write {
                Write::Save { record, .. } => Record::decode(record).map(Some),
                Write::Delete { .. } => Ok(None),
            };
            let load = asked.load;
            self.loaded.push(Loaded { load, result });
            return;
        }
        self.call(env, link, Command::Load(client_id), What::Load(asked));
    }

    fn opened(&mut self, env: &mut Env, link: u64) {
        self.opening = false;
        if env.redis_opened(self.caller(link)) {
            self.link = Some(link);
            // A new connection may be to a server that has begun anew.
            self.mark_at = env.now;
            if self.outbox.is_empty() || !self.in_trouble {
                self.well();
            }
        } else {
            self.trouble(env);
        }
    }

    fn answered(&mut self, env: &mut Env, open: Open, answer: Answer) {
        let passed = !matches!(answer, Answer::NotNow | Answer::Broken);
        match (open.what, answer) {
            (What::Write(client_id), Answer::Written) => self.outbox.done(&client_id),
            (What::Write(client_id), _) => self.outbox.failed(&client_id, false),
            (What::Load(asked), Answer::Loaded(record)) => {
                let (load, result) = (asked.load, Ok(record));
                self.loaded.push(Loaded { load, result });
            }
            (What::Load(asked), _) => self.asked.push(asked),
            (What::Mark, Answer::Mark(mark)) => {
                let before = self.mark.replace(mark);
                self.wipes += u64::from(before.is_some_and(|before| before != mark));
            }
            (What::Mark, _) => {}
        }
        if self.link != Some(open.link) {
            return;
        }
        if passed {
            self.well();
        } else {
            self.link = None;
            self.trouble(env);
        }
    }

    fn well(&mut self) {
        self.up = true;
        self.in_trouble = false;
    }

    fn trouble(&mut self, env: &mut Env) {
        self.up = false;
        self.in_trouble = true;
        self.retry_at = env.now + env.rng.skewed(RETRY_MS_MIN * 1_000, RETRY_MS_MAX * 1_000);
    }

    /// Calls that were not answered in time fail. What was asked may still be done.
    fn give_up_late(&mut self, env: &mut Env) {
        let now = env.now;
        let open = std::mem::take(&mut self.open).into_iter();
        let (late, open) = open.partition::<BTreeMap<_, _>, _>(|(_, open)| open.until <= now);
        self.open = open;
        for open in late.into_values() {
            match open.what {
                // The connection may be well: it is not waited for.
                What::Load(asked) if asked.until <= now => self.asked.push(asked),
                _ => self.answered(env, open, Answer::Broken),
            }
        }
        let late = self.asked.extract_if(.., |asked| asked.until <= now);
        self.loaded.extend(late.map(too_late));
    }
}

fn too_late(asked: Asked) -> Loaded {
    Loaded {
        load: asked.load,
        result: Err(StoreError::Unavailable("no answer in time".to_owned())),
    }
}

/// A proxy's name in records.
pub(crate) fn name_of(proxy: usize) -> String {
    format!("proxy-{proxy}")
}
