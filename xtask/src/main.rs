//! Developer commands: `cargo xtask test`, `tidy`, `bench`, `backlog`, `kill`, `chaos`, `sim`, `partition`, `failover` and `join`. Run
//! `cargo xtask help` for a summary.

mod bench;
mod cargo;
mod chaos;
mod clients;
mod failover;
mod join;
mod partition;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command reports when it cannot do its work: one sentence for a person.
type Outcome = Result<(), String>;

/// Developer commands of mqtt-fleet.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all tests, after finding or installing the MQTT clients they use
    Test {
        /// Passed to `cargo test`, for instance `-p mqtt-fleet-protocol` or `--test p4_order`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Check what the compiler does not: crate edges, sizes of files, paths, left-overs
    Tidy,
    /// Put the same load on mosquitto and on this broker, in turn, and print the figures and their ratios
    Bench(bench::BenchArgs),
    /// Fill queues with more than fits into memory, kill -9 the broker, start it again and drain them
    Backlog(bench::backlog::BacklogArgs),
    /// Run the kill -9 test for long (200 rounds take a few minutes)
    Kill {
        /// How often the broker is killed
        #[arg(long, default_value_t = 200)]
        rounds: u32,
    },
    /// Kill the proxies, brokers, Redis and HAProxy of a fleet in turn, and judge what became of every message
    Chaos(chaos::ChaosArgs),
    /// Run the simulator: worlds of devices, proxies and groups, made by seeds (`sim --help` says more)
    Sim {
        /// Passed to the simulator, for instance `--seeds 20000` or `--seed 7 --trace`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Cut the network between the nodes of a fleet, and judge what became of every message (Linux)
    Partition(partition::PartitionArgs),
    /// Kill leaders of groups of three, cut their members from each other, kill everything, and judge what became of every
    /// message (Linux)
    Failover(failover::FailoverArgs),
    /// Have a member with an empty folder join a group that holds much, and compare the latency of a publisher before and
    /// during that
    Join(join::JoinArgs),
}

fn main() -> ExitCode {
    let root = root();
    let outcome = match Cli::parse().command {
        Command::Test { args } => test(&root, &args),
        Command::Tidy => tidy::run(&root),
        Command::Bench(args) => bench::run(&root, &args).map_err(|error| error.to_string()),
        Command::Backlog(args) => {
            bench::backlog::run(&root, &args).map_err(|error| error.to_string())
        }
        Command::Kill { rounds } => kill(&root, rounds),
        Command::Chaos(args) => chaos::run(&root, &args),
        Command::Sim { args } => cargo::run(&root, "mqtt-fleet-sim", &args),
        Command::Partition(args) => partition::run(&root, &args),
        Command::Failover(args) => failover::run(&root, &args),
        Command::Join(args) => join::run(&root, &args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("xtask: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace: the one above this crate. Cargo says where that is when it runs us;
/// what it said at compile time may be another copy of the tree.
fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
    let mut root = PathBuf::from(manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
    root.pop();
    root
}

fn test(root: &std::path::Path, args: &[String]) -> Outcome {
    let clients = clients::provide(root)?;
    cargo::test(root, &clients, args)
}

fn kill(root: &std::path::Path, rounds: u32) -> Outcome {
    let rounds = [(
        "MQTT_FLEET_KILL_ROUNDS".to_owned(),
        rounds.to_string().into(),
    )];
    let test = [
        "-p",
        "mqtt-fleet",
        "--test",
        "p2_no_acked_message_is_lost",
        "--",
        "--nocapture",
    ];
    cargo::test(root, &rounds, &test.map(str::to_owned))
}

/// Says on standard error what is being done.
fn say(what: impl std::fmt::Display) {
    eprintln!("xtask: {what}");
}
