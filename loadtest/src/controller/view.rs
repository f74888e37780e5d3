//! What a person sees while a run goes on: a panel that renews itself on a terminal, else a line now and then.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::observer::SIMULATOR;
use crate::control::message::FindingKind;
use crate::outcome::{Point, units};

/// Reasons of errors shown.
const REASONS: usize = 3;

/// Steps of the bar.
const STEPS: u64 = 1_000;

/// Where a run stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Glance {
    /// Name of the phase, which one, and how many there are.
    pub(crate) phase: (String, usize, usize),
    /// How far it is, 0 to 1.
    pub(crate) done: f64,
    /// Devices of the scenario.
    pub(crate) devices: u64,
    /// Figures of this moment.
    pub(crate) point: Point,
    /// Errors by reason, the most frequent first.
    pub(crate) errors: Vec<(String, u64)>,
    /// Findings that occurred.
    pub(crate) findings: Vec<(FindingKind, u64)>,
}

/// Shows it.
pub(crate) struct View {
    panel: Option<ProgressBar>,
    every: Duration,
    shown: Option<Instant>,
}

impl View {
    /// A panel where `live` is wanted and stderr is a terminal; else a line each `every`.
    pub(crate) fn new(live: bool, every: Duration) -> Self {
        let panel = (live && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{prefix} [{bar:40}] {elapsed_precise}\n{msg}");
            bar.with_style(style.expect("the template is well-formed"))
        });
        Self {
            panel,
            every,
            shown: None,
        }
    }

    /// Shows where things are, not more often than is wanted.
    pub(crate) fn show(&mut self, glance: &Glance) {
        if let Some(panel) = &self.panel {
            let (name, number, of) = &glance.phase;
            panel.set_prefix(format!("{name} ({number} of {of})"));
            panel.set_position(units::whole(glance.done * STEPS as f64).min(STEPS));
            panel.set_message(lines(glance).join("\n"));
            return;
        }
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= self.every);
        if due {
            self.shown = Some(Instant::now());
            eprintln!("{}", line(glance));
        }
    }

    /// Says something that stays, above the panel.
    pub(crate) fn say(&self, text: &str) {
        match &self.panel {
            Some(panel) => panel.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(panel) = &self.panel {
            panel.finish_and_clear();
        }
    }
}

/// The panel, below its bar.
fn lines(glance: &Glance) -> Vec<String> {
    let point = &glance.point;
    let latency = point.latencies.iter().map(|latency| {
        let [p50, p99, max] = [latency.p50_us, latency.p99_us, latency.max_us].map(micros);
        format!(
            "  latency   {}: p50 {p50}, p99 {p99}, max {max}",
            latency.kind
        )
    });
    let devices = format!(
        "  devices   {}, {} lost",
        connected(glance),
        units::count(point.connections_lost)
    );
    let mut lines = vec![devices, format!("  messages  {}", messages(point))];
    lines.extend(latency);
    lines.push(format!("  errors    {}", errors(glance)));
    lines.push(format!("  findings  {}", findings(glance)));
    lines.extend(point.memory.iter().map(|(role, bytes)| {
        let cores = find(&point.cpu, role).unwrap_or_default();
        let bytes = units::bytes(*bytes as f64);
        format!("  {role:<9} {bytes}, {cores:.2} cores")
    }));
    lines
}

/// The same in a line, shorter.
fn line(glance: &Glance) -> String {
    let point = &glance.point;
    let (name, number, of) = &glance.phase;
    let at = units::duration(point.at_s);
    let mut line = format!(
        "{at}, {name} ({number} of {of}): {}, {}",
        connected(glance),
        messages(point)
    );
    let mut add = |text: String| {
        write!(line, ", {text}").expect("writing to a String cannot fail");
    };
    for latency in &point.latencies {
        add(format!("{} p99 {}", latency.kind, micros(latency.p99_us)));
    }
    if point.errors > 0 {
        add(format!("errors: {}", errors(glance)));
    }
    if !glance.findings.is_empty() {
        add(format!("FINDINGS: {}", findings(glance)));
    }
    let (own, target): (Vec<_>, Vec<_>) = {
        let roles = point.memory.iter();
        roles.partition(|(role, _)| role == SIMULATOR)
    };
    for (who, roles) in [("target", target), ("simulator", own)] {
        if roles.is_empty() {
            continue;
        }
        let bytes: u64 = roles.iter().map(|(_, bytes)| bytes).sum();
        let cores = roles.iter().filter_map(|(role, _)| find(&point.cpu, role));
        let cores: f64 = cores.sum();
        add(format!(
            "{who} {} {cores:.2} cores",
            units::bytes(bytes as f64)
        ));
    }
    line
}

fn connected(glance: &Glance) -> String {
    let point = &glance.point;
    let rate = units::count(units::whole(point.connects_per_s));
    let (up, all) = (units::count(point.connected), units::count(glance.devices));
    format!("{up} of {all} connected ({rate}/s)")
}

fn messages(point: &Point) -> String {
    let [sent, received] = [point.sent_per_s, point.received_per_s].map(units::whole);
    let [sent, received, owed] = [sent, received, point.owed].map(units::count);
    format!("{sent} sent/s, {received} received/s, {owed} owed")
}

fn errors(glance: &Glance) -> String {
    let shown = glance.errors.iter().take(REASONS);
    let shown = shown.map(|(reason, count)| format!("{} x {reason}", units::count(*count)));
    let mut all: Vec<_> = shown.collect();
    let rest = glance.errors.iter().skip(REASONS);
    let rest: u64 = rest.map(|(_, count)| count).sum();
    if rest > 0 {
        all.push(format!("{} more", units::count(rest)));
    }
    or_none(&all)
}

fn findings(glance: &Glance) -> String {
    let all = glance.findings.iter();
    let all: Vec<_> = all
        .map(|(kind, count)| format!("{} {}", units::count(*count), kind.in_words()))
        .collect();
    or_none(&all)
}

fn or_none(all: &[String]) -> String {
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

fn find(figures: &[(String, f64)], role: &str) -> Option<f64> {
    let found = figures.iter().find(|(name, _)| name == role);
    found.map(|(_, figure)| *figure)
}

fn micros(us: u64) -> String {
    units::micros(us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::LatencyPoint;

    fn glance() -> Glance {
        let named = |role: &str, bytes| (role.to_owned(), bytes);
        Glance {
            phase: ("crash".to_owned(), 3, 5),
            done: 0.5,
            devices: 10_000,
            point: Point {
                at_s: 61.0,
                connected: 9_000,
                connects_per_s: 512.4,
                sent_per_s: 100.0,
                received_per_s: 99.0,
                connections_lost: 7,
                errors: 21,
                owed: 3,
                latencies: vec![LatencyPoint {
                    kind: "connect".to_owned(),
                    p50_us: 900,
                    p99_us: 12_000,
                    max_us: 1_500_000,
                }],
                memory: vec![
                    named("proxies", 2_000_000),
                    named("redis", 500_000),
                    named("simulator", 900_000),
                ],
                cpu: vec![
                    ("proxies".to_owned(), 0.5),
                    ("redis".to_owned(), 0.25),
                    ("simulator".to_owned(), 0.4),
                ],
            },
            errors: [
                ("refused", 9),
                ("reset", 6),
                ("closed", 5),
                ("timed out", 1),
            ]
            .map(|(reason, count)| (reason.to_owned(), count))
            .into(),
            findings: vec![(FindingKind::Lost, 2)],
        }
    }

    #[test]
    fn the_panel_has_everything() {
        let expected = [
            "  devices   9,000 of 10,000 connected (512/s), 7 lost",
            "  messages  100 sent/s, 99 received/s, 3 owed",
            "  latency   connect: p50 900 µs, p99 12 ms, max 1.5 s",
            "  errors    9 x refused, 6 x reset, 5 x closed, 1 more",
            "  findings  2 lost",
            "  proxies   2 MB, 0.50 cores",
            "  redis     500 kB, 0.25 cores",
            "  simulator 900 kB, 0.40 cores",
        ];
        assert_eq!(lines(&glance()), expected);
    }

    #[test]
    fn the_line_has_the_most_of_it() {
        assert_eq!(
            line(&glance()),
            "1 min 1 s, crash (3 of 5): 9,000 of 10,000 connected (512/s), 100 sent/s, 99 received/s, 3 owed, \
             connect p99 12 ms, errors: 9 x refused, 6 x reset, 5 x closed, 1 more, FINDINGS: 2 lost, \
             target 2.5 MB 0.75 cores, simulator 900 kB 0.40 cores"
        );
        let quiet = Glance::default();
        assert!(line(&quiet).ends_with("0 owed"), "{}", line(&quiet));
    }
}
