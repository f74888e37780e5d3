//! A publisher's half of its session: what it keeps until it is acknowledged, across connections.

use super::ledger::Ledger;
use crate::account::Resent;
use crate::limits::UNSENT_BYTES_MAX;
use crate::window::{self, Again, Window};
use crate::wire::{self, Template, kind};

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

#[derive(Debug, Clone, Copy)]
struct Message {
    number: u64,
    time_ns: u64,
}

/// The session of one publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    template: Template,
    window: Window<Message>,
}

impl Publisher {
    /// Nothing sent yet; `qos` 1 or 2.
    pub(crate) fn new(template: Template, qos: u8) -> Self {
        let window = Window::new(qos);
        Self { template, window }
    }

    /// The number of the next new message.
    pub(crate) fn next(&self) -> u64 {
        self.window.next()
    }

    /// Messages sent and neither acknowledged nor refused.
    pub(crate) fn unacked(&self) -> u64 {
        self.window.unacked()
    }

    /// True while something waits for the broker.
    pub(crate) fn waits(&self) -> bool {
        self.window.waits()
    }

    /// A connection is up, with the broker's Receive Maximum.
    pub(crate) fn begin(&mut self, receive_max: u16, session_lost: bool) {
        self.window.begin(receive_max, session_lost);
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self) {
        self.window.end();
    }

    /// Appends what may be sent: first what is open from earlier connections, in its order, then
    /// what is due.
    pub(crate) fn fill(
        &mut self,
        due: &Due<impl Fn(u64) -> u64>,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Sent {
        while out.len() < UNSENT_BYTES_MAX
            && let Some(again) = self.window.again()
        {
            match again {
                Again::Release(id) => wire::ack(out, kind::PUBREL | 0b10, id),
                Again::Publish(message, id, how) => self.send_again(message, id, how, ledger, out),
            }
        }
        let mut sent = Sent::default();
        while out.len() < UNSENT_BYTES_MAX && self.window.has_room() && self.next() < due.below {
            let number = self.next();
            let time_ns = (due.intended_ns)(number);
            sent.fresh += 1;
            sent.late += u64::from(due.now_ns.saturating_sub(time_ns) >= due.late_ns);
            let id = self.window.push(Message { number, time_ns });
            self.template.append(out, id, number, time_ns);
        }
        sent
    }

    fn send_again(
        &mut self,
        message: Message,
        id: u16,
        how: Resent,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let Message { number, time_ns } = message;
        self.template.append(out, id, number, time_ns);
        match how {
            Resent::Again => {
                out[start] |= wire::DUP;
                ledger.resent(number);
            }
            Resent::Anew => ledger.republished(number),
        }
    }

    /// PUBACK, PUBREC or PUBCOMP came (`first` without flags). An error: a broker must not send it.
    pub(crate) fn take(
        &mut self,
        first: u8,
        id: u16,
        reason: u8,
        out: &mut Vec<u8>,
    ) -> Result<Acked, &'static str> {
        if self.window.passes_over(first, id) {
            return Err("acknowledgement out of order");
        }
        Ok(match self.window.take(first, id, reason)? {
            window::Acked::Promised(message) => Acked::Promised(message.number),
            window::Acked::Refused(_, reason) => Acked::Refused(reason),
            window::Acked::Release => {
                wire::ack(out, kind::PUBREL | 0b10, id);
                Acked::Going
            }
        })
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
