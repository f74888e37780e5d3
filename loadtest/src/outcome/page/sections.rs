//! The parts of the page that are words and tables.

use std::fmt::Write as _;

use super::html::{Column, Table, escape};
use crate::control::message::FindingKind;
use crate::outcome::{LatencyOutcome, Outcome, PhaseOutcome, RoleResources, units};
use Column::{Figures, Words};

/// Rows of the table of errors.
const ERRORS_MAX: usize = 100;

/// Rows of the table of examples.
const EXAMPLES_MAX: usize = 200;

pub(super) fn header(outcome: &Outcome) -> String {
    let class = if outcome.passed { "passed" } else { "failed" };
    let mut html = format!(
        "<header>\n<h1>{}</h1>\n<p class=\"about\">{}</p>\n<p class=\"verdict {class}\">{}</p>\n<dl>\n",
        escape(&outcome.scenario),
        escape(&outcome.about),
        escape(&outcome.verdict()),
    );
    for (name, fact) in facts(outcome) {
        _ = writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&fact));
    }
    html + "</dl>\n</header>\n"
}

fn facts(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let Outcome {
        target, machine, ..
    } = outcome;
    let mut facts = vec![
        ("started", outcome.started.clone()),
        ("took", units::duration(outcome.secs)),
        ("devices", units::count(outcome.devices)),
        (
            "connected at most",
            units::count(outcome.totals.connected_max),
        ),
        ("target", target.about.clone()),
        ("addresses", addresses(&target.addresses)),
        (
            "machine",
            format!(
                "{} cores, {}, {}",
                machine.cores,
                units::bytes(machine.memory_bytes as f64),
                machine.kernel
            ),
        ),
        (
            "simulator",
            format!(
                "{} processes and a controller, mqtt-fleet {}",
                outcome.workers, outcome.version
            ),
        ),
    ];
    if outcome.clock_error_us > 0 {
        let error = units::micros(outcome.clock_error_us as f64);
        facts.push((
            "clocks",
            format!("latencies between machines are right to {error}"),
        ));
    }
    facts.retain(|(_, fact)| !fact.is_empty());
    facts
}

/// The first few, and how many there are.
fn addresses(all: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = all.iter().take(SHOWN).map(String::as_str);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        _ = write!(text, " and {} more", all.len() - SHOWN);
    }
    text
}

pub(super) fn checks(outcome: &Outcome) -> String {
    if outcome.checks.is_empty() && outcome.error.is_some() {
        return "<p>The run ended by an error, so nothing was judged.</p>\n".to_owned();
    }
    if outcome.checks.is_empty() {
        return "<p>The scenario has nothing to be judged by.</p>\n".to_owned();
    }
    let columns = [
        Words("check"),
        Words("allowed"),
        Words("measured"),
        Words("verdict"),
        Words("key"),
    ];
    let mut table = Table::new("Checks", &columns);
    for check in &outcome.checks {
        let (class, verdict) = if check.passed {
            ("good", "passed")
        } else {
            ("bad", "FAILED")
        };
        let cells = [
            &check.about,
            &check.bound,
            &check.figure,
            verdict,
            &check.key,
        ];
        table.marked_row(class, &cells.map(str::to_owned));
    }
    table.end()
}

pub(super) fn phases(outcome: &Outcome) -> String {
    if outcome.phases.is_empty() {
        return String::new();
    }
    let columns = [
        Words("phase"),
        Words("kind"),
        Figures("from"),
        Figures("took"),
        Words("end"),
        Figures("connects"),
        Figures("per second"),
        Figures("lost"),
        Figures("dropped by a storm"),
        Figures("CPU target, s"),
        Figures("CPU simulator, s"),
        Words("most growth of a process"),
    ];
    let mut table = Table::new("Phases", &columns);
    for (index, phase) in outcome.phases.iter().enumerate() {
        let class = if phase.done { "" } else { "bad" };
        table.marked_row(class, &phase_cells(index, phase));
    }
    table.end()
}

fn phase_cells(index: usize, phase: &PhaseOutcome) -> [String; 12] {
    let secs = phase.to_s - phase.from_s;
    let rate = if secs > 0.0 {
        phase.connects as f64 / secs
    } else {
        0.0
    };
    let growth = phase.growth.as_ref();
    [
        format!("{}. {}", index + 1, phase.name),
        phase.kind.clone(),
        units::clock(phase.from_s),
        units::duration(secs),
        if phase.done {
            "done"
        } else {
            "ended by its limit"
        }
        .to_owned(),
        units::count(phase.connects),
        units::count(units::whole(rate)),
        units::count(phase.connections_lost),
        units::count(phase.dropped),
        format!("{:.1}", phase.cpu_s[0]),
        format!("{:.1}", phase.cpu_s[1]),
        growth.map_or(String::new(), |(whose, share)| {
            format!("{:+.1} % ({whose})", share * 100.0)
        }),
    ]
}

pub(super) fn messages(outcome: &Outcome) -> String {
    let totals = &outcome.totals;
    let columns = [
        Words("messages"),
        Figures("QoS 0"),
        Figures("QoS 1"),
        Figures("QoS 2"),
        Figures("all"),
    ];
    let mut table = Table::new("Messages by QoS", &columns);
    let rows = [
        ("sent", totals.sent),
        ("acknowledged (QoS 0: written)", totals.acknowledged),
        ("received, each once", totals.received),
    ];
    for (name, [qos0, qos1, qos2]) in rows {
        let all = qos0.saturating_add(qos1).saturating_add(qos2);
        let [qos0, qos1, qos2, all] = [qos0, qos1, qos2, all].map(units::count);
        table.row(&[name.to_owned(), qos0, qos1, qos2, all]);
    }
    let tables = [table.end(), connections(outcome), promises(outcome)].concat();
    format!("<div class=\"tables\">\n{tables}</div>\n")
}

fn promises(outcome: &Outcome) -> String {
    let columns = [
        Words("what became of them"),
        Figures("count"),
        Words("a broken promise"),
    ];
    let mut table = Table::new("What the oracle counted", &columns);
    for kind in FindingKind::ALL {
        let count = outcome.finding_count(kind);
        let (class, broken) = match (kind.breaks_a_promise(), count) {
            (false, _) => ("", "no"),
            (true, 0) => ("", "none"),
            (true, _) => ("bad", "yes"),
        };
        let name = kind.in_words().to_owned();
        table.marked_row(class, &[name, units::count(count), broken.to_owned()]);
    }
    let totals = &outcome.totals;
    let rest = [
        ("repeated as QoS 1 allows", totals.repeated),
        (
            "excused: ended with a session that was to end",
            totals.excused,
        ),
        ("never acknowledged", totals.unacknowledged),
        ("left late", totals.left_late),
        ("not sent while away", totals.not_sent),
    ];
    for (name, count) in rest {
        table.row(&[name.to_owned(), units::count(count), "no".to_owned()]);
    }
    table.end()
}

fn connections(outcome: &Outcome) -> String {
    let totals = &outcome.totals;
    let mut table = Table::new(
        "Connections and traffic",
        &[Words("what"), Figures("figure")],
    );
    let counts = [
        ("connected at most", totals.connected_max),
        ("connects", totals.connects),
        ("of these after a loss", totals.reconnects),
        (
            "connections lost that nobody asked for",
            totals.connections_lost,
        ),
        ("sockets dropped by storms", totals.dropped),
        ("pings answered", totals.pings),
    ];
    for (name, count) in counts {
        table.row(&[name.to_owned(), units::count(count)]);
    }
    for (name, bytes) in ["payload sent", "payload received"]
        .into_iter()
        .zip(totals.bytes)
    {
        table.row(&[name.to_owned(), units::bytes(bytes as f64)]);
    }
    table.end()
}

pub(super) fn latencies(outcome: &Outcome) -> String {
    if outcome.latencies.is_empty() {
        return String::new();
    }
    let columns = [
        Words("latency of"),
        Figures("count"),
        Figures("p50"),
        Figures("p90"),
        Figures("p99"),
        Figures("p99.9"),
        Figures("max"),
    ];
    let mut table = Table::new(
        "Latencies of the whole run, counted from when each was due",
        &columns,
    );
    for latency in &outcome.latencies {
        let LatencyOutcome {
            kind,
            count,
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us,
        } = latency;
        let [p50, p90, p99, p999, max] =
            [p50_us, p90_us, p99_us, p999_us, max_us].map(|us| units::micros(*us as f64));
        table.row(&[kind.clone(), units::count(*count), p50, p90, p99, p999, max]);
    }
    table.end()
}

pub(super) fn findings(outcome: &Outcome) -> String {
    if outcome.examples.is_empty() {
        return String::new();
    }
    let columns = [
        Words("finding"),
        Words("device"),
        Words("messages"),
        Figures("number"),
        Figures("run time, s"),
        Words("more"),
    ];
    let mut table = Table::new("The first findings", &columns);
    for example in outcome.examples.iter().take(EXAMPLES_MAX) {
        let cells = [
            example.kind.in_words().to_owned(),
            example.client_id.clone(),
            example.messages.clone(),
            example.seq.map_or(String::new(), |seq| seq.to_string()),
            format!("{:.6}", example.at_s),
            example.detail.clone(),
        ];
        table.row(&cells);
    }
    table.end()
}

pub(super) fn errors(outcome: &Outcome) -> String {
    if outcome.errors.is_empty() {
        return "<p>No connection was refused or lost by an error.</p>\n".to_owned();
    }
    let mut sorted: Vec<&(String, u64)> = outcome.errors.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut table = Table::new("Errors by reason", &[Words("reason"), Figures("count")]);
    for (reason, count) in sorted.iter().take(ERRORS_MAX) {
        table.row(&[reason.clone(), units::count(*count)]);
    }
    let rest = sorted
        .iter()
        .skip(ERRORS_MAX)
        .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    if rest > 0 {
        table.row(&["all further reasons".to_owned(), units::count(rest)]);
    }
    table.end()
}

pub(super) fn resources(outcome: &Outcome) -> String {
    let resources = &outcome.resources;
    let columns = [
        Words("role"),
        Figures("processes"),
        Figures("before the first device"),
        Figures("steady"),
        Figures("at most"),
        Figures("per device over before"),
        Figures("per device in all"),
        Figures("CPU, s"),
    ];
    let mut table = Table::new("Resident memory and CPU", &columns);
    for role in &resources.roles {
        table.row(&role_cells(role));
    }
    let mut html = table.end();
    let simulator = resources.simulator_cpu_s;
    let cpu = match resources.target_cpu_s {
        None => format!("CPU: simulator {simulator:.1} s; the target's processes are not known."),
        Some(target) => format!(
            "CPU: target {target:.1} s, simulator {simulator:.1} s{}.",
            outcome.cpu_ratio().map_or(String::new(), |ratio| format!(
                ", {} of the target's",
                units::plain(ratio)
            ))
        ),
    };
    _ = writeln!(html, "<p>{}</p>", escape(&cpu));
    if resources.socket_bytes_max > 0 || resources.available_bytes_min > 0 {
        let sockets = units::bytes(resources.socket_bytes_max as f64);
        let available = units::bytes(resources.available_bytes_min as f64);
        _ = writeln!(
            html,
            "<p>Whole machine: {sockets} of kernel memory in TCP buffers at most, at least {available} of memory \
             available.</p>"
        );
    }
    html
}

fn role_cells(role: &RoleResources) -> [String; 8] {
    [
        role.role.clone(),
        units::count(role.processes),
        units::bytes(role.before_bytes as f64),
        units::bytes(role.steady_bytes as f64),
        units::bytes(role.max_bytes as f64),
        units::bytes(role.per_device_bytes),
        units::bytes(role.per_device_whole_bytes),
        format!("{:.1}", role.cpu_s),
    ]
}
