//! Where axes begin and end, and where their marks are.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::outcome::units;

/// Steps that read well on a clock, s.
const TIME_STEPS: [f64; 20] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0,
    10_800.0, 21_600.0, 43_200.0, 86_400.0, 172_800.0, 604_800.0,
];

/// No axis goes beyond: far more than can be counted, far less than what arithmetic loses itself in.
const FIGURE_MAX: f64 = 1e24;

/// Decades that are marked one by one; of more only each second, third, …
const DECADES_MAX: f64 = 9.0;

/// One axis: its ends and its marks, within them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) marks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

/// Run time from 0 to `end_s`, with at most `marks_max` marks.
pub(super) fn time(end_s: f64, marks_max: usize) -> Axis {
    let to = if end_s.is_finite() && end_s > 0.0 {
        end_s
    } else {
        1.0
    };
    let fits = |step: &&f64| to / **step < marks_max as f64;
    let longest = TIME_STEPS[TIME_STEPS.len() - 1];
    let step = TIME_STEPS.iter().find(fits).copied();
    let step = step.unwrap_or_else(|| (to / marks_max as f64 / longest).ceil() * longest);
    Axis {
        from: 0.0,
        to,
        marks: marks(0.0, to, step),
    }
}

/// From 0 to a round figure that is at least `max`.
pub(super) fn linear(max: f64) -> Axis {
    let max = if max.is_finite() && max > 0.0 {
        max.min(FIGURE_MAX)
    } else {
        1.0
    };
    let rough = max / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= rough * 0.999);
    let step = step.unwrap_or(10.0) * power;
    let to = (max / step - 1e-9).ceil().max(1.0) * step;
    Axis {
        from: 0.0,
        to,
        marks: marks(0.0, to, step),
    }
}

/// Whole decades around what lies between `min` and `max`, both above 0. The ends and marks are powers of ten.
pub(super) fn decades(min: f64, max: f64) -> Axis {
    let from = min.max(1.0).log10().floor();
    let to = max.max(1.0).log10().ceil().max(from + 1.0);
    let step = ((to - from) / DECADES_MAX).ceil();
    Axis {
        from,
        to,
        marks: marks(from, to, step),
    }
}

fn marks(from: f64, to: f64, step: f64) -> Vec<f64> {
    let steps = units::whole((to - from) / step + 1e-6);
    (0..=steps).map(|at| from + at as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(axis: &Axis, to: f64, second_mark: f64) -> bool {
        let near = |one: f64, other: f64| (one - other).abs() <= other * 1e-9;
        near(axis.to, to) && axis.from.abs() < 1e-9 && near(axis.marks[1], second_mark)
    }

    #[test]
    fn time_is_marked_by_round_steps() {
        assert_eq!(time(20.0, 11).marks.len(), 11);
        assert!(shows(&time(1_100.0, 8), 1_100.0, 300.0));
        assert!(shows(&time(3.0 * 86_400.0, 8), 259_200.0, 43_200.0));
        assert!(time(1e9, 8).marks.len() <= 9);
        for nothing in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            assert!(shows(&time(nothing, 8), 1.0, 1.0));
        }
    }

    #[test]
    fn figures_end_at_a_round_one() {
        assert!(shows(&linear(1_000_000.0), 1_000_000.0, 250_000.0));
        assert!(shows(&linear(7.0), 8.0, 2.0));
        assert!(shows(&linear(0.0), 1.0, 0.25));
        assert!(shows(&linear(f64::INFINITY), 1.0, 0.25));
        let huge = linear(u64::MAX as f64);
        assert!(huge.to >= u64::MAX as f64 && huge.marks.len() <= 6);
        assert!(linear(f64::MAX).marks.len() <= 6);
    }

    #[test]
    fn decades_enclose_what_they_show() {
        assert_eq!(decades(120.0, 80_000.0).marks, [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(decades(0.0, 0.0).marks, [0.0, 1.0]);
        assert_eq!(decades(1_000.0, 1_000.0).marks, [3.0, 4.0]);
        assert_eq!(decades(1.0, 1e11).marks, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    }
}
