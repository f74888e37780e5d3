//! Redis Cluster: which master has which slot, and a connection to each.
//!
//! Every command here is about one key, so routing is a table. (The cluster client of the `redis`
//! crate does more and lets one dead node hold up the others: while it looks for the slots anew it
//! runs none of the commands under way, and can wait for one of them for ever.)
//!
//! Invariant: no lock is held over a wait, except that of one node while it is being connected to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value,
};

use super::connect::Dialer;
use super::meaning::{Meaning, meaning};
use crate::limits::{CLUSTER_MASTERS_MAX, CLUSTER_REDIRECTS_MAX};

/// Slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// Host and port.
pub(super) type Address = (String, u16);

/// Consecutive slots of one master.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Range {
    pub(super) master: Address,
    pub(super) first: u16,
    pub(super) last: u16,
}

/// A cluster; shared by all who ask it.
pub(super) struct Cluster {
    dialer: Dialer,
    /// Where the first question goes.
    seeds: Vec<ConnectionInfo>,
    table: Mutex<Table>,
    nodes: Mutex<BTreeMap<Address, Arc<Node>>>,
}

/// Who has which slot, as far as is known.
#[derive(Debug, Default)]
struct Table {
    /// By the first slot.
    ranges: BTreeMap<u16, Range>,
    /// Slots that a node said are elsewhere, since the ranges were learnt.
    moved: BTreeMap<u16, Address>,
    /// Something has changed.
    stale: bool,
    /// Somebody is asking.
    asking: bool,
}

/// A node and the connection to it.
struct Node {
    info: ConnectionInfo,
    address: Address,
    dialled: tokio::sync::Mutex<Dialled>,
    /// The last attempt to connect failed.
    is_away: AtomicBool,
}

#[derive(Default)]
struct Dialled {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that one that fails is not mistaken for the next.
    number: u64,
    failed_at: Option<Instant>,
}

impl Cluster {
    /// Asks the first seed that answers for the slots.
    pub(super) async fn open(dialer: Dialer, seeds: Vec<ConnectionInfo>) -> RedisResult<Arc<Self>> {
        let cluster = Arc::new(Self {
            dialer,
            seeds,
            table: Mutex::default(),
            nodes: Mutex::default(),
        });
        cluster.learn().await?;
        Ok(cluster)
    }

    /// Sends a command about one key to the master that has it, and follows it if it has moved.
    pub(super) async fn ask(self: &Arc<Self>, key: &str, command: &Cmd) -> RedisResult<Value> {
        let slot = slot_of(key);
        self.learn_behind();
        let mut at = self.owner(slot)?;
        let mut asking = false;
        for _ in 0..CLUSTER_REDIRECTS_MAX {
            let answer = self.ask_node(&at, command, asking).await;
            let error = match answer {
                Err(error) => error,
                answer => return answer,
            };
            match (error.kind(), error.redirect_node()) {
                (ErrorKind::Server(ServerErrorKind::Moved), Some((to, _))) => {
                    at = address_in(to, &at.0)?;
                    asking = false;
                    self.table().moved_to(slot, at.clone());
                }
                (ErrorKind::Server(ServerErrorKind::Ask), Some((to, _))) => {
                    at = address_in(to, &at.0)?;
                    asking = true;
                }
                _ => {
                    // Perhaps another node has taken over.
                    self.table().stale = true;
                    return Err(error);
                }
            }
        }
        Err(failure("a slot that moves faster than one can follow"))
    }

    /// Sends a command to one node.
    pub(super) async fn ask_node(
        &self,
        address: &Address,
        command: &Cmd,
        asking: bool,
    ) -> RedisResult<Value> {
        let node = self.node(address)?;
        let (mut connection, number) = node.connection(&self.dialer).await?;
        let answer = if asking {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ASKING").ignore().add_command(command.clone());
            let answers = connection.req_packed_commands(&pipeline, 1, 1).await;
            answers
                .and_then(|mut answers| answers.pop().ok_or_else(|| failure("no answer to ASKING")))
        } else {
            connection.req_packed_command(command).await
        };
        let answer = answer.and_then(Value::extract_error);
        let is_broken =
            |error: &RedisError| error.is_io_error() || error.kind() == ErrorKind::Parse;
        if answer.as_ref().is_err_and(is_broken) {
            node.hang_up(number).await;
        }
        answer
    }

    /// Asks for the slots and returns them, in the order of their masters.
    pub(super) async fn learn(&self) -> RedisResult<Vec<Range>> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let mut last = failure("no node of the cluster is known");
        for address in self.known() {
            match self.ask_node(&address, &command, false).await {
                Ok(answer) => {
                    let ranges = ranges(answer, &address)?;
                    self.take(&ranges)?;
                    return Ok(ranges);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The first slot of each master.
    pub(super) fn first_slots(&self) -> BTreeSet<u16> {
        let table = self.table();
        let mut first: BTreeMap<&Address, u16> = BTreeMap::new();
        for range in table.ranges.values() {
            let slot = first.entry(&range.master).or_insert(range.first);
            *slot = range.first.min(*slot);
        }
        first.into_values().collect()
    }

    /// Asks for the slots while others go on, if something has changed and nobody asks yet.
    fn learn_behind(self: &Arc<Self>) {
        let mut table = self.table();
        if !table.stale || table.asking {
            return;
        }
        table.asking = true;
        drop(table);
        let cluster = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let learnt = cluster.learn().await;
            let mut table = cluster.table();
            table.asking = false;
            table.stale = learnt.is_err();
        });
    }

    /// Nodes to ask for the slots: those in use, then the seeds.
    fn known(&self) -> Vec<Address> {
        let nodes = self.nodes().keys().cloned().collect::<Vec<_>>();
        let seeds = self.seeds.iter().filter_map(address_of);
        nodes.into_iter().chain(seeds).collect()
    }

    fn take(&self, ranges: &[Range]) -> RedisResult<()> {
        let mut masters: Vec<_> = ranges.iter().map(|range| &range.master).collect();
        masters.dedup();
        if masters.len() > CLUSTER_MASTERS_MAX {
            return Err(failure(
                "the cluster has more masters than this program talks to",
            ));
        }
        // Connections to nodes that are masters no more end with their last user.
        self.nodes().retain(|address, _| masters.contains(&address));
        let mut table = self.table();
        table.moved.clear();
        table.ranges = ranges
            .iter()
            .map(|range| (range.first, range.clone()))
            .collect();
        Ok(())
    }

    fn owner(&self, slot: u16) -> RedisResult<Address> {
        let owner = self.table().owner(slot);
        owner.ok_or_else(|| {
            self.table().stale = true;
            failure("the cluster has given this slot to no node")
        })
    }

    fn node(&self, address: &Address) -> RedisResult<Arc<Node>> {
        let mut nodes = self.nodes();
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(Node {
            info: self.info(address)?,
            address: address.clone(),
            dialled: tokio::sync::Mutex::default(),
            is_away: AtomicBool::new(false),
        });
        nodes.insert(address.clone(), Arc::clone(&node));
        Ok(node)
    }

    /// How to reach a node: as the seeds, but for the address.
    fn info(&self, (host, port): &Address) -> RedisResult<ConnectionInfo> {
        let seed = self.seeds.first().ok_or_else(|| failure("no seed"))?;
        let mut address = seed.addr().clone();
        match &mut address {
            ConnectionAddr::Tcp(seed_host, seed_port)
            | ConnectionAddr::TcpTls {
                host: seed_host,
                port: seed_port,
                ..
            } => {
                seed_host.clone_from(host);
                *seed_port = *port;
            }
            _ => return Err(failure("a cluster over Unix sockets")),
        }
        Ok(seed.clone().set_addr(address))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<Address, Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn owner(&self, slot: u16) -> Option<Address> {
        if let Some(moved) = self.moved.get(&slot) {
            return Some(moved.clone());
        }
        let (_, range) = self.ranges.range(..=slot).next_back()?;
        (slot <= range.last).then(|| range.master.clone())
    }

    fn moved_to(&mut self, slot: u16, address: Address) {
        self.moved.insert(slot, address);
        self.stale = true;
    }
}

impl Node {
    /// The connection, opened if need be. While it cannot be, only one caller tries, and those who
    /// come meanwhile or soon after hear the same, at once: none of them holds up what is asked of
    /// other nodes.
    async fn connection(&self, dialer: &Dialer) -> RedisResult<(MultiplexedConnection, u64)> {
        let cannot_be_reached = || {
            let (host, port) = &self.address;
            away(&format!("{host}:{port} cannot be reached"))
        };
        let mut dialled = match self.dialled.try_lock() {
            Ok(dialled) => dialled,
            Err(_) if self.is_away.load(Ordering::Relaxed) => return Err(cannot_be_reached()),
            Err(_) => self.dialled.lock().await,
        };
        if let Some(connection) = &dialled.connection {
            return Ok((connection.clone(), dialled.number));
        }
        let just_tried = |at: Instant| at.elapsed() < dialer.pause();
        if dialled.failed_at.is_some_and(just_tried) {
            return Err(cannot_be_reached());
        }
        match dialer.dial(self.info.clone()).await {
            Ok(connection) => {
                dialled.number += 1;
                dialled.failed_at = None;
                dialled.connection = Some(connection.clone());
                self.is_away.store(false, Ordering::Relaxed);
                Ok((connection, dialled.number))
            }
            Err(error) => {
                dialled.failed_at = Some(Instant::now());
                self.is_away.store(true, Ordering::Relaxed);
                // Whatever the server has against the connection, it has not seen the command.
                match meaning(&error) {
                    Meaning::Away => Err(error),
                    Meaning::Refused => Err(away(&error.to_string())),
                }
            }
        }
    }

    /// The connection of this number has failed.
    async fn hang_up(&self, number: u64) {
        let mut dialled = self.dialled.lock().await;
        if dialled.number == number {
            dialled.connection = None;
        }
    }
}

/// The slot of a key whose hash tag is whole, as all of ours are.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, behind)| behind.split_once('}'))
        .map_or(key, |(tag, _)| tag);
    crc16(tag.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as Redis Cluster specifies.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let shifted = crc ^ u16::from(*byte) << 8;
        (0..8).fold(shifted, |crc, _| {
            let carry = crc & 0x8000 != 0;
            crc << 1 ^ if carry { 0x1021 } else { 0 }
        })
    })
}

/// Reads the answer to CLUSTER SLOTS that a node gave.
fn ranges(answer: Value, asked: &Address) -> RedisResult<Vec<Range>> {
    let mut ranges = Vec::new();
    for range in redis::from_redis_value::<Vec<Vec<Value>>>(answer)? {
        let [first, last, master, ..] = &*range else {
            return Err(failure("CLUSTER SLOTS gives a range without a master"));
        };
        let node: Vec<Value> = redis::from_redis_value_ref(master)?;
        let [host, port, ..] = &*node else {
            return Err(failure("CLUSTER SLOTS gives a master without an address"));
        };
        // A node that does not know its own name leaves it out.
        let host: Option<String> = redis::from_redis_value_ref(host)?;
        let host = host.filter(|host| !host.is_empty() && host != "?");
        ranges.push(Range {
            master: (
                host.unwrap_or_else(|| asked.0.clone()),
                redis::from_redis_value_ref(port)?,
            ),
            first: redis::from_redis_value_ref(first)?,
            last: redis::from_redis_value_ref(last)?,
        });
    }
    ranges.sort();
    Ok(ranges)
}

/// The address in a redirection; without a host it is that of the node that said so.
fn address_in(text: &str, said_by: &str) -> RedisResult<Address> {
    let address = text.rsplit_once(':').and_then(|(host, port)| {
        let host = if host.is_empty() { said_by } else { host };
        Some((host.to_owned(), port.parse().ok()?))
    });
    address.ok_or_else(|| failure("a redirection without an address"))
}

fn address_of(info: &ConnectionInfo) -> Option<Address> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.clone(), *port))
        }
        _ => None,
    }
}

/// A failure that may pass.
fn failure(what: &'static str) -> RedisError {
    away(what)
}

fn away(what: &str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::NotConnected, what.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of("mqtt-fleet:session:{foo}"), 12_182);
        assert_eq!(slot_of("foo"), 12_182);
    }

    #[test]
    fn a_table_knows_owners_and_what_has_moved_since() {
        let address = |port| ("h".to_owned(), port);
        let range = |port, first, last| Range {
            master: address(port),
            first,
            last,
        };
        let ranges = [range(1, 0, 99), range(2, 200, 299)];
        let mut table = Table {
            ranges: ranges.map(|range| (range.first, range)).into(),
            ..Table::default()
        };
        let ports = |table: &Table| {
            let port = |slot| table.owner(slot).map(|(_, port)| port);
            [0, 99, 100, 199, 200, 299, 300].map(port)
        };
        let before = [Some(1), Some(1), None, None, Some(2), Some(2), None];
        assert_eq!(ports(&table), before);
        table.moved_to(99, address(3));
        table.moved_to(300, address(3));
        let after = [Some(1), Some(3), None, None, Some(2), Some(2), Some(3)];
        assert_eq!((ports(&table), table.stale), (after, true));
    }

    #[test]
    fn a_redirection_without_a_host_is_to_the_same_one() {
        let address = |text| address_in(text, "here").ok();
        assert_eq!(address("there:7000"), Some(("there".to_owned(), 7_000)));
        assert_eq!(address("::1:7000"), Some(("::1".to_owned(), 7_000)));
        assert_eq!(address(":7000"), Some(("here".to_owned(), 7_000)));
        assert_eq!(address("there"), None);
        assert_eq!(address("there:70000"), None);
    }
}
