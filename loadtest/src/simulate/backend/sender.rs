//! Senders of commands: which message is due on which connection, and to whom.
//!
//! Invariant: all messages to one device leave through one connection, so that their order is a promise.

use std::collections::VecDeque;
use std::ops::Range;

use crate::account::{self, Promise};
use crate::scenario::{Commands, PayloadSize, Scenario};
use crate::simulate::dice::{self, Dice};
use crate::traffic::Schedule;

/// One command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) device: u32,
    pub(super) seq: u32,
    pub(super) due_us: u64,
    pub(super) payload_len: u32,
}

/// One kind of commands of the scenario, on all its connections.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) qos: u8,
    pub(super) promise: Promise,
    rate_per_s: f64,
    payload: PayloadSize,
    /// Connections that have devices; device n belongs to number n modulo this.
    lanes: u32,
    present: Present,
    first: u32,
    next_seq: Vec<u32>,
    dice: Dice,
    /// Phases with commands, the oldest first: what one leaves over is sent before what the next one asks for.
    pacings: VecDeque<Pacing>,
    /// Commands that fell due where no device was there.
    skipped: u64,
}

/// When commands leave in one phase.
#[derive(Debug)]
struct Pacing {
    schedule: Schedule,
    /// Nothing falls due from then on.
    end_us: Option<u64>,
    /// Messages that have left, by lane.
    sent: Vec<u64>,
}

impl Sender {
    /// Commands number `index` of the scenario; no device is known to be there.
    pub(super) fn new(scenario: &Scenario, index: usize, commands: &Commands) -> Self {
        let devices = scenario.populations[commands.population].devices.clone();
        let lanes = u32::from(commands.connections.max(1)).min(devices.len().max(1) as u32);
        Self {
            qos: commands.qos,
            promise: account::of_commands(scenario, commands),
            rate_per_s: commands.rate_per_s,
            payload: commands.payload,
            lanes,
            first: devices.start,
            next_seq: vec![0; devices.len()],
            present: Present::new(devices, lanes),
            dice: Dice::new(scenario.seed, index as u64 + 1),
            pacings: VecDeque::new(),
            skipped: 0,
        }
    }

    /// How many connections it needs.
    pub(super) fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Whose commands they are.
    pub(super) fn devices(&self) -> Range<u32> {
        self.first..self.first + self.next_seq.len() as u32
    }

    /// Through which connection a device gets them.
    pub(super) fn lane_of(&self, device: u32) -> u32 {
        (device - self.first) % self.lanes
    }

    /// A phase begins in which commands leave at `times` their rate. There is at most one such phase at a time.
    pub(super) fn begin(&mut self, times: f64, at_us: u64) {
        let per_s = self.rate_per_s * times;
        if per_s <= 0.0 {
            return;
        }
        self.pacings.push_back(Pacing {
            schedule: Schedule::new(per_s, u64::from(self.lanes), at_us * 1_000),
            end_us: None,
            sent: vec![0; self.lanes as usize],
        });
    }

    /// The phase ends: nothing more falls due.
    pub(super) fn end(&mut self, now_us: u64) {
        for pacing in &mut self.pacings {
            pacing.end_us.get_or_insert(now_us);
        }
    }

    /// True while messages fall due or are due.
    pub(super) fn is_active(&self) -> bool {
        !self.pacings.is_empty()
    }

    /// A device can be sent to, or cannot any more.
    pub(super) fn presence(&mut self, device: u32, subscribed: bool) {
        self.present.set(device, subscribed);
    }

    /// Moves on to `now_us`.
    pub(super) fn advance(&mut self, now_us: u64) {
        for pacing in &mut self.pacings {
            let until_us = pacing.end_us.map_or(now_us, |end| end.min(now_us));
            pacing.schedule.advance(until_us * 1_000);
        }
        while self.pacings.front().is_some_and(Pacing::is_over) {
            self.pacings.pop_front();
        }
    }

    /// How many commands were skipped so far, see [`Self::next`].
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The next message that is due on a lane. A message is skipped where none of the lane's devices is there.
    pub(super) fn next(&mut self, lane: u32) -> Option<Command> {
        let mut due = self
            .pacings
            .iter_mut()
            .filter_map(|pacing| pacing.due(lane));
        if self.present.is_empty(lane) {
            for left in due {
                self.skipped += left.due - *left.sent;
                *left.sent = left.due;
            }
            return None;
        }
        let left = due.next()?;
        let due_us = left.schedule.intended_ns(lane, *left.sent) / 1_000;
        *left.sent += 1;
        let device = self.present.pick(lane, &mut self.dice);
        let seq = &mut self.next_seq[(device - self.first) as usize];
        *seq += 1;
        Some(Command {
            device,
            seq: *seq - 1,
            due_us,
            payload_len: dice::payload_len(self.payload, self.dice.draw()) as u32,
        })
    }
}

/// What is left to be sent on a lane.
struct Left<'a> {
    schedule: &'a Schedule,
    sent: &'a mut u64,
    due: u64,
}

impl Pacing {
    fn due(&mut self, lane: u32) -> Option<Left<'_>> {
        let due = self.schedule.due_of(lane);
        let sent = &mut self.sent[lane as usize];
        (*sent < due).then_some(Left {
            schedule: &self.schedule,
            sent,
            due,
        })
    }

    fn is_over(&self) -> bool {
        self.end_us.is_some() && self.sent.iter().sum::<u64>() >= self.schedule.due()
    }
}

/// Which devices can be sent to: one is picked, added or removed in constant time.
#[derive(Debug)]
struct Present {
    first: u32,
    /// Devices of each lane.
    lanes: Vec<Vec<u32>>,
    /// By device: its place in its lane, or [`AWAY`].
    places: Vec<u32>,
}

const AWAY: u32 = u32::MAX;

impl Present {
    fn new(devices: Range<u32>, lanes: u32) -> Self {
        Self {
            first: devices.start,
            lanes: vec![Vec::new(); lanes as usize],
            places: vec![AWAY; devices.len()],
        }
    }

    fn is_empty(&self, lane: u32) -> bool {
        self.lanes[lane as usize].is_empty()
    }

    fn pick(&self, lane: u32, dice: &mut Dice) -> u32 {
        let lane = &self.lanes[lane as usize];
        lane[dice.below(lane.len())]
    }

    /// Devices of other populations are nobody's here.
    fn set(&mut self, device: u32, present: bool) {
        let Some(index) = device.checked_sub(self.first) else {
            return;
        };
        let lane_count = self.lanes.len();
        let lane = &mut self.lanes[index as usize % lane_count];
        let Some(place) = self.places.get_mut(index as usize) else {
            return;
        };
        match (*place, present) {
            (AWAY, true) => {
                *place = lane.len() as u32;
                lane.push(device);
            }
            (at, false) if at != AWAY => {
                *place = AWAY;
                lane.swap_remove(at as usize);
                if let Some(moved) = lane.get(at as usize) {
                    self.places[(moved - self.first) as usize] = at;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
