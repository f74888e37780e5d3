//! The group, and a log that loses what was not stored.

use crate::command::Command;
use crate::command_codec::decode_entry;
use crate::leader::Leader;
use crate::leader::tests::clocks;
use crate::limits::MachineLimits;
use crate::log::Location;
use crate::machine::{Effects, State};
use bytes::Bytes;
use cluster::frame::StoredAt;
use protocol::Message;

/// The group and its log.
pub(in crate::leader::tests) struct Broker {
    pub(in crate::leader::tests) leader: Leader,
    limits: MachineLimits,
    now_ms: u64,
    /// Bodies of all entries; those from `stored` on are lost with a crash.
    bodies: Vec<Bytes>,
    stored: usize,
}

impl Broker {
    pub(in crate::leader::tests) fn new(limits: MachineLimits) -> Self {
        let mut broker = Self {
            leader: Leader::new(State::new(limits.clone()), 0, clocks(0)),
            limits,
            now_ms: 0,
            bodies: Vec::new(),
            stored: 0,
        };
        broker.store(usize::MAX);
        broker
    }

    /// Appends what is due, then stores up to `entries` of what is not stored yet.
    pub(in crate::leader::tests) fn store(&mut self, entries: usize) {
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

    pub(in crate::leader::tests) fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.leader.advance(clocks(self.now_ms));
    }

    /// Killed and started again: what was not stored is gone, by way of a snapshot.
    pub(in crate::leader::tests) fn crash(&mut self) {
        self.bodies.truncate(self.stored);
        let mut state = State::new(self.limits.clone());
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
        let snapshot = state.snapshot();
        let state = State::restore(&mut &snapshot[..], self.limits.clone()).expect("just written");
        self.leader = Leader::new(state, self.bodies.len() as u64, clocks(self.now_ms));
        self.store(usize::MAX);
    }

    pub(in crate::leader::tests) fn read(&self, at: StoredAt) -> Message {
        let body = &self.bodies[at.record as usize - 1];
        let (from, to) = (at.offset as usize, (at.offset + at.len) as usize);
        Message::read_from(&body.slice(from..to)).expect("a message is there")
    }

    /// Commands in the log of one kind.
    pub(in crate::leader::tests) fn logged(&self, is_it: impl Fn(&Command) -> bool) -> usize {
        let at = Location {
            segment: 1,
            offset: 1,
        };
        let entries = self.bodies.iter().map(|body| decode_entry(1, body, at));
        let commands = entries.flat_map(|entry| entry.expect("just written").commands);
        commands.filter(|command| is_it(command)).count()
    }
}
