//! A group with a log that loses what was not stored.

use broker::command_codec::decode_entry;
use broker::leader::clock::Clocks;
use broker::leader::{Leader, Routes};
use broker::limits::MachineLimits;
use broker::log::Location;
use broker::machine::{Effects, State};
use bytes::Bytes;
use cluster::frame::{Body, FromGroup, StoredAt};
use cluster::ids::LinkNo;
use protocol::Message;

/// A group's leader, and its log.
pub(super) struct Broker {
    pub(super) leader: Leader,
    routes: Routes,
    now_ms: u64,
    /// Which member leads: each has clocks of its own.
    member: u64,
    /// Bodies of all entries; those from `stored` on are lost with a crash.
    bodies: Vec<Bytes>,
    stored: usize,
}

fn clocks(member: u64, ms: u64) -> Clocks {
    Clocks {
        monotonic_ms: (member % 3) * 10_000_000 + ms,
        wall_ms: 1_700_000_000_000 + (member % 3) * 700 + ms,
    }
}

impl Broker {
    pub(super) fn new(routes: Routes) -> Self {
        let state = State::new(MachineLimits::default());
        let mut broker = Self {
            leader: Leader::new(state, 0, clocks(0, 0)),
            routes,
            now_ms: 0,
            member: 0,
            bodies: Vec::new(),
            stored: 0,
        };
        broker.start();
        broker
    }

    fn start(&mut self) {
        self.store(usize::MAX);
        self.leader.route(self.routes.clone());
    }

    /// Appends what is due, then stores up to `entries` of what is not stored yet.
    pub(super) fn store(&mut self, entries: usize) {
        while self.leader.due() {
            let mut body = Vec::new();
            self.leader.seal(&mut body);
            self.bodies.push(Bytes::from(body));
        }
        let stored = self.stored.saturating_add(entries).min(self.bodies.len());
        for index in self.stored + 1..=stored {
            let at = Location {
                segment: 1,
                offset: index as u32,
            };
            self.leader.committed(index as u64, at, 0);
        }
        self.stored = stored;
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.leader.advance(clocks(self.member, self.now_ms));
    }

    /// Killed and started again: what was not stored is gone.
    pub(super) fn crash(&mut self) {
        self.bodies.truncate(self.stored);
        let mut state = State::new(MachineLimits::default());
        let mut unheard = Effects::default();
        for (n, body) in self.bodies.iter().enumerate() {
            let at = Location {
                segment: 1,
                offset: n as u32 + 1,
            };
            let entry = decode_entry(n as u64 + 1, body, at).expect("it was just written");
            for command in entry.commands {
                state.apply(entry.index, entry.time_ms, command, &mut unheard);
            }
        }
        self.leader = Leader::new(
            state,
            self.bodies.len() as u64,
            clocks(self.member, self.now_ms),
        );
        self.start();
    }

    /// The next member leads. It has what was stored by a majority, and so many entries of the rest, which count from now
    /// on.
    pub(super) fn fail_over(&mut self, kept: usize) {
        self.stored = self.stored.saturating_add(kept).min(self.bodies.len());
        self.member += 1;
        self.crash();
    }

    /// What the group has for each of its links, with the messages' bytes.
    pub(super) fn take_effects(&mut self) -> Vec<(LinkNo, Vec<FromGroup>)> {
        self.leader.end_units(|_| false);
        let links = std::mem::take(&mut self.leader.effects().links);
        let links = (0..).map(LinkNo).zip(links);
        let mut live: Vec<_> = links.filter(|(at, _)| self.leader.is_live(*at)).collect();
        for frame in live.iter_mut().flat_map(|(_, frames)| frames) {
            if let FromGroup::Deliver(delivery) = frame
                && let Body::Stored(at) = delivery.body
            {
                delivery.body = Body::Inline(self.read(at));
            }
        }
        live
    }

    fn read(&self, at: StoredAt) -> Message {
        let body = &self.bodies[at.record as usize - 1];
        let (from, to) = (at.offset as usize, (at.offset + at.len) as usize);
        Message::read_from(&body.slice(from..to)).expect("a message is there")
    }
}
