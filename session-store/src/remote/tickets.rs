//! Keys of TLS session tickets, shared by all proxies, so that a device resumes its TLS session on any of them.
//!
//! `mqtt-fleet:tickets` is a sorted set: each member is a key, in 64 hexadecimal digits, with the second it was made in,
//! by the clock of Redis. Whoever finds the newest one old adds one, in a script, so that of several who find it at
//! once one does. `ZREVRANGE mqtt-fleet:tickets 0 -1 WITHSCORES` shows them; whoever can read them can read tickets.
//!
//! Nothing here is urgent: while Redis is away, or refuses, a process goes on with the keys it has.

use std::fmt;
use std::time::{Duration, Instant};

use redis::{RedisError, RedisResult, Value};

use super::connect::Connection;
use super::meaning::is_lost;
use super::question::Desk;
use super::stats::count;
use crate::limits::{REFUSALS_LOGGED_EVERY_MS, TICKET_KEYS_RETRY_MS};

/// Bytes of a ticket key.
pub const TICKET_KEY_BYTES: usize = 32;

const KEY: &str = "mqtt-fleet:tickets";

/// `KEYS[1]`: the set. `ARGV`: a new key; seconds after which there has to be a newer one; seconds a key is kept; keys
/// kept. Answers the clock, whether the new key was taken, and all keys with their times, newest first. A key from
/// the future is there after the clock was set back; it would keep newer ones from being made, and goes.
const TAKE_PART: &str = r"
local set, now = KEYS[1], tonumber(redis.call('TIME')[1])
local rotate, keep, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', set, '-inf', '(' .. now - keep)
redis.call('ZREMRANGEBYSCORE', set, '(' .. now + rotate, '+inf')
local newest, made = redis.call('ZREVRANGE', set, 0, 0, 'WITHSCORES'), 0
if not newest[2] or tonumber(newest[2]) + rotate <= now then
  made = redis.call('ZADD', set, now, ARGV[1])
  redis.call('ZREMRANGEBYRANK', set, 0, -most - 1)
end
return {now, made, redis.call('ZREVRANGE', set, 0, most - 1, 'WITHSCORES')}
";

/// A key with the time it was made at.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredTicketKey {
    /// The key.
    pub bytes: [u8; TICKET_KEY_BYTES],
    /// Seconds since 1970, by the store's clock.
    pub made_s: u64,
}

/// The keys there are at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTicketKeys {
    /// The keys, the newest first; at least one.
    pub keys: Vec<StoredTicketKey>,
    /// The moment: seconds since 1970, by the store's clock.
    pub now_s: u64,
}

/// When keys are replaced, and how often they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketRules {
    /// Seconds after which there has to be a newer key.
    pub rotate_s: u64,
    /// Seconds for which a key is kept.
    pub keep_s: u64,
    /// Keys kept; the oldest go first.
    pub keys_max: usize,
    /// Time between two questions.
    pub ask_every: Duration,
}

/// What a process does with the keys. Called on the store's thread: it must not wait.
pub trait TicketKeyring: Send {
    /// Bytes for a new key, which nobody else has, in case one is needed; `None` if there are none to be had.
    fn propose(&mut self) -> Option<[u8; TICKET_KEY_BYTES]>;

    /// Takes the keys there are now.
    fn take(&mut self, keys: StoredTicketKeys);
}

impl fmt::Debug for StoredTicketKey {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredTicketKey")
            .field("made_s", &self.made_s)
            .finish_non_exhaustive()
    }
}

/// Asks for the keys from now on until the store is closed.
pub(super) async fn share(mut desk: Desk, rules: TicketRules, mut keyring: Box<dyn TicketKeyring>) {
    let mut after = 0;
    let mut logged = None;
    // Until the store is closed: then there is no next connection, or this is no longer run.
    while let Ok(link) = desk.next_link(after).await {
        let in_cluster = matches!(link.connection, Connection::Cluster(_));
        let wait = match ask(&desk, &link.connection, &rules, &mut *keyring).await {
            Ok(()) => rules.ask_every,
            Err(Failure::Lost(error)) if !in_cluster => {
                after = link.number;
                // If the driver has that many to look at, it knows.
                drop(desk.lost.try_send((after, error)));
                continue;
            }
            Err(failure) => {
                count(&desk.shared.stats.ticket_keys_failed);
                failure.log(&mut logged);
                Duration::from_millis(TICKET_KEYS_RETRY_MS).min(rules.ask_every)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Why there are no keys this time.
enum Failure {
    /// The connection is of no use any more. (A cluster repairs its connections itself.)
    Lost(RedisError),
    /// Redis, or this machine, does not do it.
    Refused(String),
}

impl Failure {
    /// Says so, now and then. What is lost is the driver's to tell.
    fn log(&self, logged: &mut Option<Instant>) {
        let Self::Refused(why) = self else { return };
        let every = Duration::from_millis(REFUSALS_LOGGED_EVERY_MS);
        if logged.is_none_or(|last| last.elapsed() >= every) {
            *logged = Some(Instant::now());
            tracing::warn!(
                "keys of TLS session tickets cannot be had from {KEY} in Redis: {why}. Those at hand stay in use"
            );
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        if is_lost(&error) {
            return Self::Lost(error);
        }
        Self::Refused(error.to_string())
    }
}

async fn ask(
    desk: &Desk,
    connection: &Connection,
    rules: &TicketRules,
    keyring: &mut dyn TicketKeyring,
) -> Result<(), Failure> {
    let proposed = keyring.propose();
    let proposed =
        proposed.ok_or_else(|| Failure::Refused("the system gives no random bytes".to_owned()))?;
    let mut command = redis::cmd("EVAL");
    command.arg(TAKE_PART).arg(1).arg(KEY);
    command.arg(hex(proposed)).arg(rules.rotate_s);
    command.arg(rules.keep_s).arg(rules.keys_max);
    let permit = desk.permits.acquire().await;
    let answer = connection.ask(KEY, &command).await?;
    drop(permit);
    let stats = &desk.shared.stats;
    let read = read(answer).map_err(|error| Failure::Refused(error.to_string()));
    let (keys, made, unread) = read?;
    for _ in 0..unread {
        count(&stats.malformed);
    }
    if keys.keys.is_empty() {
        let why = "what is there are no keys; delete it".to_owned();
        return Err(Failure::Refused(why));
    }
    if made {
        count(&stats.ticket_keys_made);
    }
    keyring.take(keys);
    count(&stats.ticket_keys_read);
    Ok(())
}

/// The keys, whether ours is new among them, and how many members are no keys.
fn read(answer: Value) -> RedisResult<(StoredTicketKeys, bool, usize)> {
    let (now_s, made, rows): (u64, bool, Vec<String>) = redis::from_redis_value(answer)?;
    let pairs = rows.chunks_exact(2);
    let found = pairs.len();
    let keys: Vec<_> = pairs.filter_map(|pair| key(&pair[0], &pair[1])).collect();
    let unread = found - keys.len();
    Ok((StoredTicketKeys { keys, now_s }, made, unread))
}

fn key(member: &str, score: &str) -> Option<StoredTicketKey> {
    Some(StoredTicketKey {
        bytes: unhex(member)?,
        made_s: score.parse().ok()?,
    })
}

fn hex(bytes: [u8; TICKET_KEY_BYTES]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

fn unhex(text: &str) -> Option<[u8; TICKET_KEY_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * TICKET_KEY_BYTES {
        return None;
    }
    let mut bytes = [0; TICKET_KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(bytes)
}
