//! The sender's side: what is sent and not yet both acknowledged and received.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Findings, Full, Promise};
use crate::control::message::{Finding, FindingKind, Presence, Receipt, Seen, Stream};
use crate::limits::{
    EXCUSED_KEPT, LEDGER_MAX, QOS0_PATIENCE, RESENT_KEPT, RESENT_MAX, UNDER_WAY_MAX,
};

/// Device first, so that all of a device stands together.
type Key = (u32, u8, u32);

/// A message that leaves for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) stream: Stream,
    pub(crate) seq: u32,
    /// At which it is published.
    pub(crate) qos: u8,
    pub(crate) due_us: u64,
    /// Who is owed it.
    pub(crate) promise: Promise,
}

/// How a message was sent another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resent {
    /// In the same session, with DUP.
    Again,
    /// As a new message, because the broker has no session any more that would know it.
    Anew,
}

/// What stood open when the run closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Messages never acknowledged.
    pub(crate) unacknowledged: u64,
}

/// Messages on their way, of all streams of one worker.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    open: BTreeMap<Key, Entry>,
    /// What was sent more than once, and since when it is known: a repetition at the receiver may be due to that.
    resent: BTreeMap<Key, (u64, Resent)>,
    owed: u64,
    repeated: u64,
    excused: u64,
    abandoned: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due_us: u64,
    /// When it was acknowledged, or excused.
    since_us: u64,
    /// At which it was published.
    qos: u8,
    /// At which it is owed.
    owed_qos: u8,
    /// Receipts that are still to come.
    awaited: u8,
    acknowledged: bool,
    /// Its receiver's session has ended: it may come, but need not.
    excused: bool,
    /// The connection that it left on is gone: what left on the next one may overtake it.
    behind_allowed: bool,
}

impl Entry {
    fn is_owed(&self) -> bool {
        self.acknowledged && self.awaited > 0 && !self.excused
    }
}

impl Ledger {
    /// A message leaves for the first time. At `QoS` 0 it counts as acknowledged at once.
    pub(crate) fn sent(&mut self, message: &Message, now_us: u64) -> Result<(), Full> {
        let acknowledged = message.qos == 0;
        let entry = Entry {
            due_us: message.due_us,
            since_us: now_us,
            qos: message.qos,
            owed_qos: message.promise.qos,
            awaited: message.promise.receivers,
            acknowledged,
            excused: false,
            behind_allowed: false,
        };
        if acknowledged && entry.awaited == 0 {
            return Ok(());
        }
        if self.open.len() >= LEDGER_MAX {
            return Err(Full {
                what: "more messages that were sent and not both acknowledged and received",
                limit: LEDGER_MAX,
            });
        }
        self.owed += u64::from(entry.is_owed());
        self.open.insert(key(message.stream, message.seq), entry);
        Ok(())
    }

    /// A message that is not acknowledged yet was sent another time.
    pub(crate) fn resent(
        &mut self,
        stream: Stream,
        seq: u32,
        how: Resent,
        now_us: u64,
    ) -> Result<(), Full> {
        let known = self.resent.entry(key(stream, seq)).or_insert((now_us, how));
        known.0 = now_us;
        if how == Resent::Anew {
            known.1 = how;
        }
        if self.resent.len() > RESENT_MAX {
            return Err(Full {
                what: "more messages that were sent more than once",
                limit: RESENT_MAX,
            });
        }
        Ok(())
    }

    /// PUBACK or PUBCOMP has come: the broker answers for the message from here on.
    pub(crate) fn acknowledged(&mut self, stream: Stream, seq: u32, now_us: u64) {
        self.change(key(stream, seq), |entry| {
            entry.acknowledged = true;
            if !entry.excused {
                entry.since_us = now_us;
            }
        });
    }

    /// The broker has refused the message; nobody is owed it.
    pub(crate) fn refused(&mut self, stream: Stream, seq: u32) {
        self.remove(key(stream, seq));
    }

    /// The message will never be acknowledged, as the sender's session has ended with its connection.
    pub(crate) fn abandoned(&mut self, stream: Stream, seq: u32) {
        if self.remove(key(stream, seq)) {
            self.abandoned += 1;
        }
    }

    /// A connection on which messages of `kind` of some of these devices left is gone. Those at `QoS` 0 are not sent again,
    /// and may still be on their way when others come on the next connection.
    pub(crate) fn connection_lost(
        &mut self,
        kind: u8,
        devices: Range<u32>,
        is_one: impl Fn(u32) -> bool,
    ) {
        let of_devices = (devices.start, 0, 0)..(devices.end, 0, 0);
        for ((device, of, _), entry) in self.open.range_mut(of_devices) {
            entry.behind_allowed |= entry.qos == 0 && *of == kind && is_one(*device);
        }
    }

    /// A receipt has come.
    pub(crate) fn received(&mut self, receipt: &Receipt, now_us: u64, findings: &mut Findings) {
        let key = key(receipt.stream, receipt.seq);
        let finding = |kind, qos, at_us| Finding {
            kind,
            stream: receipt.stream,
            seq: Some(receipt.seq),
            at_us,
            qos,
            detail: String::new(),
        };
        match receipt.seen {
            Seen::First => self.arrived(key),
            Seen::Behind { qos } => {
                // One that is not known any more was given up with its session, or has counted as lost.
                let entry = self.open.get(&key);
                if let Some(entry) = entry.filter(|entry| !entry.behind_allowed) {
                    findings.add(finding(FindingKind::Reordered, qos, entry.due_us));
                }
                self.arrived(key);
            }
            Seen::Again { qos } => {
                let resent = self.resent.get(&key).map(|(_, how)| *how);
                if qos == 1 && resent.is_some() || resent == Some(Resent::Anew) {
                    self.repeated += 1;
                    return;
                }
                let due_us = self.open.get(&key).map(|entry| entry.due_us);
                let at_us = due_us.unwrap_or(now_us);
                findings.add(finding(FindingKind::Duplicated, qos, at_us));
            }
        }
    }

    fn arrived(&mut self, key: Key) {
        self.change(key, |entry| {
            entry.awaited = entry.awaited.saturating_sub(1);
        });
    }

    /// A device's session has ended: what is on its way to it need not come any more, unless it is long overdue. Nothing is to be sent to it until
    /// it has subscribed again; receipts that its worker sent before have come before.
    pub(crate) fn presence(&mut self, presence: &Presence, now_us: u64) {
        if presence.subscribed {
            return;
        }
        let overdue = |entry: &Entry| {
            let limit_us = UNDER_WAY_MAX.as_micros() as u64;
            entry.acknowledged && presence.at_us.saturating_sub(entry.since_us) > limit_us
        };
        let of_device = (presence.device, 1, 0)..=(presence.device, u8::MAX, u32::MAX);
        for (_, entry) in self.open.range_mut(of_device) {
            if !entry.excused && !overdue(entry) {
                self.owed -= u64::from(entry.is_owed());
                entry.excused = true;
                entry.since_us = now_us;
            }
        }
    }

    /// Writes off what need not be waited for any longer: excused messages, and `QoS` 0 after [`QOS0_PATIENCE`]. To be
    /// called about once a second.
    pub(crate) fn settle(&mut self, now_us: u64, findings: &mut Findings) {
        let older = |since_us: u64, limit: std::time::Duration| {
            now_us.saturating_sub(since_us) > limit.as_micros() as u64
        };
        self.resent
            .retain(|_, (since_us, _)| !older(*since_us, RESENT_KEPT));
        let (owed, excused) = (&mut self.owed, &mut self.excused);
        self.open.retain(|key, entry| {
            if entry.excused && entry.acknowledged && older(entry.since_us, EXCUSED_KEPT) {
                *excused += 1;
                return false;
            }
            let lost =
                entry.is_owed() && entry.owed_qos == 0 && older(entry.since_us, QOS0_PATIENCE);
            if lost {
                *owed -= 1;
                findings.add(entry.lost(*key));
            }
            !lost
        });
    }

    /// Messages that are acknowledged and owed and have not arrived.
    pub(crate) fn owed(&self) -> u64 {
        self.owed
    }

    /// Repetitions that the sender's own repetition explains.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Messages whose receiver's session has ended before they came, so far.
    pub(crate) fn excused(&self) -> u64 {
        self.excused
    }

    /// Messages given up without an acknowledgement, so far.
    pub(crate) fn abandoned_count(&self) -> u64 {
        self.abandoned
    }

    /// The run is over: what is still owed is lost. Afterwards the ledger is empty; `excused` has grown.
    pub(crate) fn close(&mut self, findings: &mut Findings) -> Closed {
        let mut closed = Closed::default();
        for (key, entry) in std::mem::take(&mut self.open) {
            if entry.is_owed() {
                findings.add(entry.lost(key));
            } else if !entry.acknowledged {
                closed.unacknowledged += 1;
            } else if entry.excused {
                self.excused += 1;
            }
        }
        self.owed = 0;
        closed
    }

    /// Changes an entry, and removes it where nothing more is to come.
    fn change(&mut self, key: Key, change: impl FnOnce(&mut Entry)) {
        // Receipts may come for what was written off.
        let Some(entry) = self.open.get_mut(&key) else {
            return;
        };
        self.owed -= u64::from(entry.is_owed());
        change(entry);
        self.owed += u64::from(entry.is_owed());
        if entry.acknowledged && entry.awaited == 0 {
            self.open.remove(&key);
        }
    }

    fn remove(&mut self, key: Key) -> bool {
        let removed = self.open.remove(&key);
        self.owed -= u64::from(removed.is_some_and(|entry| entry.is_owed()));
        removed.is_some()
    }
}

impl Entry {
    fn lost(&self, (device, kind, seq): Key) -> Finding {
        Finding {
            kind: if self.owed_qos == 0 {
                FindingKind::LostQos0
            } else {
                FindingKind::Lost
            },
            stream: Stream { kind, device },
            seq: Some(seq),
            at_us: self.due_us,
            qos: self.qos,
            detail: String::new(),
        }
    }
}

fn key(stream: Stream, seq: u32) -> Key {
    (stream.device, stream.kind, seq)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
