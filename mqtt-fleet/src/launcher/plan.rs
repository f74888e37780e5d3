//! Which nodes there are, their ports, files and commands.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{ClusterArgs, LaunchError};

/// Ports that are not for devices begin so far above the base port.
const OTHER_PORTS: u16 = 100;
/// Among those: links of brokers, their admin ports, the proxies' admin ports; Redis is before them.
const LINKS: u16 = OTHER_PORTS + 1;
const BROKER_ADMINS: u16 = OTHER_PORTS + 101;
const PROXY_ADMINS: u16 = OTHER_PORTS + 201;

/// A fleet to be started.
#[derive(Debug)]
pub(super) struct Plan {
    /// The fleet's folder, absolute.
    pub(super) folder: PathBuf,
    pub(super) nodes: Vec<NodePlan>,
    pub(super) respawn: bool,
    pub(super) durability: &'static str,
    pub(super) shards: u16,
    /// Links are with TLS.
    pub(super) link_tls: bool,
    /// Where the proxies find Redis.
    pub(super) redis: SocketAddr,
}

/// What a node does in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NodeRole {
    Redis,
    Broker,
    Proxy,
}

/// One node to be started.
#[derive(Clone, Debug)]
pub(super) struct NodePlan {
    pub(super) name: String,
    pub(super) role: NodeRole,
    /// A broker's group.
    pub(super) group: Option<u8>,
    pub(super) addresses: Addresses,
    /// Program and arguments.
    pub(super) command: Vec<OsString>,
}

/// Where a node is reached.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Addresses {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mqtt: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redis: Option<SocketAddr>,
}

impl Plan {
    /// Plans what is asked for; touches nothing.
    pub(super) fn new(args: &ClusterArgs) -> Result<Self, LaunchError> {
        let unwritable = |source| LaunchError::Unwritable {
            path: args.data.clone(),
            source,
        };
        let folder = std::path::absolute(&args.data).map_err(unwritable)?;
        let redis = args.redis_server.clone().or_else(find_redis);
        let redis = redis.ok_or(LaunchError::NoRedis)?;
        let own = std::env::current_exe()?;
        let mut nodes = vec![redis_node(&redis, &folder, args.base_port)];
        nodes.extend((0..args.groups).map(|n| broker_node(&own, &folder, args.base_port, n)));
        nodes.extend((0..args.proxies).map(|n| proxy_node(&own, &folder, args.base_port, n)));
        Ok(Self {
            folder,
            nodes,
            respawn: args.respawn,
            durability: args.durability.word(),
            shards: args.shards,
            link_tls: args.link_tls,
            redis: loopback(args.base_port + OTHER_PORTS),
        })
    }

    /// Whether all ports are free. They may be taken a moment later; this is for a clear sentence.
    pub(super) fn check_ports(&self) -> Result<(), LaunchError> {
        for node in &self.nodes {
            for (what, address) in node.addresses.each() {
                TcpListener::bind(address).map_err(|source| LaunchError::Port {
                    address,
                    what,
                    node: node.name.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Nodes of a role.
    pub(super) fn of(&self, role: NodeRole) -> impl Iterator<Item = &NodePlan> {
        self.nodes.iter().filter(move |node| node.role == role)
    }
}

impl Addresses {
    /// All there are, with what they are for.
    fn each(self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let named = [
            ("MQTT", self.mqtt),
            ("link", self.link),
            ("admin", self.admin),
            ("Redis", self.redis),
        ];
        named
            .into_iter()
            .filter_map(|(what, address)| Some((what, address?)))
    }

    /// The one that matters most.
    pub(super) fn main(self) -> Option<SocketAddr> {
        self.each().next().map(|(_, address)| address)
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn redis_node(program: &Path, folder: &Path, base: u16) -> NodePlan {
    let port = base + OTHER_PORTS;
    let dir = folder.join("redis");
    let words = ["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"];
    let mut command = vec![OsString::from(program)];
    command.extend(words.map(OsString::from));
    command.push(dir.into());
    // Records survive a kill of Redis but for the last second; the fleet does not depend on them.
    let keep = ["--save", "", "--appendonly", "yes", "--daemonize", "no"];
    command.extend(keep.map(OsString::from));
    command.extend(["--loglevel", "warning"].map(OsString::from));
    NodePlan {
        name: "redis".to_owned(),
        role: NodeRole::Redis,
        group: None,
        addresses: Addresses {
            redis: Some(loopback(port)),
            ..Addresses::default()
        },
        command,
    }
}

fn broker_node(own: &Path, folder: &Path, base: u16, number: u16) -> NodePlan {
    let name = format!("broker-{number}");
    NodePlan {
        role: NodeRole::Broker,
        group: u8::try_from(number).ok(),
        addresses: Addresses {
            link: Some(loopback(base + LINKS + number)),
            admin: Some(loopback(base + BROKER_ADMINS + number)),
            ..Addresses::default()
        },
        command: own_command(own, folder, "broker", &name),
        name,
    }
}

fn proxy_node(own: &Path, folder: &Path, base: u16, number: u16) -> NodePlan {
    let name = format!("proxy-{number}");
    NodePlan {
        role: NodeRole::Proxy,
        group: None,
        addresses: Addresses {
            mqtt: Some(loopback(base + number)),
            admin: Some(loopback(base + PROXY_ADMINS + number)),
            ..Addresses::default()
        },
        command: own_command(own, folder, "proxy", &name),
        name,
    }
}

fn own_command(own: &Path, folder: &Path, role: &str, name: &str) -> Vec<OsString> {
    vec![
        own.into(),
        role.into(),
        "--config".into(),
        config_file(folder, name).into(),
    ]
}

/// The configuration file of a node.
pub(super) fn config_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.toml"))
}

fn find_redis() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The search path of ordinary users lacks the folder where some systems have servers.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut programs = folders.map(|folder| folder.join("redis-server"));
    programs.find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::collections::HashSet;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ClusterArgs,
    }

    fn plan(words: &[&str]) -> Result<Plan, LaunchError> {
        let all = ["cluster", "--redis-server", "redis-server"]
            .iter()
            .chain(words);
        Plan::new(&Line::parse_from(all).args)
    }

    #[test]
    fn the_largest_fleet_has_no_port_twice() {
        let plan =
            plan(&["--proxies", "100", "--groups", "64", "--base-port", "2000"]).expect("planned");
        let ports: Vec<_> = plan
            .nodes
            .iter()
            .flat_map(|node| node.addresses.each())
            .collect();
        let different: HashSet<_> = ports.iter().map(|(_, address)| address.port()).collect();
        assert_eq!(different.len(), ports.len());
        let mqtt: Vec<_> = plan
            .of(NodeRole::Proxy)
            .filter_map(|node| node.addresses.mqtt)
            .collect();
        assert!(mqtt.iter().map(SocketAddr::port).eq(2000..2100));
        let others = plan
            .nodes
            .iter()
            .filter(|node| node.role != NodeRole::Proxy);
        let lowest = others
            .flat_map(|node| node.addresses.each())
            .map(|(_, a)| a.port())
            .min();
        assert_eq!(lowest, Some(2100));
    }

    #[test]
    fn a_taken_port_is_named_with_its_node() {
        // Below the range of outgoing ports; others may have some of them, so not any will do.
        let named = |port: &u16| {
            let Ok(_taken) = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)) else {
                return false;
            };
            let plan = plan(&["--proxies", "1", "--base-port", &port.to_string()]);
            let error = plan.expect("planned").check_ports().expect_err("taken");
            let port = format!("127.0.0.1:{port}, the MQTT port of proxy-0");
            error.to_string().contains(&port)
        };
        assert!((20_000..30_000).step_by(101).any(|port| named(&port)));
    }
}
