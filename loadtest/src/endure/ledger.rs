//! The oracle of one publisher and its subscriber: what was promised, and what came.
//!
//! A message is promised once its publisher has its PUBACK or PUBCOMP, on whatever connection.

use super::ranges::{Inserted, Ranges};

/// What one arrival at the subscriber meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The first time, in its place.
    New,
    /// The first time, but a later one came before: out of order.
    Late,
    /// Again, and the standard allows it.
    Repeated,
    /// Again, and nothing made it necessary; at `QoS` 2 any repetition.
    Duplicated,
}

/// What a ledger adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Promised and never arrived.
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    /// Promised messages.
    pub(crate) acked: u64,
    /// Messages that arrived, repetitions not counted.
    pub(crate) delivered: u64,
    /// What the ledger had no room for. If any, the other figures are lower bounds.
    pub(crate) unrecorded: u64,
}

/// One publisher's messages, numbered from 0.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    qos: u8,
    sent: u64,
    acked: Ranges,
    arrived: Ranges,
    /// Sent by the publisher more than once.
    resent: Ranges,
    /// Given up as a new message after the publisher's session was lost.
    republished: Ranges,
    /// One more than the highest that arrived.
    next: u64,
    /// `next` when the subscriber's connection came up.
    next_at_up: u64,
    owed: u64,
    duplicated: u64,
    repeated: u64,
    reordered: u64,
    unrecorded: u64,
}

impl Ledger {
    /// Nothing sent; publisher and subscription have `qos` 1 or 2.
    pub(crate) fn new(qos: u8) -> Self {
        Self {
            qos,
            ..Self::default()
        }
    }

    /// Messages below `next` have been sent at least once.
    pub(crate) fn sent(&mut self, next: u64) {
        self.sent = self.sent.max(next);
    }

    /// The publisher sent `number` again, with DUP in the same session.
    pub(crate) fn resent(&mut self, number: u64) {
        let inserted = self.resent.insert(number);
        self.unrecorded += u64::from(inserted == Inserted::Full);
    }

    /// The publisher sent `number` again, as a new message of a new session.
    pub(crate) fn republished(&mut self, number: u64) {
        let inserted = self.republished.insert(number);
        self.unrecorded += u64::from(inserted == Inserted::Full);
    }

    /// The publisher has its acknowledgement of `number`.
    #[inline]
    pub(crate) fn acked(&mut self, number: u64) {
        match self.acked.insert(number) {
            Inserted::New => self.owed += u64::from(!self.arrived.contains(number)),
            Inserted::Known => {}
            Inserted::Full => self.unrecorded += 1,
        }
    }

    /// A connection of the subscriber came up.
    pub(crate) fn subscriber_up(&mut self) {
        self.next_at_up = self.next;
    }

    /// `number` arrived at the subscriber. An error: nobody had sent it.
    #[inline]
    pub(crate) fn arrived(&mut self, number: u64, dup: bool) -> Result<Seen, &'static str> {
        if number >= self.sent {
            return Err("received a message that was never sent to it");
        }
        match self.arrived.insert(number) {
            Inserted::New => {}
            Inserted::Known => return Ok(self.again(number, dup)),
            Inserted::Full => {
                self.unrecorded += 1;
                return Ok(Seen::Late);
            }
        }
        self.owed -= u64::from(self.acked.contains(number));
        if number < self.next {
            self.reordered += 1;
            return Ok(Seen::Late);
        }
        self.next = number + 1;
        Ok(Seen::New)
    }

    /// `number` arrived at one of several clients with one client id. Neither order nor repetition
    /// mean anything across them. An error: nobody had sent it.
    pub(crate) fn arrived_somewhere(&mut self, number: u64) -> Result<Seen, &'static str> {
        let reordered = self.reordered;
        let seen = self.arrived(number, true)?;
        self.reordered = reordered;
        Ok(seen)
    }

    /// True if the publisher sent `number` more than once.
    pub(crate) fn was_sent_again(&self, number: u64) -> bool {
        self.resent.contains(number) || self.republished.contains(number)
    }

    /// The number of the next message to be sent.
    pub(crate) fn next_sent(&self) -> u64 {
        self.sent
    }

    /// Promised messages that have not arrived yet.
    pub(crate) fn owed(&self) -> u64 {
        self.owed
    }

    /// Messages that arrived, repetitions not counted.
    pub(crate) fn delivered(&self) -> u64 {
        self.arrived.count()
    }

    /// Broken promises that are certain already.
    pub(crate) fn faults(&self) -> u64 {
        let duplicated = if self.qos == 2 { self.duplicated } else { 0 };
        self.reordered + duplicated
    }

    /// What it adds up to so far.
    pub(crate) fn sums(&self) -> Sums {
        Sums {
            lost: self.acked.missing_in(&self.arrived),
            duplicated: self.duplicated,
            repeated: self.repeated,
            reordered: self.reordered,
            acked: self.acked.count(),
            delivered: self.arrived.count(),
            unrecorded: self.unrecorded,
        }
    }

    #[cold]
    fn again(&mut self, number: u64, dup: bool) -> Seen {
        // What was published twice may come twice.
        let republished = self.republished.contains(number);
        let same_connection = number >= self.next_at_up;
        let allowed = dup || !same_connection || self.resent.contains(number);
        let excused = republished || (self.qos == 1 && allowed);
        if excused {
            self.repeated += 1;
            Seen::Repeated
        } else {
            self.duplicated += 1;
            Seen::Duplicated
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step of a trace.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ack(u64),
        Arrive(u64),
        ArriveDup(u64),
        SubscriberBack,
        Resent(u64),
        Republished(u64),
    }
    use Step::{Ack, Arrive, ArriveDup, Republished, Resent, SubscriberBack};

    fn judged(qos: u8, steps: &[Step]) -> Sums {
        let mut ledger = Ledger::new(qos);
        ledger.sent(100);
        for &step in steps {
            match step {
                Ack(number) => ledger.acked(number),
                Arrive(number) => drop(ledger.arrived(number, false).expect("was sent")),
                ArriveDup(number) => drop(ledger.arrived(number, true).expect("was sent")),
                SubscriberBack => ledger.subscriber_up(),
                Resent(number) => ledger.resent(number),
                Republished(number) => ledger.republished(number),
            }
        }
        let sums = ledger.sums();
        assert_eq!(ledger.owed(), sums.lost, "two ways to count the same");
        sums
    }

    fn faults(qos: u8, steps: &[Step]) -> (u64, u64, u64, u64) {
        let sums = judged(qos, steps);
        (sums.lost, sums.duplicated, sums.repeated, sums.reordered)
    }

    #[test]
    fn a_clean_trace_counts_nothing() {
        let steps = [Arrive(0), Ack(0), Ack(1), Arrive(1), Arrive(2)];
        for qos in [1, 2] {
            assert_eq!(faults(qos, &steps), (0, 0, 0, 0));
        }
        assert_eq!(judged(1, &steps).acked, 2);
        assert_eq!(judged(1, &steps).delivered, 3);
    }

    #[test]
    fn an_acknowledged_message_that_never_comes_is_lost() {
        assert_eq!(faults(1, &[Ack(0), Ack(1), Arrive(1)]), (1, 0, 0, 0));
        assert_eq!(faults(2, &[Ack(0), Ack(1), Arrive(0)]), (1, 0, 0, 0));
    }

    #[test]
    fn a_message_that_was_not_acknowledged_may_be_missing() {
        assert_eq!(
            faults(1, &[Ack(0), Arrive(0), Arrive(2), Ack(2)]),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn at_qos_2_every_repetition_is_a_fault() {
        assert_eq!(faults(2, &[Arrive(0), Arrive(0)]), (0, 1, 0, 0));
        let steps = [
            Arrive(0),
            SubscriberBack,
            ArriveDup(0),
            Resent(0),
            Arrive(0),
        ];
        assert_eq!(faults(2, &steps), (0, 2, 0, 0));
    }

    #[test]
    fn at_qos_1_a_repetition_needs_a_reason() {
        assert_eq!(faults(1, &[Arrive(0), Arrive(0)]), (0, 1, 0, 0));
        assert_eq!(faults(1, &[Arrive(0), ArriveDup(0)]), (0, 0, 1, 0));
        assert_eq!(
            faults(1, &[Arrive(0), SubscriberBack, Arrive(0)]),
            (0, 0, 1, 0)
        );
        assert_eq!(faults(1, &[Arrive(0), Resent(0), Arrive(0)]), (0, 0, 1, 0));
        let steps = [
            SubscriberBack,
            Arrive(0),
            SubscriberBack,
            Arrive(1),
            Arrive(1),
        ];
        assert_eq!(faults(1, &steps), (0, 1, 0, 0));
    }

    #[test]
    fn what_was_published_anew_after_a_lost_session_may_come_again() {
        assert_eq!(
            faults(2, &[Arrive(0), Republished(0), Arrive(0)]),
            (0, 0, 1, 0)
        );
        assert_eq!(
            faults(2, &[Arrive(1), Republished(0), Arrive(1)]),
            (0, 1, 0, 0)
        );
    }

    #[test]
    fn the_order_of_first_arrivals_counts_and_that_of_repetitions_does_not() {
        assert_eq!(faults(1, &[Arrive(1), Arrive(0)]), (0, 0, 0, 1));
        assert_eq!(faults(2, &[Arrive(2), Arrive(0), Arrive(1)]), (0, 0, 0, 2));
        assert_eq!(
            faults(1, &[Arrive(0), Arrive(1), ArriveDup(0)]),
            (0, 0, 1, 0)
        );
    }

    #[test]
    fn among_several_clients_only_losses_count() {
        let mut ledger = Ledger::new(1);
        ledger.sent(4);
        (0..4).for_each(|number| ledger.acked(number));
        for number in [2, 0, 2, 0] {
            ledger.arrived_somewhere(number).expect("was sent");
        }
        let sums = ledger.sums();
        assert_eq!((sums.lost, sums.duplicated, sums.reordered), (2, 0, 0));
        assert_eq!((sums.repeated, ledger.owed()), (2, 2));
    }

    #[test]
    fn a_message_nobody_sent_is_named() {
        let mut ledger = Ledger::new(1);
        ledger.sent(1);
        assert_eq!(ledger.arrived(0, false), Ok(Seen::New));
        assert!(ledger.arrived(1, false).is_err());
    }
}
