//! The first thing a child of the launcher does: it asks the kernel to end it when the launcher ends, however that
//! happens, and becomes the program it is meant to be.
//!
//! The kernel keeps the wish over the change of program, so it holds for programs of others too.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;

use crate::exit::{Exit, complain};

/// Who guards what.
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// The process to end with
    #[arg(long)]
    parent: i32,
    /// What to become
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program. Returns only if that fails.
pub(crate) fn run(args: &GuardArgs) -> Exit {
    if let Err(error) = end_with_parent() {
        return complain(
            Exit::Failed,
            format_args!("cannot be tied to the launcher: {error}"),
        );
    }
    // It may have ended before the wish was heard; then somebody else is the parent by now.
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    if parent.map(std::num::NonZeroI32::get) != Some(args.parent) {
        return complain(Exit::Failed, "the launcher is gone");
    }
    let (program, rest) = args.command.split_first().expect("required by the parser");
    let error = Command::new(program).args(rest).exec();
    let program = program.to_string_lossy();
    complain(Exit::Failed, format_args!("cannot run {program}: {error}"))
}

#[cfg(target_os = "linux")]
fn end_with_parent() -> std::io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    // What was acknowledged outlives it: that is what the product is for.
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Other systems have no such wish: there, children outlive a launcher that is killed with -9.
#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> std::io::Result<()> {
    Ok(())
}
