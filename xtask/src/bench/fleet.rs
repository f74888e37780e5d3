//! `cargo xtask bench --fleet`: what it costs that proxy and broker are processes of their own.
//!
//! The unit is the standalone broker in the same run. A fleet here is one proxy and one group, with as many shards
//! as the standalone broker has.

use super::{Broker, Row, median, report_of, shown};
use serde_json::Value;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Payload of the rows' messages.
const PAYLOAD_BYTES: f64 = 64.0;
/// Bytes of the shortest of their topics: `load/`, a process id and a time in hexadecimal digits, and the number of
/// the pair.
const TOPIC_BYTES: f64 = 22.0;
/// A fleet is ready within this time.
const START_MAX: Duration = Duration::from_secs(60);

/// Runs the rows for standalone and for a fleet, in turn.
pub(super) fn run(program: &Path, rows: &[Row], runs: usize, secs: u32) -> io::Result<()> {
    println!(
        "| what | unit | standalone | proxy + group | ratio | bar |\n|---|---|---|---|---|---|"
    );
    let mut links = Vec::new();
    for row in rows {
        let (mut alone, mut apart) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let broker = Broker::mqtt_fleet(program, row.durability)?;
            let pids = [broker.child.id()];
            alone.push(report_of(program, row, secs, broker.addr, &pids)?.1);
            drop(broker);
            let fleet = Fleet::start(program, row.durability)?;
            let before = fleet.traffic()?;
            let (_, figure) = report_of(program, row, secs, fleet.mqtt, &fleet.pids)?;
            let after = fleet.traffic()?;
            apart.push(figure);
            links.push((
                row.name,
                after.bytes - before.bytes,
                after.messages - before.messages,
            ));
        }
        let (alone, apart) = (median(&mut alone), median(&mut apart));
        println!(
            "| {} | {} | {} | {} | {:.2} x | >= 0.6 x |",
            row.name,
            row.unit,
            shown(alone),
            shown(apart),
            apart / alone
        );
        io::stdout().flush()?;
    }
    println!(
        "\n| what | messages that crossed a link | bytes on it for each | bar |\n|---|---|---|---|"
    );
    for (name, bytes, messages) in &links {
        // Acknowledgements, heartbeats and the connects at the beginning are counted with the messages.
        let bar = PAYLOAD_BYTES + TOPIC_BYTES + 48.0;
        println!(
            "| {name} | {messages:.0} | {:.1} | <= {bar:.0} |",
            bytes / messages
        );
    }
    Ok(())
}

/// What has passed a proxy so far.
struct Traffic {
    /// On its links, both directions.
    bytes: f64,
    /// To a group or from one.
    messages: f64,
}

/// A fleet of one proxy and one group; it ends with the value.
struct Fleet {
    launcher: Child,
    mqtt: SocketAddr,
    admin: SocketAddr,
    /// Processes of the product, without Redis.
    pids: Vec<u32>,
    _data: tempfile::TempDir,
}

impl Fleet {
    fn start(program: &Path, durability: &str) -> io::Result<Self> {
        let data = tempfile::tempdir_in(program.parent().unwrap_or(Path::new(".")))?;
        let shards = std::thread::available_parallelism()?.get().to_string();
        let mut launcher = Command::new(program)
            .args([
                "cluster",
                "--proxies",
                "1",
                "--groups",
                "1",
                "--shards",
                &shards,
            ])
            .args(["--durability", durability, "--data"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        // Its log is for people; nobody reads it here, and a full pipe would stop it.
        let output = launcher.stdout.take().expect("piped");
        std::thread::spawn(move || {
            BufReader::new(output)
                .lines()
                .map_while(Result::ok)
                .for_each(drop);
        });
        let deadline = Instant::now() + START_MAX;
        let manifest = data.path().join("cluster.json");
        while !manifest.exists() {
            if Instant::now() > deadline || launcher.try_wait()?.is_some() {
                drop(launcher.kill());
                return Err(io::Error::other("the fleet does not start"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest)?)?;
        let nodes = manifest["nodes"].as_array().cloned().unwrap_or_default();
        let of_role = |role: &str| nodes.iter().find(|node| node["role"] == role);
        let address = |name: &str| {
            let text = of_role("proxy").and_then(|node| node["addresses"][name].as_str());
            let address = text.and_then(|text| text.parse().ok());
            address
                .ok_or_else(|| io::Error::other(format!("cluster.json has no {name} of a proxy")))
        };
        let pid = |role: &str| {
            let pid = of_role(role).and_then(|node| node["pid"].as_u64());
            pid.map(|pid| pid as u32)
                .ok_or_else(|| io::Error::other(format!("cluster.json has no {role}")))
        };
        Ok(Self {
            mqtt: address("mqtt")?,
            admin: address("admin")?,
            pids: vec![pid("proxy")?, pid("broker")?],
            launcher,
            _data: data,
        })
    }

    /// What the proxy's metrics say.
    fn traffic(&self) -> io::Result<Traffic> {
        let mut admin = TcpStream::connect(self.admin)?;
        admin
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        admin.read_to_string(&mut page)?;
        let sum = |prefix: &str| -> io::Result<f64> {
            let lines = page.lines().filter(|line| line.starts_with(prefix));
            let values =
                lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
            let values: Vec<f64> = values.collect::<Result<_, _>>().map_err(io::Error::other)?;
            if values.is_empty() {
                return Err(io::Error::other(format!("the metrics have no {prefix}")));
            }
            Ok(values.iter().sum())
        };
        Ok(Traffic {
            bytes: sum("mqtt_fleet_link_bytes_in_total")? + sum("mqtt_fleet_link_bytes_out_total")?,
            messages: sum("mqtt_fleet_proxy_publishes_in_qos")?
                + sum("mqtt_fleet_proxy_publishes_out_qos")?,
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Killed, it takes its nodes with it; either way it is gone afterwards.
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}
