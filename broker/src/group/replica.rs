//! The machine, with a leader over it or without.

use crate::command_codec;
use crate::consensus::{Entry, Payload};
use crate::leader::clock::Clocks;
use crate::leader::{Leader, Routes};
use crate::limits::MachineLimits;
use crate::log::LogError;
use crate::machine::{Effects, LeaderEffect, State};
use std::io;

/// A member's copy of the group's state.
pub enum Replica {
    /// This member leads.
    Leading(Box<Leader>),
    /// Another one does, or nobody.
    Following(Box<Follower>),
}

/// A copy that only applies what is agreed on.
pub struct Follower {
    state: State,
    applied: u64,
    /// What a leader would do; dropped.
    unheard: Effects,
    /// A segment lost its last living message since that was last asked.
    has_freed: bool,
}

impl Replica {
    /// A copy that has applied everything up to entry `applied`.
    pub fn following(state: State, applied: u64) -> Self {
        Self::Following(Box::new(Follower {
            state,
            applied,
            unheard: Effects::default(),
            has_freed: true,
        }))
    }

    /// A reign begins.
    pub fn lead(&mut self, clocks: Clocks, routes: Option<&Routes>) {
        let applied = self.applied();
        let mut leader = Leader::new(self.take_state(), applied, clocks);
        if let Some(routes) = routes {
            leader.route(routes.clone());
        }
        *self = Self::Leading(Box::new(leader));
    }

    /// The reign, if there is one, is over.
    pub fn follow(&mut self) {
        if matches!(self, Self::Leading(_)) {
            let applied = self.applied();
            *self = Self::following(self.take_state(), applied);
        }
    }

    /// Leaves an empty machine.
    fn take_state(&mut self) -> State {
        let empty = Self::following(State::new(MachineLimits::default()), 0);
        match std::mem::replace(self, empty) {
            Self::Leading(leader) => leader.into_state(),
            Self::Following(follower) => follower.state,
        }
    }

    /// The leader, while this member leads.
    pub fn leader(&self) -> Option<&Leader> {
        match self {
            Self::Leading(leader) => Some(leader),
            Self::Following(_) => None,
        }
    }

    /// The leader, while this member leads.
    pub fn leader_mut(&mut self) -> Option<&mut Leader> {
        match self {
            Self::Leading(leader) => Some(leader),
            Self::Following(_) => None,
        }
    }

    /// The machine.
    pub fn state(&self) -> &State {
        match self {
            Self::Leading(leader) => leader.state(),
            Self::Following(follower) => &follower.state,
        }
    }

    /// Index of the last applied entry.
    pub fn applied(&self) -> u64 {
        match self {
            Self::Leading(leader) => leader.applied(),
            Self::Following(follower) => follower.applied,
        }
    }

    /// Begins a snapshot of the machine after the last applied entry; see [`State::begin_snapshot`].
    pub fn begin_snapshot(&mut self) {
        match self {
            Self::Leading(leader) => leader.begin_snapshot(),
            Self::Following(follower) => follower.state.begin_snapshot(),
        }
    }

    /// See [`State::give_up_snapshot`].
    pub(crate) fn give_up_snapshot(&mut self) {
        match self {
            Self::Leading(leader) => leader.give_up_snapshot(),
            Self::Following(follower) => follower.state.give_up_snapshot(),
        }
    }

    /// See [`State::put_snapshot`].
    pub fn put_snapshot(&mut self, out: &mut Vec<u8>, full: usize) -> bool {
        match self {
            Self::Leading(leader) => leader.put_snapshot(out, full),
            Self::Following(follower) => follower.state.put_snapshot(out, full),
        }
    }

    /// Whether the last living message of some segment has gone since this was last asked.
    pub fn take_freed(&mut self) -> bool {
        match self {
            Self::Leading(leader) => leader.take_freed(),
            Self::Following(follower) => std::mem::take(&mut follower.has_freed),
        }
    }

    /// Applies the next entry. One with commands, where this member leads, is its leader's oldest.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), LogError> {
        match (self, &entry.payload) {
            (Self::Leading(leader), Payload::Commands { offset, .. }) => {
                leader.committed(entry.index, entry.at, *offset);
                Ok(())
            }
            (Self::Leading(leader), _) => {
                leader.skipped(entry.index);
                Ok(())
            }
            (Self::Following(follower), _) => follower.apply(entry),
        }
    }
}

impl Follower {
    fn apply(&mut self, entry: &Entry) -> Result<(), LogError> {
        self.applied = entry.index;
        let Payload::Commands { body, offset } = &entry.payload else {
            return Ok(());
        };
        let decoded = command_codec::decode_entry_within(entry.index, body, entry.at, *offset);
        let decoded = decoded
            .map_err(|error| LogError::snapshot("decode an entry of", io::Error::other(error)))?;
        for command in decoded.commands {
            let (state, out) = (&mut self.state, &mut self.unheard);
            state.apply(decoded.index, decoded.time_ms, command, out);
            let freed = |effect: &LeaderEffect| matches!(effect, LeaderEffect::SegmentFree(_));
            self.has_freed |= out.leader.iter().any(freed);
            out.clear();
        }
        Ok(())
    }
}
