//! Which plots there are.

use super::ink;
use super::plot::{Frame, Line, Plot, Scale, Shade, Unit};
use crate::outcome::{LatencyPoint, Outcome, PhaseOutcome, Point};

/// Sizes of plots, pixels: across the page, and two beside each other.
const WIDE: (u32, u32) = (1_100, 240);
const HALF: (u32, u32) = (545, 210);

/// Looks of percentiles.
const P50: usize = 0;
const P99: usize = 1;
const MAX: usize = 2;

/// Ends and phases of the run.
pub(super) fn frame(outcome: &Outcome) -> Frame {
    let points = outcome.series.iter().map(|point| point.at_s);
    let phases = outcome.phases.iter().map(|phase| phase.to_s);
    let ends = points.chain(phases).filter(|end| end.is_finite());
    let phases = outcome.phases.iter().enumerate();
    Frame {
        end_s: ends.fold(1.0, f64::max),
        bands: phases.map(|(index, phase)| shade(index, phase)).collect(),
    }
}

fn shade(index: usize, phase: &PhaseOutcome) -> Shade {
    let band = match phase.kind.as_str() {
        "storm" | "restart" => ink::Band::Rough,
        _ if index.is_multiple_of(2) => ink::Band::Odd,
        _ => ink::Band::Even,
    };
    Shade {
        from_s: phase.from_s,
        to_s: phase.to_s,
        name: phase.name.clone(),
        number: index + 1,
        band,
    }
}

/// All plots, the widest first.
pub(super) fn plots(outcome: &Outcome) -> Vec<Plot> {
    let series = &outcome.series;
    let count = |name: &str, look, figure: fn(&Point) -> f64| {
        let figures = series
            .iter()
            .map(move |point| (point.at_s, Some(figure(point))));
        Line::new(name, look, figures)
    };
    let mut plots = vec![
        wide(
            "connections",
            "Connections",
            vec![count("connected", 0, |point| point.connected as f64)],
        ),
        half(
            "connects",
            "Connects per second",
            vec![count("connects/s", 0, |point| point.connects_per_s)],
        ),
        half(
            "messages",
            "Messages per second",
            vec![
                count("sent/s", 0, |point| point.sent_per_s),
                count("received/s", 1, |point| point.received_per_s),
            ],
        ),
    ];
    plots.extend(latencies(outcome));
    plots.push(half(
        "owed",
        "Messages owed: acknowledged, not yet received",
        vec![count("owed", 0, |point| point.owed as f64)],
    ));
    plots.push(half(
        "errors",
        "Connections lost and errors since the start",
        vec![
            count("connections lost", 0, |point| point.connections_lost as f64),
            count("errors", 1, |point| point.errors as f64),
        ],
    ));
    plots.extend(resources(series));
    plots
}

fn wide(id: &str, title: &str, lines: Vec<Line>) -> Plot {
    let (width, height) = WIDE;
    let scale = Scale::Linear(Unit::Count);
    Plot {
        id: id.to_owned(),
        title: title.to_owned(),
        scale,
        lines,
        width,
        height,
    }
}

fn half(id: &str, title: &str, lines: Vec<Line>) -> Plot {
    let (width, height) = HALF;
    Plot {
        width,
        height,
        ..wide(id, title, lines)
    }
}

/// One plot for each kind, in the order of the table, all with the same ends.
fn latencies(outcome: &Outcome) -> Vec<Plot> {
    let series = &outcome.series;
    let all = || series.iter().flat_map(|point| &point.latencies);
    let min_us = all().map(|point| point.p50_us).filter(|us| *us > 0).min();
    let max_us = all().map(|point| point.max_us).max().unwrap_or(1);
    let scale = Scale::Decades {
        min_us: min_us.unwrap_or(1),
        max_us,
    };
    let mut kinds = in_order(all().map(|point| point.kind.as_str()));
    let place = |kind: &&str| outcome.latencies.iter().position(|row| row.kind == *kind);
    kinds.sort_by_key(|kind| place(kind).unwrap_or(usize::MAX));
    let plot = |(number, kind): (usize, &&str)| Plot {
        scale,
        ..half(
            &format!("latency{number}"),
            &format!("Latency: {kind}"),
            percentiles(series, kind),
        )
    };
    kinds.iter().enumerate().map(plot).collect()
}

fn percentiles(series: &[Point], kind: &str) -> Vec<Line> {
    let line = |name, look, figure: fn(&LatencyPoint) -> u64| {
        let figures = series.iter().map(|point| {
            let of_kind = point.latencies.iter().find(|point| point.kind == kind);
            (point.at_s, of_kind.map(|point| figure(point) as f64))
        });
        Line::new(name, look, figures)
    };
    vec![
        line("p50", P50, |point| point.p50_us),
        line("p99", P99, |point| point.p99_us),
        line("max", MAX, |point| point.max_us),
    ]
}

/// Memory and CPU; a role has the same look in both.
fn resources(series: &[Point]) -> Vec<Plot> {
    let of_memory = series
        .iter()
        .flat_map(|point| &point.memory)
        .map(|(role, _)| role.as_str());
    let of_cpu = series
        .iter()
        .flat_map(|point| &point.cpu)
        .map(|(role, _)| role.as_str());
    let roles = in_order(of_memory.clone().chain(of_cpu.clone()));
    let memory = by_role(series, &roles, |point, role| {
        find(&point.memory, role).map(|bytes| bytes as f64)
    });
    let cpu = by_role(series, &roles, |point, role| find(&point.cpu, role));
    let scale = Scale::Linear(Unit::Bytes);
    let memory = Plot {
        scale,
        ..half("memory", "Resident memory by role", memory)
    };
    let cpu = half("cpu", "CPU by role, cores busy", cpu);
    [memory, cpu]
        .into_iter()
        .filter(|plot| !plot.lines.is_empty())
        .collect()
}

fn by_role(
    series: &[Point],
    roles: &[&str],
    figure: impl Fn(&Point, &str) -> Option<f64>,
) -> Vec<Line> {
    let lines = roles.iter().enumerate().map(|(look, role)| {
        Line::new(
            role,
            look,
            series.iter().map(|point| (point.at_s, figure(point, role))),
        )
    });
    lines.filter(|line| !line.pieces.is_empty()).collect()
}

fn find<T: Copy>(figures: &[(String, T)], role: &str) -> Option<T> {
    let mut found = figures.iter().filter(|(name, _)| name == role);
    found.next().map(|(_, figure)| *figure)
}

/// Each name once, in the order in which they come first.
fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut once: Vec<&str> = Vec::new();
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    once
}
