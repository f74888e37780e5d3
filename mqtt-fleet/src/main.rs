//! The mqtt-fleet binary: one MQTT broker process, and the tools around it.
//!
//! | module       | what it holds                                                     |
//! |--------------|-------------------------------------------------------------------|
//! | `cli`        | the command line                                                  |
//! | `config`     | what was typed (flags, environment, file) and what it means       |
//! | `node`       | a node of a fleet: cluster file, secret, what it keeps of the fleet |
//! | `ctl`        | questions about a fleet                                           |
//! | `http`       | as much of HTTP as it takes to ask an admin port                  |
//! | `standalone` | the whole broker in one process: start, run, drain                |
//! | `broker_node` | a broker of a fleet: a group, and links to it                    |
//! | `damaged`    | a broker whose log or snapshot is damaged                         |
//! | `proxy_node` | a proxy of a fleet: shards, and links to the group                |
//! | `links`      | a proxy's links: a client for each group                          |
//! | `launcher`   | a whole fleet on this machine                                     |
//! | `engine`     | the running parts: group, log, shards                             |
//! | `shards`     | the proxy shards of a process: prepare, start, drain              |
//! | `store`      | the embedded session store in the group's log                     |
//! | `figures`    | where the figures of `/metrics` come from                         |
//! | `listen`     | the MQTT ports: reserved early, opened once the data is there     |
//! | `reload`     | SIGHUP: the TLS files are read again                              |
//! | `dev_certs`  | certificates to try TLS with                                      |
//! | `admin`      | the admin port: metrics, health, one page for people              |
//! | `metrics`    | the list of figures that `/metrics` shows                         |
//! | `stop`       | signals, and faults of other threads                              |
//! | `banner`     | what a person reads when the broker is up                         |
//! | `logging`    | the log on standard error                                         |
//! | `scenario_run` | a scenario of the load simulator, and the fleet that it starts  |
//! | `exit`       | exit codes, and the one place that prints why a command failed    |

mod admin;
mod banner;
mod broker_node;
mod cli;
mod config;
mod ctl;
mod damaged;
mod dev_certs;
mod engine;
mod exit;
mod figures;
mod group_report;
mod http;
mod keeper;
mod launcher;
mod link_probe;
mod links;
mod listen;
mod logging;
mod members;
mod metrics;
mod node;
mod proxy_node;
mod reload;
mod scenario_run;
mod seat;
mod shards;
mod standalone;
mod stop;
mod store;

use std::process::ExitCode;

/// The system allocator keeps freed memory of short bursts (a reconnect storm) for good; jemalloc
/// hands it back, also in an idle process (by its settings in `.cargo/config.toml`), and costs less
/// per small object.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run().into()
}
