//! The verdict: figures for machines, a summary for people.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{Backlog, Error};

/// What a run found. `Display` is the summary for people, `Serialize` the JSON of `--json`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// The scenario as typed.
    pub scenario: &'static str,
    /// MQTT version, "3.1.1" or "5".
    pub mqtt: String,
    /// The brokers.
    pub addr: Vec<String>,
    /// `--conns` or `--pairs`; connect: connections at once.
    pub conns: usize,
    /// `QoS` of publishers and subscriptions.
    pub qos: u8,
    /// Payload bytes.
    pub size: usize,
    /// Closed loop: the window.
    pub window: Option<u32>,
    /// Open loop: messages per second asked for.
    pub rate: Option<f64>,
    /// Length of the measured part in seconds.
    pub secs: f64,
    /// Messages sent in the measured part (endure: in the whole run).
    pub sent: u64,
    /// Messages delivered in the measured part (endure: in the whole run), repetitions not counted.
    pub delivered: u64,
    /// Deliveries per second.
    pub delivered_per_s: f64,
    /// Deliveries per second of the broker's CPU time.
    pub delivered_per_broker_cpu_s: Option<f64>,
    /// CPU seconds of the `--pid` processes in the measured part.
    pub broker_cpu_s: Option<f64>,
    /// Resident memory of the `--pid` processes at the end of the measured part.
    pub broker_rss_bytes: Option<u64>,
    /// Resident memory of the `--pid` processes before the first connection.
    pub broker_rss_before_bytes: Option<u64>,
    /// Growth of resident memory for each connection.
    pub broker_rss_growth_per_conn_bytes: Option<f64>,
    /// All resident memory for each connection.
    pub broker_rss_total_per_conn_bytes: Option<f64>,
    /// CPU seconds of this generator in the measured part.
    pub loadtest_cpu_s: f64,
    /// Messages of the whole run that the broker acknowledged (`QoS` 0: that were sent) and that
    /// never arrived.
    pub lost: u64,
    /// Arrivals of a message that had arrived before.
    pub duplicated: u64,
    /// Arrivals after a later message of the same publisher.
    pub reordered: u64,
    /// Open loop: messages that fell due and never left, because the broker did not take them.
    pub unsent: u64,
    /// End-to-end latency in microseconds of the messages delivered in the measured part. Open
    /// loop: from the time they should have left.
    pub e2e_us: Quantiles,
    /// Connections brought up: in the measured part (connect), else in all.
    pub connects: u64,
    /// CONNECT and SUBSCRIBE answered per second.
    pub connects_per_s: f64,
    /// CONNECT and SUBSCRIBE answered per second of the broker's CPU time.
    pub connects_per_broker_cpu_s: Option<f64>,
    /// Storm: seconds from the drop of all connections until all were back.
    pub storm_s: Option<f64>,
    /// What the scenario endure counts besides, on the same level of the JSON.
    #[serde(flatten)]
    pub endurance: Option<Endurance>,
    /// What the scenario fight counts besides, on the same level of the JSON.
    #[serde(flatten)]
    pub fight: Option<Fight>,
    /// What the load backlog counts besides, on the same level of the JSON.
    #[serde(flatten)]
    pub backlog: Option<Backlog>,
    /// Errors by kind. In endure and backlog those that come with crashes, and do not fail the run.
    pub errors: BTreeMap<String, u64>,
    /// Why the run failed; empty if it did not.
    pub failures: Vec<String>,
}

/// What matters across crashes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Endurance {
    /// Messages the broker acknowledged to their publishers, with PUBACK or PUBCOMP.
    pub acked: u64,
    /// Repetitions that `QoS` 1 allows, and those of messages that were published anew after a
    /// lost session.
    pub repeated: u64,
    /// Connections that found no session where there must be one.
    pub session_lost: u64,
    /// Messages that left late: their publisher had no connection, or too many open ones.
    pub late: u64,
    /// Messages that were sent and neither acknowledged nor refused in the end.
    pub unacked: u64,
    /// Connections that came back.
    pub reconnects: u64,
    /// From the loss of a connection until the next one was up, in microseconds.
    pub reconnect_us: Quantiles,
    /// Subscribers that left to come back (`--churn`).
    pub churned: u64,
    /// Connections that found their session.
    pub resumes: u64,
    /// From the dial to the CONNACK that said so, in microseconds.
    pub resume_us: Quantiles,
    /// The longest time one connection was without service, in microseconds: not connected, or
    /// owed an acknowledgement or an acknowledged message and given nothing.
    pub longest_gap_us: u64,
    /// 99 of 100 connections were never longer without service than this, in microseconds.
    pub p99_gap_us: u64,
    /// CONNACKs that refused, by code.
    pub connect_refused: BTreeMap<String, u64>,
    /// What a broker must not do, by kind. Any fails the run.
    pub violations: BTreeMap<String, u64>,
    /// Devices that had no connection for `--patience`.
    pub gave_up: u64,
    /// What the oracle had no room for. Any fails the run.
    pub unrecorded: u64,
}

/// What matters where several clients fight over one client id.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Fight {
    /// Connections closed because another client took over (MQTT 5: the broker says so).
    pub taken_over: u64,
    /// Connections that were still open when a newer one had its CONNACK.
    pub superseded: u64,
    /// Messages that reached such a connection and were published after that CONNACK. Any fails
    /// the run.
    pub stale: u64,
}

/// Points of the latency distribution in microseconds; all 0 if nothing arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
    /// 999 of 1,000 are at most this.
    pub p999: u64,
    /// The slowest.
    pub max: u64,
}

impl Quantiles {
    /// The points of `histogram`.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

impl Endurance {
    /// Why the run failed, beyond what fails any run.
    fn failures(&self) -> impl Iterator<Item = String> {
        let counted = [
            (self.session_lost, "sessions lost"),
            (self.unacked, "messages never acknowledged"),
            (self.gave_up, "devices gave up"),
            (self.unrecorded, "facts the oracle had no room for"),
        ];
        let counted = counted
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"));
        let violations = self.violations.iter();
        counted.chain(violations.map(|(kind, count)| format!("{count} x {kind}")))
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acked,
            repeated,
            session_lost,
            late,
            ..
        } = self;
        writeln!(
            f,
            "  sessions   {session_lost} lost; {acked} messages acknowledged, {repeated} repeated \
             as QoS 1 allows, {late} left late"
        )?;
        let seconds = |us: u64| us as f64 / 1e6;
        writeln!(
            f,
            "  away       {} reconnects, p50 {:.3} s, p99 {:.3} s, max {:.3} s",
            self.reconnects,
            seconds(self.reconnect_us.p50),
            seconds(self.reconnect_us.p99),
            seconds(self.reconnect_us.max),
        )?;
        writeln!(
            f,
            "  resumes    {} found their session ({} had left), CONNACK p50 {:.1} ms, p99 {:.1} ms, \
             max {:.1} ms",
            self.resumes,
            self.churned,
            self.resume_us.p50 as f64 / 1e3,
            self.resume_us.p99 as f64 / 1e3,
            self.resume_us.max as f64 / 1e3,
        )?;
        writeln!(
            f,
            "  gaps       without service at most {:.3} s, 99 of 100 connections {:.3} s",
            seconds(self.longest_gap_us),
            seconds(self.p99_gap_us),
        )?;
        if !self.connect_refused.is_empty() {
            writeln!(f, "  refused    CONNACK {}", by_kind(&self.connect_refused))?;
        }
        Ok(())
    }
}

fn by_kind(errors: &BTreeMap<String, u64>) -> String {
    let kinds = errors
        .iter()
        .map(|(kind, count)| format!("{count} x {kind}"));
    kinds.collect::<Vec<_>>().join(", ")
}

impl Verdict {
    /// True if the broker broke a promise: at `QoS` 1 and 2 a message was lost, at `QoS` 2 one was
    /// repeated, at any `QoS` the order was broken, or a connection failed (storm: did not come
    /// back; endure and backlog: a session was lost, a message never acknowledged, a device gave up, or the
    /// broker did what the standard forbids).
    pub fn failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Applies the rules of [`Verdict::failed`] to the figures.
    pub(crate) fn judge(&mut self) {
        // In a storm connections fail and try again; what counts is that all come back.
        let may_fail = self.scenario == "storm" || self.survives_errors();
        let mut fail = |wrong: bool, why: String| {
            if wrong {
                self.failures.push(why);
            }
        };
        fail(
            self.qos >= 1 && self.lost > 0,
            format!("{} messages lost", self.lost),
        );
        fail(
            self.reordered > 0,
            format!("{} messages out of order", self.reordered),
        );
        fail(
            self.qos == 2 && self.duplicated > 0,
            format!("{} repeated", self.duplicated),
        );
        for (kind, count) in &self.errors {
            fail(!may_fail, format!("{count} x {kind}"));
        }
        let more = self.endurance.iter().flat_map(Endurance::failures);
        self.failures.extend(more);
        let duplicated = self.duplicated;
        let backlog = self.backlog.iter();
        self.failures
            .extend(backlog.flat_map(|backlog| backlog.failures(duplicated)));
        let stale = self.fight.map_or(0, |fight| fight.stale);
        if stale > 0 {
            let what = "messages reached a client that had lost its client id before they were";
            self.failures.push(format!("{stale} {what} published"));
        }
    }

    /// Whether it goes on where connections are lost or refused.
    fn survives_errors(&self) -> bool {
        self.endurance.is_some() || self.backlog.is_some()
    }

    /// Writes the JSON of `--json`.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from);
        let written = text.and_then(|text| fs::write(path, text + "\n"));
        written.map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })
    }

    fn memory_per_connection(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let growth = self.broker_rss_growth_per_conn_bytes;
        let (Some(growth), Some(total)) = (growth, self.broker_rss_total_per_conn_bytes) else {
            return writeln!(f);
        };
        if !QUIET.contains(&self.scenario) {
            return writeln!(f);
        }
        writeln!(
            f,
            "; per connection {growth:.0} B more than before, {total:.0} B in all"
        )
    }

    fn flow(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loop_kind = match (self.window, self.rate) {
            (_, Some(rate)) => format!("{rate} msg/s offered"),
            (window, None) => format!("window {}", window.unwrap_or_default()),
        };
        writeln!(
            f,
            "  load       QoS {}, {} B, {loop_kind}",
            self.qos, self.size
        )?;
        writeln!(
            f,
            "  delivered  {} of {} sent, {:.0}/s{}",
            self.delivered,
            self.sent,
            self.delivered_per_s,
            per_cpu(self.delivered_per_broker_cpu_s),
        )?;
        let Quantiles {
            p50,
            p99,
            p999,
            max,
        } = self.e2e_us;
        writeln!(
            f,
            "  latency    p50 {p50} us, p99 {p99} us, p99.9 {p999} us, max {max} us"
        )?;
        write!(f, "  oracle     {} lost, ", self.lost)?;
        write!(
            f,
            "{} duplicated, {} reordered",
            self.duplicated, self.reordered
        )?;
        if self.unsent > 0 {
            write!(f, ", {} due but never sent", self.unsent)?;
        }
        writeln!(f)
    }
}

/// Scenarios that say what a connection costs: nothing else takes memory in them.
const QUIET: [&str; 2] = ["idle", "storm"];

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scenario,
            mqtt,
            conns,
            secs,
            ..
        } = self;
        let addr = self.addr.join(", ");
        writeln!(
            f,
            "{scenario} x {conns} on {addr}, MQTT {mqtt}, {secs:.2} s measured"
        )?;
        if let Some(backlog) = &self.backlog {
            let faults = [self.lost, self.duplicated, self.reordered];
            backlog.show((self.delivered, self.size), faults, f)?;
        } else if self.sent > 0 {
            self.flow(f)?;
        }
        writeln!(
            f,
            "  connects   {}, {:.0}/s{}",
            self.connects,
            self.connects_per_s,
            per_cpu(self.connects_per_broker_cpu_s),
        )?;
        if let Some(endurance) = &self.endurance {
            endurance.show(f)?;
        }
        if self.survives_errors() && !self.errors.is_empty() {
            writeln!(f, "  errors     {}", by_kind(&self.errors))?;
        }
        if let Some(Fight {
            taken_over,
            superseded,
            stale,
        }) = self.fight
        {
            writeln!(
                f,
                "  fight      {taken_over} taken over; {superseded} still open when the newer one was \
                 up, which got {stale} messages published since"
            )?;
        }
        if let Some(seconds) = self.storm_s {
            let failed: u64 = self.errors.values().sum();
            writeln!(
                f,
                "  storm      all back after {seconds:.3} s, {failed} tries failed"
            )?;
        }
        let broker = self
            .broker_cpu_s
            .map_or(String::new(), |s| format!("broker {s:.3} s, "));
        writeln!(
            f,
            "  CPU        {broker}load test {:.3} s",
            self.loadtest_cpu_s
        )?;
        if let Some(rss) = self.broker_rss_bytes {
            write!(f, "  memory     broker {:.1} MiB", rss as f64 / 1_048_576.0)?;
            self.memory_per_connection(f)?;
        }
        if self.failures.is_empty() {
            return write!(f, "  verdict    passed");
        }
        write!(f, "  verdict    FAILED: {}", self.failures.join("; "))
    }
}

fn per_cpu(figure: Option<f64>) -> String {
    figure.map_or(String::new(), |figure| {
        format!(", {figure:.0} per broker CPU second")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(qos: u8, lost: u64, duplicated: u64, reordered: u64) -> bool {
        let mut verdict = Verdict {
            qos,
            lost,
            duplicated,
            reordered,
            ..Verdict::default()
        };
        verdict.judge();
        verdict.failed()
    }

    #[test]
    fn each_qos_has_its_promises() {
        assert!(!judged(0, 5, 5, 0) && judged(0, 0, 0, 1));
        assert!(!judged(1, 0, 5, 0) && judged(1, 1, 0, 0) && judged(1, 0, 0, 1));
        assert!(!judged(2, 0, 0, 0) && judged(2, 0, 1, 0) && judged(2, 1, 0, 0));
    }

    #[test]
    fn an_error_of_any_kind_fails() {
        let errors = BTreeMap::from([("closed by the broker".to_owned(), 2)]);
        let mut verdict = Verdict {
            errors,
            ..Verdict::default()
        };
        verdict.judge();
        assert_eq!(verdict.failures, ["2 x closed by the broker"]);
        assert!(
            verdict
                .to_string()
                .contains("FAILED: 2 x closed by the broker")
        );
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json = serde_json::to_value(Verdict::default()).expect("serializes");
        for field in [
            "scenario",
            "addr",
            "qos",
            "size",
            "window",
            "rate",
            "secs",
            "sent",
            "delivered",
            "delivered_per_s",
            "delivered_per_broker_cpu_s",
            "broker_cpu_s",
            "broker_rss_bytes",
            "loadtest_cpu_s",
            "lost",
            "duplicated",
            "reordered",
            "connects_per_s",
            "errors",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        for quantile in ["p50", "p99", "p999", "max"] {
            assert!(json["e2e_us"].get(quantile).is_some(), "{quantile}");
        }
    }
}
