//! The loop of a worker: readiness and time in, packets out.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::channel::{Blocks, Channel, Fetched};
use super::crowd::Crowd;
use super::device::{Device, Due, Stage};
use super::loss::Loss;
use super::phases::Phases;
use super::plan::Plan;
use super::source::Sources;
use super::tally::Tally;
use super::tls::{Tls, Trust};
use super::wheel::Wheel;
use crate::Error;
use crate::control::desk::Desk;
use crate::control::message::{Assignment, FromWorker, Sample, ToWorker};
use crate::limits::{EVENTS_PER_POLL, SIM_DIALING_MAX};
use crate::simulate::usage::{self, Usage};
use crate::wire::{Scan, scan};

/// A worker that holds devices.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    desk: &'a mut Desk,
    poll: Poll,
    pub(super) crowd: Crowd,
    channels: Box<[Channel]>,
    pub(super) wheel: Wheel,
    sources: Sources,
    /// Devices whose time to dial has come.
    pub(super) queue: VecDeque<u32>,
    pub(super) phases: Phases,
    blocks: Blocks,
    trust: Option<Trust>,
    usage: Usage,
    sample_us: Option<u64>,
    /// Shifts samples, so that not all workers write at once.
    shift_us: u64,
}

const CONTROL: Token = Token(usize::MAX);

const SECOND_US: u64 = 1_000_000;

impl<'a> Worker<'a> {
    /// Ready to be told what to do.
    pub(super) fn new(desk: &'a mut Desk, assignment: Assignment) -> Result<Self, Error> {
        let poll = Poll::new().map_err(Error::system("epoll"))?;
        desk.register(poll.registry(), CONTROL)?;
        let (worker, run) = (assignment.worker, assignment.run);
        let workers = assignment.shares.len() as u64;
        let commands = assignment.scenario.commands.len();
        let share = assignment.shares[usize::from(worker)].clone();
        let tally = Tally::new(&assignment.shares, &share, commands);
        let trust = assignment.tls.as_ref().map(Trust::new).transpose()?;
        let plan = Plan::new(assignment);
        plan.check(trust.is_some())?;
        Ok(Self {
            desk,
            poll,
            channels: (0..plan.len()).map(|_| Channel::default()).collect(),
            wheel: Wheel::new(plan.len(), plan.phase_us),
            phases: Phases::new(&plan, worker, workers),
            crowd: Crowd::new(plan, tally),
            sources: Sources::new(worker, run),
            queue: VecDeque::new(),
            blocks: Blocks::default(),
            trust,
            usage: Usage::new()?,
            sample_us: None,
            shift_us: u64::from(worker) * SECOND_US / 10 / workers,
        })
    }

    /// Works until it is told to finish, and has.
    pub(super) fn run(&mut self) -> Result<(), Error> {
        let process = std::process::id();
        self.desk.send(&FromWorker::Ready { process })?;
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut due = Vec::new();
        // What came with the assignment makes no edge.
        self.take_orders()?;
        while !self.phases.is_over(&self.crowd) {
            self.desk.flush()?;
            self.wait(&mut events)?;
            for event in &events {
                if event.token() == CONTROL {
                    self.take_orders()?;
                } else {
                    self.ready(event.token().0, event.is_read_closed() || event.is_error());
                }
            }
            let now_us = self.desk.now_us();
            self.wheel.expire(now_us, &mut due);
            for index in due.drain(..) {
                self.due(index as usize);
            }
            self.phase(now_us)?;
            self.dial_queued();
            self.report(now_us)?;
            self.crowd.tally.check()?;
        }
        self.end()
    }

    /// Waits for readiness, or until something is due.
    fn wait(&mut self, events: &mut Events) -> Result<(), Error> {
        let now_us = self.desk.now_us();
        let next = [self.wheel.next_us(), self.sample_us, self.phases.next_us()];
        let next_us = next.into_iter().flatten().min();
        let wait = next_us.map(|us| Duration::from_micros(us.saturating_sub(now_us)));
        match self.poll.poll(events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(Error::system("epoll_wait")(error))
            }
            _ => Ok(()),
        }
    }

    fn take_orders(&mut self) -> Result<(), Error> {
        while let Some(message) = self.desk.take()? {
            self.heard(message);
        }
        Ok(())
    }

    fn heard(&mut self, message: ToWorker) {
        let now_us = self.desk.now_us();
        match message {
            ToWorker::Phase { index, at_us } => {
                self.sample_us.get_or_insert(now_us);
                self.phases.announce(index, at_us);
            }
            ToWorker::PhaseEnd { index } => self.phases.end(index),
            ToWorker::Receipts(receipts) => {
                let tally = &mut self.crowd.tally;
                for receipt in &receipts {
                    tally.ledger.received(receipt, now_us, &mut tally.findings);
                }
            }
            ToWorker::Finish => self.phases.finish(now_us),
            // The clock is the desk's; presence is for those who send commands; the assignment has come.
            ToWorker::Presence(_)
            | ToWorker::Begin(_)
            | ToWorker::Clock { .. }
            | ToWorker::Offset { .. } => {}
        }
    }

    /// Starts and ends what phases ask for.
    fn phase(&mut self, now_us: u64) -> Result<(), Error> {
        if let Some(index) = self.phases.take_due(now_us) {
            self.begin(index, now_us);
        }
        self.leave(now_us);
        if let Some(index) = self.phases.take_done(&self.crowd) {
            // The figures of the phase come before its end.
            self.send_sample(now_us)?;
            self.desk.send(&FromWorker::PhaseDone { index })?;
        }
        Ok(())
    }

    /// Reads what has come for a device, and lets it answer. `ended`: so does its stream.
    fn ready(&mut self, index: usize, ended: bool) {
        let now_us = self.desk.now_us();
        if self.channels[index].has_unsent() {
            self.write(index, now_us);
        }
        loop {
            match self.channels[index].fetch(&mut self.blocks) {
                Ok(Fetched::Nothing) => break,
                Ok(Fetched::Closed) => {
                    self.lose(index, &Loss::Closed);
                    break;
                }
                Ok(Fetched::Bytes { len, more }) => {
                    let more = more || ended;
                    if !self.hear(index, len, now_us) || !more {
                        break;
                    }
                }
                Err(error) => {
                    self.fail(index, &error);
                    break;
                }
            }
        }
    }

    /// Gives a device its packets, which stand in the plain block; false if it has no connection any more.
    fn hear(&mut self, index: usize, len: usize, now_us: u64) -> bool {
        let bytes = &self.blocks.plain[..len];
        let clogged = self.channels[index].is_clogged();
        let mut at = 0;
        let heard = self.crowd.act(index, now_us, clogged, |device, turn| {
            loop {
                match scan(&bytes[at..]) {
                    Scan::Packet(packet) => {
                        at += packet.len;
                        device.hear(&packet, turn)?;
                    }
                    Scan::Incomplete => return Ok(()),
                    Scan::Malformed(what) => return Err(Loss::Violation(what)),
                }
            }
        });
        self.channels[index].hold(&bytes[at..]);
        if let Err(loss) = heard {
            self.lose(index, &loss);
            return false;
        }
        self.write(index, now_us);
        self.channels[index].is_open()
    }

    /// A device's time has come.
    pub(super) fn due(&mut self, index: usize) {
        let now_us = self.desk.now_us();
        let clogged = self.channels[index].is_clogged();
        match self.crowd.act(index, now_us, clogged, Device::due) {
            Due::Nothing => self.write(index, now_us),
            Due::Dial => self.queue.push_back(index as u32),
            Due::Lose(loss) => self.lose(index, &loss),
        }
    }

    /// Writes what a device has said, and sets its timer.
    pub(super) fn write(&mut self, index: usize, now_us: u64) {
        let channel = &mut self.channels[index];
        let was_clogged = channel.is_clogged();
        let written = channel.write(&self.crowd.out, &mut self.blocks);
        self.crowd.out.clear();
        if let Err(error) = written {
            return self.fail(index, &error);
        }
        let clogged = channel.is_clogged();
        if was_clogged && !clogged {
            self.crowd.act(index, now_us, clogged, Device::send_due);
            if !self.crowd.out.is_empty() {
                return self.write(index, now_us);
            }
        }
        let deadline_us = self.crowd.deadline_us(index, clogged);
        self.wheel.set(index, deadline_us);
    }

    fn dial_queued(&mut self) {
        while self.crowd.standing.connecting < SIM_DIALING_MAX {
            let Some(index) = self.queue.pop_front() else {
                return;
            };
            if self.crowd.devices[index as usize].stage() == Stage::Queued {
                self.dial(index as usize);
            }
        }
    }

    fn dial(&mut self, index: usize) {
        let plan = &self.crowd.plan;
        let (population, _) = plan.population(plan.device(index));
        let target = plan.targets(population)[self.crowd.devices[index].address()];
        let tls = self.trust.as_ref().filter(|_| population.tls);
        let tls = tls.map(|trust| Tls::new(trust).map(Box::new)).transpose();
        let dialed = tls.and_then(|tls| {
            let registry = self.poll.registry();
            let sources = &mut self.sources;
            self.channels[index].dial(target, sources, registry, Token(index), tls)
        });
        if let Err(error) = dialed {
            return self.fail(index, &error);
        }
        let now_us = self.desk.now_us();
        self.crowd.act(index, now_us, false, Device::dialed);
        // On loopback the connection often stands already.
        self.write(index, now_us);
    }

    fn fail(&mut self, index: usize, error: &io::Error) {
        let what = match self.crowd.devices[index].stage() {
            Stage::Queued | Stage::Connecting => "connecting",
            Stage::Subscribing => "subscribing",
            _ => "connection",
        };
        let why = error.to_string();
        self.lose(index, &Loss::Failed { what, why });
    }

    /// A device's connection has come to its end, or has to.
    fn lose(&mut self, index: usize, loss: &Loss) {
        let now_us = self.desk.now_us();
        self.crowd.out.clear();
        self.channels[index].close();
        self.crowd
            .act(index, now_us, false, |device, turn| device.lost(loss, turn));
        let deadline_us = self.crowd.deadline_us(index, false);
        self.wheel.set(index, deadline_us);
    }

    /// A storm takes a device's socket away.
    pub(super) fn drop_hard(&mut self, index: usize, now_us: u64) {
        if let Err(error) = self.channels[index].reset() {
            self.crowd
                .tally
                .error(format!("dropping a socket: {error}"));
        }
        self.crowd.act(index, now_us, false, Device::storm);
        let deadline_us = self.crowd.deadline_us(index, false);
        self.wheel.set(index, deadline_us);
    }

    /// A device that is not connected stops trying.
    pub(super) fn give_up(&mut self, index: usize, now_us: u64) {
        self.channels[index].close();
        self.crowd
            .act(index, now_us, false, |device, _| device.give_up());
        self.wheel.set(index, None);
    }

    /// Telemetry goes on.
    pub(super) fn resume_telemetry(&mut self) {
        let now_us = self.desk.now_us();
        for index in 0..self.channels.len() {
            if self.crowd.devices[index].stage() != Stage::Up {
                continue;
            }
            let clogged = self.channels[index].is_clogged();
            self.crowd
                .act(index, now_us, clogged, |device, turn| device.schedule(turn));
            let deadline_us = self.crowd.deadline_us(index, clogged);
            self.wheel.set(index, deadline_us);
        }
    }

    /// Once a second everything is told, and what cannot wait at once.
    fn report(&mut self, now_us: u64) -> Result<(), Error> {
        if self.sample_us.is_some_and(|at_us| now_us >= at_us) {
            let second = (now_us - now_us.min(self.shift_us)) / SECOND_US + 1;
            self.sample_us = Some(second * SECOND_US + self.shift_us);
            let tally = &mut self.crowd.tally;
            tally.ledger.settle(now_us, &mut tally.findings);
            self.send_sample(now_us)?;
        }
        self.tell(now_us)
    }

    fn send_sample(&mut self, now_us: u64) -> Result<(), Error> {
        self.crowd.tally.report();
        self.tell(now_us)?;
        let sample = self.sample(now_us)?;
        self.desk.send(&FromWorker::Sample(Box::new(sample)))
    }

    fn tell(&mut self, now_us: u64) -> Result<(), Error> {
        for message in self.crowd.tally.outgoing(now_us) {
            self.desk.send(&message)?;
        }
        Ok(())
    }

    fn sample(&mut self, now_us: u64) -> Result<Sample, Error> {
        let standing = self.crowd.standing;
        let tally = &mut self.crowd.tally;
        Ok(Sample {
            at_us: now_us,
            connected: standing.up as u64,
            connecting: standing.connecting as u64,
            counts: tally.counts(),
            latencies: tally.spreads.take(),
            errors: tally.errors(),
            cpu_us: usage::cpu_us(),
            rss_bytes: self.usage.rss_bytes()?,
        })
    }

    /// The last words.
    fn end(&mut self) -> Result<(), Error> {
        let now_us = self.desk.now_us();
        self.crowd.tally.close();
        self.crowd.tally.report();
        self.tell(now_us)?;
        let sample = self.sample(now_us)?;
        self.desk.send(&FromWorker::Final(Box::new(sample)))?;
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        self.desk.flush()?;
        while self.desk.unsent_bytes() > 0 {
            let patience = Some(Duration::from_secs(1));
            let waited = self.poll.poll(&mut events, patience);
            waited.map_err(Error::system("epoll_wait"))?;
            self.desk.flush()?;
        }
        Ok(())
    }
}
