//! Going through all records.
//!
//! Redis gives a cursor for one server; in a cluster the masters are gone through one after the
//! other. A place in a scan is 48 bits of cursor, 8 bits of the master's position, and 8 bits that
//! tell a different list of masters: then the scan is refused, since it would miss records.

use std::hash::BuildHasher as _;

use redis::RedisResult;
use tokio::task::JoinSet;

use super::cluster::{Address, Range};
use super::connect::Connection;
use super::{key, script};
use crate::limits::{CLUSTER_MASTERS_MAX, SCAN_READS};
use crate::{Page, Record, StoreError};

const CURSOR_BITS: u32 = 48;
/// Keys looked at by one SCAN of a count.
const COUNT_STEP: usize = 1_000;

/// A page, and how many keys or records in it were not readable.
pub(super) struct Scanned {
    pub(super) page: Page,
    pub(super) unread: usize,
}

const _: () = assert!(CLUSTER_MASTERS_MAX <= 256, "8 bits for their positions");

/// The servers to go through: none stands for the one that is connected.
struct Servers {
    masters: Vec<Address>,
    check: u64,
}

/// Keys of one SCAN.
struct Keys {
    keys: Vec<Vec<u8>>,
    next: Option<u64>,
}

/// Some records from `from` on.
pub(super) async fn page(
    connection: &Connection,
    from: u64,
    limit: usize,
) -> RedisResult<Result<Scanned, StoreError>> {
    let servers = servers(connection).await?;
    let keys = match keys(connection, &servers, from, limit.clamp(1, COUNT_STEP)).await? {
        Ok(keys) => keys,
        Err(error) => return Ok(Err(error)),
    };
    let mut records = Vec::with_capacity(keys.keys.len());
    let mut unread = 0;
    for some in keys.keys.chunks(SCAN_READS) {
        read(connection, some, &mut records, &mut unread).await?;
    }
    let page = Page {
        records,
        next: keys.next,
    };
    Ok(Ok(Scanned { page, unread }))
}

/// The number of keys that are records, each looked at: there are those that deletes left. A key that
/// Redis shows twice while it shrinks its table counts twice.
pub(super) async fn count(connection: &Connection) -> RedisResult<u64> {
    let servers = servers(connection).await?;
    let mut count = 0;
    let mut from = Some(0);
    while let Some(at) = from {
        match keys(connection, &servers, at, COUNT_STEP).await? {
            Ok(keys) => {
                for some in keys.keys.chunks(SCAN_READS) {
                    count += records_among(connection, some).await?;
                }
                from = keys.next;
            }
            Err(error) => return Err(std::io::Error::other(error).into()),
        }
    }
    Ok(count)
}

async fn records_among(connection: &Connection, keys: &[Vec<u8>]) -> RedisResult<u64> {
    let mut looks = JoinSet::new();
    // What is no text is no key of ours.
    let texts = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
    for key in texts.map(str::to_owned) {
        let connection = connection.clone();
        looks.spawn_local(async move { script::is_record(&connection, &key).await });
    }
    let mut count = 0;
    for look in looks.join_all().await {
        count += u64::from(look?);
    }
    Ok(count)
}

/// Reads records, all at once, and adds those that are still there.
async fn read(
    connection: &Connection,
    keys: &[Vec<u8>],
    records: &mut Vec<Record>,
    unread: &mut usize,
) -> RedisResult<()> {
    let mut reads = JoinSet::new();
    for key in keys {
        let Ok(client_id) = key::client_of(key) else {
            *unread += 1;
            continue;
        };
        let connection = connection.clone();
        reads.spawn_local(async move { script::load(&connection, &client_id).await });
    }
    for read in reads.join_all().await {
        match read? {
            Ok(record) => records.extend(record),
            Err(error) => {
                *unread += 1;
                tracing::debug!(%error, "a session record cannot be read");
            }
        }
    }
    Ok(())
}

async fn keys(
    connection: &Connection,
    servers: &Servers,
    from: u64,
    step: usize,
) -> RedisResult<Result<Keys, StoreError>> {
    let cursor = from & ((1 << CURSOR_BITS) - 1);
    let at = (from >> CURSOR_BITS) as usize & 0xFF;
    if from != 0 && from >> (CURSOR_BITS + 8) != servers.check {
        let what = "the masters of the cluster have changed: begin the scan again";
        return Ok(Err(StoreError::Unavailable(what.to_owned())));
    }
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(key::PATTERN);
    scan.arg("COUNT").arg(step);
    let answer = match (connection, servers.masters.get(at)) {
        (Connection::Cluster(cluster), Some(master)) => {
            cluster.ask_node(master, &scan, false).await?
        }
        // One server has all keys, and it does not matter which one is named.
        _ => connection.ask(key::PATTERN, &scan).await?,
    };
    let (cursor, keys): (u64, Vec<Vec<u8>>) = script::read(answer)?;
    if cursor >> CURSOR_BITS != 0 {
        let what = "a SCAN cursor of at most 48 bits";
        return Ok(Err(StoreError::Malformed { what }));
    }
    let (at, more) = match cursor {
        0 => (at + 1, at + 1 < servers.masters.len()),
        _ => (at, true),
    };
    let next = servers.check << (CURSOR_BITS + 8) | (at as u64) << CURSOR_BITS | cursor;
    Ok(Ok(Keys {
        keys,
        next: more.then_some(next),
    }))
}

/// The masters that have slots, in the order of their addresses.
async fn servers(connection: &Connection) -> RedisResult<Servers> {
    match connection {
        Connection::Server(_) => Ok(Servers {
            masters: Vec::new(),
            check: 0,
        }),
        Connection::Cluster(cluster) => Ok(Servers::of(&cluster.learn().await?)),
    }
}

impl Servers {
    /// From ranges in the order of their masters.
    fn of(ranges: &[Range]) -> Self {
        let hash = foldhash::fast::FixedState::with_seed(0).hash_one(ranges);
        let mut masters: Vec<_> = ranges.iter().map(|range| range.master.clone()).collect();
        masters.dedup();
        Self {
            masters,
            // Never 0, which is the check of a scan that begins.
            check: hash % 255 + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_list_has_another_check() {
        let range = |port, first| Range {
            master: ("127.0.0.1".to_owned(), port),
            first,
            last: first + 99,
        };
        let servers = Servers::of(&[range(1, 100), range(2, 0), range(2, 200)]);
        let ports: Vec<_> = servers.masters.iter().map(|(_, port)| *port).collect();
        assert_eq!(ports, [1, 2]);
        let checks = (0..100).map(|slot| Servers::of(&[range(1, slot)]).check);
        let different: std::collections::BTreeSet<_> = checks.collect();
        assert!(different.len() > 60 && !different.contains(&0));
    }
}
