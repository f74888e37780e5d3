//! Going through all records.
//!
//! Redis gives a cursor for one server; in a cluster the masters are gone through one after the
//! other. A place in a scan is 48 bits of cursor, 8 bits of the master's position, and 8 bits that
//! tell a different list of masters: then the scan is refused, since it would miss records.

use std::hash::BuildHasher as _;

use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, RedisResult, Value};
use tokio::task::JoinSet;

use super::connect::Connection;
use super::{key, script};
use crate::limits::SCAN_READS;
use crate::{Page, Record, StoreError};

const CURSOR_BITS: u32 = 48;
/// Keys looked at by one SCAN of a count.
const COUNT_STEP: usize = 1_000;

/// A page, and how many keys or records in it were not readable.
pub(super) struct Scanned {
    pub(super) page: Page,
    pub(super) unread: usize,
}

/// Masters that a place in a scan has room for.
const MASTERS_MAX: usize = 256;

/// The servers to go through: none stands for the one that is connected.
struct Servers {
    /// Hosts and ports.
    masters: Vec<(String, u16)>,
    check: u64,
}

/// Keys of one SCAN.
struct Keys {
    keys: Vec<Vec<u8>>,
    next: Option<u64>,
}

/// Some records from `from` on.
pub(super) async fn page(
    connection: &mut Connection,
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

/// The number of keys that are records. A key that Redis shows twice while it shrinks its table
/// counts twice.
pub(super) async fn count(connection: &mut Connection) -> RedisResult<u64> {
    let servers = servers(connection).await?;
    let mut count = 0;
    let mut from = Some(0);
    while let Some(at) = from {
        match keys(connection, &servers, at, COUNT_STEP).await? {
            Ok(keys) => {
                count += keys.keys.len() as u64;
                from = keys.next;
            }
            Err(error) => return Err(std::io::Error::other(error).into()),
        }
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
        let mut connection = connection.clone();
        reads.spawn_local(async move { script::load(&mut connection, &client_id).await });
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
    connection: &mut Connection,
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
    let answer = match servers.masters.get(at) {
        Some((host, port)) => ask_master(connection, scan, host, *port).await?,
        None => connection.ask(&scan).await?,
    };
    let (cursor, keys): (u64, Vec<Vec<u8>>) = redis::from_redis_value(answer)?;
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

async fn ask_master(
    connection: &mut Connection,
    command: Cmd,
    host: &str,
    port: u16,
) -> RedisResult<Value> {
    let host = host.to_owned();
    let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
    match connection {
        Connection::Cluster(cluster) => {
            let answer = cluster.route_command(command, route).await;
            answer?.extract_error()
        }
        Connection::Server(_) => connection.ask(&command).await,
    }
}

/// The masters that have slots, in the order of their addresses.
async fn servers(connection: &mut Connection) -> RedisResult<Servers> {
    if matches!(connection, Connection::Server(_)) {
        return Ok(Servers {
            masters: Vec::new(),
            check: 0,
        });
    }
    let command = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
    let answer = connection.ask(&command).await?;
    let mut ranges = Vec::new();
    for range in redis::from_redis_value::<Vec<Vec<Value>>>(answer)? {
        let [first, last, master, ..] = &*range else {
            let error = std::io::Error::other("CLUSTER SLOTS gives a range without a master");
            return Err(error.into());
        };
        let (first, last): (u16, u16) = (
            redis::from_redis_value_ref(first)?,
            redis::from_redis_value_ref(last)?,
        );
        let node: Vec<Value> = redis::from_redis_value_ref(master)?;
        let [host, port, ..] = &*node else {
            let error = std::io::Error::other("CLUSTER SLOTS gives a master without an address");
            return Err(error.into());
        };
        let host: String = redis::from_redis_value_ref(host)?;
        let port: u16 = redis::from_redis_value_ref(port)?;
        ranges.push((host, port, first, last));
    }
    let servers = Servers::of(ranges);
    if servers.masters.len() > MASTERS_MAX {
        let error = std::io::Error::other("a scan can go through 256 masters at most");
        return Err(error.into());
    }
    Ok(servers)
}

impl Servers {
    /// From masters with the first and last slot of a range that each has.
    fn of(mut ranges: Vec<(String, u16, u16, u16)>) -> Self {
        ranges.sort();
        let hash = foldhash::fast::FixedState::with_seed(0).hash_one(&ranges);
        let mut masters: Vec<_> = ranges
            .into_iter()
            .map(|(host, port, ..)| (host, port))
            .collect();
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
    fn masters_are_in_order_and_another_list_has_another_check() {
        let range = |port, first| ("127.0.0.1".to_owned(), port, first, first + 99);
        let servers = Servers::of(vec![range(2, 0), range(1, 100), range(2, 200)]);
        let ports: Vec<_> = servers.masters.iter().map(|(_, port)| *port).collect();
        assert_eq!(ports, [1, 2]);
        let again = Servers::of(vec![range(2, 200), range(2, 0), range(1, 100)]);
        assert_eq!(again.check, servers.check);
        let checks = (0..100).map(|slot| Servers::of(vec![range(1, slot)]).check);
        let different: std::collections::BTreeSet<_> = checks.collect();
        assert!(different.len() > 60 && !different.contains(&0));
    }
}
