//! Leads one run: starts the workers, takes them through the phases, watches the target, judges.
//!
//! | file      | what it holds                                            |
//! |-----------|----------------------------------------------------------|
//! | `options` | what a run is given from outside                         |
//! | `plan`    | how many workers, where, with which devices              |
//! | `clock`   | the clocks of other machines                             |

mod clock;
mod conductor;
mod observer;
mod options;
mod plan;
mod records;
mod resources;
#[cfg(test)]
mod samples;
mod series;
mod switchboard;
mod workers;

pub use options::{
    Agents, ProcessList, RestartHook, RunOptions, Secret, Target, TargetProcess, Trust,
    WorkerProgram,
};
