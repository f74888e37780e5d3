//! What the terminal shows at the end.

use std::fmt;

use super::{LatencyOutcome, Outcome, units};
use crate::control::message::FindingKind;

/// Findings shown; all are counted.
const EXAMPLES: usize = 5;

/// Reasons of errors shown; the report has all.
const REASONS: usize = 5;

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = units::count(self.devices);
        let took = units::duration(self.secs);
        writeln!(
            f,
            "{} x {devices} on {}, {took}",
            self.scenario, self.target.about
        )?;
        self.show_phases(f)?;
        self.show_connections(f)?;
        self.show_messages(f)?;
        self.show_latencies(f)?;
        self.show_resources(f)?;
        self.show_errors(f)?;
        for example in self.examples.iter().take(EXAMPLES) {
            writeln!(f, "  {:<10} {example}", "finding")?;
        }
        write!(f, "  {:<10} {}", "verdict", self.verdict())
    }
}

impl Outcome {
    fn show_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for phase in &self.phases {
            let secs = phase.to_s - phase.from_s;
            write!(
                f,
                "  {:<10} {}: {}",
                phase.kind,
                phase.name,
                units::duration(secs)
            )?;
            if phase.connects > 0 && secs > 0.0 {
                let rate = units::count(units::whole(phase.connects as f64 / secs));
                write!(f, ", {} connects, {rate}/s", units::count(phase.connects))?;
            }
            if phase.dropped > 0 {
                write!(f, ", {} sockets dropped", units::count(phase.dropped))?;
            }
            if phase.connections_lost > 0 {
                write!(
                    f,
                    ", {} connections lost",
                    units::count(phase.connections_lost)
                )?;
            }
            writeln!(f, "{}", if phase.done { "" } else { ", NOT DONE" })?;
        }
        Ok(())
    }

    fn show_connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        let counts = [
            totals.connected_max,
            totals.connects,
            totals.reconnects,
            totals.connections_lost,
            totals.pings,
        ];
        let [most, connects, back, lost, pings] = counts.map(units::count);
        writeln!(
            f,
            "  {:<10} {most} at most; {connects} connects, {back} of them after a loss; {lost} lost; {pings} pings",
            "connected"
        )
    }

    fn show_messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        for qos in 0..3 {
            if totals.sent[qos] == 0 && totals.received[qos] == 0 {
                continue;
            }
            let figures = [
                totals.sent[qos],
                totals.acknowledged[qos],
                totals.received[qos],
            ];
            let [sent, acknowledged, received] = figures.map(units::count);
            let acknowledged = if qos == 0 {
                String::new()
            } else {
                format!("{acknowledged} acknowledged, ")
            };
            writeln!(
                f,
                "  {:<10} {sent} sent, {acknowledged}{received} received",
                format!("QoS {qos}")
            )?;
        }
        let always = [
            FindingKind::Lost,
            FindingKind::Duplicated,
            FindingKind::Reordered,
        ];
        let found = FindingKind::ALL.into_iter().filter_map(|kind| {
            let count = self.finding_count(kind);
            let shown = count > 0 || always.contains(&kind);
            shown.then(|| format!("{} {}", units::count(count), kind.in_words()))
        });
        let rest = [
            (totals.repeated, "repeated as QoS 1 allows"),
            (totals.excused, "excused"),
            (totals.unacknowledged, "never acknowledged"),
            (totals.left_late, "left late"),
        ];
        let rest = rest.into_iter().filter(|(count, _)| *count > 0);
        let rest = rest.map(|(count, what)| format!("{} {what}", units::count(count)));
        let all: Vec<String> = found.chain(rest).collect();
        writeln!(f, "  {:<10} {}", "oracle", all.join(", "))
    }

    fn show_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for latency in &self.latencies {
            let LatencyOutcome {
                kind,
                p50_us,
                p99_us,
                p999_us,
                max_us,
                ..
            } = latency;
            let [p50, p99, p999, max] =
                [p50_us, p99_us, p999_us, max_us].map(|us| units::micros(*us as f64));
            writeln!(
                f,
                "  {:<10} {kind}: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}",
                "latency"
            )?;
        }
        Ok(())
    }

    fn show_resources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for role in &self.resources.roles {
            writeln!(
                f,
                "  {:<10} {} in {}, at most {}, {} per device",
                "memory",
                units::bytes(role.steady_bytes as f64),
                role.role,
                units::bytes(role.max_bytes as f64),
                units::bytes(role.per_device_bytes),
            )?;
        }
        let simulator = self.resources.simulator_cpu_s;
        match (self.resources.target_cpu_s, self.cpu_ratio()) {
            (Some(target), Some(ratio)) => writeln!(
                f,
                "  {:<10} target {target:.1} s, simulator {simulator:.1} s ({} of the target's)",
                "CPU",
                units::plain(ratio)
            ),
            _ => writeln!(f, "  {:<10} simulator {simulator:.1} s", "CPU"),
        }
    }

    fn show_errors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errors.is_empty() {
            return Ok(());
        }
        let mut errors: Vec<&(String, u64)> = self.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shown = errors.iter().take(REASONS);
        let mut shown: Vec<String> = shown
            .map(|(reason, count)| format!("{count} x {reason}"))
            .collect();
        if errors.len() > REASONS {
            shown.push(format!("{} more reasons", errors.len() - REASONS));
        }
        writeln!(f, "  {:<10} {}", "errors", shown.join(", "))
    }
}

impl fmt::Display for super::FindingLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.in_words(), self.client_id)?;
        if !self.messages.is_empty() {
            write!(f, ", {}", self.messages)?;
        }
        if let Some(seq) = self.seq {
            write!(f, " number {seq}")?;
        }
        write!(f, " at {:.6} s", self.at_s)?;
        if !self.detail.is_empty() {
            write!(f, ", {}", self.detail)?;
        }
        Ok(())
    }
}
