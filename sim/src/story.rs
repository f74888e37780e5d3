//! How a violation came about, in few lines.

use crate::invariants::Violation;
use crate::trace::Lines;
use crate::world::run;
use broker::faults::Fault;

/// Lines that a story has at most; its end counts.
const LINES_MAX: usize = 60;

/// Runs the world again and picks the lines of its trace that tell of a violation: what happened to those it is about, and
/// what went wrong.
pub fn of(seed: u64, bad: Option<Fault>, violation: &Violation) -> Vec<String> {
    let outcome = run(seed, bad, Lines::Kept);
    let tells = |line: &String| {
        line.contains("fault") || violation.about.iter().any(|word| line.contains(word))
    };
    let mut lines: Vec<String> = outcome.lines.into_iter().filter(tells).collect();
    let first = lines.len().saturating_sub(LINES_MAX);
    lines.split_off(first)
}
