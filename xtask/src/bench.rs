//! `cargo xtask bench`: the same load on mosquitto and on this broker, in turn, in one run.
//!
//! Mosquitto (Debian's package) is the unit: everyone can install it. Each row says what was measured,
//! both figures and their ratio, as medians over the runs.

pub(crate) mod backlog;
mod bars;
mod cluster;
mod disk;
mod fight;
mod fleet;
mod idle;
mod load;
mod memory;
mod process;
mod resume;

use serde_json::Value;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a row of the table compares.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    scenario: &'static str,
    args: &'static [&'static str],
    durability: &'static str,
    field: &'static str,
    unit: &'static str,
    bar: &'static str,
}

const PAIR_0: &[&str] = &[
    "--pairs", "500", "--size", "64", "--window", "16", "--qos", "0",
];
const PAIR_1: &[&str] = &[
    "--pairs", "500", "--size", "64", "--window", "16", "--qos", "1",
];
const PAIR_2: &[&str] = &[
    "--pairs", "500", "--size", "64", "--window", "16", "--qos", "2",
];
const OPEN_0: &[&str] = &[
    "--pairs", "500", "--size", "64", "--rate", "5000", "--qos", "0",
];
const OPEN_1: &[&str] = &[
    "--pairs", "500", "--size", "64", "--rate", "5000", "--qos", "1",
];
const FANIN: &[&str] = &[
    "--conns", "500", "--size", "64", "--window", "16", "--qos", "1",
];
const FANOUT: &[&str] = &[
    "--conns", "1000", "--size", "64", "--window", "16", "--qos", "0",
];
const CONNECT: &[&str] = &["--conns", "10000"];
const IDLE: &[&str] = &["--conns", "15000", "--qos", "1"];
const PER_CPU: &str = "delivered_per_broker_cpu_s";

const ROWS: &[Row] = &[
    row(
        "pair QoS 0",
        "pair",
        PAIR_0,
        "memory",
        PER_CPU,
        "msg/CPU-s",
        ">= 6 x",
    ),
    row(
        "pair QoS 1, memory",
        "pair",
        PAIR_1,
        "memory",
        PER_CPU,
        "msg/CPU-s",
        ">= 8 x",
    ),
    row(
        "pair QoS 1, fsync",
        "pair",
        PAIR_1,
        "fsync",
        "delivered_per_s",
        "msg/s",
        ">= 6 x",
    ),
    row(
        "pair QoS 2, memory",
        "pair",
        PAIR_2,
        "memory",
        PER_CPU,
        "msg/CPU-s",
        "",
    ),
    row(
        "fan-in QoS 1, memory",
        "fanin",
        FANIN,
        "memory",
        PER_CPU,
        "msg/CPU-s",
        ">= 4 x",
    ),
    row(
        "fan-out QoS 0",
        "fanout",
        FANOUT,
        "memory",
        PER_CPU,
        "msg/CPU-s",
        ">= 4 x",
    ),
    row(
        "5,000/s QoS 1, fsync: CPU",
        "pair",
        OPEN_1,
        "fsync",
        "broker_cpu_s",
        "CPU s",
        "<= 2 x",
    ),
    row(
        "5,000/s QoS 0: CPU",
        "pair",
        OPEN_0,
        "memory",
        "broker_cpu_s",
        "CPU s",
        "<= 2 x",
    ),
    row(
        "5,000/s QoS 1, fsync: p99",
        "pair",
        OPEN_1,
        "fsync",
        "/e2e_us/p99",
        "us",
        "< 25,000",
    ),
    row(
        "5,000/s QoS 0: p99",
        "pair",
        OPEN_0,
        "fsync",
        "/e2e_us/p99",
        "us",
        "< 2,000",
    ),
    row(
        "connect and subscribe",
        "connect",
        CONNECT,
        "fsync",
        "connects_per_s",
        "1/s",
        ">= 0.6 x",
    ),
    row(
        "idle",
        "idle",
        IDLE,
        "fsync",
        "broker_rss_total_per_conn_bytes",
        "B/conn",
        "<= 2,000",
    ),
];

const fn row(
    name: &'static str,
    scenario: &'static str,
    args: &'static [&'static str],
    durability: &'static str,
    field: &'static str,
    unit: &'static str,
    bar: &'static str,
) -> Row {
    Row {
        name,
        scenario,
        args,
        durability,
        field,
        unit,
        bar,
    }
}

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Runs of each broker for each row; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds each run measures [default: 8; --fleet-idle: 300; the others of a fleet: 60]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    secs: Option<u32>,
    /// Only rows whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Compare a proxy and a broker group with the standalone broker instead (this and the next ones need
    /// redis-server).
    #[arg(long)]
    fleet: bool,
    /// Check instead that 10,000 devices that do nothing cost no bytes on links and in Redis.
    #[arg(long)]
    fleet_idle: bool,
    /// Check instead that two proxies cost twice one's memory and CPU, with 15,000 connections each.
    #[arg(long)]
    fleet_memory: bool,
    /// Check instead how long sessions with 100 filters and 1,000 messages take to come back, beside 1,000 connects
    /// a second.
    #[arg(long)]
    fleet_resume: bool,
    /// Check instead that all counts of a fleet agree after a fight over 1,000 client ids.
    #[arg(long)]
    fleet_fight: bool,
    /// A mqtt-fleet to measure, instead of a release build of this work tree.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Runs the table.
pub(crate) fn run(root: &Path, args: &BenchArgs) -> io::Result<()> {
    let ours = match &args.program {
        Some(program) => std::path::absolute(program)?,
        None => build(root)?,
    };
    let secs = |usual: u32| args.secs.unwrap_or(usual);
    if args.fleet {
        let rows = ROWS
            .iter()
            .filter(|row| row.scenario == "pair" && row.field == PER_CPU);
        let rows: Vec<_> = rows.copied().collect();
        return fleet::run(&ours, &rows, args.runs, secs(8));
    }
    if args.fleet_idle {
        return idle::run(&ours, secs(300));
    }
    if args.fleet_memory {
        return memory::run(&ours, secs(60));
    }
    if args.fleet_resume {
        return resume::run(&ours, secs(60));
    }
    if args.fleet_fight {
        return fight::run(&ours, secs(60));
    }
    compare(&ours, args, secs(8))
}

/// The table of both brokers.
fn compare(ours: &Path, args: &BenchArgs, secs: u32) -> io::Result<()> {
    println!("| what | unit | mosquitto | mqtt-fleet | ratio | bar |\n|---|---|---|---|---|---|");
    for row in ROWS.iter().filter(|row| {
        args.only
            .as_ref()
            .is_none_or(|only| row.name.contains(only))
    }) {
        let (mut theirs, mut own) = (Vec::new(), Vec::new());
        for _ in 0..args.runs {
            theirs.push(measure(ours, row, secs, Broker::mosquitto()?)?);
            own.push(measure(
                ours,
                row,
                secs,
                Broker::mqtt_fleet(ours, row.durability)?,
            )?);
        }
        let (theirs, own) = (median(&mut theirs), median(&mut own));
        println!(
            "| {} | {} | {} | {} | {:.2} x | {} |",
            row.name,
            row.unit,
            shown(theirs),
            shown(own),
            own / theirs,
            row.bar
        );
        io::stdout().flush()?;
    }
    Ok(())
}

/// Builds the release; the program.
fn build(root: &Path) -> io::Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo
        .args(["build", "--release", "-p", "mqtt-fleet"])
        .current_dir(root)
        .status()?;
    if !status.success() {
        return Err(io::Error::other("the release build failed"));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/mqtt-fleet"))
}

fn measure(ours: &Path, row: &Row, secs: u32, broker: Broker) -> io::Result<f64> {
    let pids = [broker.child.id()];
    let (_, figure) = report_of(ours, row, secs, &broker.addr.to_string(), &pids)?;
    drop(broker);
    Ok(figure)
}

/// Runs the load of a row against `addr`: the whole report, and the row's figure in it.
fn report_of(
    ours: &Path,
    row: &Row,
    secs: u32,
    addr: &str,
    pids: &[u32],
) -> io::Result<(Value, f64)> {
    let json = tempfile::NamedTempFile::new()?;
    let mut load = Command::new(ours);
    load.args(["loadtest", row.scenario, "--addr", addr]);
    for pid in pids {
        load.args(["--pid", &pid.to_string()]);
    }
    let output = load
        .args(["--secs", &secs.to_string(), "--json"])
        .arg(json.path())
        .args(row.args)
        .stdin(Stdio::null())
        .output()?;
    let text = std::fs::read_to_string(json.path())?;
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        io::Error::other(format!("{}: no report ({error}): {said}", row.name))
    })?;
    let field = if row.field.starts_with('/') {
        row.field.into()
    } else {
        format!("/{}", row.field)
    };
    let figure = value.pointer(&field).and_then(Value::as_f64);
    let figure = figure.ok_or_else(|| {
        io::Error::other(format!("{}: the report has no {}", row.name, row.field))
    })?;
    Ok((value, figure))
}

/// Small figures, such as seconds of CPU, need their decimals.
fn shown(figure: f64) -> String {
    if figure < 100.0 {
        format!("{figure:.2}")
    } else {
        format!("{figure:.0}")
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A broker under test; it ends with the value.
struct Broker {
    command: Command,
    child: Child,
    addr: SocketAddr,
    data: tempfile::TempDir,
}

/// A broker with an empty data folder listens within this time.
const LISTENS_MAX: Duration = Duration::from_secs(20);

impl Broker {
    fn mosquitto() -> io::Result<Self> {
        let data = tempfile::tempdir()?;
        let addr = free_address()?;
        let config = data.path().join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\nmax_queued_messages 0\n",
            addr.port()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(find_mosquitto());
        command.arg("-c").arg(&config);
        Self::start(command, addr, data)
    }

    fn mqtt_fleet(program: &Path, durability: &str) -> io::Result<Self> {
        let data = tempfile::tempdir_in(program.parent().unwrap_or(Path::new(".")))?;
        Self::mqtt_fleet_in(program, durability, data)
    }

    fn mqtt_fleet_in(
        program: &Path,
        durability: &str,
        data: tempfile::TempDir,
    ) -> io::Result<Self> {
        let (addr, admin) = (free_address()?, free_address()?);
        let mut command = Command::new(program);
        command.args(["standalone", "--durability", durability]);
        command.args([
            "--listen",
            &addr.to_string(),
            "--admin",
            &admin.to_string(),
            "--data",
        ]);
        command.arg(data.path().join("data"));
        Self::start(command, addr, data)
    }

    fn start(mut command: Command, addr: SocketAddr, data: tempfile::TempDir) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let child = command.spawn()?;
        let mut broker = Self {
            command,
            child,
            addr,
            data,
        };
        broker.await_listening(LISTENS_MAX)?;
        Ok(broker)
    }

    /// With SIGKILL, over the same data.
    fn kill_and_start_again(&mut self, patience: Duration) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = self.command.spawn()?;
        self.await_listening(patience)
    }

    fn await_listening(&mut self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while TcpStream::connect_timeout(&self.addr, Duration::from_millis(100)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the broker ended: {status}")));
            }
            if Instant::now() > deadline {
                let text = format!("no broker answers at {}", self.addr);
                return Err(io::Error::other(text));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The process may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_mosquitto() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/mosquitto");
    if debian.exists() {
        debian
    } else {
        PathBuf::from("mosquitto")
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
