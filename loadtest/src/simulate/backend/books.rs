//! What the back end has to tell: counters, latencies, findings, receipts.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::account::{Findings, Gaps, Ledger, Outbox};
use crate::control::message::{
    BACKEND, Counts, Finding, FindingKind, FromWorker, Receipt, Sample, Seen, Stream,
};
use crate::limits::BACKEND_REASONS_MAX;
use crate::simulate::spread::Spreads;

/// The books of the back end.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) counts: Counts,
    pub(super) spreads: Spreads,
    pub(super) ledger: Ledger,
    pub(super) findings: Findings,
    pub(super) gaps: Gaps,
    outbox: Outbox,
    /// Receipts that are to leave at once, in this order.
    outgoing: Vec<FromWorker>,
    errors: BTreeMap<String, u64>,
}

impl Books {
    /// Empty; `shares` are the devices of each worker.
    pub(super) fn new(shares: &[Range<u32>]) -> Self {
        Self {
            counts: Counts::default(),
            spreads: Spreads::default(),
            ledger: Ledger::default(),
            findings: Findings::default(),
            gaps: Gaps::default(),
            outbox: Outbox::new(shares),
            outgoing: Vec::new(),
            errors: BTreeMap::new(),
        }
    }

    /// Something has gone wrong, for this reason.
    pub(super) fn error(&mut self, reason: &str) {
        if let Some(count) = self.errors.get_mut(reason) {
            *count += 1;
            return;
        }
        let room = self.errors.len() < BACKEND_REASONS_MAX;
        let reason = if room { reason } else { "other" };
        *self.errors.entry(reason.to_owned()).or_default() += 1;
    }

    /// A broker has done what it must not, to a connection of the back end.
    pub(super) fn broken(&mut self, kind: FindingKind, number: u32, at_us: u64, detail: String) {
        self.findings.add(Finding {
            kind,
            stream: Stream {
                kind: BACKEND,
                device: number,
            },
            seq: None,
            at_us,
            qos: 0,
            detail,
        });
    }

    /// A message has arrived; its sender's worker is to know.
    pub(super) fn receipt(&mut self, stream: Stream, seq: u32, seen: Seen) {
        let full = self.outbox.push(Receipt { stream, seq, seen });
        self.outgoing.extend(full);
    }

    /// Full batches of receipts.
    pub(super) fn outgoing(&mut self) -> Vec<FromWorker> {
        std::mem::take(&mut self.outgoing)
    }

    /// Everything that was not told yet but the figures: receipts and findings.
    pub(super) fn report(&mut self) -> Vec<FromWorker> {
        let mut all = self.outgoing();
        all.extend(self.outbox.take());
        let findings = self.findings.take();
        if !findings.is_empty() {
            all.push(FromWorker::Findings(findings));
        }
        all
    }

    /// The figures; those of the process are the caller's.
    pub(super) fn sample(&mut self, at_us: u64) -> Sample {
        let repeated = self.counts.repeated + self.ledger.repeated();
        let counts = Counts {
            owed: self.ledger.owed(),
            findings: self.findings.counts(),
            repeated,
            excused: self.ledger.excused(),
            unacknowledged: self.counts.unacknowledged + self.ledger.abandoned_count(),
            ..self.counts
        };
        let errors = self.errors.iter();
        Sample {
            at_us,
            counts,
            latencies: self.spreads.take(),
            errors: errors
                .map(|(reason, count)| (reason.clone(), *count))
                .collect(),
            ..Sample::default()
        }
    }
}
