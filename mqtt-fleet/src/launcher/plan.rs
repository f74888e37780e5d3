//! Which nodes there are, their ports, files and commands.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use cluster::topology::MEMBERS_MAX;
use serde::Serialize;

use super::{ClusterArgs, LaunchError};
use crate::cli::DurabilityArg;

/// Ports beside the proxies' MQTT ports begin so far above the base port, with that of Redis. There are at most 64
/// groups and 100 proxies.
const OTHER_PORTS: u16 = 100;
const LINKS: u16 = OTHER_PORTS + 1;
const BROKER_ADMINS: u16 = OTHER_PORTS + 101;
const PROXY_ADMINS: u16 = OTHER_PORTS + 201;
/// `HAProxy`'s: MQTT, MQTT with TLS, its figures.
const HAPROXY: u16 = OTHER_PORTS + 301;
/// The proxies' ports with TLS, those where they take connections of `HAProxy`, and of those the ones with TLS.
const PROXY_TLS: u16 = OTHER_PORTS + 401;
const BEHIND_HAPROXY: u16 = OTHER_PORTS + 501;
const BEHIND_HAPROXY_TLS: u16 = OTHER_PORTS + 601;
/// Peer ports of the first members of groups of several. Those of the second members are [`MEMBER_PORTS`] above, and so on.
const PEERS: u16 = OTHER_PORTS + 701;
/// Links and admin pages of the second members; again with those of further ones above.
const MORE_LINKS: u16 = PEERS + MEMBER_PORTS + 100;
const MORE_ADMINS: u16 = PEERS + MEMBER_PORTS + 200;
/// A member of each group has three ports.
const MEMBER_PORTS: u16 = 300;
/// The largest base port that leaves room for all of them.
pub(super) const BASE_PORT_MAX: i64 = (u16::MAX - PEERS - MEMBER_PORTS * MEMBERS_MAX as u16) as i64;

/// A fleet to be started.
#[derive(Debug)]
pub(super) struct Plan {
    /// The fleet's folder, absolute.
    pub(super) folder: PathBuf,
    pub(super) nodes: Vec<NodePlan>,
    /// Broker groups.
    pub(super) groups: u16,
    /// Members of each group.
    pub(super) members: u16,
    pub(super) respawn: bool,
    pub(super) durability: &'static str,
    pub(super) shards: u16,
    /// What a session's home is chosen by, if not the client id.
    pub(super) home_key: Option<String>,
    /// Proxies have a port with TLS.
    pub(super) tls: bool,
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
    Haproxy,
}

impl NodeRole {
    /// Nodes need those of lower stages.
    pub(super) fn stage(self) -> u8 {
        match self {
            Self::Redis | Self::Broker => 0,
            Self::Proxy => 1,
            Self::Haproxy => 2,
        }
    }
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
    /// MQTT with TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mqtts: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link: Option<SocketAddr>,
    /// Where the other members of a broker's group reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redis: Option<SocketAddr>,
    /// Where a proxy takes connections of `HAProxy`: of no use to anybody else.
    #[serde(skip)]
    pub(super) behind: Option<SocketAddr>,
    #[serde(skip)]
    pub(super) behind_tls: Option<SocketAddr>,
}

impl Plan {
    /// Plans what is asked for; touches nothing.
    pub(super) fn new(args: &ClusterArgs) -> Result<Self, LaunchError> {
        let unwritable = |source| LaunchError::Unwritable {
            path: args.data.clone(),
            source,
        };
        let members = args.members;
        if members > 1 && matches!(args.durability, DurabilityArg::Memory) {
            return Err(LaunchError::Forgetful { members });
        }
        let folder = std::path::absolute(&args.data).map_err(unwritable)?;
        let redis = program(args.redis_server.as_deref(), "redis-server")?;
        let redis = redis.ok_or(LaunchError::NoRedis)?;
        let own = std::env::current_exe()?;
        let mut nodes = vec![redis_node(&redis, &folder, args)];
        let members = (0..args.groups).flat_map(|group| (0..args.members).map(move |n| (group, n)));
        nodes.extend(members.map(|(group, n)| broker_node(&own, &folder, args, group, n)));
        nodes.extend((0..args.proxies).map(|n| proxy_node(&own, &folder, args, n)));
        if args.haproxy {
            let haproxy = program(args.haproxy_program.as_deref(), "haproxy")?;
            let haproxy = haproxy.ok_or(LaunchError::NoHaproxy)?;
            nodes.push(haproxy_node(&haproxy, &folder, args));
        }
        Ok(Self {
            folder,
            nodes,
            groups: args.groups,
            members: args.members,
            respawn: args.respawn,
            durability: args.durability.word(),
            shards: args.shards,
            home_key: args.home_key.clone(),
            tls: args.tls,
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
            ("MQTT/TLS", self.mqtts),
            ("link", self.link),
            ("peer", self.peer),
            ("admin", self.admin),
            ("Redis", self.redis),
            ("HAProxy-side MQTT", self.behind),
            ("HAProxy-side MQTT/TLS", self.behind_tls),
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

fn redis_node(program: &Path, folder: &Path, args: &ClusterArgs) -> NodePlan {
    let port = args.base_port + OTHER_PORTS;
    let dir = folder.join("redis");
    let words = ["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"];
    let mut command = vec![OsString::from(program)];
    command.extend(words.map(OsString::from));
    command.push(dir.into());
    // Records survive a kill of Redis, though not of the machine; the fleet does not depend on them. Where brokers keep nothing
    // there is nothing to keep them for.
    let kept = match args.durability {
        DurabilityArg::Memory => "no",
        DurabilityArg::Fsync | DurabilityArg::Os => "yes",
    };
    command.extend(["--save", "", "--appendonly", kept].map(OsString::from));
    // With fsync what comes during one waits in memory: tens of MiB when many devices come or go at once.
    command.extend(["--appendfsync", "no"].map(OsString::from));
    // The file is written anew when it has doubled: by a second process, on the cores that the fleet has. From 64 MiB on, as
    // Redis would, that is again and again while many devices come.
    command.extend(["--auto-aof-rewrite-min-size", "1gb"].map(OsString::from));
    command.extend(["--daemonize", "no", "--loglevel", "warning"].map(OsString::from));
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

fn broker_node(own: &Path, folder: &Path, args: &ClusterArgs, group: u16, member: u16) -> NodePlan {
    let several = args.members > 1;
    let name = if several {
        format!("broker-{group}-{member}")
    } else {
        format!("broker-{group}")
    };
    let at = |first: u16| loopback(args.base_port + first + group);
    let (link, admin) = match member.checked_sub(1) {
        None => (LINKS, BROKER_ADMINS),
        Some(n) => (
            MORE_LINKS + n * MEMBER_PORTS,
            MORE_ADMINS + n * MEMBER_PORTS,
        ),
    };
    NodePlan {
        role: NodeRole::Broker,
        group: u8::try_from(group).ok(),
        addresses: Addresses {
            link: Some(at(link)),
            peer: several.then(|| at(PEERS + member * MEMBER_PORTS)),
            admin: Some(at(admin)),
            ..Addresses::default()
        },
        command: own_command(own, folder, "broker", &name),
        name,
    }
}

fn proxy_node(own: &Path, folder: &Path, args: &ClusterArgs, number: u16) -> NodePlan {
    let name = format!("proxy-{number}");
    let at = |first: u16| loopback(args.base_port + first + number);
    NodePlan {
        role: NodeRole::Proxy,
        group: None,
        addresses: Addresses {
            mqtt: Some(at(0)),
            mqtts: args.tls.then(|| at(PROXY_TLS)),
            admin: Some(at(PROXY_ADMINS)),
            behind: args.haproxy.then(|| at(BEHIND_HAPROXY)),
            behind_tls: (args.haproxy && args.tls).then(|| at(BEHIND_HAPROXY_TLS)),
            ..Addresses::default()
        },
        command: own_command(own, folder, "proxy", &name),
        name,
    }
}

fn haproxy_node(program: &Path, folder: &Path, args: &ClusterArgs) -> NodePlan {
    let at = |n: u16| loopback(args.base_port + HAPROXY + n);
    // -db: one process in the foreground, so that its id is that of whoever has the connections.
    let mut command: Vec<OsString> = vec![program.into(), "-db".into(), "-f".into()];
    command.push(haproxy_file(folder).into());
    NodePlan {
        name: "haproxy".to_owned(),
        role: NodeRole::Haproxy,
        group: None,
        addresses: Addresses {
            mqtt: Some(at(0)),
            mqtts: args.tls.then(|| at(1)),
            admin: Some(at(2)),
            ..Addresses::default()
        },
        command,
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

/// Where the lines of a node go.
pub(super) fn log_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// `HAProxy`'s configuration.
pub(super) fn haproxy_file(folder: &Path) -> PathBuf {
    folder.join("haproxy.cfg")
}

/// The program that was asked for, else the one of this name that is installed, if it is.
fn program(asked: Option<&Path>, name: &str) -> Result<Option<PathBuf>, LaunchError> {
    if let Some(path) = asked {
        let is_there = path.is_file().then(|| path.to_owned());
        let missing = || LaunchError::NoProgram {
            path: path.to_owned(),
        };
        return is_there.ok_or_else(missing).map(Some);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The search path of ordinary users lacks the folder where some systems have servers.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut programs = folders.map(|folder| folder.join(name));
    Ok(programs.find(|program| program.is_file()))
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
        let some_program = std::env::current_exe().expect("a program");
        let program = some_program.to_str().expect("UTF-8");
        let programs = ["--redis-server", program, "--haproxy-program", program];
        let all = ["cluster", "--haproxy", "--tls"];
        let all = all.iter().chain(&programs).chain(words);
        Plan::new(&Line::parse_from(all).args)
    }

    #[test]
    fn members_of_a_group_do_not_forget_what_they_stored() {
        let asked = |members: &str| plan(&["--members", members, "--durability", "memory"]);
        let Err(refused) = asked("3") else {
            panic!("it is refused")
        };
        let refused = refused.to_string();
        assert!(refused.contains("--members 3"), "{refused}");
        assert!(asked("1").is_ok(), "a group of one may");
    }

    #[test]
    fn the_largest_fleet_has_no_port_twice() {
        let largest = |base: &str| {
            let words = ["--proxies", "100", "--groups", "64", "--members", "5"];
            plan(&[&words[..], &["--base-port", base]].concat()).expect("planned")
        };
        largest(&BASE_PORT_MAX.to_string());
        let plan = largest("2000");
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
    fn members_have_names_and_ports_of_their_own() {
        let ports = |words: &[&str]| {
            let plan = plan(words).expect("planned");
            let brokers = plan.of(NodeRole::Broker).map(|node| {
                let Addresses {
                    link, peer, admin, ..
                } = node.addresses;
                let ports = [link, peer, admin].map(|it| it.map_or(0, |it| it.port()));
                (node.name.clone(), node.group, ports)
            });
            brokers.collect::<Vec<_>>()
        };
        let expected = [
            ("broker-0", 0, [2101, 0, 2201]),
            ("broker-1", 1, [2102, 0, 2202]),
        ];
        let expected = expected.map(|(name, group, ports)| (name.to_owned(), Some(group), ports));
        assert_eq!(ports(&["--groups", "2", "--base-port", "2000"]), expected);
        let expected = [
            ("broker-0-0", 0, [2101, 2801, 2201]),
            ("broker-0-1", 0, [3201, 3101, 3301]),
            ("broker-0-2", 0, [3501, 3401, 3601]),
            ("broker-1-0", 1, [2102, 2802, 2202]),
            ("broker-1-1", 1, [3202, 3102, 3302]),
            ("broker-1-2", 1, [3502, 3402, 3602]),
        ];
        let expected = expected.map(|(name, group, ports)| (name.to_owned(), Some(group), ports));
        let words = ["--groups", "2", "--members", "3", "--base-port", "2000"];
        assert_eq!(ports(&words), expected);
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
