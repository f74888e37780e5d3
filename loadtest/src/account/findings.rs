//! Broken promises: all are counted, the first ones kept.

use crate::control::message::{Finding, FindingKind};
use crate::limits::FINDINGS_MAX;

/// What the oracle of one worker has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    counts: [u64; FindingKind::COUNT],
    kept: Vec<Finding>,
    /// How many of each kind have been kept since the start.
    kept_ever: [usize; FindingKind::COUNT],
}

impl Findings {
    /// Counts a finding. Of each kind the first ones are kept, so that many of one kind do not hide another.
    pub(crate) fn add(&mut self, finding: Finding) {
        let index = finding.kind as usize;
        self.counts[index] += 1;
        if self.kept_ever[index] < FINDINGS_MAX / FindingKind::COUNT {
            self.kept_ever[index] += 1;
            self.kept.push(finding);
        }
    }

    /// How many there were of each kind, in the order of [`FindingKind::ALL`].
    pub(crate) fn counts(&self) -> [u64; FindingKind::COUNT] {
        self.counts
    }

    /// Those kept since the last call.
    pub(crate) fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::message::Stream;

    #[test]
    fn all_are_counted_and_the_first_of_each_kind_kept() {
        let mut findings = Findings::default();
        let finding = |kind, seq| Finding {
            kind,
            stream: Stream { kind: 0, device: 7 },
            seq: Some(seq),
            at_us: 9,
            qos: 1,
            detail: String::new(),
        };
        for seq in 0..1_000 {
            findings.add(finding(FindingKind::Lost, seq));
        }
        findings.add(finding(FindingKind::Misdelivered, 5));
        let kept = findings.take();
        assert_eq!(kept.len(), FINDINGS_MAX / FindingKind::COUNT + 1);
        assert_eq!(
            kept.last().map(|found| found.kind),
            Some(FindingKind::Misdelivered)
        );
        findings.add(finding(FindingKind::Lost, 1));
        assert_eq!(findings.take(), []);
        let counts = findings.counts();
        assert_eq!(
            (counts[0], counts[9], counts.iter().sum::<u64>()),
            (1_001, 1, 1_002)
        );
    }

    #[test]
    fn kinds_are_numbered_in_the_order_of_all() {
        for (index, kind) in FindingKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
