//! Leads one run: starts the workers, takes them through the phases, watches the target, judges.
//!
//! | file          | what it holds                                                         |
//! |---------------|-----------------------------------------------------------------------|
//! | `options`     | what a run is given from outside                                      |
//! | `plan`        | how many workers, where, with which devices                           |
//! | `start`       | from what is given to a run under way                                 |
//! | `workers`     | worker processes on this machine; `agents`: on further ones           |
//! | `crew`        | the workers of a run                                                  |
//! | `switchboard` | their control connections, and what travels between workers           |
//! | `clock`       | one exchange of clocks; `clocks`: those of all workers                |
//! | `conductor`   | which phase comes when: the decisions                                 |
//! | `run`         | the loop that hears, asks the conductor, and carries out              |
//! | `restarts`    | restarts nodes of the target                                          |
//! | `observer`    | processes and machine, from /proc                                     |
//! | `records`     | what workers report, added up; `series`: over time; `resources`: of processes |
//! | `judge`       | thresholds and figures make verdicts                                  |
//! | `view`        | what a person sees meanwhile                                          |
//! | `finish`      | from a run that is over to its outcome                                |
//!
//! Invariant: a worker never waits for the controller, nor the controller for a worker; see `switchboard`.
//! Invariant: whatever ends a run, its worker processes are gone when `run_scenario` returns.

mod agents;
mod clock;
mod clocks;
mod conductor;
mod crew;
mod finish;
mod judge;
mod observer;
mod options;
mod plan;
mod records;
mod resources;
mod restarts;
mod run;
#[cfg(test)]
pub(crate) mod samples;
mod series;
mod start;
mod switchboard;
#[cfg(test)]
mod tests;
mod view;
mod workers;

use std::time::SystemTime;

use crate::Error;
use crate::control::desk::own_clock_us;
use crate::outcome::{Outcome, TargetInfo};
pub use options::{
    Agents, ProcessList, RestartHook, RunOptions, Secret, Target, TargetProcess, Trust,
    WorkerProgram,
};
use start::Job;
pub(crate) use start::own_place;
use view::View;
pub(crate) use workers::Worker;

/// Runs a scenario to its end and judges it; a run that has not passed is no error. One that breaks off under way has an
/// outcome too, see [`Outcome::error`]; an error is what kept it from beginning. SIGINT (Ctrl-C) or SIGTERM leads on to the
/// last phase, a second one ends the process at once. It needs Linux.
pub fn run_scenario(options: RunOptions) -> Result<Outcome, Error> {
    let (started, began_us) = (SystemTime::now(), own_clock_us());
    start::check(&options)?;
    let devices = options.scenario.device_count();
    let (shares, workers) = if let Some(agents) = &options.agents {
        let shares = agents::plan(agents, devices)?;
        let workers = agents::start(agents, &options.worker, &shares)?;
        (shares, workers)
    } else {
        let shares = plan::shares(devices, &[own_place()?])?;
        let workers = start::start_here(&options.worker, &shares)?;
        (shares, workers)
    };
    let view = View::new(options.live, options.report_every);
    let target = describe(&options.target);
    let job = Job {
        scenario: options.scenario,
        target: options.target,
        run: start::run_number(),
        shares,
    };
    let number = job.run;
    let mut run = start::begin(job, workers, view, began_us)?;
    let driven = run.drive();
    finish::finish(run, number, target, started, driven)
}

fn describe(target: &Target) -> TargetInfo {
    let all = target.addresses.iter().chain(&target.tls_addresses);
    TargetInfo {
        addresses: all.map(ToString::to_string).collect(),
        about: target.about.clone(),
    }
}
