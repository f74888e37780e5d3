//! From what a run is given to a run under way.

use std::time::{SystemTime, UNIX_EPOCH};

use super::clocks::Clocks;
use super::conductor::Conductor;
use super::crew::{Crew, Member};
use super::observer::Observer;
use super::options::{RunOptions, Target, WorkerProgram};
use super::plan::{Place, Share};
use super::records::Records;
use super::resources::Usage;
use super::restarts::Restarts;
use super::run::Run;
use super::series::Series;
use super::switchboard::Switchboard;
use super::view::View;
use super::workers::{Worker, raise_descriptors};
use crate::Error;
use crate::control::desk::own_clock_us;
use crate::control::line::Line;
use crate::control::message::{Assignment, TlsTrust, ToWorker};
use crate::scenario::{PhaseKind, RestartNodes, Scenario};
use crate::signals::stop_on_signal;

/// What the workers are told, but for their numbers.
pub(crate) struct Job {
    pub(crate) scenario: Scenario,
    pub(crate) target: Target,
    /// Of this run.
    pub(crate) run: u32,
    /// Devices of each worker; worker 0 has none.
    pub(crate) shares: Vec<Share>,
}

/// Workers that have been started, and this end of their control connections.
pub(crate) type Started = (Crew, Vec<Line>);

/// Refuses what cannot work.
pub(crate) fn check(options: &RunOptions) -> Result<(), Error> {
    let (scenario, target) = (&options.scenario, &options.target);
    let refuse = |why: String| Err(Error::Arguments(why));
    if options
        .agents
        .as_ref()
        .is_some_and(|agents| agents.addresses.is_empty())
    {
        return refuse("there are no agents".to_owned());
    }
    if target.addresses.is_empty() {
        return refuse("the target has no address".to_owned());
    }
    let sealed = scenario
        .populations
        .iter()
        .find(|population| population.tls);
    if let Some(population) = sealed
        && (target.tls_addresses.is_empty() || target.tls.is_none())
    {
        return refuse(format!(
            "population {} uses TLS, but the target has no TLS address or no certificate to trust",
            population.name
        ));
    }
    if !matches!(
        scenario.phases.last().map(|phase| &phase.what),
        Some(PhaseKind::Drain)
    ) {
        return refuse("the last phase of a scenario must be a drain".to_owned());
    }
    for phase in &scenario.phases {
        let PhaseKind::Restart {
            nodes: RestartNodes::Fleet(_),
            ..
        } = phase.what
        else {
            continue;
        };
        if target.restart.is_none() {
            return refuse(format!(
                "phase \"{}\" restarts nodes, which a run can do with a fleet that mqtt-fleet cluster runs (--cluster-json FILE, or \
                 no --target at all); for others copy the scenario, and say hook = [\"program\"] there instead of nodes =",
                phase.name
            ));
        }
    }
    Ok(())
}

/// This machine, as a place for workers; its limit of open files is raised as far as it may be.
pub(crate) fn own_place() -> Result<Place, Error> {
    let descriptors = raise_descriptors()?;
    let cores =
        std::thread::available_parallelism().map_err(Error::system("cannot count the cores"))?;
    let cores = u32::try_from(cores.get()).unwrap_or(u32::MAX);
    Ok(Place { cores, descriptors })
}

/// Starts worker 0 and those with devices, all on this machine.
pub(crate) fn start_here(program: &WorkerProgram, shares: &[Share]) -> Result<Started, Error> {
    let (mut members, mut lines) = (Vec::new(), Vec::new());
    for worker in 0..=shares.len() {
        let name = name(worker);
        let (process, socket) = Worker::start(program)?;
        lines.push(Line::open(name.clone(), socket)?);
        members.push(Member {
            name,
            process: Some(process),
            remote: false,
        });
    }
    Ok((Crew(members), lines))
}

/// How a worker is called.
pub(crate) fn name(worker: usize) -> String {
    match worker {
        0 => "worker 0 (the back end)".to_owned(),
        number => format!("worker {number}"),
    }
}

/// A number that keeps the topics and client ids of two runs apart.
pub(crate) fn run_number() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.map_or(0, |time| time.as_millis()) as u64;
    // Nineteen days of tenths of seconds, and the process: two runs at once have different ones.
    (millis / 100 % (1 << 24)) as u32 ^ std::process::id().rotate_left(20)
}

/// Tells the workers what to do, and puts the run together. Its clock has begun at `began_us` of the own clock.
pub(crate) fn begin(
    job: Job,
    (crew, mut lines): Started,
    view: View,
    began_us: u64,
) -> Result<Run, Error> {
    assign(&job, &mut lines)?;
    let remote = crew.remote();
    let switchboard = Switchboard::new(lines)?;
    Ok(Run {
        clocks: Clocks::new(&remote, began_us),
        conductor: Conductor::new(job.scenario.phases.clone(), crew.0.len()),
        observer: Observer::new(job.target.processes)?,
        records: Records::new(&remote),
        restarts: Restarts::new(job.target.restart, switchboard.waker())?,
        view,
        enough: stop_on_signal()?,
        switchboard,
        usage: Usage::default(),
        series: Series::new(),
        phases: Vec::new(),
        scenario: job.scenario,
        crew,
        began_us,
        open: None,
        looked_us: own_clock_us().saturating_sub(began_us),
        over: false,
    })
}

fn assign(job: &Job, lines: &mut [Line]) -> Result<(), Error> {
    let tls = job.target.tls.as_ref().map(|trust| TlsTrust {
        ca_pem: trust.ca_pem.clone(),
        name: trust.name.clone(),
    });
    let devices = job.shares.iter().map(|share| share.devices.clone());
    let shares: Vec<_> = std::iter::once(0..0).chain(devices).collect();
    for (worker, line) in (0..).zip(lines) {
        let assignment = Assignment {
            scenario: job.scenario.clone(),
            run: job.run,
            worker,
            targets: job.target.addresses.clone(),
            tls_targets: job.target.tls_addresses.clone(),
            tls: tls.clone(),
            shares: shares.clone(),
        };
        line.send(&ToWorker::Begin(Box::new(assignment)))?;
    }
    Ok(())
}
