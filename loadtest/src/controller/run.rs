//! The loop of a run: hears the workers, asks the conductor, carries out what it says, looks at the processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clocks::Clocks;
use super::conductor::{Conductor, Effect, Event};
use super::crew::Crew;
use super::observer::{Look, Observer};
use super::records::Records;
use super::resources::Usage;
use super::restarts::Restarts;
use super::series::Series;
use super::switchboard::{Failure, Switchboard};
use super::view::{Glance, View};
use crate::Error;
use crate::control::desk::own_clock_us;
use crate::control::message::{Counts, FromWorker};
use crate::limits::{LOOK_MANY_US, LOOK_PROCESSES, LOOK_US};
use crate::outcome::{PhaseOutcome, Point};
use crate::scenario::{PhaseKind, Scenario};

/// A run under way.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) crew: Crew,
    pub(crate) clocks: Clocks,
    pub(crate) conductor: Conductor,
    pub(crate) observer: Observer,
    pub(crate) records: Records,
    pub(crate) restarts: Restarts,
    pub(crate) view: View,
    /// Set by a signal.
    pub(crate) enough: Arc<AtomicBool>,
    pub(crate) switchboard: Switchboard,
    pub(crate) usage: Usage,
    pub(crate) series: Series,
    pub(crate) phases: Vec<PhaseOutcome>,
    /// Own clock at run time 0, µs.
    pub(crate) began_us: u64,
    /// The phase that is on: what had been counted and used when it began.
    pub(crate) open: Option<Open>,
    pub(crate) looked_us: u64,
    pub(crate) over: bool,
}

/// What a phase counts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    at_us: u64,
    counts: Counts,
    cpu_s: [f64; 2],
}

impl Run {
    /// Goes through all phases, to the last word of the last worker.
    pub(crate) fn drive(&mut self) -> Result<(), Error> {
        let driven = self.go();
        driven.map_err(|failure| match failure.worker {
            Some(worker) => self.why(worker, failure.error),
            None => failure.error,
        })
    }

    /// Run time, µs.
    pub(crate) fn now_us(&self) -> u64 {
        own_clock_us().saturating_sub(self.began_us)
    }

    fn go(&mut self) -> Result<(), Failure> {
        let now_us = self.now_us();
        self.look(now_us)?;
        for (worker, message) in self.clocks.begin(now_us) {
            self.switchboard.tell(worker, &message)?;
        }
        let mut heard = Vec::new();
        while !self.over {
            let waited = self.switchboard.wait(self.patience(), &mut heard);
            // First what was said: it may be why somebody is gone.
            for (worker, message) in heard.drain(..) {
                self.hear(worker, message)?;
            }
            waited?;
            self.glance_around()?;
        }
        Ok(())
    }

    /// How long nothing is to be done but what workers say.
    fn patience(&self) -> Duration {
        let look_us = self.looked_us + self.look_every_us();
        let times = [self.conductor.deadline(), self.clocks.deadline()];
        let next_us = times.into_iter().flatten().fold(look_us, u64::min);
        // A wait is in whole ms; half a one too early would be spent in circles.
        Duration::from_micros(next_us.saturating_sub(self.now_us()) + 500)
    }

    /// Signals, restarts, and what is due.
    fn glance_around(&mut self) -> Result<(), Failure> {
        if self.enough.load(Ordering::Relaxed) && !self.conductor.is_stopped() {
            self.view.say(
                "ending in good order: what is under way may arrive (once more to end at once)",
            );
            self.decide(Event::Stop)?;
        }
        if let Some(result) = self.restarts.result() {
            self.decide(Event::Restarted(result?))?;
        }
        self.decide(Event::Tick)?;
        let now_us = self.now_us();
        for (worker, message) in self.clocks.due(now_us) {
            self.switchboard.tell(worker, &message)?;
        }
        if now_us >= self.looked_us + self.look_every_us() {
            self.look(now_us)?;
        }
        Ok(())
    }

    fn hear(&mut self, worker: u16, message: FromWorker) -> Result<(), Failure> {
        match message {
            FromWorker::Ready { process } => {
                if !self.crew.is_remote(worker) {
                    self.observer.watch(format!("worker {worker}"), process)?;
                }
                self.clocks.ready(worker);
            }
            FromWorker::Clock { sent_us, own_us } => {
                let now_us = self.now_us();
                let answer = self.clocks.answered(worker, now_us, sent_us, own_us);
                self.switchboard.tell(worker, &answer)?;
            }
            FromWorker::Sample(sample) => {
                let event = Event::Sample {
                    worker,
                    at_us: sample.at_us,
                    connected: sample.connected,
                    connecting: sample.connecting,
                };
                self.records.sample(worker, *sample);
                self.decide(event)?;
            }
            FromWorker::Findings(findings) => self.records.found(findings),
            FromWorker::PhaseDone { index } => self.decide(Event::PhaseDone { worker, index })?,
            FromWorker::Final(sample) => {
                self.records.ended(worker, *sample);
                self.decide(Event::Final(worker))?;
            }
            FromWorker::Failed(reason) => return Err(self.failed(worker, &reason).into()),
            // The switchboard has sent them on.
            FromWorker::Receipts { .. } | FromWorker::Presence(_) => {}
        }
        if self.clocks.take_settled(worker) {
            self.decide(Event::Ready(worker))?;
        }
        Ok(())
    }

    fn decide(&mut self, event: Event) -> Result<(), Failure> {
        self.conductor.handle(self.now_us(), event);
        while let Some(effect) = self.conductor.next_effect() {
            self.carry_out(effect)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), Failure> {
        match effect {
            Effect::Tell(message) => self.switchboard.tell_all(&message)?,
            Effect::Restart { nodes, number } => self.restarts.order(nodes, number)?,
            Effect::Began { at_us } => self.begin_phase(at_us)?,
            Effect::Ended { index, done } => self.end_phase(index, done)?,
            Effect::Over => {
                self.look(self.now_us())?;
                self.over = true;
            }
            Effect::Missing { workers, what } => {
                let names: Vec<_> = workers
                    .iter()
                    .map(|&worker| self.crew.name(worker))
                    .collect();
                return Err(Failure::from(Error::Control {
                    who: names.join(", "),
                    what: what.to_owned(),
                }));
            }
        }
        Ok(())
    }

    fn begin_phase(&mut self, at_us: u64) -> Result<(), Error> {
        let look = self.look(self.now_us())?;
        if self.phases.is_empty() {
            self.usage.begin();
        }
        self.usage.begin_phase(&look);
        self.open = Some(Open {
            at_us,
            counts: self.records.counts(),
            cpu_s: self.usage.cpu_s(),
        });
        Ok(())
    }

    /// The run cannot go on: the phase that is on ends here.
    pub(crate) fn break_off(&mut self) {
        if let (Some(index), Some(open)) = (self.conductor.phase_index(), self.open.take()) {
            self.close_phase(index, &open, false);
        }
    }

    fn end_phase(&mut self, index: u16, done: bool) -> Result<(), Error> {
        self.look(self.now_us())?;
        let open = self.open.take().expect("a phase that ends has begun");
        self.close_phase(index, &open, done);
        Ok(())
    }

    fn close_phase(&mut self, index: u16, open: &Open, done: bool) {
        let now_us = self.now_us();
        let counts = self.records.counts();
        let phase = &self.scenario.phases[usize::from(index)];
        let cpu_s = self.usage.cpu_s();
        self.phases.push(PhaseOutcome {
            name: phase.name.clone(),
            kind: kind(&phase.what).to_owned(),
            from_s: open.at_us as f64 / 1e6,
            to_s: now_us.max(open.at_us) as f64 / 1e6,
            done,
            connects: counts.connects - open.counts.connects,
            connections_lost: counts.connections_lost - open.counts.connections_lost,
            dropped: counts.dropped - open.counts.dropped,
            growth: self.usage.growth(),
            cpu_s: [cpu_s[0] - open.cpu_s[0], cpu_s[1] - open.cpu_s[1]],
        });
    }

    /// Looks at the processes and writes a row.
    fn look(&mut self, now_us: u64) -> Result<Look, Error> {
        let look = self.observer.look()?;
        let roles = self.records.roles(&look);
        let passed_us = now_us - self.looked_us;
        let cpu = self.usage.busy(&roles, passed_us as f64 / 1e6);
        self.usage.look(&look, roles);
        if passed_us >= LOOK_US / 2 {
            let point = Point {
                memory: self.usage.memory(),
                cpu,
                ..self.records.point(now_us)
            };
            self.show(&point, now_us);
            self.series.push(point);
            self.looked_us = now_us;
        }
        Ok(look)
    }

    fn look_every_us(&self) -> u64 {
        if self.observer.len() > LOOK_PROCESSES {
            LOOK_MANY_US
        } else {
            LOOK_US
        }
    }

    fn show(&mut self, point: &Point, now_us: u64) {
        let index = self.conductor.phase_index();
        let phase = index.map(|index| &self.scenario.phases[usize::from(index)]);
        let number = index.map_or(self.phases.len(), |index| usize::from(index) + 1);
        let name = phase.map_or(if number == 0 { "starting" } else { "ending" }, |phase| {
            &phase.name
        });
        let devices = u64::from(self.scenario.device_count());
        let passed_ms = self
            .open
            .map_or(0, |open| now_us.saturating_sub(open.at_us))
            / 1_000;
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let done = match phase.map(|phase| (&phase.what, phase.limit_ms)) {
            None => 0.0,
            Some((PhaseKind::Steady { for_ms }, _)) => share(passed_ms, *for_ms),
            Some((PhaseKind::Ramp { .. } | PhaseKind::Storm { .. }, _)) => {
                share(point.connected, devices)
            }
            Some((_, limit_ms)) => share(passed_ms, limit_ms),
        };
        self.view.show(&Glance {
            phase: (name.to_owned(), number, self.scenario.phases.len()),
            done,
            devices,
            point: point.clone(),
            errors: self.records.errors(),
            findings: self.records.finding_counts(),
        });
    }

    /// Why a worker is gone: by its own last words, or by how its process ended.
    fn why(&mut self, worker: u16, error: Error) -> Error {
        for message in self.switchboard.last_words(worker) {
            if let FromWorker::Failed(reason) = message {
                return self.failed(worker, &reason);
            }
        }
        match self.crew.end(worker) {
            Ok(Some(status)) => Error::Control {
                who: self.crew.name(worker),
                what: format!("ended early, with {status}"),
            },
            // On another machine: its agent knows. Or the system does not let us see; then what came first says more.
            Ok(None) | Err(_) => error,
        }
    }

    fn failed(&self, worker: u16, reason: &str) -> Error {
        Error::Control {
            who: self.crew.name(worker),
            what: format!("failed: {reason}"),
        }
    }
}

/// A phase in one word.
fn kind(what: &PhaseKind) -> &'static str {
    match what {
        PhaseKind::Ramp { .. } => "ramp",
        PhaseKind::Steady { .. } => "steady",
        PhaseKind::Storm { .. } => "storm",
        PhaseKind::Restart { .. } => "restart",
        PhaseKind::Drain => "drain",
    }
}
