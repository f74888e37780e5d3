//! Thresholds and figures make verdicts.

use super::observer::SIMULATOR;
use super::records::name;
use crate::control::message::{FindingKind, LatencyKind};
use crate::outcome::{Check, Outcome, PhaseOutcome, units};
use crate::scenario::Thresholds;

/// What a figure that nobody could take is called. It is not the target's fault, and not judged.
const UNKNOWN: &str = "not judged: the target's processes are not known here";

/// What is called a figure of something that did not happen. A threshold on it fails.
const NOTHING: &str = "there was none";

/// Judges a run by all that its scenario has thresholds for. (Phases that were not done fail it too: see
/// [`PhaseOutcome::done`].)
pub(crate) fn judge(thresholds: &Thresholds, outcome: &Outcome) -> Vec<Check> {
    let mut checks = Vec::new();
    if thresholds.promises {
        checks.push(promises(outcome));
    }
    checks.extend(connections(thresholds, outcome));
    checks.extend(latencies(thresholds, outcome));
    checks.extend(memory(thresholds, outcome));
    checks.extend(storm_growth(thresholds, outcome));
    checks.extend(cpu(thresholds, outcome));
    checks.extend(thresholds.run_s_max.map(|most| {
        at_most(
            "run_s_max",
            "length of the run",
            most,
            Some(outcome.secs),
            seconds,
        )
    }));
    checks
}

fn promises(outcome: &Outcome) -> Check {
    let broken = outcome.findings.iter();
    let broken = broken.filter(|(kind, count)| kind.breaks_a_promise() && *count > 0);
    let words: Vec<_> = broken
        .map(|(kind, count)| format!("{} {}", units::count(*count), kind.in_words()))
        .collect();
    Check {
        key: "promises".to_owned(),
        about: "promises broken".to_owned(),
        bound: "none".to_owned(),
        passed: words.is_empty(),
        figure: if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        },
    }
}

fn connections(thresholds: &Thresholds, outcome: &Outcome) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(most) = thresholds.qos0_lost_share_max {
        let lost = outcome.findings.iter();
        let lost = lost.filter(|(kind, _)| *kind == FindingKind::LostQos0);
        let lost: u64 = lost.map(|(_, count)| count).sum();
        let sent = outcome.totals.sent[0];
        let share = (sent > 0).then(|| lost as f64 / sent as f64);
        let about = "QoS 0 messages lost";
        checks.push(at_most("qos0_lost_share_max", about, most, share, share_of));
    }
    if let Some(most) = thresholds.connections_lost_max {
        // What a storm drops does not count as lost in the first place.
        let excused = of_kind(outcome, "restart").map(|phase| phase.connections_lost);
        let lost = outcome.totals.connections_lost;
        let lost = lost.saturating_sub(excused.sum());
        let about = "connections lost outside of restarts";
        let (most, lost) = (most as f64, Some(lost as f64));
        checks.push(at_most("connections_lost_max", about, most, lost, plain));
    }
    if let Some(least) = thresholds.ramp_per_s_min {
        let rate = |phase: &PhaseOutcome| phase.connects as f64 / (phase.to_s - phase.from_s);
        let slowest = of_kind(outcome, "ramp").map(rate).reduce(f64::min);
        checks.push(Check {
            key: "ramp_per_s_min".to_owned(),
            about: "connects a second, slowest ramp".to_owned(),
            bound: format!("at least {}", plain(least)),
            figure: slowest.map_or_else(|| NOTHING.to_owned(), plain),
            passed: slowest.is_some_and(|slowest| slowest >= least),
        });
    }
    if let Some(most) = thresholds.storm_s_max {
        let took = of_kind(outcome, "storm").map(|phase| phase.to_s - phase.from_s);
        let longest = took.reduce(f64::max);
        let about = "until all were back, longest storm";
        checks.push(at_most("storm_s_max", about, most, longest, seconds));
    }
    checks
}

fn latencies(thresholds: &Thresholds, outcome: &Outcome) -> Vec<Check> {
    let of = [
        (
            "connect_p99_ms_max",
            LatencyKind::Connect,
            thresholds.connect_p99_ms_max,
        ),
        (
            "command_p99_ms_max",
            LatencyKind::Command,
            thresholds.command_p99_ms_max,
        ),
        (
            "telemetry_p99_ms_max",
            LatencyKind::Telemetry,
            thresholds.telemetry_p99_ms_max,
        ),
    ];
    let check = |(key, kind, most): (&str, LatencyKind, Option<f64>)| {
        let mut found = outcome.latencies.iter();
        let found = found.find(|latency| latency.kind == name(kind) && latency.count > 0);
        let p99_ms = found.map(|latency| latency.p99_us as f64 / 1e3);
        let about = format!("latency, 99th percentile: {}", name(kind));
        most.map(|most| at_most(key, &about, most, p99_ms, millis))
    };
    of.into_iter().filter_map(check).collect()
}

fn memory(thresholds: &Thresholds, outcome: &Outcome) -> Vec<Check> {
    let of = [
        (
            "proxy_bytes_per_connection_max",
            "memory of proxies per connection",
            "proxies",
            thresholds.proxy_bytes_per_connection_max,
        ),
        (
            "group_bytes_per_device_max",
            "memory of brokers per device",
            "brokers",
            thresholds.group_bytes_per_device_max,
        ),
        (
            "redis_bytes_per_device_max",
            "memory of Redis per device",
            "redis",
            thresholds.redis_bytes_per_device_max,
        ),
        (
            "simulator_bytes_per_device_max",
            "all memory of the simulator per device",
            SIMULATOR,
            thresholds.simulator_bytes_per_device_max,
        ),
    ];
    let check = |(key, about, role, most): (&str, &str, &str, Option<f64>)| {
        let mut roles = outcome.resources.roles.iter();
        let found = roles.find(|found| found.role == role);
        let Some(found) = found else {
            return most.map(|most| unknown(key, about, &bytes(most)));
        };
        // What it has before the first device is for devices too.
        let each = if role == SIMULATOR {
            found.per_device_whole_bytes
        } else {
            found.per_device_bytes
        };
        most.map(|most| at_most(key, about, most, Some(each), bytes))
    };
    of.into_iter().filter_map(check).collect()
}

fn storm_growth(thresholds: &Thresholds, outcome: &Outcome) -> Option<Check> {
    let (key, about) = ("storm_growth_max", "growth of a process in a storm");
    let most = thresholds.storm_growth_max?;
    if outcome.resources.target_cpu_s.is_none() {
        return Some(unknown(key, about, &share_of(most)));
    }
    let grown = of_kind(outcome, "storm").filter_map(|phase| phase.growth.as_ref());
    let worst = grown.max_by(|a, b| a.1.total_cmp(&b.1));
    let mut check = at_most(key, about, most, worst.map(|(_, share)| *share), share_of);
    if let Some((name, _)) = worst {
        check.figure = format!("{} ({name})", check.figure);
    }
    Some(check)
}

fn cpu(thresholds: &Thresholds, outcome: &Outcome) -> Option<Check> {
    let (key, about) = (
        "cpu_ratio_max",
        "CPU of the simulator over that of the target",
    );
    let most = thresholds.cpu_ratio_max?;
    let ratio = |ratio: f64| format!("{ratio:.2}");
    let Some(target) = outcome.resources.target_cpu_s else {
        return Some(unknown(key, about, &ratio(most)));
    };
    let figure = (target > 0.0).then(|| outcome.resources.simulator_cpu_s / target);
    Some(at_most(key, about, most, figure, ratio))
}

fn of_kind<'a>(outcome: &'a Outcome, kind: &str) -> impl Iterator<Item = &'a PhaseOutcome> {
    outcome
        .phases
        .iter()
        .filter(move |phase| phase.kind == kind)
}

fn at_most(
    key: &str,
    about: &str,
    most: f64,
    figure: Option<f64>,
    in_words: impl Fn(f64) -> String,
) -> Check {
    Check {
        key: key.to_owned(),
        about: about.to_owned(),
        bound: format!("at most {}", in_words(most)),
        figure: figure.map_or_else(|| NOTHING.to_owned(), in_words),
        passed: figure.is_some_and(|figure| figure <= most),
    }
}

fn unknown(key: &str, about: &str, most: &str) -> Check {
    Check {
        key: key.to_owned(),
        about: about.to_owned(),
        bound: format!("at most {most}"),
        figure: UNKNOWN.to_owned(),
        passed: true,
    }
}

fn seconds(secs: f64) -> String {
    units::duration(secs)
}

fn millis(millis: f64) -> String {
    units::micros(millis * 1e3)
}

fn bytes(bytes: f64) -> String {
    format!("{bytes:.0} B")
}

fn share_of(share: f64) -> String {
    format!("{} %", units::plain(share * 100.0))
}

fn plain(value: f64) -> String {
    units::count(units::whole(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{LatencyOutcome, RoleResources, Totals};

    fn phase(kind: &str, secs: f64, connects: u64, lost: u64) -> PhaseOutcome {
        PhaseOutcome {
            name: kind.to_owned(),
            kind: kind.to_owned(),
            from_s: 10.0,
            to_s: 10.0 + secs,
            done: true,
            connects,
            connections_lost: lost,
            growth: (kind == "storm").then(|| ("proxy-2".to_owned(), 0.125)),
            ..PhaseOutcome::default()
        }
    }

    /// Two ramps of 500 and 100 a second, a storm of 8 s, 10 connections lost outside of restarts, 7 of them in the storm.
    fn outcome() -> Outcome {
        let role = |role: &str, judged_bytes: f64| RoleResources {
            role: role.to_owned(),
            per_device_bytes: judged_bytes * if role == SIMULATOR { 0.1 } else { 1.0 },
            per_device_whole_bytes: judged_bytes * if role == SIMULATOR { 1.0 } else { 2.0 },
            ..RoleResources::default()
        };
        let latency = |kind: &str| LatencyOutcome {
            kind: kind.to_owned(),
            count: 5,
            p99_us: 20_000,
            ..LatencyOutcome::default()
        };
        let mut outcome = Outcome {
            secs: 100.0,
            phases: vec![
                phase("ramp", 2.0, 1_000, 0),
                phase("ramp", 1.0, 100, 0),
                phase("storm", 8.0, 500, 7),
                phase("restart", 9.0, 0, 10),
            ],
            latencies: vec![latency("connect"), latency("command"), latency("telemetry")],
            totals: Totals {
                connections_lost: 20,
                sent: [1_000, 0, 0],
                ..Totals::default()
            },
            findings: vec![(FindingKind::LostQos0, 10), (FindingKind::Late, 4)],
            ..Outcome::default()
        };
        let roles = [
            ("proxies", 2_000.0),
            ("brokers", 600.0),
            ("redis", 500.0),
            ("simulator", 1_200.0),
        ];
        outcome.resources.roles = roles.map(|(name, bytes)| role(name, bytes)).into();
        outcome.resources.target_cpu_s = Some(50.0);
        outcome.resources.simulator_cpu_s = 40.0;
        outcome
    }

    type Set = fn(&mut Thresholds, f64);

    /// Each threshold, the figure of [`outcome`], and what both sides of it are called.
    const ALL: [(&str, f64, Set, &str, &str); 15] = [
        (
            "qos0_lost_share_max",
            0.01,
            |t, v| t.qos0_lost_share_max = Some(v),
            "at most 1 %",
            "1 %",
        ),
        (
            "connections_lost_max",
            10.0,
            |t, v| t.connections_lost_max = Some(units::whole(v)),
            "at most 10",
            "10",
        ),
        (
            "ramp_per_s_min",
            100.0,
            |t, v| t.ramp_per_s_min = Some(v),
            "at least 100",
            "100",
        ),
        (
            "storm_s_max",
            8.0,
            |t, v| t.storm_s_max = Some(v),
            "at most 8.0 s",
            "8.0 s",
        ),
        (
            "connect_p99_ms_max",
            20.0,
            |t, v| t.connect_p99_ms_max = Some(v),
            "at most 20 ms",
            "20 ms",
        ),
        (
            "command_p99_ms_max",
            20.0,
            |t, v| t.command_p99_ms_max = Some(v),
            "at most 20 ms",
            "20 ms",
        ),
        (
            "telemetry_p99_ms_max",
            20.0,
            |t, v| t.telemetry_p99_ms_max = Some(v),
            "at most 20 ms",
            "20 ms",
        ),
        (
            "proxy_bytes_per_connection_max",
            2_000.0,
            |t, v| t.proxy_bytes_per_connection_max = Some(v),
            "at most 2000 B",
            "2000 B",
        ),
        (
            "group_bytes_per_device_max",
            600.0,
            |t, v| t.group_bytes_per_device_max = Some(v),
            "at most 600 B",
            "600 B",
        ),
        (
            "redis_bytes_per_device_max",
            500.0,
            |t, v| t.redis_bytes_per_device_max = Some(v),
            "at most 500 B",
            "500 B",
        ),
        (
            "simulator_bytes_per_device_max",
            1_200.0,
            |t, v| t.simulator_bytes_per_device_max = Some(v),
            "at most 1200 B",
            "1200 B",
        ),
        (
            "storm_growth_max",
            0.125,
            |t, v| t.storm_growth_max = Some(v),
            "at most 12.5 %",
            "12.5 % (proxy-2)",
        ),
        (
            "cpu_ratio_max",
            0.8,
            |t, v| t.cpu_ratio_max = Some(v),
            "at most 0.80",
            "0.80",
        ),
        (
            "run_s_max",
            100.0,
            |t, v| t.run_s_max = Some(v),
            "at most 1 min 40 s",
            "1 min 40 s",
        ),
        ("promises", 0.0, |t, _| t.promises = true, "none", "none"),
    ];

    #[test]
    fn every_threshold_holds_at_its_figure_and_fails_beside_it() {
        for (key, value, set, bound, figure) in ALL {
            let mut thresholds = Thresholds::default();
            set(&mut thresholds, value);
            let checks = judge(&thresholds, &outcome());
            assert_eq!(checks.len(), 1, "{key}");
            let check = &checks[0];
            assert_eq!(
                (&*check.key, &*check.bound, &*check.figure),
                (key, bound, figure)
            );
            assert!(check.passed, "{key}");
            if key == "promises" {
                continue;
            }
            let beyond = if key.ends_with("_min") { 1.01 } else { 0.66 };
            set(&mut thresholds, value * beyond);
            assert!(!judge(&thresholds, &outcome())[0].passed, "{key}");
        }
    }

    #[test]
    fn a_broken_promise_is_said_in_words() {
        let mut outcome = outcome();
        outcome.findings.push((FindingKind::Lost, 1_234));
        let thresholds = Thresholds {
            promises: true,
            ..Thresholds::default()
        };
        let check = &judge(&thresholds, &outcome)[0];
        assert!(!check.passed);
        assert_eq!(check.figure, "1,234 lost");
        assert_eq!(judge(&Thresholds::default(), &outcome).len(), 0);
    }

    #[test]
    fn what_did_not_happen_fails_and_what_cannot_be_seen_does_not() {
        let mut outcome = Outcome::default();
        for (key, value, set, ..) in ALL {
            let mut thresholds = Thresholds::default();
            set(&mut thresholds, value);
            let check = &judge(&thresholds, &outcome)[0];
            let of_processes =
                key.contains("bytes") || key.contains("growth") || key.contains("cpu");
            assert_eq!(
                check.figure == UNKNOWN,
                of_processes,
                "{key}: {}",
                check.figure
            );
            if of_processes {
                assert!(check.passed, "{key}");
            } else if !matches!(key, "promises" | "connections_lost_max" | "run_s_max") {
                assert_eq!(check.figure, NOTHING, "{key}");
                assert!(!check.passed, "{key}");
            }
        }
        outcome.resources.target_cpu_s = Some(0.0);
        let thresholds = Thresholds {
            storm_growth_max: Some(0.2),
            ..Thresholds::default()
        };
        assert!(
            !judge(&thresholds, &outcome)[0].passed,
            "there was no storm"
        );
    }
}
