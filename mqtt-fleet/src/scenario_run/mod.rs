//! `mqtt-fleet loadtest run`: a scenario on a fleet, from its start to the report.
//!
//! | module    | what it holds                                                     |
//! |-----------|-------------------------------------------------------------------|
//! | `fleet`   | the fleet that a run starts                                       |
//! | `given`   | targets that run already                                          |
//! | `restart` | how nodes are restarted in the course of a run                    |
//! | `nodes`   | the nodes of a fleet as `cluster.json` describes them             |
//! | `bell`    | what those wait for who started a fleet                           |

mod bell;
mod fleet;
mod given;
mod nodes;
mod restart;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use loadtest::scenario::{self, READY, Ready, Scenario};
use loadtest::{
    AgentArgs, AgentOptions, Agents, Outcome, RunArgs, RunOptions, ScenariosArgs, Secret, Target,
    WorkerProgram,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::bell::Bell;
use self::fleet::Fleet;
use crate::exit::{Exit, complain};

/// Why there is no outcome.
#[derive(Debug)]
pub(crate) struct RunFailure {
    exit: Exit,
    sentence: String,
}

impl RunFailure {
    /// What was asked for makes no sense.
    fn usage(sentence: impl Display) -> Self {
        let (exit, sentence) = (Exit::Usage, sentence.to_string());
        Self { exit, sentence }
    }

    /// It makes sense, and did not work.
    fn failed(sentence: impl Display) -> Self {
        let (exit, sentence) = (Exit::Failed, sentence.to_string());
        Self { exit, sentence }
    }
}

impl From<io::Error> for RunFailure {
    fn from(error: io::Error) -> Self {
        Self::failed(format_args!("cannot run the fleet: {error}"))
    }
}

impl From<loadtest::Error> for RunFailure {
    fn from(error: loadtest::Error) -> Self {
        match error {
            loadtest::Error::Arguments(_) | loadtest::Error::Descriptors { .. } => {
                Self::usage(error)
            }
            error => Self::failed(error),
        }
    }
}

/// Runs a scenario to its end.
pub(crate) fn run(args: &RunArgs) -> Exit {
    let ran = outcome(args).and_then(|outcome| show(args, &outcome));
    match ran {
        Ok(exit) => exit,
        // A scenario may have several mistakes, each a line.
        Err(RunFailure { exit, sentence }) if exit == Exit::Usage => {
            sentence.lines().fold(exit, complain)
        }
        Err(RunFailure { exit, sentence }) => complain(exit, sentence),
    }
}

/// Lists the ready scenarios, or prints one.
pub(crate) fn scenarios(args: &ScenariosArgs) -> Exit {
    let Some(name) = &args.show else {
        for ready in READY {
            match ready.scenario() {
                Ok(scenario) => println!("{:<10} {}", ready.name, scenario.about),
                Err(error) => return complain(Exit::Failed, error),
            }
        }
        return Exit::Fine;
    };
    let Some(ready) = Ready::find(name) else {
        let names = READY.map(|ready| ready.name).join(", ");
        return complain(
            Exit::Usage,
            format_args!("no scenario \"{name}\"; there are: {names}"),
        );
    };
    let written = io::stdout().write_all(ready.text.as_bytes());
    match written {
        Ok(()) => Exit::Fine,
        Err(error) => complain(Exit::Failed, format_args!("cannot write it: {error}")),
    }
}

/// Lends this machine until a signal.
pub(crate) fn agent(args: &AgentArgs) -> Exit {
    let options = || {
        Ok(AgentOptions {
            listen: args.listen,
            secret: secret(&args.secret_file)?,
            worker: worker_program()?,
        })
    };
    let say = |address| println!("waiting for runs on {address}; Ctrl-C ends it");
    let lent = options().and_then(|options| Ok(loadtest::run_agent(options, say)?));
    match lent {
        Ok(()) => Exit::Fine,
        Err(RunFailure { exit, sentence }) => complain(exit, sentence),
    }
}

/// Is a worker process until its controller has no more need of it.
pub(crate) fn worker() -> Exit {
    match loadtest::work() {
        Ok(()) => Exit::Fine,
        Err(error) => complain(Exit::Failed, error),
    }
}

fn outcome(args: &RunArgs) -> Result<Outcome, RunFailure> {
    let mut scenario = scenario::load(&args.scenario).map_err(RunFailure::usage)?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    if let Some(factor) = args.devices_scale {
        scenario = scenario.scaled(factor).map_err(RunFailure::usage)?;
    }
    let agents = agents(args)?;
    if let Some(folder) = &args.report {
        can_report(folder)?;
    }
    if !args.starts_a_fleet() {
        let target = given::target(args, &scenario)?;
        return Ok(drive(args, scenario, target, agents)?);
    }
    if agents.is_some() {
        return Err(RunFailure::usage(
            "the fleet that a run starts is on loopback, where agents on other machines cannot reach it; say --target",
        ));
    }
    let bell = Arc::new(Bell::default());
    watch_signals(&bell)?;
    let fleet = Fleet::start(&scenario, args.data.as_deref(), &bell)?;
    let outcome = fleet
        .target()
        .and_then(|target| Ok(drive(args, scenario, target, agents)?));
    let stopped = fleet.stop();
    let mut outcome = outcome?;
    if let Err(failure) = stopped {
        outcome.fail(&failure.sentence);
    }
    Ok(outcome)
}

fn drive(
    args: &RunArgs,
    scenario: Scenario,
    target: Target,
    agents: Option<Agents>,
) -> Result<Outcome, loadtest::Error> {
    loadtest::run_scenario(RunOptions {
        scenario,
        target,
        report_every: args.report_every(),
        live: io::stderr().is_terminal(),
        worker: worker_program()?,
        agents,
    })
}

/// This program, as a worker.
fn worker_program() -> Result<WorkerProgram, loadtest::Error> {
    let program = std::env::current_exe();
    let program = program.map_err(|source| loadtest::Error::System {
        what: "cannot find the own program",
        source,
    })?;
    let args = ["loadtest", "worker"].map(OsString::from).to_vec();
    Ok(WorkerProgram { program, args })
}

fn agents(args: &RunArgs) -> Result<Option<Agents>, RunFailure> {
    let Some(path) = &args.secret_file else {
        return Ok(None);
    };
    let addresses = args.agent.clone();
    let secret = secret(path)?;
    Ok(Some(Agents { addresses, secret }))
}

fn secret(path: &Path) -> Result<Secret, RunFailure> {
    let wrong = |why: &dyn Display| RunFailure::usage(format_args!("{}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    Secret::new(&text).map_err(|error| wrong(&error))
}

/// A run of hours must not end without a place for its report.
fn can_report(folder: &Path) -> Result<(), RunFailure> {
    let tried = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    let wrong = |error| RunFailure::usage(format_args!("--report {}: {error}", folder.display()));
    tried.map(drop).map_err(wrong)
}

/// Writes the report and prints the summary, and what ended the run where that was an error.
fn show(args: &RunArgs, outcome: &Outcome) -> Result<Exit, RunFailure> {
    if let Some(folder) = &args.report {
        let page = outcome.write(folder)?;
        println!("report in {}", page.display());
    }
    println!("{outcome}");
    Ok(match &outcome.error {
        Some(error) => complain(Exit::Failed, error),
        None if outcome.passed => Exit::Fine,
        None => Exit::Failed,
    })
}

/// A signal ends the waiting for nodes of the fleet. (The run itself hears of it by itself.)
fn watch_signals(bell: &Arc<Bell>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let bell = Arc::clone(bell);
    let body = move || {
        for _ in signals.forever() {
            bell.ring(|news| news.stopped = true);
        }
    };
    let name = "signals".to_owned();
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map(|_| ())
}
