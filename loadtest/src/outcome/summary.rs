//! What the terminal shows at the end.

use std::fmt::{self, Write as _};

use super::{FindingLine, LatencyOutcome, Outcome, PhaseOutcome, RoleResources, text, units};
use crate::control::message::FindingKind;

/// Findings shown; all are counted.
const EXAMPLES: usize = 5;

/// Reasons of errors shown; the report has all.
const REASONS: usize = 5;

impl fmt::Display for Outcome {
    /// Names and reasons may come from a broker: nothing in them steers the terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            line.chars()
                .map(text::printable)
                .try_for_each(|shown| f.write_char(shown))?;
            f.write_char('\n')?;
        }
        let verdict = line("verdict", &self.verdict());
        verdict
            .chars()
            .map(text::printable)
            .try_for_each(|shown| f.write_char(shown))
    }
}

fn line(label: &str, words: &str) -> String {
    format!("  {label:<10} {words}")
}

impl Outcome {
    /// All lines but the verdict.
    fn lines(&self) -> Vec<String> {
        let devices = units::count(self.devices);
        let took = units::duration(self.secs);
        let mut lines = vec![format!(
            "{} x {devices} on {}, {took}",
            self.scenario, self.target.about
        )];
        lines.extend(self.phases.iter().map(PhaseOutcome::line));
        lines.push(self.connections());
        lines.extend((0..3).filter_map(|qos| self.messages(qos)));
        lines.push(self.oracle());
        lines.extend(self.latencies.iter().map(LatencyOutcome::line));
        lines.extend(self.resources.roles.iter().map(RoleResources::line));
        lines.push(self.cpu());
        lines.extend(self.reasons());
        let examples = self.examples.iter().take(EXAMPLES);
        lines.extend(examples.map(|example| line("finding", &example.to_string())));
        lines
    }

    fn connections(&self) -> String {
        let totals = &self.totals;
        let counts = [
            totals.connected_max,
            totals.connects,
            totals.reconnects,
            totals.connections_lost,
            totals.pings,
        ];
        let [most, connects, back, lost, pings] = counts.map(units::count);
        let words = format!(
            "{most} at most; {connects} connects, {back} of them after a loss; {lost} lost; {pings} pings"
        );
        line("connected", &words)
    }

    /// Messages of one quality of service, if there were any.
    fn messages(&self, qos: usize) -> Option<String> {
        let totals = &self.totals;
        let figures = [
            totals.sent[qos],
            totals.acknowledged[qos],
            totals.received[qos],
        ];
        if figures == [0; 3] {
            return None;
        }
        let [sent, acknowledged, received] = figures.map(units::count);
        let words = if qos == 0 {
            format!("{sent} sent, {received} received")
        } else {
            format!("{sent} sent, {acknowledged} acknowledged, {received} received")
        };
        Some(line(&format!("QoS {qos}"), &words))
    }

    fn oracle(&self) -> String {
        let always = [
            FindingKind::Lost,
            FindingKind::Duplicated,
            FindingKind::Reordered,
        ];
        let found = FindingKind::ALL.map(|kind| {
            (
                self.finding_count(kind),
                kind.in_words(),
                always.contains(&kind),
            )
        });
        let totals = &self.totals;
        let rest = [
            (totals.repeated, "repeated as QoS 1 allows", false),
            (totals.excused, "excused", false),
            (totals.unacknowledged, "never acknowledged", false),
            (totals.left_late, "left late", false),
            (totals.not_sent, "not sent while away", false),
        ];
        let shown = found
            .into_iter()
            .chain(rest)
            .filter(|(count, _, always)| *always || *count > 0);
        let words: Vec<String> = shown
            .map(|(count, what, _)| format!("{} {what}", units::count(count)))
            .collect();
        line("oracle", &words.join(", "))
    }

    fn cpu(&self) -> String {
        let simulator = self.resources.simulator_cpu_s;
        let words = match (self.resources.target_cpu_s, self.cpu_ratio()) {
            (Some(target), Some(ratio)) => {
                let ratio = units::plain(ratio);
                format!(
                    "target {target:.1} s, simulator {simulator:.1} s ({ratio} of the target's)"
                )
            }
            _ => format!("simulator {simulator:.1} s"),
        };
        line("CPU", &words)
    }

    /// The most frequent reasons of errors, if there were errors.
    fn reasons(&self) -> Option<String> {
        let mut errors: Vec<&(String, u64)> = self.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shown = errors.iter().take(REASONS);
        let mut shown: Vec<String> = shown
            .map(|(reason, count)| format!("{} x {}", units::count(*count), text::short(reason)))
            .collect();
        if errors.len() > REASONS {
            shown.push(format!("{} more reasons", errors.len() - REASONS));
        }
        (!shown.is_empty()).then(|| line("errors", &shown.join(", ")))
    }
}

impl PhaseOutcome {
    fn line(&self) -> String {
        let secs = self.to_s - self.from_s;
        let mut words = format!("{}: {}", self.name, units::duration(secs));
        let mut add = |count: u64, what: &str| {
            if count > 0 {
                _ = write!(words, ", {} {what}", units::count(count));
            }
        };
        add(self.connects, "connects");
        if secs > 0.0 {
            add(units::whole(self.connects as f64 / secs), "a second");
        }
        add(self.dropped, "sockets dropped");
        add(self.connections_lost, "connections lost");
        if !self.done {
            words.push_str(", NOT DONE");
        }
        line(&self.kind, &words)
    }
}

impl LatencyOutcome {
    fn line(&self) -> String {
        let Self {
            kind,
            p50_us,
            p99_us,
            p999_us,
            max_us,
            ..
        } = self;
        let [p50, p99, p999, max] =
            [p50_us, p99_us, p999_us, max_us].map(|us| units::micros(*us as f64));
        line(
            "latency",
            &format!("{kind}: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}"),
        )
    }
}

impl RoleResources {
    fn line(&self) -> String {
        let steady = units::bytes(self.steady_bytes as f64);
        let max = units::bytes(self.max_bytes as f64);
        let each = units::bytes(self.per_device_bytes);
        let whole = units::bytes(self.per_device_whole_bytes);
        line(
            "memory",
            &format!(
                "{}: {steady}, at most {max}, per device {each} over before, {whole} in all",
                self.role
            ),
        )
    }
}

impl fmt::Display for FindingLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            self.kind.in_words(),
            text::short(&self.client_id)
        )?;
        if !self.messages.is_empty() {
            write!(f, ", {}", text::short(&self.messages))?;
        }
        if let Some(seq) = self.seq {
            write!(f, " number {seq}")?;
        }
        write!(f, " at {:.6} s", self.at_s)?;
        if !self.detail.is_empty() {
            write!(f, ", {}", text::short(&self.detail))?;
        }
        Ok(())
    }
}
