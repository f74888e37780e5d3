//! What can be said on the command line about a process; everything else is in the file and the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::{Typed, Value};

/// Flags of every process.
#[derive(Debug, Args)]
pub(super) struct CommonFlags {
    /// Address of the admin port: metrics and health [default: 127.0.0.1:9883]
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// Flags of processes that devices connect to.
#[derive(Debug, Args)]
pub(super) struct DeviceFlags {
    /// Address of the MQTT port [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Accept clients without authentication from beyond this machine
    #[arg(long)]
    allow_anonymous: bool,
    /// Threads that serve connections, 0 = one per processor [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=256))]
    shards: Option<u64>,
}

/// Flags of processes that have a group.
#[derive(Debug, Args)]
pub(super) struct GroupFlags {
    /// Folder where messages and sessions are kept [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What an acknowledged message outlives [default: fsync]
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
}

/// Flags of processes that are one of many.
#[derive(Debug, Args)]
pub(super) struct NodeFlags {
    /// Name of this node; a broker's stands in the cluster file
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The cluster file, the same for every node
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
}

/// Flags of brokers of a fleet.
#[derive(Debug, Args)]
pub(super) struct LinkFlags {
    /// Address where this broker takes links [default: the one the cluster file gives it]
    #[arg(long, value_name = "ADDR")]
    link: Option<SocketAddr>,
    /// Address where this broker takes the calls of the other members of its group [default: the one the cluster file
    /// gives it]
    #[arg(long, value_name = "ADDR")]
    peer: Option<SocketAddr>,
}

/// What an acknowledged message outlives.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// Power loss: acknowledged once it is on the disk
    Fsync,
    /// A crash of the broker, not of the machine
    Os,
    /// Nothing: kept in memory only
    Memory,
}

impl DurabilityArg {
    /// The word of the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }
}

/// Flags that say something about keys of the configuration.
pub(super) trait Flags {
    /// Adds what they say.
    fn add_to(&self, typed: &mut Typed);
}

/// What all of `flags` say, as a layer of the configuration.
pub(super) fn typed(flags: &[&dyn Flags]) -> Typed {
    let mut typed = Typed::nothing();
    for flags in flags {
        flags.add_to(&mut typed);
    }
    typed
}

impl Flags for CommonFlags {
    fn add_to(&self, typed: &mut Typed) {
        set(
            typed,
            "listen.admin",
            "--admin",
            self.admin.map(Value::Address),
        );
    }
}

impl Flags for DeviceFlags {
    fn add_to(&self, typed: &mut Typed) {
        let listen = self.listen.map(Value::Address);
        set(typed, "listen.mqtt", "--listen", listen);
        let anonymous = self.allow_anonymous.then_some(Value::Switch(true));
        set(
            typed,
            "listen.allow_anonymous",
            "--allow-anonymous",
            anonymous,
        );
        set(
            typed,
            "shards.count",
            "--shards",
            self.shards.map(Value::Whole),
        );
    }
}

impl Flags for GroupFlags {
    fn add_to(&self, typed: &mut Typed) {
        set(
            typed,
            "data.dir",
            "--data",
            self.data.clone().map(Value::Path),
        );
        let durability = self.durability.map(|policy| Value::Choice(policy.word()));
        set(typed, "data.durability", "--durability", durability);
    }
}

impl Flags for LinkFlags {
    fn add_to(&self, typed: &mut Typed) {
        set(
            typed,
            "listen.link",
            "--link",
            self.link.map(Value::Address),
        );
        set(
            typed,
            "listen.peer",
            "--peer",
            self.peer.map(Value::Address),
        );
    }
}

impl Flags for NodeFlags {
    fn add_to(&self, typed: &mut Typed) {
        set(
            typed,
            "node.name",
            "--name",
            self.name.clone().map(Value::Text),
        );
        let cluster = self.cluster.clone().map(Value::Path);
        set(typed, "cluster.file", "--cluster", cluster);
    }
}

fn set(typed: &mut Typed, key: &str, flag: &'static str, value: Option<Value>) {
    if let Some(value) = value {
        let (section, name) = key.split_once('.').expect("a section and a name");
        typed.set_flag(section, name, value, flag);
    }
}
