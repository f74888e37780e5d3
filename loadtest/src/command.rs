//! The command line of `mqtt-fleet loadtest`: scenario files by subcommands, single loads by their names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::LoadtestArgs;

/// What is asked of the load simulator.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct LoadtestCommand {
    /// With scenario files.
    #[command(subcommand)]
    pub action: Option<Action>,
    /// One load, by its name.
    #[command(flatten)]
    pub single: Option<LoadtestArgs>,
}

/// What there is beside single loads.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run a scenario: devices, back ends and phases from a file, with a report and a verdict
    Run(Box<RunArgs>),
    /// List the scenarios that come with the program, or print one to copy
    Scenarios(ScenariosArgs),
    /// Lend this machine to the runs of another one: devices of theirs are held here
    Agent(AgentArgs),
    /// A worker process; its standard input is the connection to its controller
    #[command(hide = true)]
    Worker,
}

/// One run of a scenario.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 passed, 1 failed, 2 arguments or scenario wrong.")]
pub struct RunArgs {
    /// A scenario that comes with the program (`loadtest scenarios` lists them), or a file
    pub scenario: String,
    /// Where devices connect [default: a fleet is started as the scenario says, and ended afterwards]
    #[arg(long, value_name = "ADDR,...", value_delimiter = ',')]
    pub target: Vec<String>,
    /// Where devices with TLS connect
    #[arg(
        long,
        value_name = "ADDR,...",
        value_delimiter = ',',
        requires = "tls_ca"
    )]
    pub target_tls: Vec<String>,
    /// Trust the certificates in this PEM file, and no others
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The name that is in the targets' certificates [default: the host of the first --target-tls]
    #[arg(long, value_name = "NAME", requires = "target_tls")]
    pub tls_name: Option<String>,
    /// The cluster.json of a fleet that runs already, started by `mqtt-fleet cluster`: addresses, and processes to measure
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "target_tls", "tls_ca"])]
    pub cluster_json: Option<PathBuf>,
    /// Write report.html and report.json into this folder
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Keep the data of the fleet that is started, in DIR/fleet [default: a temporary folder, removed afterwards]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["target", "target_tls", "cluster_json"])]
    pub data: Option<PathBuf>,
    /// Machines that hold the devices, each with `mqtt-fleet loadtest agent` running
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        requires = "secret_file"
    )]
    pub agent: Vec<String>,
    /// File with the secret that this machine and the agents share
    #[arg(long, value_name = "FILE", requires = "agent")]
    pub secret_file: Option<PathBuf>,
    /// Seconds between two lines of progress where standard error is no terminal
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub report_every: u64,
    /// So many times the devices of each population: 0.1 for a first try of a large scenario. Rates stay
    #[arg(long, value_name = "FACTOR")]
    pub devices_scale: Option<f64>,
    /// Another seed than the scenario's
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// What to say of the ready scenarios.
#[derive(Debug, Args)]
pub struct ScenariosArgs {
    /// Print the file of this one
    #[arg(long, value_name = "NAME")]
    pub show: Option<String>,
}

/// A machine that is lent.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where controllers connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18800")]
    pub listen: SocketAddr,
    /// File with the secret that controllers share; at least 16 bytes
    #[arg(long, value_name = "FILE")]
    pub secret_file: PathBuf,
}

impl RunArgs {
    /// True where the run is to start the fleet.
    #[must_use]
    pub fn starts_a_fleet(&self) -> bool {
        self.target.is_empty() && self.target_tls.is_empty() && self.cluster_json.is_none()
    }

    /// Time between two lines of progress.
    #[must_use]
    pub fn report_every(&self) -> Duration {
        Duration::from_secs(self.report_every)
    }
}
