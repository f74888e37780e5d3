//! The nodes of the fleet, each on a host of its own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::common::broker::{get, metric};
use crate::common::fleet::Process;
use crate::net::{self, Host};

/// Proxies and groups.
pub(crate) const PROXIES: usize = 2;
pub(crate) const GROUPS: usize = 2;
/// Threads of a proxy; each has a link to each group.
const SHARDS: usize = 2;
const MQTT: u16 = 1883;
const LINK: u16 = 1884;
const ADMIN: u16 = 9090;
const REDIS: u16 = 6379;

/// A process and where it runs.
pub(crate) struct Node {
    pub(crate) host: Host,
    process: Process,
}

/// All nodes.
pub(crate) struct Nodes {
    pub(crate) proxies: Vec<Node>,
    pub(crate) groups: Vec<Node>,
    pub(crate) redis: Node,
}

impl Nodes {
    /// Starts everything in this folder, and waits until it serves.
    pub(crate) fn start(folder: &Path) -> Self {
        net::build();
        let redis = start_redis(folder);
        let hosts = (0..GROUPS).map(|n| Host::new(&format!("broker-{n}"), 21 + n as u8));
        let hosts: Vec<_> = hosts.collect();
        write(folder, "secret", "the secret of the fleet");
        write(folder, "cluster.toml", &cluster_file(&hosts));
        let url = format!("redis://{}:{REDIS}", redis.host.address);
        write(
            folder,
            "proxy.toml",
            &format!("[redis]\nurls = [\"{url}\"]\n"),
        );
        let groups: Vec<_> = hosts
            .into_iter()
            .map(|host| start_broker(folder, host))
            .collect();
        let hosts = (0..PROXIES).map(|n| Host::new(&format!("proxy-{n}"), 11 + n as u8));
        let proxies: Vec<_> = hosts.map(|host| start_proxy(folder, host)).collect();
        Self {
            proxies,
            groups,
            redis,
        }
    }

    /// What is not as it should be when the network is whole.
    pub(crate) fn trouble(&self) -> Option<String> {
        for proxy in &self.proxies {
            let name = &proxy.host.name;
            let links = proxy.figure("mqtt_fleet_link_up ");
            if links != SHARDS * GROUPS {
                return Some(format!("{name} has {links} links"));
            }
            if proxy.figure("mqtt_fleet_store_up ") != 1 {
                return Some(format!("{name} does not reach Redis"));
            }
        }
        for group in &self.groups {
            let links = group.figure("mqtt_fleet_links_links_up ");
            if links != SHARDS * PROXIES {
                return Some(format!("{} has {links} links", group.host.name));
            }
        }
        let mut nodes = self.proxies.iter().chain(&self.groups);
        let unready = nodes.find(|node| get(node.admin(), "/health/ready").0 != 200)?;
        Some(format!("{} is not ready", unready.host.name))
    }
}

impl Node {
    /// Where devices find a proxy.
    pub(crate) fn mqtt(&self) -> SocketAddr {
        SocketAddr::from((self.host.address, MQTT))
    }

    /// A gauge or counter by the beginning of its line.
    pub(crate) fn figure(&self, name: &str) -> usize {
        let figure = metric(self.admin(), &[name]) as i64;
        figure.try_into().expect("nothing is counted below 0")
    }

    fn admin(&self) -> SocketAddr {
        SocketAddr::from((self.host.address, ADMIN))
    }

    /// Ends it in good order.
    pub(crate) fn terminate(&mut self) {
        let status = self.process.terminate();
        assert!(status.success(), "{} ended with {status}", self.host.name);
    }
}

fn start_redis(folder: &Path) -> Node {
    let host = Host::new("redis", 31);
    let mut command = host.command("redis-server");
    let (address, port) = (host.address.to_string(), REDIS.to_string());
    command.args(["--bind", &address, "--port", &port, "--save", ""]);
    // Nobody else is on this network.
    command.args(["--protected-mode", "no"]);
    let process = Process::run("redis-server", folder, command);
    process.await_line("Ready to accept connections");
    Node { host, process }
}

fn start_broker(folder: &Path, host: Host) -> Node {
    let more = ["--data", &format!("data-{}", host.name)];
    start(folder, "broker", host, &more, "links on")
}

fn start_proxy(folder: &Path, host: Host) -> Node {
    let (listen, shards) = (at(host.address, MQTT), SHARDS.to_string());
    let more = [
        "--config",
        "proxy.toml",
        "--listen",
        &listen,
        "--shards",
        &shards,
    ];
    let more = [&more[..], &["--allow-anonymous"]].concat();
    start(folder, "proxy", host, &more, "listening on")
}

/// Starts a node of ours, and waits for the line that says that it serves.
fn start(folder: &Path, role: &str, host: Host, more: &[&str], serves: &str) -> Node {
    let mut command = host.command(env!("CARGO_BIN_EXE_mqtt-fleet"));
    command.args([role, "--name", &host.name, "--cluster", "cluster.toml"]);
    command.args(["--admin", &at(host.address, ADMIN)]);
    command.args(more);
    let process = Process::run(&host.name, folder, command);
    process.await_line(serves);
    Node { host, process }
}

fn at(address: Ipv4Addr, port: u16) -> String {
    SocketAddr::from((address, port)).to_string()
}

fn cluster_file(brokers: &[Host]) -> String {
    let mut text = String::from("[cluster]\nid = \"partition\"\n[secret]\nfile = \"secret\"\n");
    for (number, host) in brokers.iter().enumerate() {
        let (name, link) = (&host.name, at(host.address, LINK));
        writeln!(
            text,
            "[[group]]\nnumber = {number}\n[[group.member]]\nname = \"{name}\"\nlink = \"{link}\""
        )
        .expect("writing to a String cannot fail");
    }
    text
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a writable folder");
}
