//! Finds out that Redis has lost what it had: FLUSHALL, or a server that comes back without its data.
//!
//! `mqtt-fleet:mark` is a random text that whoever finds none puts there, once and for all. A process that finds another
//! one than before knows that everything around it has gone too. In a cluster each master has one,
//! `mqtt-fleet:mark:{N}`, with the least N whose slot is the master's first: so the loss of one master's keys is seen.
//!
//! What is not seen: a server that comes back with older data. Its records are stale, and mended when their sessions
//! are resumed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use redis::{RedisError, RedisResult};

use super::cluster::slot_of;
use super::connect::Connection;
use super::driver::dice;
use super::meaning::is_lost;
use super::question::Desk;
use super::script::read;
use super::stats::count;
use crate::limits::{MARK_ASK_MS, REFUSALS_LOGGED_EVERY_MS};

const KEY: &str = "mqtt-fleet:mark";

/// `KEYS[1]`: the mark; `ARGV[1]`: what to put there if there is none. Answers what is there then.
const TAKE_PART: &str = r"
local mark = redis.call('GET', KEYS[1])
if not mark then
  mark = ARGV[1]
  redis.call('SET', KEYS[1], mark)
end
return mark
";

/// Looks again and again until the store is closed: with each new connection, and every [`MARK_ASK_MS`].
pub(super) async fn watch(mut desk: Desk) {
    let mut marks = Marks::default();
    let mut after = 0;
    let mut logged = None;
    while let Ok(link) = desk.next_link(after).await {
        let asked = look(&desk, &link.connection, &mut marks).await;
        if let Err(error) = asked {
            count(&desk.shared.stats.mark_failed);
            if !is_lost(&error) {
                log(&mut logged, &error);
            } else if matches!(link.connection, Connection::Server(_)) {
                after = link.number;
                // If the driver has that many to look at, it knows.
                drop(desk.lost.try_send((after, error)));
                continue;
            }
        }
        if std::mem::take(&mut marks.lost) {
            count(&desk.shared.stats.wipes);
            tracing::warn!(
                "Redis has lost what it had: the records of connected clients are written again, the others when their \
                 sessions are resumed"
            );
        }
        let next_link = desk.next_link(link.number);
        // A new connection may be to a server that has begun anew.
        drop(tokio::time::timeout(Duration::from_millis(MARK_ASK_MS), next_link).await);
    }
}

/// The marks seen last, by their keys.
#[derive(Debug, Default)]
struct Marks {
    /// In a cluster: the first slots of the masters, and a key for each.
    of_masters: (BTreeSet<u16>, Vec<String>),
    seen: BTreeMap<String, String>,
    /// One was another than before.
    lost: bool,
}

impl Marks {
    fn of_masters(&mut self, slots: BTreeSet<u16>) -> Vec<String> {
        if self.of_masters.0 != slots {
            self.of_masters = (slots.clone(), keys_in(slots));
        }
        self.of_masters.1.clone()
    }

    fn see(&mut self, key: String, mark: String) {
        let before = self.seen.get(&key);
        self.lost |= before.is_some_and(|before| *before != mark);
        self.seen.insert(key, mark);
    }
}

/// Looks at every mark that can be seen; the last failure, if there was one.
async fn look(desk: &Desk, connection: &Connection, marks: &mut Marks) -> RedisResult<()> {
    let keys = match connection {
        Connection::Server(_) => vec![KEY.to_owned()],
        Connection::Cluster(cluster) => marks.of_masters(cluster.first_slots()),
    };
    marks.seen.retain(|key, _| keys.contains(key));
    let mut result = Ok(());
    for key in keys {
        let mut command = redis::cmd("EVAL");
        command.arg(TAKE_PART).arg(1).arg(&key);
        command.arg(format!("{:016x}", dice()));
        let permit = desk.permits.acquire().await;
        let answer = connection.ask(&key, &command).await;
        drop(permit);
        match answer.and_then(read) {
            Ok(mark) => marks.see(key, mark),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// A key in each of these slots.
fn keys_in(mut slots: BTreeSet<u16>) -> Vec<String> {
    let mut keys = Vec::with_capacity(slots.len());
    // Every slot has one among some hundred thousand.
    for n in 0_u32.. {
        if slots.is_empty() {
            break;
        }
        let key = format!("{KEY}:{{{n}}}");
        if slots.remove(&slot_of(&key)) {
            keys.push(key);
        }
    }
    keys
}

/// Says so, now and then.
fn log(logged: &mut Option<Instant>, error: &RedisError) {
    let every = Duration::from_millis(REFUSALS_LOGGED_EVERY_MS);
    if logged.is_none_or(|last| last.elapsed() >= every) {
        *logged = Some(Instant::now());
        tracing::warn!(
            "it cannot be seen whether Redis loses session records, by its key {KEY}: {error}. They are written when their \
             clients change something or resume"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_mark_than_before_is_a_loss_and_a_first_one_is_none() {
        let mut marks = Marks::default();
        let mut see = |key: &str, mark: &str| {
            marks.see(key.to_owned(), mark.to_owned());
            std::mem::take(&mut marks.lost)
        };
        assert!(!see("a", "1") && !see("a", "1") && !see("b", "2"));
        assert!(see("a", "3") && !see("b", "2") && !see("a", "3"));
    }

    #[test]
    fn each_master_has_a_key_of_its_own() {
        let slots = BTreeSet::from([0, 5_461, 10_923, 16_383]);
        let keys = keys_in(slots.clone());
        let found: BTreeSet<u16> = keys.iter().map(|key| slot_of(key)).collect();
        assert_eq!((keys.len(), &found), (4, &slots));
        assert!(keys.iter().all(|key| key.starts_with("mqtt-fleet:mark:{")));
        let mut marks = Marks::default();
        assert_eq!(marks.of_masters(slots.clone()), keys);
        assert_eq!(marks.of_masters(slots), keys);
    }
}
