//! The two changes of a record, as scripts: Redis runs each as one step, so the epoch that is
//! compared is the epoch that is replaced.
//!
//! A delete leaves a hash of two fields for a while, `epoch` and `deleted`: without it a save of an
//! earlier owner that comes late would find nothing newer, and its record would stay.
//!
//! Epochs are compared as text, by length and then by digits: a number in Lua is exact to 2^53 only.

use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind, Value,
};

use super::connect::Connection;
use super::meaning::{Meaning, meaning};
use super::{fields, key};
use crate::limits::{DELETED_S, FIELDS_PER_HSET, RECORD_GRACE_S};
use crate::{Record, StoreError};

/// `KEYS[1]`: the record. `ARGV[1]`: seconds to live, 0 for ever; `ARGV[2]`: fields per HSET;
/// `ARGV[3]`: 1 in a cluster; from `ARGV[4]` on names and values, of which `ARGV[7]` is the epoch and
/// `ARGV[9]` is who writes. Answers 0: stored; 1: a later write of the same writer is there; or the
/// higher epoch, or the one that was deleted.
///
/// A record is replaced by a new hash, which takes the least memory. Not so in a cluster: while a
/// slot moves, the node that it leaves serves the keys that it still has and lets no new one in. A
/// record that was deleted there could not be written again by the same script, and would be lost.
/// So there the new fields are set over the old ones, and the key never goes.
const SAVE: &str = r"
local epoch, write = ARGV[7], ARGV[9]
local there = redis.call('HMGET', KEYS[1], 'epoch', 'write', 'deleted')
local in_place = there[1] and ARGV[3] == '1'
if there[1] then
  if #there[1] > #epoch or (#there[1] == #epoch and there[1] > epoch) then return there[1] end
  if there[1] == epoch and there[3] then return there[1] end
  if there[1] == epoch and there[2] then
    local writer, number = string.match(write, '^(.*)-(%d+)$')
    local before, last = string.match(there[2], '^(.*)-(%d+)$')
    if writer == before and tonumber(last) > tonumber(number) then return 1 end
  end
  -- Either one is a write that a full server allows, and with it the rest of the script.
  redis.call(in_place and 'PERSIST' or 'DEL', KEYS[1])
end
local step = tonumber(ARGV[2]) * 2
for from = 4, #ARGV, step do
  redis.call('HSET', KEYS[1], unpack(ARGV, from, math.min(from + step - 1, #ARGV)))
end
if in_place then
  local new, old = {}, {}
  for at = 4, #ARGV, 2 do new[ARGV[at]] = true end
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not new[name] then old[#old + 1] = name end
  end
  for from = 1, #old, step do
    redis.call('HDEL', KEYS[1], unpack(old, from, math.min(from + step - 1, #old)))
  end
end
if ARGV[1] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return 0
";

/// `KEYS[1]`: the record. `ARGV[1]`: the highest epoch to delete; `ARGV[2]`: seconds to remember it;
/// `ARGV[3]`: fields per HDEL; `ARGV[4]`: 1 in a cluster. Answers 1: deleted; 0: no record was there;
/// or the higher epoch. In a cluster the key never goes, as above.
///
/// On a full server the record's memory pays for what is left. Where nothing is there, HSET is the
/// first write, which a full server refuses.
const DELETE: &str = r"
local there, epoch = redis.call('HMGET', KEYS[1], 'epoch', 'deleted'), ARGV[1]
if there[1] and (#there[1] > #epoch or (#there[1] == #epoch and there[1] > epoch)) then
  return there[1]
end
local in_place = there[1] and ARGV[4] == '1'
if there[1] then redis.call(in_place and 'PERSIST' or 'DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'deleted', 'yes')
if in_place then
  local old, step = {}, tonumber(ARGV[3])
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if name ~= 'epoch' and name ~= 'deleted' then old[#old + 1] = name end
  end
  for from = 1, #old, step do
    redis.call('HDEL', KEYS[1], unpack(old, from, math.min(from + step - 1, #old)))
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return (there[1] and not there[2]) and 1 or 0
";

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// It is in effect.
    Done,
    /// A delete found no record.
    Nothing,
    /// A later write of this process is there.
    Superseded,
    /// A record of this higher epoch is there, or one of this epoch was deleted.
    Newer(u64),
}

/// Both scripts, with their hashes.
pub(super) struct Scripts {
    save: Prepared,
    delete: Prepared,
}

struct Prepared {
    source: &'static str,
    hash: String,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let prepared = |source| Prepared {
            source,
            hash: Script::new(source).get_hash().to_owned(),
        };
        Self {
            save: prepared(SAVE),
            delete: prepared(DELETE),
        }
    }

    /// Saves a record. `write` says who writes: `WRITER-NUMBER`. Says also whether the script had to
    /// be given again.
    pub(super) async fn save(
        &self,
        connection: &Connection,
        record: &Record,
        write: &str,
    ) -> RedisResult<(Changed, bool)> {
        let mut arguments = vec![seconds_to_live(record).to_string()];
        arguments.push(FIELDS_PER_HSET.to_string());
        arguments.push(in_a_cluster(connection));
        arguments.extend(fields::of(record, write));
        let (answer, again) = run(connection, &self.save, &record.client_id, &arguments).await?;
        let changed = match answer {
            Value::Int(0) => Changed::Done,
            Value::Int(_) => Changed::Superseded,
            other => Changed::Newer(epoch(&other)?),
        };
        Ok((changed, again))
    }

    /// Deletes a record of at most this epoch.
    pub(super) async fn delete(
        &self,
        connection: &Connection,
        client_id: &str,
        highest: u64,
    ) -> RedisResult<(Changed, bool)> {
        let arguments = [
            highest.to_string(),
            DELETED_S.to_string(),
            FIELDS_PER_HSET.to_string(),
            in_a_cluster(connection),
        ];
        let (answer, again) = run(connection, &self.delete, client_id, &arguments).await?;
        let changed = match answer {
            Value::Int(0) => Changed::Nothing,
            Value::Int(_) => Changed::Done,
            other => Changed::Newer(epoch(&other)?),
        };
        Ok((changed, again))
    }
}

/// Reads a client's record.
pub(super) async fn load(
    connection: &Connection,
    client_id: &str,
) -> RedisResult<Result<Option<Record>, StoreError>> {
    let key = key::of(client_id);
    let mut command = redis::cmd("HGETALL");
    command.arg(&key);
    let answer = connection.ask(&key, &command).await?;
    let fields: Vec<(Vec<u8>, Vec<u8>)> = read(answer)?;
    let deleted = fields.iter().any(|(name, _)| name == b"deleted");
    if fields.is_empty() || deleted {
        return Ok(Ok(None));
    }
    Ok(fields::read(client_id, fields).map(Some))
}

/// Whether a key is a record, and not what a delete left. One that cannot be read is none.
pub(super) async fn is_record(connection: &Connection, key: &str) -> RedisResult<bool> {
    let mut command = redis::cmd("HGET");
    command.arg(key).arg("deleted");
    match connection.ask(key, &command).await {
        Ok(answer) => Ok(answer == Value::Nil),
        Err(error) if meaning(&error) == Meaning::Refused => Ok(false),
        Err(error) => Err(error),
    }
}

fn in_a_cluster(connection: &Connection) -> String {
    u8::from(matches!(connection, Connection::Cluster(_))).to_string()
}

/// Runs a script by its hash, or, where the server does not know it (any more), by its text, which
/// also makes the server remember it. Says whether that was so.
async fn run(
    connection: &Connection,
    script: &Prepared,
    client_id: &str,
    arguments: &[String],
) -> RedisResult<(Value, bool)> {
    let key = key::of(client_id);
    let command = |name: &str, script: &str| -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&key).arg(arguments);
        command
    };
    let by_hash = command("EVALSHA", &script.hash);
    match connection.ask(&key, &by_hash).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            let answer = connection
                .ask(&key, &command("EVAL", script.source))
                .await?;
            Ok((answer, true))
        }
        answer => Ok((answer?, false)),
    }
}

/// How long Redis keeps a record, in seconds; 0: for ever, while the client is connected or its session never
/// expires.
pub fn seconds_to_live(record: &Record) -> u64 {
    if record.disconnected_at_ms.is_none() || record.expiry_s == u32::MAX {
        return 0;
    }
    u64::from(record.expiry_s) + RECORD_GRACE_S
}

fn epoch(answer: &Value) -> RedisResult<u64> {
    read(answer.clone())
}

/// Reads an answer. One of another kind than this program knows is no failure of the connection.
pub(super) fn read<T: FromRedisValue>(answer: Value) -> RedisResult<T> {
    redis::from_redis_value(answer).map_err(|error| {
        let what = "the answer is not what was expected";
        RedisError::from((ErrorKind::UnexpectedReturnType, what, error.to_string()))
    })
}
