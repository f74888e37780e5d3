//! The verdict in words.

use super::{Check, Outcome, units};
use crate::control::message::FindingKind;

impl Outcome {
    /// Something has gone wrong that makes the run one that ended by an error; the first such error stays.
    pub fn fail(&mut self, error: &dyn ToString) {
        self.error.get_or_insert_with(|| error.to_string());
        self.passed = false;
    }

    /// Why the run failed, one reason each; empty if it passed.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        if self.passed {
            return Vec::new();
        }
        let error = self.error.iter();
        let mut reasons: Vec<String> = error
            .map(|why| format!("ended by an error: {why}"))
            .collect();
        if self.stopped {
            reasons.push("stopped by a signal".to_owned());
        }
        let checks = self.checks.iter().filter(|check| !check.passed);
        reasons.extend(checks.map(Check::failure));
        let unfinished = self.phases.iter().filter(|phase| !phase.done);
        reasons.extend(unfinished.map(|phase| {
            let after = units::duration(phase.to_s - phase.from_s);
            format!("phase {} was not done after {after}", phase.name)
        }));
        if !self.skipped.is_empty() {
            reasons.push(format!("left out: {}", self.skipped.join(", ")));
        }
        if reasons.is_empty() {
            reasons.push("the run did not come to its end".to_owned());
        }
        reasons
    }

    /// One sentence: passed, or why not.
    #[must_use]
    pub fn verdict(&self) -> String {
        if !self.passed {
            return format!("FAILED: {}", self.failures().join("; "));
        }
        match self.checks.len() {
            0 => "passed, but nothing was judged".to_owned(),
            1 => "passed: the only check holds".to_owned(),
            checks => format!("passed: all {checks} checks hold"),
        }
    }

    /// How many findings of a kind there are.
    pub(super) fn finding_count(&self, kind: FindingKind) -> u64 {
        let of_kind = self.findings.iter().filter(|(found, _)| *found == kind);
        of_kind.map(|(_, count)| *count).sum()
    }

    /// CPU of the simulator over that of the target, where there is one.
    pub(super) fn cpu_ratio(&self) -> Option<f64> {
        let target = self.resources.target_cpu_s.filter(|secs| *secs > 0.0)?;
        Some(self.resources.simulator_cpu_s / target)
    }
}

impl Check {
    fn failure(&self) -> String {
        let what = if self.about.is_empty() {
            &self.key
        } else {
            &self.about
        };
        format!("{what}: {} (allowed: {})", self.figure, self.bound)
    }
}
