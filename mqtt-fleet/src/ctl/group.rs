//! `mqtt-fleet ctl group`: how the groups and their members are, and who is in them.

mod change;
mod fleet;
mod status;
mod tell;

use clap::{Args, Subcommand};

use super::members::Failed;
use crate::exit::Exit;
use change::{AddArgs, OneArgs, ReplaceArgs};
use fleet::Where;
use status::FleetStatus;

/// What is asked of groups.
#[derive(Debug, Subcommand)]
pub(super) enum GroupQuestion {
    /// Say how each member is: its role, how far it is behind, its disk, what is wrong with it. The exit code is 1 if a
    /// group has no leader that serves, or a port that was asked is no broker's
    Status(StatusArgs),
    /// Take a further broker into a group
    Add(AddArgs),
    /// Take a member out of its group
    Remove(OneArgs),
    /// Have another broker take a member's place
    Replace(ReplaceArgs),
    /// Give a member all that its group has, if its log or a snapshot is damaged, or its data folder lost; what is damaged is
    /// set aside first
    Repair(OneArgs),
}

/// What `status` is asked with.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: Where,
}

/// The text, and how the process ends.
pub(super) fn run(question: &GroupQuestion) -> Result<(Exit, String), Failed> {
    let done = match question {
        GroupQuestion::Status(args) => return status(args),
        GroupQuestion::Add(args) => change::add(args),
        GroupQuestion::Remove(args) => change::remove(args),
        GroupQuestion::Replace(args) => change::replace(args),
        GroupQuestion::Repair(args) => change::repair(args),
    };
    done.map(|text| (Exit::Fine, text))
}

fn status(args: &StatusArgs) -> Result<(Exit, String), Failed> {
    let status = FleetStatus::ask(&args.asked)?;
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
