//! From the counts of the threads to the verdict.

use hdrhistogram::Histogram;

use super::arena::Bouts;
use super::ledger::Sums;
use super::log::Log;
use crate::conduct::add_errors;
use crate::report::{Endurance, Fight, Quantiles, Verdict};

/// What became of one thread's devices and messages.
#[derive(Debug)]
pub(crate) struct Tally {
    /// One for each pair.
    pub(super) ledgers: Vec<Sums>,
    pub(super) bouts: Vec<Bouts>,
    /// Longest time without service of each connection.
    pub(super) gaps_ns: Vec<u64>,
    /// Messages that fell due and never left.
    pub(super) unsent: u64,
    pub(super) late: u64,
    pub(super) unacked: u64,
    pub(super) gave_up: u64,
    pub(super) log: Log,
}

/// Adds up what all threads found.
pub(super) fn sum(verdict: &mut Verdict, tallies: Vec<Tally>) {
    let mut sums = Endurance::default();
    let mut fight = Fight::default();
    let mut gaps_ns = Vec::new();
    let (mut latency, mut reconnect, mut resume) = (None, None, None);
    verdict.delivered = 0;
    for tally in tallies {
        for ledger in &tally.ledgers {
            verdict.lost += ledger.lost;
            verdict.duplicated += ledger.duplicated;
            verdict.reordered += ledger.reordered;
            verdict.delivered += ledger.delivered;
            sums.acked += ledger.acked;
            sums.repeated += ledger.repeated;
            sums.unrecorded += ledger.unrecorded;
        }
        for bout in &tally.bouts {
            fight.superseded += bout.superseded;
            fight.stale += bout.stale;
            verdict.reordered += bout.reordered;
        }
        fight.taken_over += tally.log.taken_over;
        gaps_ns.extend(tally.gaps_ns);
        verdict.unsent += tally.unsent;
        sums.late += tally.late;
        sums.unacked += tally.unacked;
        sums.gave_up += tally.gave_up;
        sums.session_lost += tally.log.session_lost;
        sums.reconnects += tally.log.reconnects;
        add_errors(&mut verdict.errors, tally.log.errors);
        add_errors(&mut sums.violations, tally.log.violations);
        add_errors(&mut sums.connect_refused, tally.log.connect_refused);
        add(&mut latency, tally.log.latency.finish());
        sums.churned += tally.log.churned;
        add(&mut reconnect, tally.log.reconnect.finish());
        add(&mut resume, tally.log.resume.finish());
    }
    let quantiles = |all: Option<Histogram<u64>>| all.as_ref().map(Quantiles::of);
    verdict.e2e_us = quantiles(latency).unwrap_or_default();
    sums.resumes = resume.as_ref().map_or(0, Histogram::len);
    sums.reconnect_us = quantiles(reconnect).unwrap_or_default();
    sums.resume_us = quantiles(resume).unwrap_or_default();
    gaps_ns.sort_unstable();
    sums.longest_gap_us = gaps_ns.last().map_or(0, |ns| ns / 1_000);
    sums.p99_gap_us = p99(&gaps_ns) / 1_000;
    verdict.endurance = Some(sums);
    verdict.fight = (verdict.scenario == "fight").then_some(fight);
}

/// The least value that 99 of 100 do not exceed; `sorted` in ascending order.
fn p99(sorted: &[u64]) -> u64 {
    let rank = (sorted.len() * 99).div_ceil(100);
    rank.checked_sub(1).map_or(0, |index| sorted[index])
}

fn add(sum: &mut Option<Histogram<u64>>, more: Histogram<u64>) {
    match sum {
        Some(sum) => sum.add(more).expect("histograms of the same bounds"),
        None => *sum = Some(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sums: Sums, gap_ns: u64) -> Tally {
        Tally {
            ledgers: vec![sums],
            bouts: vec![Bouts::default()],
            gaps_ns: vec![gap_ns],
            unsent: 1,
            late: 2,
            unacked: 0,
            gave_up: 0,
            log: Log::new(),
        }
    }

    fn fought(change: impl FnOnce(&mut Tally)) -> Verdict {
        judged_in("fight", 1, change)
    }

    fn judged(qos: u8, change: impl FnOnce(&mut Tally)) -> Verdict {
        judged_in("endure", qos, change)
    }

    fn judged_in(scenario: &'static str, qos: u8, change: impl FnOnce(&mut Tally)) -> Verdict {
        let (mut one, two) = (tally(Sums::default(), 5_000), tally(Sums::default(), 9_000));
        change(&mut one);
        let mut verdict = Verdict {
            scenario,
            qos,
            ..Verdict::default()
        };
        sum(&mut verdict, vec![one, two]);
        verdict.judge();
        verdict
    }

    #[test]
    fn nothing_wrong_passes_and_adds_up() {
        let verdict = judged(2, |tally| tally.log.loss(super::super::log::Loss::Closed));
        assert!(!verdict.failed(), "{verdict}");
        let sums = verdict.endurance.expect("summed");
        assert_eq!((verdict.unsent, sums.late, sums.longest_gap_us), (2, 4, 9));
        assert_eq!(verdict.errors["closed by the broker"], 1);
    }

    #[test]
    fn each_fault_fails() {
        type Fault = (&'static str, fn(&mut Tally));
        let faults: [Fault; 8] = [
            ("1 messages lost", |t| t.ledgers[0].lost = 1),
            ("1 repeated", |t| t.ledgers[0].duplicated = 1),
            ("1 messages out of order", |t| t.ledgers[0].reordered = 1),
            ("1 sessions lost", |t| t.log.session_lost = 1),
            ("1 messages never acknowledged", |t| t.unacked = 1),
            ("1 devices gave up", |t| t.gave_up = 1),
            ("1 facts the oracle had no room for", |t| {
                t.ledgers[0].unrecorded = 1;
            }),
            ("1 x wrong", |t| {
                t.log
                    .loss(super::super::log::Loss::Fault("wrong".to_owned()));
            }),
        ];
        for (why, fault) in faults {
            assert_eq!(judged(2, fault).failures, [why]);
        }
        let stale = fought(|tally| tally.bouts[0].stale = 2);
        assert_eq!(
            stale.failures,
            ["2 messages reached a client that had lost its client id before they were published"]
        );
        assert!(fought(|tally| tally.bouts[0].reordered = 1).failed());
        assert!(!fought(|tally| tally.bouts[0].superseded = 1).failed());
        let verdict = judged(1, |tally| tally.ledgers[0].duplicated = 1);
        assert!(!verdict.failed(), "QoS 1 promises at least once");
    }

    #[test]
    fn the_json_has_the_new_fields_beside_the_others() {
        let json = serde_json::to_value(judged(1, |_| {})).expect("serializes");
        for field in [
            "lost",
            "duplicated",
            "reordered",
            "errors",
            "failures",
            "acked",
            "repeated",
            "session_lost",
            "late",
            "unacked",
            "reconnects",
            "reconnect_us",
            "churned",
            "resumes",
            "resume_us",
            "longest_gap_us",
            "p99_gap_us",
            "connect_refused",
            "violations",
            "gave_up",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn p99_of_few_is_the_largest() {
        assert_eq!(p99(&[]), 0);
        assert_eq!(p99(&[7]), 7);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(p99(&hundred), 99);
    }
}
