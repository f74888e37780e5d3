//! From a run that is over to its outcome.

use std::time::SystemTime;

use super::judge::judge;
use super::observer::{kernel, memory_bytes};
use super::run::Run;
use crate::Error;
use crate::outcome::{Machine, Outcome, PhaseOutcome, Point, TargetInfo};
use crate::scenario::Thresholds;

/// Adds up. A run that was driven to its end is judged: its workers have said their last words, and their processes are
/// waited for. Where it was not, the outcome says how far it came, and why no further.
pub(crate) fn finish(
    mut run: Run,
    number: u32,
    target: TargetInfo,
    started: SystemTime,
    driven: Result<(), Error>,
) -> Result<Outcome, Error> {
    let ended = driven.and_then(|()| run.crew.end_all());
    if ended.is_err() {
        run.break_off();
    }
    let pass = run.scenario.pass.clone();
    let outcome = add_up(run, number, target, started);
    let error = match ended {
        Ok(()) => return outcome.map(|outcome| judged(outcome, &pass)),
        Err(error) => error,
    };
    // Whatever keeps the figures from being told now says less than what ended the run.
    let Ok(mut outcome) = outcome else {
        return Err(error);
    };
    outcome.fail(&error);
    Ok(outcome)
}

fn judged(mut outcome: Outcome, pass: &Thresholds) -> Outcome {
    outcome.checks = judge(pass, &outcome);
    let done = outcome.skipped.is_empty() && outcome.phases.iter().all(|phase| phase.done);
    outcome.passed = done && outcome.checks.iter().all(|check| check.passed);
    outcome
}

fn add_up(
    run: Run,
    number: u32,
    target: TargetInfo,
    started: SystemTime,
) -> Result<Outcome, Error> {
    let own_cpu_s = run.observer.own_cpu_s()?;
    let simulator_cpu_s = run.records.workers_cpu_s() + own_cpu_s;
    let rows = run.series.rows();
    let steady = longest_steady(&run.phases);
    let steady_rows = rows.filter(|row| steady.is_some_and(|phase| is_within(row, phase)));
    let resources = run
        .usage
        .finish(steady_rows, run.records.connected_max(), simulator_cpu_s);
    let secs = run.now_us() as f64 / 1e6;
    let skipped = run.conductor.skipped();
    let skipped = run
        .scenario
        .phases
        .iter()
        .take(skipped.end.into())
        .skip(skipped.start.into());
    Ok(Outcome {
        scenario: run.scenario.name.clone(),
        about: run.scenario.about.clone(),
        started: humantime::format_rfc3339_seconds(started).to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: machine()?,
        target,
        devices: u64::from(run.scenario.device_count()),
        workers: run.crew.0.len() as u64,
        clock_error_us: run.clocks.error_us(),
        secs,
        latencies: run.records.latencies(),
        totals: run.records.totals(),
        errors: run.records.errors(),
        findings: run.records.finding_counts(),
        examples: run.records.examples(&run.scenario, number),
        resources,
        series: run.series.finish(),
        stopped: run.conductor.is_signalled(),
        skipped: skipped.map(|phase| phase.name.clone()).collect(),
        phases: run.phases,
        ..Outcome::default()
    })
}

fn longest_steady(phases: &[PhaseOutcome]) -> Option<&PhaseOutcome> {
    let steady = phases.iter().filter(|phase| phase.kind == "steady");
    let secs = |phase: &&PhaseOutcome| phase.to_s - phase.from_s;
    steady.max_by(|a, b| secs(a).total_cmp(&secs(b)))
}

fn is_within(row: &Point, phase: &PhaseOutcome) -> bool {
    (phase.from_s..=phase.to_s).contains(&row.at_s)
}

fn machine() -> Result<Machine, Error> {
    let cores =
        std::thread::available_parallelism().map_err(Error::system("cannot count the cores"))?;
    Ok(Machine {
        cores: cores.get() as u64,
        memory_bytes: memory_bytes()?,
        kernel: kernel()?,
    })
}
