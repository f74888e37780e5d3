//! `cargo xtask backlog`: a backlog larger than memory is taken, outlives kill -9, and drains.

use super::bars::Bars;
use super::process::peak_rss_bytes;
use super::{Broker, build};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The most memory that a life of the broker may take.
const PEAK_BYTES_MAX: f64 = 1_073_741_824.0;
/// The broker serves within this time after it was killed.
const SERVES_MAX: Duration = Duration::from_secs(600);
/// Seconds without anything getting further after which a load gives up.
const PATIENCE_S: &str = "120";

/// Options of `cargo xtask backlog`.
#[derive(Debug, clap::Args)]
pub(crate) struct BacklogArgs {
    /// Messages that wait in all queues together
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Sessions that they wait for
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Bytes of a message
    #[arg(long, default_value_t = 1_024)]
    size: usize,
    /// A folder with room for 1.2 times the messages; a folder in it is made and removed [default: beside the program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A mqtt-fleet to measure, instead of a release build of this work tree
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Fills, kills, starts again, drains, and prints the table.
pub(crate) fn run(root: &Path, args: &BacklogArgs) -> io::Result<()> {
    let program = match &args.program {
        Some(program) => std::path::absolute(program)?,
        None => build(root)?,
    };
    let beside = program.parent().unwrap_or(Path::new("."));
    let data = tempfile::tempdir_in(args.data.as_deref().unwrap_or(beside))?;
    let mut broker = Broker::mqtt_fleet_in(&program, "fsync", data)?;
    let mut bars = Bars::new();
    let filled = part(&program, args, "fill", &broker)?;
    let first_peak = peak_rss_bytes(broker.child.id())?;
    let seconds = figure(&filled, "fill_s")?;
    let acked = figure(&filled, "acked")?;
    let seen = format!("{acked:.0} in {seconds:.1} s, {:.0}/s", acked / seconds);
    let bar = format!("{}", args.messages);
    bars.check("acknowledged", &seen, &bar, failures(&filled).is_empty())?;
    check_peak(&mut bars, "peak memory of the first life", first_peak)?;

    let began = Instant::now();
    broker.kill_and_start_again(SERVES_MAX)?;
    let seen = format!("{:.1} s", began.elapsed().as_secs_f64());
    Bars::note("from kill -9 until it serves again", &seen)?;

    let drained = part(&program, args, "drain", &broker)?;
    let second_peak = peak_rss_bytes(broker.child.id())?;
    let (delivered, seconds) = (figure(&drained, "delivered")?, figure(&drained, "drain_s")?);
    let seen = format!(
        "{delivered:.0} in {seconds:.1} s, {:.0}/s",
        delivered / seconds
    );
    Bars::note("drained", &seen)?;
    let why = failures(&drained);
    let seen = match why.as_str() {
        "" => "0".to_owned(),
        why => why.to_owned(),
    };
    bars.check("lost, out of order, altered", &seen, "0", why.is_empty())?;
    check_peak(&mut bars, "peak memory of the second life", second_peak)?;
    bars.verdict()
}

fn check_peak(bars: &mut Bars, what: &str, bytes: f64) -> io::Result<()> {
    let seen = format!("{:.0} MiB", bytes / 1_048_576.0);
    bars.check(what, &seen, "< 1 GiB", bytes < PEAK_BYTES_MAX)
}

/// Runs one part of the load; its report.
fn part(program: &Path, args: &BacklogArgs, part: &str, broker: &Broker) -> io::Result<Value> {
    let json = tempfile::NamedTempFile::new()?;
    let status = Command::new(program)
        .args(["loadtest", "backlog", "--run", "xtask", "--part", part])
        .args(["--addr", &broker.addr.to_string()])
        .args(["--conns", &args.sessions.to_string()])
        .args(["--messages", &args.messages.to_string()])
        .args(["--size", &args.size.to_string()])
        .args(["--patience", PATIENCE_S, "--report-every", "10", "--json"])
        .arg(json.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    let text = std::fs::read_to_string(json.path())?;
    serde_json::from_str(&text)
        .map_err(|error| io::Error::other(format!("the load ended with {status}: {error}")))
}

fn figure(report: &Value, name: &str) -> io::Result<f64> {
    let figure = report[name].as_f64();
    figure.ok_or_else(|| io::Error::other(format!("the report has no {name}")))
}

/// Why a part failed; empty if it did not.
fn failures(report: &Value) -> String {
    let failures = report["failures"].as_array().into_iter().flatten();
    let failures: Vec<&str> = failures.filter_map(Value::as_str).collect();
    failures.join("; ")
}
