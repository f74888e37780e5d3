//! `mqtt-fleet cluster`: a whole fleet on this machine, for trying, for tests and for the load simulator.
//!
//! | module      | what it holds                                                        |
//! |-------------|----------------------------------------------------------------------|
//! | `plan`      | which nodes there are, their ports, files and commands               |
//! | `files`     | what is written into the folder before the start                     |
//! | `haproxy`   | the text of HAProxy's configuration                                  |
//! | `guard`     | the first thing a child does: it sees to it that it ends with us     |
//! | `child`     | a running process and its output                                     |
//! | `leaders`   | which members lead                                                   |
//! | `logs`      | the files that a node's lines go to                                  |
//! | `probe`     | whether a node is ready                                              |
//! | `supervise` | start, watch, bring back, stop                                       |
//! | `manifest`  | `cluster.json`                                                       |
//! | `screen`    | log lines and the table                                              |

mod child;
mod files;
pub(crate) mod guard;
mod haproxy;
mod leaders;
mod logs;
mod manifest;
mod plan;
mod probe;
mod screen;
mod supervise;

use std::io;
use std::path::PathBuf;

use clap::Args;
use cluster::shard_key::HomeTemplate;
use cluster::topology::{HostPort, NodeName};

use crate::cli::DurabilityArg;
use crate::exit::{Exit, complain};

/// What is asked for.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Proxies: devices connect to them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    proxies: u16,
    /// Broker groups: each has a part of the topics
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    groups: u16,
    /// Members of each group: with 3 or 5 nothing is lost and service goes on when one or two of a group are gone
    #[arg(long, value_name = "1|3|5", default_value_t = 1, value_parser = members)]
    members: u16,
    /// MQTT port of the first proxy; the others have the next ones, everything else ports from this + 100 on
    #[arg(long, value_name = "PORT", default_value_t = 18_830, value_parser = clap::value_parser!(u16).range(1024..=plan::BASE_PORT_MAX))]
    base_port: u16,
    /// Folder of the fleet: its files, its data, and cluster.json
    #[arg(long, value_name = "DIR", default_value = "./fleet")]
    data: PathBuf,
    /// Bring a node back that has ended
    #[arg(long)]
    respawn: bool,
    /// What an acknowledged message outlives
    #[arg(long, value_enum, default_value_t = DurabilityArg::Fsync)]
    durability: DurabilityArg,
    /// Puts a session where its topics are: a topic in which %c stands for the client id, such as devices/%c [default: where the
    /// client id belongs]
    #[arg(long, value_name = "TOPIC", value_parser = home_key)]
    home_key: Option<String>,
    /// Threads of each proxy
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
    /// `HAProxy` in front of all proxies, as in deploy/haproxy
    #[arg(long, help = "HAProxy in front of all proxies, as in deploy/haproxy")]
    haproxy: bool,
    /// MQTT with TLS as well, at each proxy and through `HAProxy`, with certificates made in DIR/certs
    #[arg(
        long,
        help = "MQTT with TLS as well, at each proxy and through HAProxy, with certificates made in DIR/certs"
    )]
    tls: bool,
    /// TLS between proxies and brokers, with certificates made in DIR/certs
    #[arg(long)]
    link_tls: bool,
    /// The Redis server [default: redis-server of the search path]
    #[arg(long, value_name = "FILE")]
    redis_server: Option<PathBuf>,
    /// The load balancer [default: haproxy of the search path]
    #[arg(long, value_name = "FILE", requires = "haproxy")]
    haproxy_program: Option<PathBuf>,
}

/// Why a fleet cannot be started, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// There is no Redis.
    #[error(
        "redis-server is not installed: apt-get install redis-server (Debian), dnf install redis (Fedora), brew \
         install redis (macOS); or say where it is with --redis-server FILE"
    )]
    NoRedis,
    /// There is no load balancer.
    #[error(
        "haproxy is not installed: apt-get install haproxy (Debian), dnf install haproxy (Fedora), brew install haproxy \
         (macOS); or say where it is with --haproxy-program FILE"
    )]
    NoHaproxy,
    /// A program is not where it was said to be.
    #[error("{}: there is no such program", path.display())]
    NoProgram {
        /// Where it should be.
        path: PathBuf,
    },
    /// Another launcher has the folder.
    #[error(
        "{}: another mqtt-fleet cluster runs a fleet in this folder; stop it, or take another folder with --data", folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// A port is taken.
    #[error(
        "{address}, the {what} port of {node}, cannot be used: {source}; choose others with --base-port, and another \
         folder with --data if this one has had a fleet"
    )]
    Port {
        /// The address.
        address: std::net::SocketAddr,
        /// What for.
        what: &'static str,
        /// Whose.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// Members of a group that would forget what they have stored.
    #[error(
        "--durability memory with --members {members}: what a majority has acknowledged would be forgotten when members start \
         again; say --durability fsync or os, or --members 1"
    )]
    Forgetful {
        /// Members of a group that are asked for.
        members: u16,
    },
    /// The folder belongs to another fleet.
    #[error(
        "{}: the fleet of this folder has {groups} group(s), not {asked}, and their number cannot change yet; say \
         --groups {groups}, or take another folder with --data", file.display()
    )]
    OtherFleet {
        /// The cluster file that says so.
        file: PathBuf,
        /// Groups it was made with.
        groups: usize,
        /// Groups that are asked for.
        asked: usize,
    },
    /// The groups of the folder's fleet have another size.
    #[error(
        "{}: the groups of this folder's fleet have {members} member(s) each, not {asked}; say --members {members}, or \
         take another folder with --data", file.display()
    )]
    OtherMembers {
        /// The cluster file that says so.
        file: PathBuf,
        /// Members of a group that it has.
        members: usize,
        /// Members that are asked for.
        asked: usize,
    },
    /// Sessions of the folder's fleet are elsewhere.
    #[error(
        "{}: the fleet of this folder was made with {}, which cannot change: its sessions are where that says; take another \
         folder with --data", file.display(), said(had.as_deref())
    )]
    OtherHomeKey {
        /// The cluster file that says so.
        file: PathBuf,
        /// The home key it was made with.
        had: Option<String>,
    },
    /// A broker of the folder's fleet is elsewhere.
    #[error(
        "{}: {name} of the fleet in this folder is at {address}, which its brokers know; start it with the --base-port it \
         had, or take another folder with --data", folder.display()
    )]
    OtherAddress {
        /// The folder.
        folder: PathBuf,
        /// The broker.
        name: NodeName,
        /// Where it takes links, or the others of its group reach it.
        address: HostPort,
    },
    /// What a broker of the folder's fleet keeps cannot be read.
    #[error("{0}")]
    Kept(String),
    /// The cluster file in the folder is wrong.
    #[error("{0}")]
    ClusterFile(String),
    /// There are no certificates.
    #[error("certificates for --tls and --link-tls: {0}")]
    Certificates(String),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A node ended before it was ready for the first time.
    #[error("{node} did not start ({status}); its lines above say why")]
    NotStarted {
        /// Its name.
        node: String,
        /// How it ended.
        status: String,
    },
    /// The system refuses something.
    #[error("cannot run the fleet: {0}")]
    System(#[from] io::Error),
}

/// Runs the fleet until a signal stops it.
pub(crate) fn run(args: &ClusterArgs) -> Exit {
    match plan::Plan::new(args).and_then(supervise::run) {
        Ok(()) => Exit::Fine,
        Err(
            error @ (LaunchError::OtherFleet { .. }
            | LaunchError::OtherMembers { .. }
            | LaunchError::OtherHomeKey { .. }
            | LaunchError::OtherAddress { .. }
            | LaunchError::ClusterFile(_)
            | LaunchError::Forgetful { .. }
            | LaunchError::NoProgram { .. }),
        ) => complain(Exit::Usage, error),
        Err(error @ (LaunchError::Locked { .. } | LaunchError::Unwritable { .. })) => {
            complain(Exit::Data, error)
        }
        Err(error @ LaunchError::Port { .. }) => complain(Exit::Address, error),
        Err(error) => complain(Exit::Failed, error),
    }
}

fn members(text: &str) -> Result<u16, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("expected 1, 3 or 5, of which none, one or two may fail at the same time"),
    }
}

fn home_key(text: &str) -> Result<String, String> {
    match HomeTemplate::new(text) {
        Ok(template) => Ok(template.as_str().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn said(home_key: Option<&str>) -> String {
    home_key.map_or("no --home-key".to_owned(), |home_key| {
        format!("--home-key {home_key}")
    })
}
