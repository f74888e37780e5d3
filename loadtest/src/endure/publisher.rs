//! A publisher's half of its session: what it keeps until it is acknowledged, across connections.
//!
//! Invariant: a message keeps its packet id until it is done, within one session of the broker.
//! Invariant: open messages span fewer numbers than there are packet ids, so a packet id names one.

use std::collections::VecDeque;

use super::ledger::Ledger;
use crate::limits::{ENDURE_OPEN_MAX, UNSENT_BYTES_MAX};
use crate::wire::{self, Template, kind};

/// What an open message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// PUBACK or PUBREC.
    Published,
    /// PUBCOMP.
    Released,
    /// Nothing; an earlier one is still open.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    time_ns: u64,
    step: Step,
    /// Sent before in this session of the broker.
    sent_before: bool,
}

/// What an acknowledgement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acked {
    /// This message is done: the broker answers for it from here on.
    Promised(u64),
    /// The broker does not take this message, for this reason (MQTT 5).
    Refused(u8),
    /// There is more to come.
    Going,
}

/// What one call sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Messages that left for the first time.
    pub(crate) fresh: u64,
    /// Of these, how many were `late_ns` or more behind their time.
    pub(crate) late: u64,
}

/// When messages should leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due<F> {
    /// Messages below this number are due.
    pub(crate) below: u64,
    /// Intended time of a message, by its number.
    pub(crate) intended_ns: F,
    pub(crate) now_ns: u64,
    /// Behind its time by this much a message counts as late.
    pub(crate) late_ns: u64,
}

/// The session of one publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    template: Template,
    qos: u8,
    /// Messages `base..base + open.len()`.
    open: VecDeque<Open>,
    base: u64,
    /// How many of `open` were sent on this connection.
    cursor: usize,
    /// How many of these are not done.
    under_way: usize,
    receive_max: usize,
    /// The message whose PUBACK or PUBREC came last on this connection.
    answered: Option<u64>,
}

impl Publisher {
    /// Nothing sent yet.
    pub(crate) fn new(template: Template, qos: u8) -> Self {
        Self {
            template,
            qos,
            open: VecDeque::new(),
            base: 0,
            cursor: 0,
            under_way: 0,
            receive_max: usize::from(u16::MAX),
            answered: None,
        }
    }

    /// The number of the next new message.
    pub(crate) fn next(&self) -> u64 {
        self.base + self.open.len() as u64
    }

    /// Messages sent and neither acknowledged nor refused.
    pub(crate) fn unacked(&self) -> u64 {
        self.open.iter().filter(|m| m.step != Step::Done).count() as u64
    }

    /// True while something waits for the broker.
    pub(crate) fn waits(&self) -> bool {
        !self.open.is_empty()
    }

    /// A connection is up, with the broker's Receive Maximum. With its session gone, everything
    /// open is to be published as new (MQTT 5, 4.1: the client's state ends with the broker's).
    pub(crate) fn begin(&mut self, receive_max: u16, session_lost: bool, ledger: &mut Ledger) {
        self.end();
        self.receive_max = usize::from(receive_max.max(1));
        for (number, message) in (self.base..).zip(&mut self.open) {
            if message.step == Step::Done {
                continue;
            }
            if session_lost {
                ledger.republished(number);
                (message.step, message.sent_before) = (Step::Published, false);
            } else if message.step == Step::Published {
                ledger.resent(number);
            }
        }
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self) {
        (self.cursor, self.under_way, self.answered) = (0, 0, None);
    }

    /// Appends what may be sent: first what is open from earlier connections, in its order, then
    /// what is due.
    pub(crate) fn fill(&mut self, due: &Due<impl Fn(u64) -> u64>, out: &mut Vec<u8>) -> Sent {
        let mut sent = Sent::default();
        while out.len() < UNSENT_BYTES_MAX {
            if self.cursor < self.open.len() {
                if !self.send_again(out) {
                    break;
                }
                continue;
            }
            let room = self.open.len() < ENDURE_OPEN_MAX && self.under_way < self.receive_max;
            let number = self.next();
            if !room || number >= due.below {
                break;
            }
            let time_ns = (due.intended_ns)(number);
            sent.fresh += 1;
            sent.late += u64::from(due.now_ns.saturating_sub(time_ns) >= due.late_ns);
            self.template
                .append(out, packet_id(number), number, time_ns);
            self.open.push_back(Open {
                time_ns,
                step: Step::Published,
                sent_before: true,
            });
            self.cursor += 1;
            self.under_way += 1;
        }
        sent
    }

    /// PUBACK, PUBREC or PUBCOMP came (`first` without flags). An error: a broker must not send it.
    pub(crate) fn take(
        &mut self,
        first: u8,
        id: u16,
        reason: u8,
        out: &mut Vec<u8>,
    ) -> Result<Acked, &'static str> {
        let (number, index) = self.find(id).ok_or("acknowledgement of nothing open")?;
        let message = &mut self.open[index];
        let refused = reason >= 0x80;
        match (first, message.step, self.qos) {
            (kind::PUBACK, Step::Published, 1) | (kind::PUBREC, Step::Published, 2) => {}
            // After a crash the broker may have completed it already (MQTT 5, 3.7.2.1: 0x92).
            (kind::PUBCOMP, Step::Released, 2) if !refused || reason == 0x92 => {
                self.done(index);
                return Ok(Acked::Promised(number));
            }
            (kind::PUBCOMP, Step::Released, 2) => return Err("PUBCOMP with an unknown reason"),
            _ => return Err("acknowledgement of another kind than the message waits for"),
        }
        if self.answered.is_some_and(|last| last > number) {
            return Err("acknowledgement out of order");
        }
        self.answered = Some(number);
        if refused {
            self.done(index);
            return Ok(Acked::Refused(reason));
        }
        if self.qos == 2 {
            message.step = Step::Released;
            wire::ack(out, kind::PUBREL | 0b10, id);
            return Ok(Acked::Going);
        }
        self.done(index);
        Ok(Acked::Promised(number))
    }

    /// Sends the message at the cursor again; false where the broker has to make room first.
    fn send_again(&mut self, out: &mut Vec<u8>) -> bool {
        let number = self.base + self.cursor as u64;
        let message = &mut self.open[self.cursor];
        match message.step {
            Step::Done => {}
            Step::Released => wire::ack(out, kind::PUBREL | 0b10, packet_id(number)),
            Step::Published if self.under_way >= self.receive_max => return false,
            Step::Published => {
                let start = out.len();
                let (id, time_ns) = (packet_id(number), message.time_ns);
                self.template.append(out, id, number, time_ns);
                if message.sent_before {
                    out[start] |= wire::DUP;
                }
                message.sent_before = true;
            }
        }
        self.under_way += usize::from(message.step != Step::Done);
        self.cursor += 1;
        true
    }

    /// The open message with this packet id that was sent on this connection.
    fn find(&self, id: u16) -> Option<(u64, usize)> {
        let number = u64::from(id.checked_sub(1)?);
        let index = (number + IDS - self.base % IDS) % IDS;
        let index = usize::try_from(index).ok()?;
        (index < self.cursor).then(|| (self.base + index as u64, index))
    }

    fn done(&mut self, index: usize) {
        self.open[index].step = Step::Done;
        self.under_way -= 1;
        while self.cursor > 0 && self.open.front().is_some_and(|m| m.step == Step::Done) {
            self.open.pop_front();
            self.base += 1;
            self.cursor -= 1;
        }
    }
}

/// Packet ids: 1 to 65,535.
const IDS: u64 = 65_535;

/// The packet id of a message, in turn.
fn packet_id(number: u64) -> u16 {
    (number % IDS) as u16 + 1
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
