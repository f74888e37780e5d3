//! Whole runs with workers that are threads and follow a script.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use mio::{Events, Poll, Token};

use super::crew::{Crew, Member};
use super::plan::Share;
use super::samples::{phase, scenario};
use super::start::{self, Job};
use super::view::View;
use super::{Target, finish};
use crate::Error;
use crate::control::desk::{Desk, own_clock_us};
use crate::control::line::Line;
use crate::control::message::{
    Assignment, BACKEND_UP, Counts, Finding, FindingKind, FromWorker, LatencyKind, Sample, Spread,
    Stream, ToWorker,
};
use crate::outcome::{Outcome, TargetInfo};
use crate::scenario::{FleetNodes, PhaseKind, RestartNodes, Scenario, Thresholds};

/// Devices of each worker that has some.
const DEVICES: u32 = 10;

/// A worker without devices that says it has some.
struct Fake {
    desk: Desk,
    job: Assignment,
    connected: u64,
    counts: Counts,
    /// Phases it was told: index and time.
    told: Vec<(u16, u64)>,
}

/// What a worker does where it does not do as all do. False: nothing out of the ordinary.
type Script = fn(&mut Fake, &ToWorker) -> Result<bool, Error>;

const AS_ALL_DO: Script = |_, _| Ok(false);

impl Fake {
    fn start(socket: UnixStream, script: Script) -> JoinHandle<Result<Self, Error>> {
        std::thread::spawn(move || {
            let (desk, job) = Desk::attach(socket)?;
            let fake = Self {
                desk,
                job,
                connected: 0,
                counts: Counts::default(),
                told: Vec::new(),
            };
            fake.work(script)
        })
    }

    fn work(mut self, script: Script) -> Result<Self, Error> {
        let mut poll = Poll::new().map_err(Error::system("no poll"))?;
        let mut events = Events::with_capacity(4);
        self.desk.register(poll.registry(), Token(0))?;
        let process = std::process::id();
        self.desk.send(&FromWorker::Ready { process })?;
        let mut up = self.job.worker > 0;
        loop {
            while let Some(order) = self.desk.take()? {
                let last = order == ToWorker::Finish;
                if !script(&mut self, &order)? {
                    self.obey(&order)?;
                }
                if last {
                    return self.leave();
                }
            }
            if !up && self.desk.now_us() > 0 {
                up = true;
                let index = BACKEND_UP;
                self.desk.send(&FromWorker::PhaseDone { index })?;
            }
            if self.restarts() {
                self.sample(Vec::new())?;
            }
            self.desk.flush()?;
            let limit = Some(Duration::from_millis(50));
            poll.poll(&mut events, limit)
                .map_err(Error::system("no poll"))?;
        }
    }

    fn obey(&mut self, order: &ToWorker) -> Result<(), Error> {
        let &ToWorker::Phase { index, at_us } = order else {
            return Ok(());
        };
        self.told.push((index, at_us));
        match self.job.scenario.phases[usize::from(index)].what {
            PhaseKind::Ramp { .. } => self.connect(),
            PhaseKind::Storm { .. } => {
                self.counts.dropped += self.connected;
                self.connect();
            }
            // The controller ends these by the clock, and when samples say that all are back.
            PhaseKind::Steady { .. } | PhaseKind::Restart { .. } => return Ok(()),
            PhaseKind::Drain => {}
        }
        self.sample(Vec::new())?;
        self.desk.send(&FromWorker::PhaseDone { index })
    }

    fn restarts(&self) -> bool {
        let phase = |&(index, _): &(u16, u64)| &self.job.scenario.phases[usize::from(index)].what;
        matches!(self.told.last().map(phase), Some(PhaseKind::Restart { .. }))
    }

    fn connect(&mut self) {
        let share = &self.job.shares[usize::from(self.job.worker)];
        self.connected = share.len() as u64;
        self.counts.connects += self.connected;
    }

    fn sample(&mut self, latencies: Vec<(LatencyKind, Spread)>) -> Result<(), Error> {
        let sample = Sample {
            at_us: self.desk.now_us(),
            connected: self.connected,
            counts: self.counts,
            latencies,
            ..Sample::default()
        };
        self.desk.send(&FromWorker::Sample(Box::new(sample)))
    }

    fn leave(mut self) -> Result<Self, Error> {
        let sample = Sample {
            at_us: self.desk.now_us(),
            counts: self.counts,
            cpu_us: 1_000,
            ..Sample::default()
        };
        self.desk.send(&FromWorker::Final(Box::new(sample)))?;
        self.desk.flush()?;
        assert_eq!(self.desk.unsent_bytes(), 0, "a last word is short");
        Ok(self)
    }
}

struct Ran {
    outcome: Result<Outcome, Error>,
    workers: Vec<Result<Fake, Error>>,
}

fn target() -> Target {
    let address: SocketAddr = "127.0.0.1:1883".parse().expect("an address");
    Target {
        addresses: vec![address],
        tls_addresses: Vec::new(),
        tls: None,
        about: "nothing".to_owned(),
        processes: Box::new(Vec::new),
        restart: None,
    }
}

/// A run with one worker for each script; worker 0 has no devices.
fn run(scenario: Scenario, target: Target, scripts: &[Script]) -> Ran {
    let (mut members, mut lines, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for (worker, &script) in scripts.iter().enumerate() {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        threads.push(Fake::start(there, script));
        let name = start::name(worker);
        lines.push(Line::open(name.clone(), here.into()).expect("a socket"));
        let (process, remote) = (None, false);
        members.push(Member {
            name,
            process,
            remote,
        });
    }
    let share = |n: u32| Share {
        place: 0,
        devices: n * DEVICES..(n + 1) * DEVICES,
    };
    let count = u32::try_from(scripts.len() - 1).expect("few");
    let job = Job {
        scenario,
        target,
        run: 7,
        shares: (0..count).map(share).collect(),
    };
    let view = View::new(false, Duration::from_secs(3_600));
    let began = start::begin(job, (Crew(members), lines), view, own_clock_us());
    let outcome = began.and_then(|mut run| {
        let driven = run.drive();
        let (target, started) = (TargetInfo::default(), SystemTime::UNIX_EPOCH);
        finish::finish(run, 7, target, started, driven)
    });
    let threads = threads.into_iter();
    let ended = |thread: JoinHandle<_>| thread.join().expect("no panic");
    Ran {
        outcome,
        workers: threads.map(ended).collect(),
    }
}

#[test]
fn a_run_goes_through_all_phases_and_adds_up() {
    let mut scenario = scenario(2 * DEVICES);
    let storm = phase("crash", PhaseKind::Storm { share: 1.0 });
    scenario.phases.insert(2, storm);
    scenario.pass.storm_s_max = Some(5.0);
    scenario.pass.command_p99_ms_max = Some(5.0);
    let sends = |fake: &mut Fake, order: &ToWorker| {
        if matches!(order, ToWorker::PhaseEnd { index: 1 }) {
            fake.counts.sent = [0, 5, 0];
            let spread = Spread(vec![(2_000, 5)]);
            fake.sample(vec![(LatencyKind::Command, spread)])?;
        }
        Ok(false)
    };
    let ran = run(scenario, target(), &[sends, AS_ALL_DO, AS_ALL_DO]);
    let outcome = ran.outcome.expect("nothing went wrong");
    assert!(outcome.passed, "{:?} {:?}", outcome.checks, outcome.phases);
    assert_eq!(outcome.checks.len(), 3);
    let names: Vec<_> = outcome.phases.iter().map(|phase| &*phase.name).collect();
    assert_eq!(names, ["up", "quiet", "crash", "end"]);
    let connects: Vec<_> = outcome.phases.iter().map(|phase| phase.connects).collect();
    assert_eq!(connects, [20, 0, 20, 0]);
    assert_eq!(outcome.phases[2].dropped, 20);
    let quiet = &outcome.phases[1];
    assert!(quiet.to_s - quiet.from_s >= 0.9, "{quiet:?}");
    assert_eq!((outcome.workers, outcome.totals.connected_max), (3, 20));
    assert_eq!(outcome.totals.sent, [0, 5, 0]);
    let latency = &outcome.latencies[0];
    assert_eq!(
        (&*latency.kind, latency.count, latency.p99_us),
        ("command", 5, 2_000)
    );
    assert_eq!(outcome.started, "1970-01-01T00:00:00Z");
    assert_eq!(outcome.clock_error_us, 0);
    assert!(!outcome.series.is_empty());
    // All began each phase at the same time.
    let told: Vec<_> = ran
        .workers
        .iter()
        .flatten()
        .map(|fake| &fake.told)
        .collect();
    assert_eq!(told.len(), 3);
    assert!(
        told.iter()
            .all(|phases| phases.len() == 4 && *phases == told[0]),
        "{told:?}"
    );
}

#[test]
fn a_worker_that_dies_ends_the_run_and_the_others_and_what_came_of_it_is_told() {
    let dies = |_: &mut Fake, order: &ToWorker| match order {
        ToWorker::Phase { index: 1, .. } => Err(Error::Thread),
        _ => Ok(false),
    };
    let ran = run(scenario(20), target(), &[AS_ALL_DO, AS_ALL_DO, dies]);
    let outcome = ran.outcome.expect("it came so far");
    assert_eq!(outcome.error.as_deref(), Some("worker 2 is gone"));
    assert!(!outcome.passed && outcome.checks.is_empty(), "not judged");
    let phases = outcome.phases.iter();
    let phases: Vec<_> = phases.map(|phase| (&*phase.name, phase.done)).collect();
    assert_eq!(phases, [("up", true), ("quiet", false)]);
    assert_eq!((outcome.totals.connects, outcome.workers), (20, 3));
    for other in &ran.workers[..2] {
        let error = other.as_ref().err().expect("nobody leads it");
        assert_eq!(error.to_string(), "the controller is gone");
    }
}

#[test]
fn a_worker_that_fails_says_why() {
    let fails = |fake: &mut Fake, order: &ToWorker| {
        if matches!(order, ToWorker::Phase { index: 0, .. }) {
            let why = "no source address is left".to_owned();
            fake.desk.send(&FromWorker::Failed(why))?;
            fake.desk.flush()?;
            return Err(Error::Thread);
        }
        Ok(false)
    };
    let ran = run(scenario(10), target(), &[AS_ALL_DO, fails]);
    let outcome = ran.outcome.expect("it had begun");
    let why = "worker 1 failed: no source address is left";
    assert_eq!(outcome.error.as_deref(), Some(why));
}

#[test]
fn a_phase_at_its_limit_fails_the_run_with_a_report() {
    let stays_down = |_: &mut Fake, order: &ToWorker| {
        let ramp = matches!(order, ToWorker::Phase { index: 0, .. });
        Ok(ramp)
    };
    let mut scenario = scenario(10);
    scenario.phases[0].limit_ms = 300;
    let ran = run(scenario, target(), &[AS_ALL_DO, stays_down]);
    let outcome = ran.outcome.expect("it drains");
    assert!(!outcome.passed);
    let phases: Vec<_> = outcome
        .phases
        .iter()
        .map(|phase| (&*phase.name, phase.done))
        .collect();
    assert_eq!(phases, [("up", false), ("end", true)]);
}

#[test]
fn a_finding_fails_the_run_and_is_named() {
    let finds = |fake: &mut Fake, order: &ToWorker| {
        if matches!(order, ToWorker::Finish) {
            let stream = Stream { kind: 1, device: 4 };
            fake.counts.findings[0] = 1;
            fake.desk.send(&FromWorker::Findings(vec![Finding {
                kind: FindingKind::Lost,
                stream,
                seq: Some(17),
                at_us: 2_000_000,
                qos: 1,
                detail: String::new(),
            }]))?;
        }
        Ok(false)
    };
    let ran = run(scenario(10), target(), &[finds, AS_ALL_DO]);
    let outcome = ran.outcome.expect("it is no error");
    assert!(!outcome.passed);
    assert_eq!(outcome.findings, [(FindingKind::Lost, 1)]);
    let example = &outcome.examples[0];
    assert_eq!((&*example.client_id, example.seq), ("7-d-4", Some(17)));
}

#[test]
fn nodes_are_restarted_one_by_one_until_there_is_none_left() {
    let what = PhaseKind::Restart {
        nodes: RestartNodes::Fleet(FleetNodes::Proxies),
        every_ms: 100,
    };
    let mut scenario = scenario(10);
    scenario.phases[1] = phase("roll", what);
    let (told, tells) = std::sync::mpsc::sync_channel(8);
    let mut target = target();
    target.restart = Some(Box::new(move |nodes, number| {
        told.send((nodes, number)).expect("there is room");
        Ok(number < 2)
    }));
    let ran = run(scenario, target, &[AS_ALL_DO, AS_ALL_DO]);
    let outcome = ran.outcome.expect("nothing went wrong");
    let numbers: Vec<_> = tells.iter().collect();
    let expected = [0, 1, 2].map(|number| (FleetNodes::Proxies, number));
    assert_eq!(numbers, expected);
    let roll = &outcome.phases[1];
    assert_eq!((&*roll.kind, roll.done), ("restart", true));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let options = |scenario: Scenario, target: Target| super::RunOptions {
        scenario,
        target,
        report_every: Duration::from_secs(1),
        live: false,
        worker: super::WorkerProgram {
            program: "/nowhere".into(),
            args: Vec::new(),
        },
        agents: None,
    };
    let why = |scenario, target| {
        let error = super::run_scenario(options(scenario, target)).expect_err("it makes no sense");
        error.to_string()
    };
    let mut sealed = scenario(10);
    sealed.populations[0].tls = true;
    assert!(why(sealed, target()).contains("population devices uses TLS"));
    let mut rolling = scenario(10);
    let nodes = RestartNodes::Fleet(FleetNodes::Brokers);
    rolling.phases[1] = phase("roll", PhaseKind::Restart { nodes, every_ms: 1 });
    assert!(why(rolling, target()).contains("phase \"roll\" restarts nodes"));
    let mut endless = scenario(10);
    endless.phases.pop();
    assert!(why(endless, target()).contains("must be a drain"));
    let nowhere = Target {
        addresses: Vec::new(),
        ..target()
    };
    assert!(why(scenario(10), nowhere).contains("no address"));
    assert!(why(scenario(10), target()).contains("cannot start a worker process"));
    let passes = Thresholds::default();
    assert!(!passes.promises, "a default judges nothing");
}
