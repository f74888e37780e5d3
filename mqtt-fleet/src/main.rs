//! The mqtt-fleet binary: one MQTT broker process, and the tools around it.
//!
//! | module       | what it holds                                                     |
//! |--------------|-------------------------------------------------------------------|
//! | `cli`        | the command line                                                  |
//! | `config`     | what was typed (flags, environment, file) and what it means       |
//! | `standalone` | the whole broker in one process: start, run, drain                |
//! | `engine`     | the running parts: group, log, shards                             |
//! | `store`      | the embedded session store in the group's log                     |
//! | `figures`    | where the figures of `/metrics` come from                         |
//! | `listen`     | the MQTT port: reserved early, opened once the data is there      |
//! | `admin`      | the admin port: metrics, health, one page for people              |
//! | `metrics`    | the list of figures that `/metrics` shows                         |
//! | `stop`       | signals, and faults of other threads                              |
//! | `banner`     | what a person reads when the broker is up                         |
//! | `logging`    | the log on standard error                                         |
//! | `exit`       | exit codes, and the one place that prints why a command failed    |

mod admin;
mod banner;
mod cli;
mod config;
mod engine;
mod exit;
mod figures;
mod listen;
mod logging;
mod metrics;
mod standalone;
mod stop;
mod store;

use std::process::ExitCode;

/// The system allocator keeps freed memory of short bursts (a reconnect storm) for good; jemalloc
/// hands it back, and costs less per small object.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run().into()
}
