//! The leader: turns frames into log commands, and committed commands into frames.
//!
//! Invariant: no I/O, no clock, no thread. The driver ([`crate::group`]) brings frames and time in,
//! proposes what [`Leader::seal`] gives it, and says when that is agreed on. An answer to a
//! client is an effect of applying a committed command; there is no other place that makes one, but
//! for the publish that nobody needs stored.

mod catch_up;
pub mod clock;
mod errands;
mod intake;
mod kicks;
mod links;
mod order;
#[cfg(test)]
mod tests;
mod topology;

use crate::command::{Command, MessageRef};
use crate::machine::{Effects, LeaderEffect, State};
use clock::{Clocks, GroupClock};
use cluster::frame::{FromGroup, Publish, StoredAt};
use cluster::ids::{Actor, Handle, LinkNo};
use errands::Errands;
pub use errands::Routes;
use intake::Batch;
pub use intake::Sealed;
pub use kicks::KICK_WAIT_MS;
use kicks::Kicks;
use links::Links;
pub use links::{LEASE_MS, LinkRefused};
use order::PublishOrder;
use protocol::{Message, ReasonCode};
use std::collections::VecDeque;
pub use topology::TopologyResult;

/// A message that is not in the log yet.
const NOWHERE: StoredAt = StoredAt {
    segment: 0,
    record: 0,
    offset: 0,
    len: 0,
};

/// A group's leader over its machine.
pub struct Leader {
    state: State,
    clock: GroupClock,
    now_ms: u64,
    batch: Batch,
    waiting: VecDeque<Sealed>,
    applied: u64,
    order: PublishOrder,
    links: Links,
    kicks: Kicks,
    errands: Errands,
    tick_in_log: bool,
    /// Entries of this reign that are applied.
    done: u64,
    out: Effects,
    /// A segment lost its last living message since that was last asked.
    has_freed: bool,
    topology_results: Vec<TopologyResult>,
}

impl Leader {
    /// Starts a reign over `state`, which has applied everything up to entry `applied`.
    /// The first command of the reign is in the batch at once.
    pub fn new(state: State, applied: u64, clocks: Clocks) -> Self {
        let mut clock = GroupClock::new(state.time_ms(), clocks);
        let now_ms = clock.now_ms(clocks);
        let mut batch = Batch::new();
        batch.push(Command::LeaderStart);
        let known = state
            .links()
            .map(|(link, producer)| (link, producer, state.high_water_of_link(link)));
        let links = Links::of_reign(known, now_ms);
        Self {
            state,
            clock,
            now_ms,
            batch,
            waiting: VecDeque::new(),
            applied,
            order: PublishOrder::default(),
            links,
            kicks: Kicks::default(),
            errands: Errands::default(),
            tick_in_log: false,
            done: 0,
            out: Effects::default(),
            has_freed: false,
            topology_results: Vec::new(),
        }
    }

    /// Ends the reign: what is in no entry yet, or in one that is not applied, is forgotten.
    pub fn into_state(self) -> State {
        self.state
    }

    /// Takes the machine's clocks at the start of a turn, and does what is due.
    pub fn advance(&mut self, clocks: Clocks) {
        self.now_ms = self.clock.now_ms(clocks).max(self.now_ms);
        if !self.tick_in_log
            && self
                .state
                .next_deadline_ms()
                .is_some_and(|due| due <= self.now_ms)
        {
            self.tick_in_log = true;
            self.batch.push(Command::Tick);
        }
        while let Some((link, handle)) = self.kicks.overdue(self.now_ms) {
            self.kick_done(link, handle);
        }
        self.end_leases();
    }

    /// Effects for the links since they were last taken, and whether some bodies are still in the log.
    pub fn effects(&mut self) -> &mut Effects {
        &mut self.out
    }

    /// Whether the last living message of some segment has gone since this was last asked.
    pub fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.has_freed)
    }

    /// Whether anything is in the batch, or in the log and not applied.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.batch.is_empty()
    }

    /// Bytes of memory that what is taken in and not proposed yet takes, about.
    pub fn held_bytes(&self) -> usize {
        self.batch.held_bytes()
    }

    /// Entries that are sealed and not applied.
    pub fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// Copies a kept message to the end of the log, so that the segment that it keeps alive can go.
    pub fn relocate(&mut self, message: MessageRef, copy: Message) {
        self.batch.push(Command::Relocate {
            message,
            copy,
            at: NOWHERE,
        });
    }

    /// When [`Leader::advance`] has to be called next, as milliseconds from now.
    pub fn wait_ms(&self) -> Option<u64> {
        let timer = (!self.tick_in_log)
            .then(|| self.state.next_deadline_ms())
            .flatten();
        let kick = self.kicks.next_deadline_ms();
        let lazy = self.batch.lazy_deadline_ms();
        let lease = self.links.next_deadline_ms();
        let errand = self.errands.next_deadline_ms();
        let due = [timer, kick, lazy, lease, errand];
        let next = due.into_iter().flatten().min()?;
        Some(next.saturating_sub(self.now_ms))
    }

    /// The machine, to look at.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Begins a snapshot of the machine after the last applied entry; see [`State::begin_snapshot`].
    pub fn begin_snapshot(&mut self) {
        self.state.begin_snapshot();
    }

    /// See [`State::give_up_snapshot`].
    pub fn give_up_snapshot(&mut self) {
        self.state.give_up_snapshot();
    }

    /// See [`State::put_snapshot`].
    pub fn put_snapshot(&mut self, out: &mut Vec<u8>, full: usize) -> bool {
        self.state.put_snapshot(out, full)
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether an entry of this reign has been applied: the leader serves.
    pub fn is_serving(&self) -> bool {
        self.done > 0
    }

    /// Whether a large step of the wall clock waits for proof.
    pub fn is_proving_clock_step(&self) -> bool {
        self.clock.is_proving_step()
    }

    fn effect(&mut self, effect: LeaderEffect) {
        match effect {
            LeaderEffect::KickThenAttach {
                actor,
                old: (link, handle),
            } => self.kick(actor, link, handle),
            LeaderEffect::ClaimOpen { actor } => self.kicks.wait_for_unknown(actor, self.now_ms),
            LeaderEffect::WillDue {
                client,
                epoch,
                will,
            } => {
                if self.sends_will(Actor { client, epoch }, &will) {
                    return;
                }
                let publish = Publish {
                    actor: Actor { client, epoch },
                    packet_id: None,
                    qos: will.qos,
                    retain: will.retain,
                    message: will.message,
                };
                self.batch.push(Command::WillPublish {
                    client,
                    epoch,
                    publish,
                    at: NOWHERE,
                });
            }
            LeaderEffect::PagesLeft { actor } => self.batch.push(Command::Page { actor }),
            LeaderEffect::ErrandDue(key) => self.errand_due(key),
            LeaderEffect::SegmentFree(_) => self.has_freed = true,
            LeaderEffect::Topology(result) => self.topology_results.push(result),
        }
    }

    fn kick(&mut self, claimant: Actor, link: LinkNo, handle: Handle) {
        if self.links.is_up(link) {
            let reason = ReasonCode::SessionTakenOver;
            self.out.send(link, FromGroup::Kick { handle, reason });
            self.kicks.wait(claimant, (link, handle), self.now_ms);
        } else if self.kicks.is_free(claimant) {
            self.attach(claimant);
        }
    }

    fn kick_done(&mut self, link: LinkNo, handle: Handle) {
        if let Some(claimant) = self.kicks.done((link, handle)) {
            self.attach(claimant);
        }
    }

    fn attach(&mut self, claimant: Actor) {
        self.batch.push(Command::Attach {
            actor: Some(claimant),
            if_free: false,
        });
    }
}
