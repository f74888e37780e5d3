//! What the workers report, added up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::observer::{Look, SIMULATOR, Seen};
use crate::control::message::{BACKEND, Counts, Finding, FindingKind, LatencyKind, Sample, Spread};
use crate::limits::EXAMPLES_MAX;
use crate::outcome::{FindingLine, LatencyOutcome, LatencyPoint, Point, Totals};
use crate::scenario::Scenario;

/// Longest latency told apart, µs; longer ones count as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Shortest time that a rate is taken over, µs.
const RATE_US_MIN: u64 = 500_000;

/// What all workers have reported.
#[derive(Debug)]
pub(crate) struct Records {
    workers: Vec<Reported>,
    latencies: BTreeMap<LatencyKind, Latency>,
    findings: Vec<Finding>,
    connected_max: u64,
}

/// What one worker has reported.
#[derive(Debug, Default)]
struct Reported {
    sample: Sample,
    /// Run time and connects, messages sent and received by then: what rates count from.
    base: (u64, [u64; 3]),
    /// The same a second.
    per_s: [f64; 3],
    /// True where the observer cannot see it.
    remote: bool,
}

#[derive(Debug)]
struct Latency {
    run: Histogram<u64>,
    interval: Histogram<u64>,
}

/// Memory and CPU of a role.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RoleUse {
    pub(crate) role: String,
    pub(crate) processes: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) cpu_s: f64,
}

impl Records {
    /// Nothing from any worker; `remote` are those on other machines.
    pub(crate) fn new(remote: &[bool]) -> Self {
        let worker = |&remote: &bool| Reported {
            remote,
            ..Reported::default()
        };
        Self {
            workers: remote.iter().map(worker).collect(),
            latencies: BTreeMap::new(),
            findings: Vec::new(),
            connected_max: 0,
        }
    }

    /// A worker has said where it stands.
    pub(crate) fn sample(&mut self, worker: u16, mut sample: Sample) {
        for (kind, spread) in std::mem::take(&mut sample.latencies) {
            let latency = self.latencies.entry(kind).or_insert_with(Latency::new);
            latency.add(&spread);
        }
        let reported = &mut self.workers[usize::from(worker)];
        reported.rate(&sample);
        reported.sample = sample;
        self.connected_max = self.connected_max.max(self.connected());
    }

    /// A worker has said its last word: nothing happens there any more.
    pub(crate) fn ended(&mut self, worker: u16, last: Sample) {
        self.sample(worker, last);
        self.workers[usize::from(worker)].per_s = [0.0; 3];
    }

    /// A worker has found something.
    pub(crate) fn found(&mut self, findings: Vec<Finding>) {
        let room = EXAMPLES_MAX - self.findings.len();
        self.findings.extend(findings.into_iter().take(room));
    }

    /// Devices connected, by the newest samples.
    pub(crate) fn connected(&self) -> u64 {
        self.sum(|sample| sample.connected)
    }

    /// Most devices connected at once, by the samples.
    pub(crate) fn connected_max(&self) -> u64 {
        self.connected_max
    }

    /// All counters.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for worker in &self.workers {
            add(&mut sum, &worker.sample.counts);
        }
        sum
    }

    /// Errors by reason, the most frequent first.
    pub(crate) fn errors(&self) -> Vec<(String, u64)> {
        let mut sum = BTreeMap::<&str, u64>::new();
        for (reason, count) in self.workers.iter().flat_map(|worker| &worker.sample.errors) {
            *sum.entry(reason).or_default() += count;
        }
        let owned = |(reason, count): (&str, u64)| (reason.to_owned(), count);
        let mut errors: Vec<_> = sum.into_iter().map(owned).collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        errors
    }

    /// CPU of all workers, by their own account, s.
    pub(crate) fn workers_cpu_s(&self) -> f64 {
        self.sum(|sample| sample.cpu_us) as f64 / 1e6
    }

    /// Memory and CPU by role: those of the target, in the order of its processes, then the simulator.
    pub(crate) fn roles(&self, look: &Look) -> Vec<RoleUse> {
        let mut roles = by_role(&look.target);
        let mut own = by_role(&look.own);
        let simulator = own.iter_mut().find(|role| role.role == SIMULATOR);
        if let Some(simulator) = simulator {
            for worker in self.workers.iter().filter(|worker| worker.remote) {
                simulator.processes += 1;
                simulator.rss_bytes += worker.sample.rss_bytes;
                simulator.cpu_s += worker.sample.cpu_us as f64 / 1e6;
            }
        }
        roles.append(&mut own);
        roles
    }

    /// A row of the series, with the latencies since the row before.
    pub(crate) fn point(&mut self, at_us: u64) -> Point {
        let counts = self.counts();
        let rate = |index: usize| self.workers.iter().map(|worker| worker.per_s[index]).sum();
        let (connects_per_s, sent_per_s, received_per_s) = (rate(0), rate(1), rate(2));
        let errors = self.workers.iter().flat_map(|worker| &worker.sample.errors);
        Point {
            at_s: at_us as f64 / 1e6,
            connected: self.connected(),
            connects_per_s,
            sent_per_s,
            received_per_s,
            connections_lost: counts.connections_lost,
            errors: errors.map(|(_, count)| count).sum(),
            owed: counts.owed,
            latencies: self.interval(),
            ..Point::default()
        }
    }

    /// Latencies of the whole run.
    pub(crate) fn latencies(&self) -> Vec<LatencyOutcome> {
        let outcome = |(kind, latency): (&LatencyKind, &Latency)| {
            let run = &latency.run;
            LatencyOutcome {
                kind: name(*kind).to_owned(),
                count: run.len(),
                p50_us: run.value_at_quantile(0.5),
                p90_us: run.value_at_quantile(0.9),
                p99_us: run.value_at_quantile(0.99),
                p999_us: run.value_at_quantile(0.999),
                max_us: run.max(),
            }
        };
        self.latencies.iter().map(outcome).collect()
    }

    /// All counters, for the outcome.
    pub(crate) fn totals(&self) -> Totals {
        let counts = self.counts();
        Totals {
            connected_max: self.connected_max,
            connects: counts.connects,
            reconnects: counts.reconnects,
            connections_lost: counts.connections_lost,
            dropped: counts.dropped,
            pings: counts.pings,
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            received: counts.received,
            repeated: counts.repeated,
            excused: counts.excused,
            unacknowledged: counts.unacknowledged,
            left_late: counts.left_late,
            not_sent: counts.not_sent,
            bytes: counts.bytes,
        }
    }

    /// Findings by kind, those that occurred.
    pub(crate) fn finding_counts(&self) -> Vec<(FindingKind, u64)> {
        let counts = self.counts().findings;
        let all = FindingKind::ALL.into_iter().zip(counts);
        all.filter(|&(_, count)| count > 0).collect()
    }

    /// The first findings, in words.
    pub(crate) fn examples(&self, scenario: &Scenario, run: u32) -> Vec<FindingLine> {
        let mut findings: Vec<_> = self.findings.iter().collect();
        findings.sort_by_key(|finding| finding.at_us);
        let line = |finding: &Finding| in_words(finding, scenario, run);
        findings.into_iter().map(line).collect()
    }

    fn sum(&self, figure: impl Fn(&Sample) -> u64) -> u64 {
        self.workers
            .iter()
            .map(|worker| figure(&worker.sample))
            .sum()
    }

    fn interval(&mut self) -> Vec<LatencyPoint> {
        let mut points = Vec::new();
        for (&kind, latency) in &mut self.latencies {
            let interval = &mut latency.interval;
            if interval.is_empty() {
                continue;
            }
            points.push(LatencyPoint {
                kind: name(kind).to_owned(),
                p50_us: interval.value_at_quantile(0.5),
                p99_us: interval.value_at_quantile(0.99),
                max_us: interval.max(),
            });
            interval.reset();
        }
        points
    }
}

impl Reported {
    /// What happens a second. Two samples may follow each other at once; a rate needs time between.
    fn rate(&mut self, sample: &Sample) {
        let sum = |by_qos: [u64; 3]| by_qos.iter().sum::<u64>();
        let counts = &sample.counts;
        let after = [counts.connects, sum(counts.sent), sum(counts.received)];
        let (since_us, before) = self.base;
        let passed_us = sample.at_us.saturating_sub(since_us);
        if passed_us >= RATE_US_MIN {
            let secs = passed_us as f64 / 1e6;
            let rate = |index: usize| after[index].saturating_sub(before[index]) as f64 / secs;
            self.per_s = std::array::from_fn(rate);
            self.base = (sample.at_us, after);
        }
    }
}

impl Latency {
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .expect("bounds and digits are within what the histogram allows")
        };
        Self {
            run: histogram(),
            interval: histogram(),
        }
    }

    fn add(&mut self, spread: &Spread) {
        for &(us, count) in &spread.0 {
            let us = us.clamp(1, LATENCY_US_MAX);
            self.run.saturating_record_n(us, count);
            self.interval.saturating_record_n(us, count);
        }
    }
}

/// What reports call a kind of latency.
pub(crate) fn name(kind: LatencyKind) -> &'static str {
    match kind {
        LatencyKind::Connect => "connect",
        LatencyKind::Subscribe => "subscribe",
        LatencyKind::Ping => "ping",
        LatencyKind::Telemetry => "telemetry",
        LatencyKind::TelemetryAck => "telemetry acknowledged",
        LatencyKind::Command => "command",
        LatencyKind::CommandAck => "command acknowledged",
    }
}

fn add(sum: &mut Counts, more: &Counts) {
    sum.connects += more.connects;
    sum.reconnects += more.reconnects;
    sum.connections_lost += more.connections_lost;
    sum.dropped += more.dropped;
    sum.pings += more.pings;
    add_each(&mut sum.sent, more.sent);
    add_each(&mut sum.acknowledged, more.acknowledged);
    add_each(&mut sum.received, more.received);
    sum.owed += more.owed;
    add_each(&mut sum.findings, more.findings);
    sum.repeated += more.repeated;
    sum.excused += more.excused;
    sum.unacknowledged += more.unacknowledged;
    sum.left_late += more.left_late;
    sum.not_sent += more.not_sent;
    add_each(&mut sum.bytes, more.bytes);
}

fn add_each<const N: usize>(sum: &mut [u64; N], more: [u64; N]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

fn by_role(processes: &[Seen]) -> Vec<RoleUse> {
    let mut roles: Vec<RoleUse> = Vec::new();
    for process in processes {
        let known = roles.iter().position(|role| role.role == process.role);
        let index = known.unwrap_or_else(|| {
            let role = process.role.clone();
            roles.push(RoleUse {
                role,
                ..RoleUse::default()
            });
            roles.len() - 1
        });
        let role = &mut roles[index];
        role.processes += 1;
        role.rss_bytes += process.rss_bytes;
        role.cpu_s += process.cpu_s;
    }
    roles
}

fn in_words(finding: &Finding, scenario: &Scenario, run: u32) -> FindingLine {
    let stream = finding.stream;
    let mut client_id = String::new();
    let messages = if stream.kind == BACKEND {
        client_id = format!("connection {} of the back end", stream.device);
        String::new()
    } else {
        if stream.device < scenario.device_count() {
            crate::simulate::names::client_id(scenario, run, stream.device, &mut client_id);
        }
        let commands = usize::from(stream.kind).checked_sub(1);
        let commands = commands.and_then(|index| scenario.commands.get(index));
        commands.map_or_else(|| "telemetry".to_owned(), |commands| commands.name.clone())
    };
    FindingLine {
        kind: finding.kind,
        client_id,
        messages,
        seq: finding.seq,
        at_s: finding.at_us as f64 / 1e6,
        detail: finding.detail.clone(),
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
