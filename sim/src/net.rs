//! Connections between the parts of a world: in order, or not at all.
//!
//! Bytes come late, in other pieces than they were sent in, and not through a partition before that is over; a connection
//! that is cut loses what is on it. Each node pair has its own weather, so connections overtake each other.

use crate::queue::{Event, Queue};
use crate::rng::Rng;
use bytes::Bytes;
use cluster::ids::{Epoch, Handle};
use std::collections::{BTreeMap, VecDeque};

pub(crate) type ConnId = usize;
/// 0: who made the connection; 1: who took it.
pub(crate) type Side = usize;

/// Who is at an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Device(usize),
    /// A connection of a device, at its proxy.
    Shard {
        proxy: usize,
        life: u32,
        handle: Handle,
    },
    /// A proxy's link to a group.
    Link {
        proxy: usize,
        life: u32,
        group: usize,
    },
    /// A broker's end of that.
    Broker {
        broker: usize,
        life: u32,
    },
}

/// What comes through.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    /// The other end has closed the connection.
    End,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    /// Whether each end still has it.
    pub(crate) open: [bool; 2],
    /// Both ends know of it.
    pub(crate) made: bool,
    pub(crate) cut: bool,
    dirs: [Dir; 2],
}

#[derive(Debug, Default)]
struct Dir {
    pieces: VecDeque<Piece>,
    last_at: u64,
}

/// Nodes are the proxies, then the brokers; devices are at the edge, where nothing is partitioned.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) conns: Vec<Conn>,
    nodes: usize,
    proxies: usize,
    /// Until when nothing comes through from one node to another.
    blocked_until: Vec<u64>,
    /// Until when everything from one node to another comes this much later.
    slow: Vec<(u64, u64)>,
    /// The usual time from one end to the other, microseconds.
    latency: (u64, u64),
    /// The epochs that connections of devices own, as their proxies know it.
    pub(crate) epochs: BTreeMap<ConnId, Epoch>,
}

/// How long it takes until a node that hears nothing tries a lost piece again.
const RETRY_US: u64 = 200_000;

impl Net {
    pub(crate) fn new(proxies: usize, brokers: usize, latency: (u64, u64)) -> Self {
        let nodes = proxies + brokers;
        Self {
            conns: Vec::new(),
            nodes,
            proxies,
            blocked_until: vec![0; nodes * nodes],
            slow: vec![(0, 0); nodes * nodes],
            latency,
            epochs: BTreeMap::new(),
        }
    }

    /// Number of a broker as a node.
    pub(crate) fn node_of_broker(&self, broker: usize) -> usize {
        self.proxies + broker
    }

    fn node(&self, end: End) -> Option<usize> {
        match end {
            End::Device(_) => None,
            End::Shard { proxy, .. } | End::Link { proxy, .. } => Some(proxy),
            End::Broker { broker, .. } => Some(self.node_of_broker(broker)),
        }
    }

    fn pair(&self, from: End, to: End) -> Option<usize> {
        Some(self.node(from)? * self.nodes + self.node(to)?)
    }

    /// Nothing comes through from `from` to `to` until then.
    pub(crate) fn block(&mut self, from: usize, to: usize, until: u64) {
        let at = &mut self.blocked_until[from * self.nodes + to];
        *at = until.max(*at);
    }

    /// Nothing comes through between these until then: `to` the first one, `from` it, or both.
    pub(crate) fn block_ways(
        &mut self,
        one: usize,
        other: usize,
        (to, from): (bool, bool),
        until: u64,
    ) {
        if to {
            self.block(other, one, until);
        }
        if from {
            self.block(one, other, until);
        }
    }

    /// Everything from `from` to `to` is late by `by` until then.
    pub(crate) fn slow_down(&mut self, from: usize, to: usize, until: u64, by: u64) {
        self.slow[from * self.nodes + to] = (until, by);
    }

    pub(crate) fn heal(&mut self) {
        self.blocked_until.fill(0);
        self.slow.fill((0, 0));
    }

    /// Until when nothing comes through between two ends; 0: it does.
    fn blocked(&self, from: End, to: End) -> u64 {
        self.pair(from, to)
            .map_or(0, |pair| self.blocked_until[pair])
    }

    /// Until when nothing comes through from one node to another.
    pub(crate) fn blocked_until(&self, from: usize, to: usize) -> u64 {
        self.blocked_until[from * self.nodes + to]
    }

    /// How long it takes from one node to another.
    pub(crate) fn delay_of(&self, now: u64, (from, to): (usize, usize), rng: &mut Rng) -> u64 {
        self.late(now, self.slow[from * self.nodes + to], rng)
    }

    fn delay(&self, now: u64, from: End, to: End, rng: &mut Rng) -> u64 {
        let slow = self.pair(from, to).map_or((0, 0), |pair| self.slow[pair]);
        self.late(now, slow, rng)
    }

    fn late(&self, now: u64, slow: (u64, u64), rng: &mut Rng) -> u64 {
        let late = if now < slow.0 { slow.1 } else { 0 };
        rng.skewed(self.latency.0, self.latency.1) + late
    }

    /// Begins to make a connection; [`Event::Dialled`] says when it is there, as far as the network goes.
    pub(crate) fn dial(
        &mut self,
        now: u64,
        ends: [End; 2],
        queue: &mut Queue,
        rng: &mut Rng,
    ) -> ConnId {
        let conn = self.conns.len();
        self.conns.push(Conn {
            ends,
            open: [true, true],
            made: false,
            cut: false,
            dirs: Default::default(),
        });
        let there = self.delay(now, ends[0], ends[1], rng);
        let back = self.delay(now, ends[1], ends[0], rng);
        queue.put(now + there + back, Event::Dialled { conn });
        conn
    }

    /// When the attempt can be answered, if not now.
    pub(crate) fn dial_later(&self, now: u64, conn: ConnId) -> Option<u64> {
        let [from, to] = self.conns[conn].ends;
        let until = self.blocked(from, to).max(self.blocked(to, from));
        (until > now).then(|| until.min(now + RETRY_US * 4) + RETRY_US)
    }

    pub(crate) fn send(
        &mut self,
        now: u64,
        (conn, from): (ConnId, Side),
        mut bytes: Bytes,
        queue: &mut Queue,
        rng: &mut Rng,
    ) {
        if bytes.len() > 1 && rng.chance(150) {
            let first = bytes.split_to(1 + rng.below(bytes.len() - 1));
            self.put(now, (conn, from), Piece::Bytes(first), queue, rng);
        }
        self.put(now, (conn, from), Piece::Bytes(bytes), queue, rng);
    }

    fn put(
        &mut self,
        now: u64,
        (conn, from): (ConnId, Side),
        piece: Piece,
        queue: &mut Queue,
        rng: &mut Rng,
    ) {
        let it = &self.conns[conn];
        if it.cut || !it.made {
            return;
        }
        let delay = self.delay(now, it.ends[from], it.ends[1 - from], rng);
        let dir = &mut self.conns[conn].dirs[from];
        dir.last_at = dir.last_at.max(now + delay);
        dir.pieces.push_back(piece);
        queue.put(dir.last_at, Event::Arrive { conn, from });
    }

    /// One end gives the connection up. The other hears of it behind what was sent, unless the node is just gone.
    pub(crate) fn close(
        &mut self,
        now: u64,
        (conn, side): (ConnId, Side),
        silently: bool,
        queue: &mut Queue,
        rng: &mut Rng,
    ) {
        let it = &mut self.conns[conn];
        if !std::mem::replace(&mut it.open[side], false) {
            return;
        }
        if !silently {
            self.put(now, (conn, side), Piece::End, queue, rng);
        }
    }

    /// The connection is cut: of what is on it only some comes through, and both ends hear of it.
    pub(crate) fn cut(&mut self, now: u64, conn: ConnId, queue: &mut Queue, rng: &mut Rng) {
        for side in 0..2 {
            let pieces = &mut self.conns[conn].dirs[side].pieces;
            let kept = rng.below(pieces.len() + 1);
            pieces.truncate(kept);
            self.put(now, (conn, side), Piece::End, queue, rng);
        }
        self.conns[conn].cut = true;
    }

    /// What comes through now, with the end that gets it. `Err`: nothing before then.
    pub(crate) fn arrive(
        &mut self,
        now: u64,
        conn: ConnId,
        from: Side,
    ) -> Result<Option<(End, Piece)>, u64> {
        let it = &self.conns[conn];
        let to = it.ends[1 - from];
        let until = self.blocked(it.ends[from], to);
        if until > now {
            return Err(until.min(now + RETRY_US * 8) + RETRY_US / 10);
        }
        let open = it.open[1 - from];
        let piece = self.conns[conn].dirs[from].pieces.pop_front();
        Ok(piece.filter(|_| open).map(|piece| (to, piece)))
    }

    /// Whether a connection is made and not cut, and both ends have it.
    pub(crate) fn works(&self, conn: ConnId) -> bool {
        let conn = &self.conns[conn];
        conn.made && !conn.cut && conn.open == [true, true]
    }

    /// Connections that work.
    pub(crate) fn living(&self) -> Vec<ConnId> {
        (0..self.conns.len())
            .filter(|conn| self.works(*conn))
            .collect()
    }
}
