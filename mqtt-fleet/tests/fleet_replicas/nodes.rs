//! The nodes of the fleet, each on a host of its own, killed and started again as often as one likes.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::common::fleet::Process;
use crate::net::{self, Host};

pub(crate) const PROXIES: usize = 3;
pub(crate) const GROUPS: usize = 3;
pub(crate) const MEMBERS: usize = 3;

const MQTT: u16 = 1883;
const LINK: u16 = 1884;
const PEER: u16 = 1885;
const ADMIN: u16 = 9090;
const REDIS: u16 = 6379;
/// A healthy node says how it is in far less.
const REPORT_WAIT: Duration = Duration::from_secs(1);
/// A follower that lacks no more entries than this keeps up: some are always on their way.
const LAG_MAX: u64 = 200;

/// A process and where it runs.
pub(crate) struct Node {
    pub(crate) host: Host,
    folder: PathBuf,
    program: &'static str,
    words: Vec<String>,
    /// The line that says that it serves has this text.
    serves: &'static str,
    process: Option<Process>,
}

/// All nodes.
pub(crate) struct Nodes {
    pub(crate) proxies: Vec<Node>,
    /// The members of each group.
    pub(crate) groups: Vec<Vec<Node>>,
    redis: Node,
}

impl Nodes {
    /// Starts everything in this folder, and waits until it serves.
    pub(crate) fn start(folder: &Path) -> Self {
        net::build();
        let member = |group: usize, n: usize| {
            let number = 20 + group * MEMBERS + n;
            Host::new(&format!("broker-{group}-{n}"), number as u8)
        };
        let groups = (0..GROUPS).map(|group| (0..MEMBERS).map(|n| member(group, n)).collect());
        let hosts: Vec<Vec<Host>> = groups.collect();
        let redis = Host::new("redis", 10);
        write(folder, "secret", "the secret of the fleet");
        write(folder, "cluster.toml", &cluster_file(&hosts));
        let url = format!("[redis]\nurls = [\"redis://{}:{REDIS}\"]\n", redis.address);
        write(folder, "proxy.toml", &url);
        let broker = |host| broker(folder, host);
        let groups = hosts
            .into_iter()
            .map(|members| members.into_iter().map(broker).collect());
        let proxies = (0..PROXIES).map(|n| Host::new(&format!("proxy-{n}"), 11 + n as u8));
        let mut nodes = Self {
            groups: groups.collect(),
            proxies: proxies.map(|host| proxy(folder, host)).collect(),
            redis: redis_node(folder, redis),
        };
        nodes.start_all();
        nodes
    }

    /// Starts all that does not run, and waits until it serves.
    pub(crate) fn start_all(&mut self) {
        let Self {
            proxies,
            groups,
            redis,
        } = self;
        let brokers = groups.iter_mut().flatten();
        for node in std::iter::once(redis).chain(brokers).chain(proxies) {
            node.start();
        }
        for node in self.all() {
            node.await_serving();
        }
    }

    /// `SIGKILL` to everything, one right after the other.
    pub(crate) fn kill_all(&mut self) {
        let brokers = self.groups.iter_mut().flatten();
        let all = self.proxies.iter_mut().chain(brokers);
        for node in all.chain([&mut self.redis]) {
            node.kill();
        }
    }

    fn all(&self) -> impl Iterator<Item = &Node> {
        let brokers = self.groups.iter().flatten();
        self.proxies.iter().chain(brokers).chain([&self.redis])
    }

    /// Ends everything in good order.
    pub(crate) fn terminate(&mut self) {
        let brokers = self.groups.iter_mut().flatten();
        for node in self.proxies.iter_mut().chain(brokers) {
            node.terminate();
        }
    }

    /// The leader of a group with all its members, or what keeps it from being whole.
    pub(crate) fn whole(&self, group: usize) -> Result<usize, String> {
        let members = &self.groups[group];
        let reports: Vec<_> = members.iter().map(Node::report).collect();
        let role = |n: usize| reports[n].as_ref().and_then(|it| it["role"].as_str());
        for (n, member) in members.iter().enumerate() {
            if !matches!(role(n), Some("leader" | "follower")) {
                return Err(format!("{} is {:?}", member.host.name, role(n)));
            }
        }
        let mut leaders = (0..MEMBERS).filter(|n| role(*n) == Some("leader"));
        let (Some(leader), None) = (leaders.next(), leaders.next()) else {
            return Err(format!("group {group} has no leader, or several"));
        };
        let report = reports[leader].as_ref().expect("it leads");
        let known = report["members"].as_array().map_or(&[][..], Vec::as_slice);
        let behind = |peer: &&Value| peer["lag_entries"].as_u64().is_none_or(|lag| lag > LAG_MAX);
        match known.iter().find(behind) {
            Some(peer) => Err(format!(
                "{} lacks {} entries",
                peer["name"], peer["lag_entries"]
            )),
            None => Ok(leader),
        }
    }

    /// What is not as it should be.
    pub(crate) fn trouble(&self) -> Option<String> {
        let groups = (0..GROUPS).find_map(|group| self.whole(group).err());
        groups.or_else(|| {
            let unready = |node: &&Node| node.ask("/health/ready").is_none();
            let proxy = self.proxies.iter().find(unready)?;
            Some(format!("{} is not ready", proxy.host.name))
        })
    }

    /// A topic of each group.
    pub(crate) fn topics(folder: &Path) -> Vec<String> {
        let group_of = |topic: &str| -> usize {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
            command.args(["ctl", "where", topic, "--cluster", "cluster.toml"]);
            let output = command.current_dir(folder).output().expect("it runs");
            let text = String::from_utf8(output.stdout).expect("text");
            let line = text.lines().find_map(|line| line.strip_prefix("group "));
            line.and_then(|number| number.trim().parse().ok())
                .unwrap_or_else(|| panic!("no group of {topic} in {text}"))
        };
        let mut topics = vec![None; GROUPS];
        for n in 0.. {
            let topic = format!("probe/{n}");
            topics[group_of(&topic)].get_or_insert(topic);
            if topics.iter().all(Option::is_some) {
                break;
            }
        }
        topics.into_iter().flatten().collect()
    }
}

impl Node {
    /// Where devices find a proxy.
    pub(crate) fn mqtt(&self) -> SocketAddr {
        SocketAddr::from((self.host.address, MQTT))
    }

    pub(crate) fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        let mut command = self.host.command(self.program);
        command.args(&self.words);
        let process = Process::run(&self.host.name, &self.folder, command);
        self.process = Some(process);
    }

    fn await_serving(&self) {
        let process = self.process.as_ref().expect("it was started");
        process.await_line(self.serves);
    }

    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill9();
    }

    fn terminate(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let status = process.terminate();
        assert!(status.success(), "{} ended with {status}", self.host.name);
    }

    /// What a broker says of itself and its group; `None`: it does not answer.
    fn report(&self) -> Option<Value> {
        serde_json::from_str(&self.ask("/group")?).ok()
    }

    /// A page of the admin port; `None`: it is not there, or not fine.
    fn ask(&self, path: &str) -> Option<String> {
        let admin = SocketAddr::from((self.host.address, ADMIN));
        let mut stream = TcpStream::connect_timeout(&admin, REPORT_WAIT).ok()?;
        stream.set_read_timeout(Some(REPORT_WAIT)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }
}

fn node(
    folder: &Path,
    host: Host,
    program: &'static str,
    serves: &'static str,
    words: &[&str],
) -> Node {
    Node {
        host,
        folder: folder.to_owned(),
        program,
        words: words.iter().map(ToString::to_string).collect(),
        serves,
        process: None,
    }
}

fn redis_node(folder: &Path, host: Host) -> Node {
    let (address, port) = (host.address.to_string(), REDIS.to_string());
    let words = ["--bind", &address, "--port", &port, "--save", ""];
    // Nobody else is on this network.
    let words = [&words[..], &["--protected-mode", "no"]].concat();
    node(
        folder,
        host,
        "redis-server",
        "Ready to accept connections",
        &words,
    )
}

fn broker(folder: &Path, host: Host) -> Node {
    let (data, name, admin) = (
        format!("data-{}", host.name),
        host.name.clone(),
        at(&host, ADMIN),
    );
    let words = ["broker", "--name", &name, "--cluster", "cluster.toml"];
    let words = [&words[..], &["--admin", &admin, "--data", &data]].concat();
    node(
        folder,
        host,
        env!("CARGO_BIN_EXE_mqtt-fleet"),
        "links on",
        &words,
    )
}

fn proxy(folder: &Path, host: Host) -> Node {
    let (name, admin, mqtt) = (host.name.clone(), at(&host, ADMIN), at(&host, MQTT));
    let words = ["proxy", "--name", &name, "--cluster", "cluster.toml"];
    let rest = [
        "--admin",
        &admin,
        "--config",
        "proxy.toml",
        "--listen",
        &mqtt,
    ];
    let words = [&words[..], &rest, &["--shards", "1", "--allow-anonymous"]].concat();
    node(
        folder,
        host,
        env!("CARGO_BIN_EXE_mqtt-fleet"),
        "listening on",
        &words,
    )
}

fn at(host: &Host, port: u16) -> String {
    SocketAddr::from((host.address, port)).to_string()
}

fn cluster_file(groups: &[Vec<Host>]) -> String {
    let mut text = String::from("[cluster]\nid = \"failover\"\n[secret]\nfile = \"secret\"\n");
    for (number, members) in groups.iter().enumerate() {
        writeln!(text, "[[group]]\nnumber = {number}").expect("to a String");
        for host in members {
            let (name, link, peer) = (&host.name, at(host, LINK), at(host, PEER));
            writeln!(
                text,
                "[[group.member]]\nname = \"{name}\"\nlink = \"{link}\"\npeer = \"{peer}\""
            )
            .expect("to a String");
        }
    }
    text
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a writable folder");
}
