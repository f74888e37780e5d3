//! Fleets that `mqtt-fleet cluster` runs, and what their nodes say of themselves.

use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A fleet is ready within this time.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a fleet that nobody uses may take to become quiet.
const QUIET_MAX: Duration = Duration::from_secs(120);
/// It is quiet when nothing crossed its links for so long, and no record waits to be written.
const QUIET: Duration = Duration::from_secs(5);

/// What the launcher and its nodes say, in the fleet's folder.
const LOG: &str = "bench.log";

/// What a fleet consists of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) proxies: u16,
    pub(super) groups: u16,
    /// Threads of each proxy.
    pub(super) shards: usize,
    pub(super) durability: &'static str,
}

/// A fleet; it ends with the value.
pub(super) struct Fleet {
    launcher: Child,
    pub(super) proxies: Vec<Node>,
    pub(super) brokers: Vec<Node>,
    redis: SocketAddr,
    data: tempfile::TempDir,
}

/// A proxy or a broker.
pub(super) struct Node {
    pub(super) pid: u32,
    /// A proxy's address for devices.
    pub(super) mqtt: Option<SocketAddr>,
    admin: SocketAddr,
}

/// What Redis has done so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct RedisTraffic {
    pub(super) bytes_in: f64,
    pub(super) bytes_out: f64,
    pub(super) commands: f64,
    /// Bytes of the answer that had these figures, and is not in them.
    pub(super) answer: f64,
}

impl Fleet {
    /// Starts a fleet and waits until it is ready.
    pub(super) fn start(program: &Path, shape: Shape) -> io::Result<Self> {
        let data = tempfile::tempdir_in(program.parent().unwrap_or(Path::new(".")))?;
        let number = |flag: &str, n: u64| [flag.to_owned(), n.to_string()];
        let log = File::create(data.path().join(LOG))?;
        let launcher = Command::new(program)
            .arg("cluster")
            .args(number("--proxies", shape.proxies.into()))
            .args(number("--groups", shape.groups.into()))
            .args(number("--shards", shape.shards as u64))
            .args(number("--base-port", free_ports()?.into()))
            .args(["--durability", shape.durability, "--data"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut fleet = Self {
            launcher,
            proxies: Vec::new(),
            brokers: Vec::new(),
            redis: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            data,
        };
        fleet.await_ready()?;
        Ok(fleet)
    }

    /// The addresses of all proxies, as `--addr` takes them.
    pub(super) fn addresses(&self) -> String {
        let addresses = self.proxies.iter().filter_map(|proxy| proxy.mqtt);
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        addresses.join(",")
    }

    /// Processes of the product, without Redis.
    pub(super) fn pids(&self) -> Vec<u32> {
        let nodes = self.proxies.iter().chain(&self.brokers);
        nodes.map(|node| node.pid).collect()
    }

    /// Where the nodes keep their data.
    pub(super) fn folder(&self) -> &Path {
        self.data.path()
    }

    /// Sum of the proxies' metrics that begin so.
    pub(super) fn of_proxies(&self, prefix: &str) -> io::Result<f64> {
        self.proxies.iter().map(|proxy| proxy.metric(prefix)).sum()
    }

    /// Sum of the brokers' metrics that begin so.
    pub(super) fn of_brokers(&self, prefix: &str) -> io::Result<f64> {
        self.brokers
            .iter()
            .map(|broker| broker.metric(prefix))
            .sum()
    }

    /// Bytes on the links, both directions, as the proxies count them.
    pub(super) fn link_bytes(&self) -> io::Result<f64> {
        Ok(self.of_proxies("mqtt_fleet_link_bytes_in_total")?
            + self.of_proxies("mqtt_fleet_link_bytes_out_total")?)
    }

    /// Waits until what was done has had all its effects.
    pub(super) fn await_quiet(&self) -> io::Result<()> {
        let frames = || -> io::Result<f64> {
            Ok(self.of_proxies("mqtt_fleet_link_frames_in_total")?
                + self.of_proxies("mqtt_fleet_link_frames_out_total")?
                + self.of_proxies("mqtt_fleet_store_writes_waiting")?)
        };
        let (mut last, mut since) = (frames()?, Instant::now());
        let deadline = since + QUIET_MAX;
        while since.elapsed() < QUIET {
            std::thread::park_timeout(Duration::from_millis(250));
            let now = frames()?;
            if now.to_bits() != last.to_bits() {
                (last, since) = (now, Instant::now());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "frames still cross the links after {QUIET_MAX:?}, without anybody who does anything"
                )));
            }
        }
        Ok(())
    }

    /// What Redis counted.
    pub(super) fn redis_traffic(&self) -> io::Result<RedisTraffic> {
        let mut redis = self.ask_redis("INFO stats")?;
        let mut head = String::new();
        redis.read_line(&mut head)?;
        let len = head.trim_end().strip_prefix('$');
        let len = len.and_then(|len| len.parse::<usize>().ok());
        let len = len.ok_or_else(|| io::Error::other(format!("Redis says {head:?}")))?;
        let mut text = vec![0; len + 2];
        redis.read_exact(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
                .ok_or_else(|| io::Error::other(format!("INFO of Redis has no {name}")))
        };
        Ok(RedisTraffic {
            bytes_in: value("total_net_input_bytes:")?,
            bytes_out: value("total_net_output_bytes:")?,
            commands: value("total_commands_processed:")?,
            answer: (head.len() + len + 2) as f64,
        })
    }

    /// Session records in Redis, without what is left of deleted ones for a while.
    pub(super) fn records(&self) -> io::Result<f64> {
        let count = "local n = 0 for _, key in ipairs(redis.call('KEYS', 'mqtt-fleet:session:*')) do n = n + 1 - \
                     redis.call('HEXISTS', key, 'deleted') end return n";
        let mut answer = String::new();
        self.ask_redis(&format!("EVAL \"{count}\" 0"))?
            .read_line(&mut answer)?;
        let count = answer.trim_end().strip_prefix(':');
        let count = count.and_then(|count| count.parse().ok());
        count.ok_or_else(|| io::Error::other(format!("Redis says {answer:?}")))
    }

    fn ask_redis(&self, command: &str) -> io::Result<BufReader<TcpStream>> {
        let mut redis = TcpStream::connect(self.redis)?;
        redis.set_read_timeout(Some(START_MAX))?;
        redis.write_all(format!("{command}\r\n").as_bytes())?;
        Ok(BufReader::new(redis))
    }

    fn await_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_MAX;
        let manifest = self.data.path().join("cluster.json");
        while !manifest.exists() {
            if Instant::now() > deadline || self.launcher.try_wait()?.is_some() {
                let log = std::fs::read_to_string(self.data.path().join(LOG))?;
                return Err(io::Error::other(format!(
                    "the fleet does not start:\n{log}"
                )));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest)?)?;
        for node in manifest["nodes"].as_array().into_iter().flatten() {
            match node["role"].as_str() {
                Some("proxy") => self.proxies.push(Node::read(node)?),
                Some("broker") => self.brokers.push(Node::read(node)?),
                Some("redis") => self.redis = address(node, "redis")?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Killed, it takes its nodes with it; either way it is gone afterwards.
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

impl Node {
    fn read(node: &Value) -> io::Result<Self> {
        let pid = node["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        Ok(Self {
            pid: pid.ok_or_else(|| io::Error::other(format!("no process id in {node}")))?,
            mqtt: address(node, "mqtt").ok(),
            admin: address(node, "admin")?,
        })
    }

    /// Sum of the metrics that begin so.
    fn metric(&self, prefix: &str) -> io::Result<f64> {
        let mut admin = TcpStream::connect(self.admin)?;
        admin
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        admin.read_to_string(&mut page)?;
        let lines = page.lines().filter(|line| line.starts_with(prefix));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        let values: Vec<f64> = values.collect::<Result<_, _>>().map_err(io::Error::other)?;
        if values.is_empty() {
            return Err(io::Error::other(format!("the metrics have no {prefix}")));
        }
        Ok(values.iter().sum())
    }
}

fn address(node: &Value, name: &str) -> io::Result<SocketAddr> {
    let text = node["addresses"][name].as_str();
    let address = text.and_then(|text| text.parse().ok());
    address.ok_or_else(|| io::Error::other(format!("cluster.json: no {name} address in {node}")))
}

/// A base port whose ports nobody has now, below those that the kernel takes for outgoing connections.
fn free_ports() -> io::Result<u16> {
    let is_free = |base: &u16| {
        let mut ports = [0, 100, 101, 201, 301]
            .into_iter()
            .flat_map(|from| (0..4).map(move |n| base + from + n));
        ports.all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    };
    // Two that search at the same time begin at different ports.
    let first = (std::process::id() % 40) as u16 * 500;
    let bases = (0..20_000_u16).step_by(350);
    let mut bases = bases.map(|step| 10_000 + (first + step) % 20_000);
    bases
        .find(is_free)
        .ok_or_else(|| io::Error::other("no free ports from 10000 to 30000"))
}
