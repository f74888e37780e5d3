//! Figures over time, in as many rows as a plot can show: when there are too many, neighbours become one.

use crate::limits::SERIES_POINTS_MAX;
use crate::outcome::{LatencyPoint, Point};

/// Rows that each stand for the same number of intervals.
#[derive(Debug)]
pub(crate) struct Series {
    rows: Vec<Point>,
    /// Intervals in a row.
    stride: u32,
    /// A row that is not complete, and its intervals.
    open: Option<(Point, u32)>,
}

impl Series {
    /// No rows.
    pub(crate) fn new() -> Self {
        Self {
            rows: Vec::new(),
            stride: 1,
            open: None,
        }
    }

    /// The next interval.
    pub(crate) fn push(&mut self, point: Point) {
        let (row, intervals) = match self.open.take() {
            None => (point, 1),
            Some((row, intervals)) => (merged(row, intervals, point, 1), intervals + 1),
        };
        if intervals < self.stride {
            self.open = Some((row, intervals));
            return;
        }
        self.rows.push(row);
        if self.rows.len() > SERIES_POINTS_MAX {
            self.halve();
        }
    }

    /// The rows so far.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Point> {
        self.rows.iter().chain(self.open.iter().map(|(row, _)| row))
    }

    /// All rows.
    pub(crate) fn finish(mut self) -> Vec<Point> {
        self.rows.extend(self.open.map(|(row, _)| row));
        self.rows
    }

    fn halve(&mut self) {
        let stride = self.stride;
        let mut rows = std::mem::take(&mut self.rows).into_iter();
        while let Some(first) = rows.next() {
            match rows.next() {
                Some(second) => self.rows.push(merged(first, stride, second, stride)),
                None => self.open = Some((first, stride)),
            }
        }
        self.stride = stride * 2;
    }
}

/// Two rows of `a` and `b` intervals as one: of what goes up and down the greatest is kept, rates are means, and of what is
/// counted from the start the later one stays.
fn merged(first: Point, a: u32, second: Point, b: u32) -> Point {
    let mean = |x: f64, y: f64| (x * f64::from(a) + y * f64::from(b)) / f64::from(a + b);
    Point {
        at_s: second.at_s,
        connected: second.connected,
        connects_per_s: mean(first.connects_per_s, second.connects_per_s),
        sent_per_s: mean(first.sent_per_s, second.sent_per_s),
        received_per_s: mean(first.received_per_s, second.received_per_s),
        connections_lost: second.connections_lost,
        errors: second.errors,
        owed: first.owed.max(second.owed),
        latencies: slowest(first.latencies, second.latencies),
        memory: together(first.memory, second.memory, u64::max),
        cpu: together(first.cpu, second.cpu, mean),
    }
}

fn slowest(mut all: Vec<LatencyPoint>, more: Vec<LatencyPoint>) -> Vec<LatencyPoint> {
    for other in more {
        match all.iter_mut().find(|one| one.kind == other.kind) {
            None => all.push(other),
            Some(one) => {
                one.p50_us = one.p50_us.max(other.p50_us);
                one.p99_us = one.p99_us.max(other.p99_us);
                one.max_us = one.max_us.max(other.max_us);
            }
        }
    }
    all
}

fn together<T: Copy>(
    mut all: Vec<(String, T)>,
    more: Vec<(String, T)>,
    one_of: impl Fn(T, T) -> T,
) -> Vec<(String, T)> {
    for (name, value) in more {
        match all.iter_mut().find(|(known, _)| *known == name) {
            None => all.push((name, value)),
            Some((_, known)) => *known = one_of(*known, value),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: usize) -> Point {
        let at = second as u64;
        let latency = LatencyPoint {
            kind: "ping".to_owned(),
            p50_us: at % 7,
            p99_us: at % 11,
            max_us: at % 13,
        };
        Point {
            at_s: second as f64,
            connected: at,
            connects_per_s: at as f64,
            connections_lost: at,
            owed: at % 17,
            latencies: vec![latency],
            memory: vec![("proxies".to_owned(), at % 19)],
            ..Point::default()
        }
    }

    #[test]
    fn a_short_run_keeps_every_second() {
        let mut series = Series::new();
        for second in 1..=SERIES_POINTS_MAX {
            series.push(point(second));
        }
        let rows = series.finish();
        assert_eq!(rows.len(), SERIES_POINTS_MAX);
        assert_eq!(rows[9].connected, 10);
    }

    #[test]
    fn a_long_run_keeps_maxima_means_and_the_end() {
        let seconds = SERIES_POINTS_MAX * 5 + 3;
        let mut series = Series::new();
        for second in 1..=seconds {
            series.push(point(second));
        }
        let rows = series.finish();
        assert!(rows.len() <= SERIES_POINTS_MAX + 1, "{}", rows.len());
        assert!(rows.len() >= SERIES_POINTS_MAX / 2);
        let last = rows.last().expect("there are rows");
        assert_eq!(last.connected, seconds as u64);
        let full = &rows[0];
        assert_eq!(full.connected, 8, "eight seconds a row");
        assert!((full.connects_per_s - 4.5).abs() < 1e-9);
        assert_eq!(full.latencies[0].p50_us, 6);
        assert_eq!(full.latencies[0].max_us, 8);
        assert_eq!(full.memory, [("proxies".to_owned(), 8)]);
        assert!(rows.is_sorted_by(|a, b| a.at_s < b.at_s));
    }
}
