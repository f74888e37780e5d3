//! A simulated Redis: it answers late or not at all, fails, and comes back with less than it had acknowledged.

mod data;
mod faults;

use crate::env::Env;
use crate::queue::Event;
use crate::rng::Rng;
use data::Data;
pub(crate) use data::WriteName;
pub(crate) use faults::RedisPlan;
use session_store::Record;
use std::collections::BTreeMap;
use std::fmt;

/// Number of a call, in the order in which they left.
pub(crate) type CallId = u64;

/// Who calls: a life of a proxy, and the number of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Caller {
    pub(crate) proxy: usize,
    pub(crate) life: u32,
    pub(crate) link: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Save(Record, WriteName),
    Delete(String, u64),
    Load(String),
    /// The mark, or this one if there is none.
    Mark(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The change is made, or a newer one stands.
    Written,
    Loaded(Option<Record>),
    Mark(u64),
    /// Redis cannot do it now.
    NotNow,
    /// The connection is broken.
    Broken,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Save(record, by) => {
                let Record {
                    client_id, epoch, ..
                } = record;
                let filters = record.filters.iter().map(|filter| &filter.filter);
                let filters: Vec<_> = filters.collect();
                write!(
                    f,
                    "saves the record of {client_id}, epoch {epoch}, {filters:?}, write {}",
                    by.1
                )
            }
            Self::Delete(client_id, epoch) => {
                write!(f, "deletes the record of {client_id}, epoch {epoch}")
            }
            Self::Load(client_id) => write!(f, "loads the record of {client_id}"),
            Self::Mark(_) => write!(f, "looks at the mark"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written => write!(f, "done"),
            Self::Loaded(None) => write!(f, "there is none"),
            Self::Loaded(Some(record)) => write!(f, "epoch {}", record.epoch),
            Self::Mark(mark) => write!(f, "{mark:016x}"),
            Self::NotNow => write!(f, "not now"),
            Self::Broken => write!(f, "the connection is broken"),
        }
    }
}

/// A call on its way to Redis, or its answer on its way back.
#[derive(Debug)]
enum Call {
    Asked(Caller, Command),
    Answered(Answer),
}

pub(crate) struct Redis {
    plan: RedisPlan,
    data: Data,
    up: bool,
    /// Counts its starts: connections to an earlier one are broken.
    life: u32,
    /// The life to which each connection was made, and when the last call over it comes.
    links: BTreeMap<Caller, (u32, u64)>,
    calls: BTreeMap<CallId, Call>,
    last_call: CallId,
    /// Until when everything takes so much longer.
    slow: (u64, u64),
    /// Until when it answers nothing but errors.
    fails_until: u64,
    /// Until when each proxy does not reach it.
    away_from: Vec<u64>,
}

impl Redis {
    pub(crate) fn new(plan: RedisPlan, proxies: usize) -> Self {
        Self {
            plan,
            data: Data::default(),
            up: true,
            life: 1,
            links: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            slow: (0, 0),
            fails_until: 0,
            away_from: vec![0; proxies],
        }
    }

    /// What is stored of a client.
    pub(crate) fn record(&self, now: u64, client_id: &str) -> Option<Record> {
        self.data.load(now, client_id)
    }

    fn delay(&self, now: u64, rng: &mut Rng) -> u64 {
        let late = if now < self.slow.0 { self.slow.1 } else { 0 };
        rng.skewed(self.plan.latency_us.0, self.plan.latency_us.1) + late
    }

    fn reaches(&self, now: u64, proxy: usize) -> bool {
        now >= self.away_from[proxy]
    }

    fn execute(&mut self, now: u64, caller: Caller, command: Command) -> Option<Answer> {
        if !self.reaches(now, caller.proxy) {
            return None;
        }
        if !self.up
            || self
                .links
                .get(&caller)
                .is_none_or(|(life, _)| *life != self.life)
        {
            return Some(Answer::Broken);
        }
        if now < self.fails_until {
            return Some(Answer::NotNow);
        }
        let data = &mut self.data;
        Some(match command {
            Command::Save(record, by) => {
                data.save(now, &record, by);
                Answer::Written
            }
            Command::Delete(client_id, epoch) => {
                data.delete(now, &client_id, epoch);
                Answer::Written
            }
            Command::Load(client_id) => Answer::Loaded(data.load(now, &client_id)),
            Command::Mark(offered) => Answer::Mark(data.mark(now, offered)),
        })
    }
}

impl Env {
    /// A proxy begins to make a connection; [`Event::RedisOpened`] says when that comes to its end.
    pub(crate) fn open_redis(&mut self, caller: Caller) {
        let delay = self.redis.delay(self.now, &mut self.rng);
        let Caller { proxy, life, link } = caller;
        self.after(delay, Event::RedisOpened { proxy, life, link });
    }

    /// Whether the connection is made.
    pub(crate) fn redis_opened(&mut self, caller: Caller) -> bool {
        let redis = &mut self.redis;
        let made = redis.up && redis.reaches(self.now, caller.proxy);
        if made {
            redis.links.insert(caller, (redis.life, self.now));
        }
        made
    }

    /// Sends a command. Commands over one connection come in their order.
    pub(crate) fn call_redis(&mut self, caller: Caller, command: Command) -> CallId {
        let delay = self.redis.delay(self.now, &mut self.rng);
        let redis = &mut self.redis;
        redis.last_call += 1;
        let call = redis.last_call;
        let mut at = self.now + delay;
        if let Some((_, last)) = redis.links.get_mut(&caller) {
            at = at.max(*last);
            *last = at;
        }
        redis.calls.insert(call, Call::Asked(caller, command));
        self.queue.put(at, Event::RedisCall { call });
        call
    }

    /// A command comes to Redis. Who sent it may not wait any more.
    pub(crate) fn redis_hears(&mut self, call: CallId) {
        let Some(Call::Asked(caller, command)) = self.redis.calls.remove(&call) else {
            return;
        };
        let what = command.to_string();
        let Some(answer) = self.redis.execute(self.now, caller, command) else {
            return;
        };
        let (now, proxy) = (self.now, caller.proxy);
        let answered = format_args!("Redis: proxy {proxy} {what}: {answer}");
        self.trace.say(now, answered);
        let delay = self.redis.delay(self.now, &mut self.rng);
        self.redis.calls.insert(call, Call::Answered(answer));
        let Caller { proxy, life, .. } = caller;
        self.after(delay, Event::RedisAnswer { proxy, life, call });
    }

    /// The answer, which comes now. One that Redis gave in an earlier life is lost on its way.
    pub(crate) fn redis_answer(&mut self, call: CallId) -> Answer {
        match self.redis.calls.remove(&call) {
            Some(Call::Answered(answer)) => answer,
            _ => Answer::Broken,
        }
    }
}
