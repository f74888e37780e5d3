//! Which phase comes when: the decisions of a run, without I/O or clock. Times are run time, µs.
//!
//! A phase that hits its limit, and a signal, lead on to the last phase, the drain: what is under way can arrive, and the
//! report says how far the run came.

use std::collections::VecDeque;
use std::ops::Range;

use crate::control::message::{BACKEND_UP, ToWorker};
use crate::limits::{FINISH_MAX_US, PHASE_LEAD_US, READY_MAX_US, SETTLE_US};
use crate::scenario::{Phase, PhaseKind, RestartNodes};

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A worker knows what to do. The first phase begins when all do, and worker 0's part of [`BACKEND_UP`] is done.
    Ready(u16),
    /// A worker's part of a phase is done.
    PhaseDone { worker: u16, index: u16 },
    /// Where a worker's devices are.
    Sample {
        worker: u16,
        at_us: u64,
        connected: u64,
        connecting: u64,
    },
    /// The node that was to be restarted is ready again, or there was none left (false).
    Restarted(bool),
    /// Somebody has had enough.
    Stop,
    /// A worker has said all.
    Final(u16),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// To tell all workers.
    Tell(ToWorker),
    /// To restart the node of this number.
    Restart { nodes: RestartNodes, number: usize },
    /// A phase begins.
    Began { at_us: u64 },
    /// It is over; `done`: not because of its limit or a signal.
    Ended { index: u16, done: bool },
    /// All have said all.
    Over,
    /// Workers that did not do their part in time; the run cannot go on.
    Missing {
        workers: Vec<u16>,
        what: &'static str,
    },
}

#[derive(Debug)]
enum Stage {
    Gathering,
    Phase(PhaseRun),
    /// The drain is over: receipts are given a moment to come, and what should not come too.
    Settling,
    Finishing,
    Over,
}

#[derive(Debug)]
struct PhaseRun {
    index: u16,
    began_us: u64,
    restart: Restart,
}

/// How far the restarts of a phase are.
#[derive(Debug, PartialEq, Eq)]
enum Restart {
    /// Another kind of phase.
    None,
    /// Number `number` is under way.
    Busy { number: usize },
    /// Number `number` is due then.
    Due { number: usize, at_us: u64 },
    /// All are ready since then.
    All { since_us: u64 },
}

/// Where a worker's devices were in its newest sample.
#[derive(Debug, Clone, Copy, Default)]
struct Devices {
    at_us: u64,
    connected: u64,
    connecting: u64,
}

/// Leads through the phases.
#[derive(Debug)]
pub(crate) struct Conductor {
    phases: Vec<Phase>,
    stage: Stage,
    /// Since when this stage lasts.
    since_us: u64,
    /// Who has not done its part of the stage.
    open: Vec<bool>,
    devices: Vec<Devices>,
    /// Devices connected when the phase began.
    connected_before: u64,
    stopped: bool,
    /// A signal has cut it short.
    signalled: bool,
    /// The phase after the last one that began.
    next: u16,
    /// Left out before the drain.
    skipped: Range<u16>,
    effects: VecDeque<Effect>,
}

impl Conductor {
    /// For that many workers. The last phase is a drain: `scenario` files are refused otherwise.
    pub(crate) fn new(phases: Vec<Phase>, workers: usize) -> Self {
        let drains = phases.last().map(|phase| &phase.what);
        assert!(
            matches!(drains, Some(PhaseKind::Drain)),
            "the last phase drains"
        );
        Self {
            phases,
            stage: Stage::Gathering,
            since_us: 0,
            open: vec![true; workers],
            devices: vec![Devices::default(); workers],
            connected_before: 0,
            stopped: false,
            signalled: false,
            next: 0,
            skipped: 0..0,
            effects: VecDeque::new(),
        }
    }

    /// What has happened by `now_us`.
    pub(crate) fn handle(&mut self, now_us: u64, event: Event) {
        match event {
            Event::Ready(worker) if self.gathers() && worker > 0 => self.did(worker),
            Event::PhaseDone {
                worker: 0,
                index: BACKEND_UP,
            } if self.gathers() => self.did(0),
            Event::PhaseDone { worker, index } if self.phase_index() == Some(index) => {
                self.did(worker);
            }
            Event::Final(worker) if matches!(self.stage, Stage::Finishing) => self.did(worker),
            Event::Sample {
                worker,
                at_us,
                connected,
                connecting,
            } => {
                self.devices[usize::from(worker)] = Devices {
                    at_us,
                    connected,
                    connecting,
                };
            }
            Event::Restarted(there) => self.restarted(now_us, there),
            Event::Stop => self.stop(now_us),
            // A phase that is over already, or nothing but time.
            _ => {}
        }
        while self.step(now_us) {}
    }

    /// What is to be done next.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When time alone changes something.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match &self.stage {
            Stage::Gathering => Some(self.since_us + READY_MAX_US),
            Stage::Phase(run) => {
                let limit = run.began_us + self.length_us(run.index);
                match run.restart {
                    Restart::Due { at_us, .. } => Some(limit.min(at_us)),
                    _ => Some(limit),
                }
            }
            Stage::Settling => Some(self.since_us + SETTLE_US),
            Stage::Finishing => Some(self.since_us + FINISH_MAX_US),
            Stage::Over => None,
        }
    }

    /// The phase that is on.
    pub(crate) fn phase_index(&self) -> Option<u16> {
        match &self.stage {
            Stage::Phase(run) => Some(run.index),
            _ => None,
        }
    }

    /// True once a signal or a limit has cut the run short.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// True once a signal has cut the run short: phases before the drain had not come to their end.
    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled
    }

    /// Phases that a signal or a limit has left out.
    pub(crate) fn skipped(&self) -> Range<u16> {
        self.skipped.clone()
    }

    fn gathers(&self) -> bool {
        matches!(self.stage, Stage::Gathering)
    }

    fn did(&mut self, worker: u16) {
        self.open[usize::from(worker)] = false;
    }

    fn all_did(&self) -> bool {
        self.open.iter().all(|open| !open)
    }

    fn missing(&self) -> Vec<u16> {
        let open = self.open.iter().zip(0..);
        open.filter_map(|(open, worker)| open.then_some(worker))
            .collect()
    }

    fn phase(&self, index: u16) -> &Phase {
        &self.phases[usize::from(index)]
    }

    fn drain(&self) -> u16 {
        u16::try_from(self.phases.len() - 1).expect("scenarios have few phases")
    }

    /// How long a phase lasts at most.
    fn length_us(&self, index: u16) -> u64 {
        let phase = self.phase(index);
        match phase.what {
            PhaseKind::Steady { for_ms } => for_ms * 1_000,
            _ => phase.limit_ms * 1_000,
        }
    }

    /// Goes on where the stage is complete or its time is over; true if it did.
    fn step(&mut self, now_us: u64) -> bool {
        let late = self.deadline().is_some_and(|deadline| now_us >= deadline);
        match &self.stage {
            Stage::Gathering if self.all_did() => {
                let first = if self.stopped { self.drain() } else { 0 };
                self.begin(now_us, first);
            }
            Stage::Gathering if late => self.give_up("did not get ready"),
            Stage::Phase(_) => return self.step_phase(now_us),
            Stage::Settling if late => self.finish(now_us),
            Stage::Finishing if self.all_did() => {
                self.stage = Stage::Over;
                self.effects.push_back(Effect::Over);
            }
            Stage::Finishing if late => self.give_up("did not end"),
            _ => return false,
        }
        true
    }

    fn step_phase(&mut self, now_us: u64) -> bool {
        let Stage::Phase(run) = &mut self.stage else {
            return false;
        };
        let index = run.index;
        if let Restart::Due { number, at_us } = run.restart
            && now_us >= at_us
        {
            run.restart = Restart::Busy { number };
            self.restart(index, number);
            return true;
        }
        let limit_us = run.began_us + self.length_us(index);
        let done = self.is_done();
        let late = now_us >= limit_us;
        let steady = matches!(self.phase(index).what, PhaseKind::Steady { .. });
        match (done, late) {
            (true, _) => self.end(now_us, true),
            (false, true) if steady => self.end(now_us, true),
            (false, true) => {
                self.stopped = true;
                self.end(now_us, false);
            }
            (false, false) => return false,
        }
        true
    }

    /// True if all that a phase waits for has happened.
    fn is_done(&self) -> bool {
        let Stage::Phase(run) = &self.stage else {
            return false;
        };
        match self.phase(run.index).what {
            PhaseKind::Steady { .. } => false,
            PhaseKind::Restart { .. } => match run.restart {
                Restart::All { since_us } => self.all_are_back(since_us),
                _ => false,
            },
            // Each worker has looked when it said that it is done; whoever was lost since is not back.
            PhaseKind::Storm { .. } => self.all_did() && self.all_are_back(0),
            PhaseKind::Ramp { .. } | PhaseKind::Drain => self.all_did(),
        }
    }

    /// True if every worker has looked since, and together they have the devices that they had before.
    fn all_are_back(&self, since_us: u64) -> bool {
        let looked = |worker: &Devices| worker.at_us > since_us && worker.connecting == 0;
        self.devices.iter().all(looked) && self.connected() >= self.connected_before
    }

    fn connected(&self) -> u64 {
        self.devices.iter().map(|worker| worker.connected).sum()
    }

    fn begin(&mut self, now_us: u64, index: u16) {
        let at_us = now_us + PHASE_LEAD_US;
        let restart = match self.phase(index).what {
            PhaseKind::Restart { .. } => Restart::Due { number: 0, at_us },
            _ => Restart::None,
        };
        // Nothing but the drain is begun out of turn, and it is the last.
        self.skipped = self.next..index;
        self.next = index + 1;
        self.open.fill(true);
        self.connected_before = self.connected();
        self.since_us = now_us;
        self.stage = Stage::Phase(PhaseRun {
            index,
            began_us: at_us,
            restart,
        });
        self.effects
            .push_back(Effect::Tell(ToWorker::Phase { index, at_us }));
        self.effects.push_back(Effect::Began { at_us });
    }

    fn end(&mut self, now_us: u64, done: bool) {
        let index = self.phase_index().expect("a phase is on");
        if index < self.drain() {
            let end = ToWorker::PhaseEnd { index };
            self.effects.push_back(Effect::Tell(end));
        }
        self.effects.push_back(Effect::Ended { index, done });
        if index < self.drain() {
            let next = if self.stopped {
                self.drain()
            } else {
                index + 1
            };
            self.begin(now_us, next);
        } else {
            // Nobody is told: nothing is to be sent any more.
            self.since_us = now_us;
            self.stage = Stage::Settling;
        }
    }

    fn finish(&mut self, now_us: u64) {
        self.open.fill(true);
        self.since_us = now_us;
        self.stage = Stage::Finishing;
        self.effects.push_back(Effect::Tell(ToWorker::Finish));
    }

    fn give_up(&mut self, what: &'static str) {
        let workers = self.missing();
        self.stage = Stage::Over;
        self.effects.push_back(Effect::Missing { workers, what });
    }

    fn stop(&mut self, now_us: u64) {
        self.stopped = true;
        match self.phase_index() {
            Some(index) if index < self.drain() => {
                self.signalled = true;
                self.end(now_us, false);
            }
            _ => self.signalled |= self.gathers(),
        }
    }

    fn restart(&mut self, index: u16, number: usize) {
        let PhaseKind::Restart { nodes, .. } = &self.phase(index).what else {
            unreachable!("only such a phase has restarts");
        };
        let nodes = nodes.clone();
        self.effects.push_back(Effect::Restart { nodes, number });
    }

    fn restarted(&mut self, now_us: u64, there: bool) {
        let Stage::Phase(run) = &mut self.stage else {
            return;
        };
        let (index, busy) = (usize::from(run.index), &run.restart);
        let (PhaseKind::Restart { every_ms, .. }, &Restart::Busy { number }) =
            (&self.phases[index].what, busy)
        else {
            // The phase that asked for it has been cut short.
            return;
        };
        run.restart = if there {
            Restart::Due {
                number: number + 1,
                at_us: now_us + every_ms * 1_000,
            }
        } else {
            Restart::All { since_us: now_us }
        };
    }
}

#[cfg(test)]
#[path = "conductor_tests.rs"]
mod tests;
