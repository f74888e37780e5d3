//! `mqtt-fleet ctl group`: how the groups and their members are.

mod fleet;
mod status;

use clap::{Args, Subcommand};
use cluster::topology::HostPort;
use std::path::PathBuf;

use super::members::{Failed, address};
use crate::exit::Exit;
use status::FleetStatus;

/// What is asked of groups.
#[derive(Debug, Subcommand)]
pub(super) enum GroupQuestion {
    /// Say how each member is: its role, how far it is behind, its disk, what is wrong with it. The exit code is 1 if a
    /// group has no leader
    Status(StatusArgs),
}

/// What `status` is asked with.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// Admin port of a broker; again for each further one. Members that are not asked are shown as others know them
    #[arg(long, value_name = "HOST:PORT", value_parser = address, conflicts_with = "cluster")]
    admin: Vec<HostPort>,
    /// Folder of a fleet that mqtt-fleet cluster runs: all its brokers are asked
    #[arg(long, value_name = "DIR", default_value = "./fleet")]
    cluster: PathBuf,
}

/// The text, and how the process ends.
pub(super) fn run(question: &GroupQuestion) -> Result<(Exit, String), Failed> {
    match question {
        GroupQuestion::Status(args) => status(args),
    }
}

fn status(args: &StatusArgs) -> Result<(Exit, String), Failed> {
    let asked = if args.admin.is_empty() {
        fleet::brokers(&args.cluster)?
    } else {
        args.admin.iter().map(fleet::Broker::at).collect()
    };
    let status = FleetStatus::new(fleet::ask(asked));
    let text = if args.json {
        let text = serde_json::to_string_pretty(&status);
        let text = text.map_err(|error| (Exit::Failed, error.to_string()))?;
        format!("{text}\n")
    } else {
        status.to_string()
    };
    let exit = if status.all_have_leaders() {
        Exit::Fine
    } else {
        Exit::Failed
    };
    Ok((exit, text))
}
