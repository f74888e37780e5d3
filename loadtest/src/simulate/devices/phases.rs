//! What the phases of a scenario ask of a worker, and when its part of one is done.

use std::collections::VecDeque;

use super::chance;
use super::crowd::Crowd;
use super::device::{Device, Stage};
use super::plan::Plan;
use super::worker::Worker;
use crate::limits::{SIM_FINISH_QUIET_MAX, SIM_LEAVING_MAX};
use crate::scenario::PhaseKind;

/// Where a worker is in its scenario.
#[derive(Debug)]
pub(super) struct Phases {
    /// Announced, with the times when they begin.
    coming: VecDeque<(u16, u64)>,
    /// What must be so before the worker's part of a phase is done.
    task: Option<(u16, Task)>,
    finish: Option<Finish>,
    /// Each worker's dials fall between those of the others: its place among them, 0 to 1.
    place: f64,
    /// Its part of all devices.
    part: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// All are connected: those that a storm dropped, and all others.
    AllUp,
    /// Nothing is open and nothing is owed.
    NothingOwed,
}

#[derive(Debug, Clone, Copy)]
struct Finish {
    /// Until then it is waited for what is under way.
    patient_until_us: u64,
    /// Devices before this one were told to leave.
    next: usize,
}

impl Phases {
    /// Nothing was announced.
    pub(super) fn new(plan: &Plan, worker: u16, workers: u64) -> Self {
        let all = plan.scenario.device_count().max(1);
        Self {
            coming: VecDeque::new(),
            task: None,
            finish: None,
            place: f64::from(worker) / workers as f64,
            part: plan.len() as f64 / f64::from(all),
        }
    }

    /// Phase `index` begins at `at_us`.
    pub(super) fn announce(&mut self, index: u16, at_us: u64) {
        self.coming.push_back((index, at_us));
    }

    /// When something is to be looked at, whatever happens.
    pub(super) fn next_us(&self) -> Option<u64> {
        let coming = self.coming.front().map(|(_, at_us)| *at_us);
        let finish = self.finish.map(|finish| finish.patient_until_us);
        // Past that time devices leave one after the other, each when another one is gone.
        let finish = finish.filter(|_| self.finish.is_some_and(|finish| finish.next == 0));
        coming.into_iter().chain(finish).min()
    }

    /// The phase that is to begin now.
    pub(super) fn take_due(&mut self, now_us: u64) -> Option<u16> {
        let (_, at_us) = self.coming.front()?;
        if *at_us > now_us {
            return None;
        }
        self.coming.pop_front().map(|(index, _)| index)
    }

    /// A phase has ended. After a drain it stays quiet until another phase begins: none may.
    pub(super) fn end(&mut self, index: u16) {
        self.coming.retain(|(coming, _)| *coming != index);
        self.task = self.task.filter(|(current, _)| *current != index);
    }

    /// The run is over.
    pub(super) fn finish(&mut self, now_us: u64) {
        self.coming.clear();
        self.task = None;
        self.finish.get_or_insert(Finish {
            patient_until_us: now_us + SIM_FINISH_QUIET_MAX.as_micros() as u64,
            next: 0,
        });
    }

    /// Whether the run is over and all devices are gone.
    pub(super) fn is_over(&self, crowd: &Crowd) -> bool {
        self.finish.is_some() && crowd.standing.gone == crowd.devices.len()
    }

    /// The phase whose part here is done now.
    pub(super) fn take_done(&mut self, crowd: &Crowd) -> Option<u16> {
        let (index, task) = self.task?;
        let standing = crowd.standing;
        let done = match task {
            Task::AllUp => standing.up == crowd.devices.len(),
            Task::NothingOwed => owes_nothing(crowd),
        };
        done.then(|| {
            self.task = None;
            index
        })
    }
}

fn owes_nothing(crowd: &Crowd) -> bool {
    crowd.standing.open == 0 && crowd.tally.ledger.owed() == 0
}

impl Worker<'_> {
    /// A phase begins.
    pub(super) fn begin(&mut self, index: u16, now_us: u64) {
        let phase = self.crowd.plan.scenario.phases.get(usize::from(index));
        let what = phase.map(|phase| phase.what.clone());
        if what != Some(PhaseKind::Drain) && !self.crowd.sending {
            self.crowd.sending = true;
            self.resume_telemetry();
        }
        let task = match what {
            Some(PhaseKind::Ramp { per_s }) => {
                self.ramp(per_s, now_us);
                Some(Task::AllUp)
            }
            Some(PhaseKind::Storm { share }) => {
                self.storm(index, share, now_us);
                Some(Task::AllUp)
            }
            Some(PhaseKind::Drain) => {
                self.crowd.sending = false;
                Some(Task::NothingOwed)
            }
            Some(PhaseKind::Steady { .. } | PhaseKind::Restart { .. }) | None => None,
        };
        self.phases.task = task.map(|task| (index, task));
    }

    /// Gives every device that was not told yet the time of its first dial: all populations mixed, the worker's part of
    /// the rate, between the dials of other workers.
    fn ramp(&mut self, per_s: f64, now_us: u64) {
        let count = self.crowd.devices.len();
        let per_s = per_s * self.phases.part;
        let mut turn = self.phases.place;
        for place in 0..count {
            let index = mixed(place, count);
            if self.crowd.devices[index].stage() != Stage::Idle {
                continue;
            }
            #[allow(clippy::cast_sign_loss, reason = "neither is negative")]
            let after_us = (turn / per_s * 1e6) as u64;
            turn += 1.0;
            let at_us = self.crowd.plan.on_grid(now_us + after_us);
            self.crowd
                .act(index, now_us, false, |device, _| device.begin(at_us));
            self.wheel.set(index, Some(at_us));
        }
    }

    /// Drops the sockets of a part of the connected devices; which ones, the seed says.
    fn storm(&mut self, phase: u16, share: f64, now_us: u64) {
        let seed = self.crowd.plan.scenario.seed;
        for index in 0..self.crowd.devices.len() {
            let purpose = STORMS | u64::from(phase);
            let dice = chance::draw(seed, self.crowd.plan.device(index), purpose);
            if chance::share(dice) < share && self.crowd.devices[index].stage() == Stage::Up {
                self.drop_hard(index, now_us);
            }
        }
    }

    /// At the end of the run: devices leave, a few at once, when nothing is under way any more.
    pub(super) fn leave(&mut self, now_us: u64) {
        let Some(mut finish) = self.phases.finish else {
            return;
        };
        self.crowd.sending = false;
        if finish.next == 0 && now_us < finish.patient_until_us && !owes_nothing(&self.crowd) {
            return;
        }
        while finish.next < self.crowd.devices.len() {
            if self.crowd.standing.leaving >= SIM_LEAVING_MAX {
                break;
            }
            let index = finish.next;
            finish.next += 1;
            if self.crowd.devices[index].stage() == Stage::Up {
                self.crowd.act(index, now_us, false, Device::leave);
                self.write(index, now_us);
            } else {
                self.give_up(index, now_us);
            }
        }
        self.phases.finish = Some(finish);
    }
}

/// Keeps chances of storms apart from all others.
const STORMS: u64 = 1 << 62;

/// Place `place` of a row in which neighbours are far from each other: all numbers below `count`, each once.
fn mixed(place: usize, count: usize) -> usize {
    let near_golden = (count as u64 * 618 / 1_000).max(1);
    let prime_to = |step: &u64| greatest_divisor(*step, count as u64) == 1;
    let step = (near_golden..=count as u64 + 1).find(prime_to).unwrap_or(1);
    (place as u64 * step % count as u64) as usize
}

fn greatest_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixed_row_has_everyone_once_and_no_long_runs() {
        for count in [1, 2, 3, 10, 97, 100, 4_096, 19_500] {
            let mut row: Vec<usize> = (0..count).map(|place| mixed(place, count)).collect();
            let half = row[..count / 2]
                .iter()
                .filter(|index| **index < count / 2)
                .count();
            assert!(
                count < 90 || half.abs_diff(count / 4) <= count / 20 + 1,
                "{count}: {half}"
            );
            row.sort_unstable();
            assert!(row.into_iter().eq(0..count), "{count}");
        }
    }
}
