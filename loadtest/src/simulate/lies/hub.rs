//! A controller of two workers, the back end and one with devices, as small as it can be.

use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::server::Server;
use crate::Error;
use crate::control::desk::{Desk, own_clock_us};
use crate::control::line::Line;
use crate::control::message::{
    Assignment, BACKEND_UP, Counts, Finding, FindingKind, FromWorker, Sample, ToWorker,
};
use crate::scenario::Scenario;
use crate::simulate::{backend, devices};

const PATIENCE: Duration = Duration::from_secs(60);

/// Which run all tests are.
pub(super) const RUN: u32 = 0xB0B;

/// Both workers and what they have said.
pub(super) struct Hub {
    lines: Vec<Line>,
    poll: Poll,
    threads: Vec<JoinHandle<Result<(), Error>>>,
    done: HashSet<(u16, u16)>,
    over: HashSet<u16>,
    pub(super) samples: [Sample; 2],
    /// Of each worker.
    pub(super) findings: Vec<(u16, Finding)>,
    pub(super) began_us: u64,
}

impl Hub {
    /// Starts both workers, and waits for the back end.
    pub(super) fn start(scenario: &Scenario, server: &Server) -> Self {
        let poll = Poll::new().expect("epoll");
        let mut hub = Self {
            lines: Vec::new(),
            poll,
            threads: Vec::new(),
            done: HashSet::new(),
            over: HashSet::new(),
            samples: [Sample::default(), Sample::default()],
            findings: Vec::new(),
            began_us: own_clock_us(),
        };
        for worker in 0..2 {
            hub.employ(worker, scenario, server);
        }
        hub.until("the back end", |hub| hub.done.contains(&(0, BACKEND_UP)));
        hub
    }

    fn employ(&mut self, worker: u16, scenario: &Scenario, server: &Server) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut line = Line::open(format!("worker {worker}"), ours.into()).expect("a socket");
        let token = Token(worker.into());
        line.register(self.poll.registry(), token)
            .expect("a socket");
        let assignment = Assignment {
            scenario: scenario.clone(),
            run: RUN,
            worker,
            targets: vec![server.address],
            tls_targets: Vec::new(),
            tls: None,
            shares: vec![0..0, 0..scenario.device_count()],
        };
        line.send(&ToWorker::Begin(Box::new(assignment)))
            .expect("room");
        line.send(&ToWorker::Offset { us: 0 }).expect("room");
        self.lines.push(line);
        self.threads.push(std::thread::spawn(move || {
            let (desk, assignment) = Desk::attach(theirs)?;
            match worker {
                0 => backend::run(desk, assignment),
                _ => devices::run(desk, assignment),
            }
        }));
    }

    /// A phase begins, goes on until `is_so`, and ends.
    pub(super) fn play(&mut self, index: u16, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.drain(index, what, is_so);
        self.tell(&ToWorker::PhaseEnd { index });
    }

    /// The last phase: its end is the end of the run, and nothing is sent any more.
    pub(super) fn drain(&mut self, index: u16, what: &str, is_so: impl Fn(&Self) -> bool) {
        let at_us = own_clock_us();
        self.tell(&ToWorker::Phase { index, at_us });
        self.until(what, is_so);
    }

    /// Both workers have done their part of a phase.
    pub(super) fn did(&self, index: u16) -> bool {
        (0..2).all(|worker| self.done.contains(&(worker, index)))
    }

    /// The run is over, and both workers have ended well.
    pub(super) fn finish(&mut self) {
        self.tell(&ToWorker::Finish);
        self.until("the last words", |hub| hub.over.len() == 2);
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic").expect("no error");
        }
    }

    /// A figure of both workers together.
    pub(super) fn sum(&self, figure: impl Fn(&Counts) -> u64) -> u64 {
        self.samples
            .iter()
            .map(|sample| figure(&sample.counts))
            .sum()
    }

    /// How many findings of a kind both workers have counted.
    pub(super) fn count(&self, kind: FindingKind) -> u64 {
        self.sum(|counts| counts.findings[kind as usize])
    }

    fn tell(&mut self, message: &ToWorker) {
        for line in &mut self.lines {
            line.send(message).expect("the worker reads");
        }
    }

    /// Passes on what comes until `is_so`.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(4);
        while !is_so(self) {
            let counts = self.samples.each_ref().map(|sample| sample.counts);
            assert!(
                Instant::now() < deadline,
                "waited for {what}: {counts:#?} {:#?}",
                self.findings
            );
            let wait = Some(Duration::from_millis(20));
            self.poll.poll(&mut events, wait).expect("epoll");
            for worker in 0..2 {
                while let Some(message) = self.take(worker) {
                    self.hear(worker, message);
                }
            }
        }
    }

    fn take(&mut self, worker: u16) -> Option<FromWorker> {
        if self.over.contains(&worker) {
            return None;
        }
        let line = &mut self.lines[usize::from(worker)];
        line.flush().expect("the worker reads");
        line.take().expect("the worker lives")
    }

    fn hear(&mut self, worker: u16, message: FromWorker) {
        match message {
            FromWorker::Sample(sample) => self.samples[usize::from(worker)] = *sample,
            FromWorker::Final(sample) => {
                self.samples[usize::from(worker)] = *sample;
                self.over.insert(worker);
            }
            FromWorker::Findings(findings) => {
                self.findings
                    .extend(findings.into_iter().map(|finding| (worker, finding)));
            }
            FromWorker::Receipts { of, receipts } => self.pass(of, &ToWorker::Receipts(receipts)),
            FromWorker::Presence(presence) => self.pass(0, &ToWorker::Presence(presence)),
            FromWorker::PhaseDone { index } => drop(self.done.insert((worker, index))),
            FromWorker::Ready { process } => assert_eq!(process, std::process::id()),
            FromWorker::Failed(why) => panic!("worker {worker}: {why}"),
            FromWorker::Clock { .. } => panic!("nobody has asked for its clock"),
        }
    }

    fn pass(&mut self, to: u16, message: &ToWorker) {
        if !self.over.contains(&to) {
            self.lines[usize::from(to)]
                .send(message)
                .expect("the worker reads");
        }
    }
}
