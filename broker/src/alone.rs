//! Agreement where nobody has to be asked: what this process has stored is agreed on.

use crate::faults::{self, Fault};
use crate::group::GROUP_STREAM;
use crate::leader::Leader;
use crate::log::{Appends, Location, LogError, LogHandle};
use std::collections::VecDeque;

/// The order of entries of a group with one member, for ever in this process.
pub(crate) struct Alone {
    log: LogHandle,
    /// Index of the next entry.
    next: u64,
    appends: Appends,
    /// The entry in `appends` is not in the log, since too much waits for the disk.
    unplaced: bool,
    /// In the log, and not handed over yet.
    placed: VecDeque<Placed>,
}

/// An entry in the log.
#[derive(Clone, Copy, Debug)]
struct Placed {
    ticket: u64,
    index: u64,
    at: Location,
}

impl Alone {
    /// Goes on behind entry `applied`, the last one of the log.
    pub(crate) fn new(log: LogHandle, applied: u64) -> Self {
        Self {
            log,
            next: applied + 1,
            appends: Appends::new(),
            unplaced: false,
            placed: VecDeque::new(),
        }
    }

    /// Appends every entry that is due; whether there was one.
    pub(crate) fn propose(&mut self, leader: &mut Leader) -> Result<bool, LogError> {
        let mut any = false;
        while self.unplaced || self.seal(leader)? {
            self.unplaced = true;
            let ticket = match self.log.append(&mut self.appends) {
                Ok(ticket) => ticket,
                // Not a failure: tried again when the log brings news, and nothing is sealed before.
                Err(LogError::Backlog { .. }) => break,
                Err(failure) => return Err(failure),
            };
            self.unplaced = false;
            let (index, at) = (self.next, self.appends.locations()[0]);
            self.placed.push_back(Placed { ticket, index, at });
            self.next += 1;
            any = true;
        }
        Ok(any)
    }

    /// Puts the next entry that is due into `appends`; `false` if there is none.
    fn seal(&mut self, leader: &mut Leader) -> Result<bool, LogError> {
        if !leader.due() {
            return Ok(false);
        }
        self.appends.clear();
        let mut answers = 0;
        let seal = |body: &mut Vec<u8>| answers = leader.seal(body);
        self.appends.push_with(GROUP_STREAM, self.next, seal)?;
        self.appends.owe_answers(answers);
        Ok(true)
    }

    /// The next entry that is stored.
    pub(crate) fn next(&mut self) -> Option<(u64, Location)> {
        let stored = self.log.durable();
        let Placed { ticket, index, at } = *self.placed.front()?;
        if ticket > stored && !faults::is_on(Fault::AckBeforeStore) {
            return None;
        }
        self.placed.pop_front();
        Some((index, at))
    }

    /// Whether an entry waits for the log to take it.
    pub(crate) fn is_unplaced(&self) -> bool {
        self.unplaced
    }
}
