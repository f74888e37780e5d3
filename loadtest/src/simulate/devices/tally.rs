//! What a worker has to tell: counters, latencies, findings, receipts, presence.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::Error;
use crate::account::{Findings, Full, Gaps, Heard, Ledger, Outbox};
use crate::control::message::{
    Counts, Finding, FindingKind, FromWorker, Presence, Receipt, Seen, Stream,
};
use crate::limits::{SIM_PRESENCE_MAX, SIM_REASONS_MAX};
use crate::simulate::spread::Spreads;

/// The books of one worker.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) spreads: Spreads,
    pub(super) ledger: Ledger,
    pub(super) findings: Findings,
    pub(super) gaps: Gaps,
    /// What has arrived: for each device, of each kind of commands.
    heard: Box<[Heard]>,
    commands: usize,
    first: u32,
    outbox: Outbox,
    presence: Vec<Presence>,
    /// To be sent, in this order.
    outgoing: Vec<FromWorker>,
    errors: BTreeMap<String, u64>,
    full: Option<Full>,
}

impl Tally {
    /// Empty books of the worker that has the devices `share`, out of all `shares`.
    pub(super) fn new(shares: &[Range<u32>], share: &Range<u32>, commands: usize) -> Self {
        Self {
            counts: Counts::default(),
            spreads: Spreads::default(),
            ledger: Ledger::default(),
            findings: Findings::default(),
            gaps: Gaps::default(),
            heard: vec![Heard::default(); share.len() * commands].into(),
            commands,
            first: share.start,
            outbox: Outbox::new(shares),
            presence: Vec::new(),
            outgoing: Vec::new(),
            errors: BTreeMap::new(),
            full: None,
        }
    }

    /// What is known of the commands that a device gets, kind by kind.
    pub(super) fn heard(&mut self, device: u32) -> (&mut [Heard], &mut Gaps) {
        let start = (device - self.first) as usize * self.commands;
        let of_device = &mut self.heard[start..start + self.commands];
        (of_device, &mut self.gaps)
    }

    /// Something has gone wrong, for this reason.
    pub(super) fn error(&mut self, reason: String) {
        let known = self.errors.contains_key(&reason);
        let reason = if known || self.errors.len() < SIM_REASONS_MAX {
            reason
        } else {
            "other".to_owned()
        };
        *self.errors.entry(reason).or_default() += 1;
    }

    /// Everything that has gone wrong, by reason.
    pub(super) fn errors(&self) -> Vec<(String, u64)> {
        let errors = self.errors.iter();
        errors
            .map(|(reason, count)| (reason.clone(), *count))
            .collect()
    }

    /// A device's broker has done what it must not.
    pub(super) fn finding(&mut self, kind: FindingKind, device: u32, at_us: u64, detail: &str) {
        self.findings.add(Finding {
            kind,
            stream: Stream { kind: 0, device },
            seq: None,
            at_us,
            qos: 0,
            detail: detail.to_owned(),
        });
    }

    /// A command has arrived.
    pub(super) fn receipt(&mut self, stream: Stream, seq: u32, seen: Seen) {
        let full = self.outbox.push(Receipt { stream, seq, seen });
        self.outgoing.extend(full);
    }

    /// A device's subscriptions stand, or its session has ended.
    pub(super) fn presence(&mut self, device: u32, at_us: u64, subscribed: bool) {
        self.presence.push(Presence {
            device,
            at_us,
            subscribed,
        });
        if self.presence.len() >= SIM_PRESENCE_MAX {
            self.report_presence();
        }
    }

    /// Puts what is known of devices on its way.
    pub(super) fn report_presence(&mut self) {
        if self.presence.is_empty() {
            return;
        }
        // Whoever excuses what is under way to a device must know before what has arrived.
        self.outgoing.extend(self.outbox.take());
        let presence = std::mem::take(&mut self.presence);
        self.outgoing.push(FromWorker::Presence(presence));
    }

    /// Puts everything on its way; once a second.
    pub(super) fn report(&mut self) {
        self.report_presence();
        self.outgoing.extend(self.outbox.take());
        let findings = self.findings.take();
        if !findings.is_empty() {
            self.outgoing.push(FromWorker::Findings(findings));
        }
    }

    /// What is to be sent, in this order. Presence does not wait long: commands do for it.
    pub(super) fn outgoing(&mut self, now_us: u64) -> Vec<FromWorker> {
        let first = self.presence.first();
        let waits = |first: &Presence| now_us.saturating_sub(first.at_us) >= PRESENCE_US;
        if first.is_some_and(waits) {
            self.report_presence();
        }
        std::mem::take(&mut self.outgoing)
    }

    /// Counters, with those that the oracle keeps.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            owed: self.ledger.owed(),
            findings: self.findings.counts(),
            repeated: self.counts.repeated + self.ledger.repeated(),
            excused: self.ledger.excused(),
            unacknowledged: self.counts.unacknowledged + self.ledger.abandoned_count(),
            ..self.counts
        }
    }

    /// The run is over: what is still owed is lost.
    pub(super) fn close(&mut self) {
        let closed = self.ledger.close(&mut self.findings);
        self.counts.unacknowledged += closed.unacknowledged;
    }

    /// Takes note that a limit of the oracle was hit: the run cannot go on.
    pub(super) fn note<T>(&mut self, result: Result<T, Full>) -> Option<T> {
        match result {
            Ok(noted) => Some(noted),
            Err(full) => {
                self.full.get_or_insert(full);
                None
            }
        }
    }

    /// An error if the run cannot go on.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.full {
            Some(full) => Err(Error::Arguments(full.to_string())),
            None => Ok(()),
        }
    }
}

/// How long presence may wait for more of it, µs.
const PRESENCE_US: u64 = 100_000;
