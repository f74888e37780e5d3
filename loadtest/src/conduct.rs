//! The main thread: leads the crew through the phases and measures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Error;
use crate::args::{LoadtestArgs, Scenario};
use crate::backlog;
use crate::crew::{Counts, Crew, Phase};
use crate::endure;
use crate::limits::SPARE_DESCRIPTORS;
use crate::meter::{Meter, Sample};
use crate::plan;
use crate::progress::Progress;
use crate::report::{Quantiles, Verdict};
use crate::tls::Tls;
use crate::traffic::{Errors, Tally};
use crate::worker::Worker;

/// How long the main thread waits for a report before it looks at the clock.
const PATIENCE: Duration = Duration::from_millis(100);

/// Figures at one moment.
pub(crate) struct Mark {
    pub(crate) at: Instant,
    usage: Sample,
    pub(crate) counts: Counts,
}

/// A run under way.
pub(crate) struct Run {
    pub(crate) crew: Crew,
    pub(crate) meter: Meter,
    pub(crate) progress: Progress,
}

/// Runs `args` to the end and gives the verdict; the summary is its `Display`.
pub fn run(args: &LoadtestArgs) -> Result<Verdict, Error> {
    args.check()?;
    let addrs = args.resolve()?;
    let tls = args.tls(&addrs)?;
    allow_descriptors(args.connections() as u64 + SPARE_DESCRIPTORS)?;
    let verdict = match args.scenario {
        Scenario::Endure | Scenario::Fight => endure::run(args, &addrs, tls.as_ref())?,
        Scenario::Backlog => backlog::run(args, &addrs, tls.as_ref())?,
        _ => drive(args, &addrs, tls.as_ref())?,
    };
    if let Some(path) = &args.json {
        verdict.write(path)?;
    }
    Ok(verdict)
}

/// All scenarios in which connections are expected to stay.
fn drive(args: &LoadtestArgs, addrs: &[SocketAddr], tls: Option<&Tls>) -> Result<Verdict, Error> {
    let meter = Meter::new(&args.pid)?;
    let before = meter.sample()?;
    let began = Instant::now();
    let mut plans = plan::plans(args, addrs, &run_name());
    for plan in &mut plans {
        plan.tls = tls.cloned();
    }
    let crew = Crew::start(plans, Worker::new)?;
    let mut run = Run {
        crew,
        meter,
        progress: Progress::new("connecting", args.report_every(), false),
    };
    run.until(None, |crew| crew.heard.ready == crew.size())?;
    let up = run.mark()?;
    let setup = (up.at - began, up.counts.connects);

    run.progress.step("warming up");
    run.crew.enter(Phase::Warmup)?;
    run.until(Some(args.warming()), |crew| crew.heard.deserted > 0)?;
    run.progress.step("measuring");
    let from = run.mark()?;
    run.crew.enter(Phase::Measure)?;
    let storm = args.scenario == Scenario::Storm;
    run.until(Some(args.measured()), |crew| {
        crew.heard.deserted == crew.size() || (storm && crew.heard.back == crew.size())
    })?;
    let to = run.mark()?;

    run.progress.step("waiting for stragglers");
    run.crew.enter(Phase::Stop)?;
    run.until(None, |crew| crew.heard.tallies.len() == crew.size())?;
    run.progress.finish();
    let mut verdict = Verdict::default();
    verdict.describe(args);
    verdict.measure(args, &from, &to);
    verdict.connections(args, setup, &before, &from, &to);
    if storm {
        verdict.storm(&run.crew);
    }
    verdict.tally(std::mem::take(&mut run.crew.heard.tallies));
    verdict.judge();
    Ok(verdict)
}

impl Run {
    /// Waits until `done`, for `limit` at most.
    pub(crate) fn until(
        &mut self,
        limit: Option<Duration>,
        done: impl Fn(&Crew) -> bool,
    ) -> Result<(), Error> {
        let end = limit.map(|limit| Instant::now() + limit);
        while !done(&self.crew) {
            let left = end.map_or(PATIENCE, |end| {
                end.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                break;
            }
            self.crew.listen(left.min(PATIENCE))?;
            let gap = self.crew.take_longest_gap();
            self.progress.show(self.crew.counts(), gap);
        }
        Ok(())
    }

    pub(crate) fn mark(&self) -> Result<Mark, Error> {
        let counts = self.crew.counts();
        Ok(Mark {
            at: Instant::now(),
            usage: self.meter.sample()?,
            counts,
        })
    }
}

impl Verdict {
    pub(crate) fn describe(&mut self, args: &LoadtestArgs) {
        self.scenario = args.scenario.name();
        args.version().name().clone_into(&mut self.mqtt);
        self.addr.clone_from(&args.addr);
        self.conns = match args.scenario {
            Scenario::Connect => args.connections(),
            _ => args.conns,
        };
        self.qos = args.qos();
        self.size = args.size;
        self.window = (args.scenario.publishes() && args.rate().is_none()).then_some(args.window);
        self.rate = args.rate();
    }

    pub(crate) fn measure(&mut self, args: &LoadtestArgs, from: &Mark, to: &Mark) {
        self.secs = (to.at - from.at).as_secs_f64();
        self.sent = to.counts.sent - from.counts.sent;
        self.delivered = to.counts.delivered - from.counts.delivered;
        self.delivered_per_s = self.delivered as f64 / self.secs;
        self.loadtest_cpu_s = to.usage.own.seconds_since(&from.usage.own);
        if let (Some(before), Some(after)) = (&from.usage.broker, &to.usage.broker) {
            let cpu_s = after.cpu.seconds_since(&before.cpu);
            self.broker_cpu_s = Some(cpu_s);
            self.broker_rss_bytes = Some(after.rss_bytes);
            let flow = args.scenario.publishes() && cpu_s > 0.0;
            self.delivered_per_broker_cpu_s = flow.then(|| self.delivered as f64 / cpu_s);
        }
    }

    fn connections(
        &mut self,
        args: &LoadtestArgs,
        (setup, connects): (Duration, u64),
        before: &Sample,
        from: &Mark,
        to: &Mark,
    ) {
        self.connects = connects;
        self.connects_per_s = connects as f64 / setup.as_secs_f64();
        let (mut cpu_from, mut cpu_to) = (before, &from.usage);
        if args.scenario == Scenario::Connect {
            self.connects = to.counts.connects - from.counts.connects;
            self.connects_per_s = self.connects as f64 / self.secs;
        }
        if matches!(args.scenario, Scenario::Connect | Scenario::Storm) {
            (cpu_from, cpu_to) = (&from.usage, &to.usage);
        }
        if let (Some(a), Some(b)) = (&cpu_from.broker, &cpu_to.broker) {
            let cpu_s = b.cpu.seconds_since(&a.cpu);
            let quiet = !args.scenario.publishes() && cpu_s > 0.0;
            self.connects_per_broker_cpu_s = quiet.then(|| self.connects as f64 / cpu_s);
        }
        if let (Some(a), Some(b)) = (&before.broker, &to.usage.broker) {
            let count = args.connections() as f64;
            self.broker_rss_before_bytes = Some(a.rss_bytes);
            let growth = b.rss_bytes as f64 - a.rss_bytes as f64;
            self.broker_rss_growth_per_conn_bytes = Some(growth / count);
            self.broker_rss_total_per_conn_bytes = Some(b.rss_bytes as f64 / count);
        }
    }

    fn storm(&mut self, crew: &Crew) {
        if crew.heard.back == crew.size() {
            let seconds = crew.heard.back_after.as_secs_f64();
            self.storm_s = Some(seconds);
            self.connects = self.conns as u64;
            self.connects_per_s = self.conns as f64 / seconds;
        } else {
            self.failures.push(format!(
                "not all connections were back after {:.1} s",
                self.secs
            ));
        }
    }

    fn tally(&mut self, tallies: Vec<Tally>) {
        let mut latency: Option<Histogram<u64>> = None;
        for tally in tallies {
            self.lost += tally.lost;
            self.duplicated += tally.duplicated;
            self.reordered += tally.reordered;
            self.unsent += tally.unsent;
            add_errors(&mut self.errors, tally.errors);
            match &mut latency {
                Some(sum) => sum
                    .add(tally.latency_us)
                    .expect("histograms of the same bounds"),
                None => latency = Some(tally.latency_us),
            }
        }
        self.e2e_us = latency
            .as_ref()
            .map_or_else(Quantiles::default, Quantiles::of);
    }
}

/// Adds up errors by kind.
pub(crate) fn add_errors(sum: &mut Errors, more: Errors) {
    for (kind, count) in more {
        *sum.entry(kind).or_default() += count;
    }
}

/// A name that keeps the topics and client ids of two runs apart.
pub(crate) fn run_name() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = now.map_or(0, |time| time.as_millis() as u64) & 0xFF_FFFF_FFFF;
    format!("{:x}-{millis:x}", std::process::id())
}

/// Raises the limit of open files to `needed`.
fn allow_descriptors(needed: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // A process with the right to may raise the hard limit too.
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    let raised = Rlimit {
        current: Some(needed),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        let allowed = limit.maximum.or(limit.current).unwrap_or_default();
        Error::Descriptors { needed, allowed }
    })
}
