//! What came of a run: everything that reports are made of, and the reports.
//!
//! | module    | what it holds                            |
//! |-----------|------------------------------------------|
//! | `verdict` | the verdict in words                     |
//! | `summary` | what the terminal shows                  |
//! | `page`    | `report.html`                            |
//! | `write`   | the files                                |
//! | `units`   | figures for people                       |
//! | `text`    | text from outside                        |

mod page;
mod summary;
mod text;
pub(crate) mod units;
mod verdict;
mod write;

use serde::Serialize;

use crate::control::message::FindingKind;

/// The whole outcome; `report.json` is this.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// Name of the scenario.
    pub scenario: String,
    /// What it is about.
    pub about: String,
    /// Wall time at the start, RFC 3339.
    pub started: String,
    /// Version of the program.
    pub version: String,
    /// What it ran on: cores, memory, kernel.
    pub machine: Machine,
    /// Addresses, and what was started there.
    pub target: TargetInfo,
    /// Devices of the scenario.
    pub devices: u64,
    /// Processes of the simulator, the controller not counted.
    pub workers: u64,
    /// Greatest error of a latency between two machines, from the clock exchange, µs; 0 on one machine.
    pub clock_error_us: u64,
    /// Length of the run, s.
    pub secs: f64,
    /// Phases as they were.
    pub phases: Vec<PhaseOutcome>,
    /// A signal ended the run before its drain.
    pub stopped: bool,
    /// Names of the phases that a signal or a limit has left out.
    pub skipped: Vec<String>,
    /// Figures over time, one row a second (or every few, in long runs).
    pub series: Vec<Point>,
    /// Latencies of the whole run by kind.
    pub latencies: Vec<LatencyOutcome>,
    /// Totals.
    pub totals: Totals,
    /// Errors by reason.
    pub errors: Vec<(String, u64)>,
    /// Findings by kind: how many.
    pub findings: Vec<(FindingKind, u64)>,
    /// The first findings, in words: device, sequence, time.
    pub examples: Vec<FindingLine>,
    /// Memory and CPU of target and simulator.
    pub resources: Resources,
    /// What was judged: threshold, figure, verdict.
    pub checks: Vec<Check>,
    /// Why the run ended before its end. The figures say how far it came; nothing was judged.
    pub error: Option<String>,
    /// True if all phases were done and all checks passed.
    pub passed: bool,
}

/// The machine of the controller.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Machine {
    /// Cores.
    pub cores: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Operating system and release.
    pub kernel: String,
}

/// What was driven.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TargetInfo {
    /// Addresses.
    pub addresses: Vec<String>,
    /// In words: "53 proxies, 2 groups, Redis, started by this run", or "given".
    pub about: String,
}

/// A phase as it was.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PhaseOutcome {
    /// Name.
    pub name: String,
    /// Kind in one word: ramp, steady, storm, restart, drain.
    pub kind: String,
    /// Start and end, s of run time.
    pub from_s: f64,
    /// See `from_s`.
    pub to_s: f64,
    /// False if its limit or a signal ended it.
    pub done: bool,
    /// Connects in it.
    pub connects: u64,
    /// Connections lost in it that nobody asked for.
    pub connections_lost: u64,
    /// Sockets dropped by a storm.
    pub dropped: u64,
    /// Greatest memory of a process over that at the start of the phase, as a share (0.1: 10 % more), and whose.
    pub growth: Option<(String, f64)>,
    /// CPU of target and simulator in it, s.
    pub cpu_s: [f64; 2],
}

/// One row of the series.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Point {
    /// Run time, s.
    pub at_s: f64,
    /// Devices connected.
    pub connected: u64,
    /// Connects a second.
    pub connects_per_s: f64,
    /// Messages sent and received a second.
    pub sent_per_s: f64,
    /// See `sent_per_s`.
    pub received_per_s: f64,
    /// Connections lost since the start.
    pub connections_lost: u64,
    /// Errors since the start.
    pub errors: u64,
    /// Owed at this moment.
    pub owed: u64,
    /// p50, p99, max of each kind in this interval, µs.
    pub latencies: Vec<LatencyPoint>,
    /// Resident memory by role, bytes: proxies, brokers, redis, simulator, and what else the target has.
    pub memory: Vec<(String, u64)>,
    /// Cores busy by role (1.0: one core).
    pub cpu: Vec<(String, f64)>,
}

/// Latency of one kind in one interval.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LatencyPoint {
    /// Name of the kind.
    pub kind: String,
    /// Percentiles, µs.
    pub p50_us: u64,
    /// See `p50_us`.
    pub p99_us: u64,
    /// See `p50_us`.
    pub max_us: u64,
}

/// Latency of one kind in the whole run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LatencyOutcome {
    /// Name of the kind.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// Percentiles, µs.
    pub p50_us: u64,
    /// See `p50_us`.
    pub p90_us: u64,
    /// See `p50_us`.
    pub p99_us: u64,
    /// See `p50_us`.
    pub p999_us: u64,
    /// See `p50_us`.
    pub max_us: u64,
}

/// Totals of the run; see the counters of the same names in the docs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Most devices connected at once.
    pub connected_max: u64,
    /// CONNACKs with success.
    pub connects: u64,
    /// After a loss.
    pub reconnects: u64,
    /// Nobody asked for.
    pub connections_lost: u64,
    /// By storms.
    pub dropped: u64,
    /// PINGRESPs.
    pub pings: u64,
    /// By QoS.
    pub sent: [u64; 3],
    /// By QoS.
    pub acknowledged: [u64; 3],
    /// By QoS.
    pub received: [u64; 3],
    /// Repetitions that QoS 1 allows.
    pub repeated: u64,
    /// Lost with a session that was to end.
    pub excused: u64,
    /// Never acknowledged.
    pub unacknowledged: u64,
    /// Left late.
    pub left_late: u64,
    /// Fell due while a device was away, and never left: telemetry of its own by its mean interval, and commands that found
    /// no device of theirs.
    pub not_sent: u64,
    /// Payload bytes sent and received.
    pub bytes: [u64; 2],
}

/// A finding in words.
#[derive(Debug, Clone, Serialize)]
pub struct FindingLine {
    /// What.
    pub kind: FindingKind,
    /// Client id of the device.
    pub client_id: String,
    /// `telemetry`, or the name of the commands.
    pub messages: String,
    /// Sequence number.
    pub seq: Option<u32>,
    /// Run time, s.
    pub at_s: f64,
    /// More.
    pub detail: String,
}

/// Memory and CPU.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Resources {
    /// By role of the target, then the simulator.
    pub roles: Vec<RoleResources>,
    /// CPU of all of the target, s; `None` where its processes are not known.
    pub target_cpu_s: Option<f64>,
    /// CPU of workers and controller, s.
    pub simulator_cpu_s: f64,
    /// Kernel memory of sockets at its greatest, bytes (system-wide, from /proc/net/sockstat), and least memory available.
    pub socket_bytes_max: u64,
    /// See `socket_bytes_max`.
    pub available_bytes_min: u64,
}

/// Memory and CPU of one role.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RoleResources {
    /// `proxies`, `brokers`, `redis`, `simulator`, …
    pub role: String,
    /// Processes.
    pub processes: u64,
    /// Memory before the first device, all together, bytes.
    pub before_bytes: u64,
    /// Memory when most devices were connected and steady, bytes.
    pub steady_bytes: u64,
    /// Greatest, bytes.
    pub max_bytes: u64,
    /// `(steady - before) / devices`.
    pub per_device_bytes: f64,
    /// `steady / devices`: with what there was before the first device.
    pub per_device_whole_bytes: f64,
    /// CPU in the run, s.
    pub cpu_s: f64,
}

/// One threshold and its figure.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Key in `[pass]`.
    pub key: String,
    /// In words: "no promise broken", "p99 of commands".
    pub about: String,
    /// What is allowed, with its unit.
    pub bound: String,
    /// What was measured, with its unit.
    pub figure: String,
    /// Verdict.
    pub passed: bool,
}
