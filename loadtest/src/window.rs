//! What a publisher has sent at `QoS` 1 and 2 and not seen acknowledged: it outlives the connection.
//!
//! Invariant: a message keeps its packet id until it is done, within one session of the broker.
//! Invariant: open messages span fewer numbers than there are packet ids, so a packet id names one.

use std::collections::VecDeque;

use crate::account::Resent;
use crate::limits::OPEN_MAX;
use crate::wire::kind;

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

#[derive(Debug)]
struct Open<T> {
    message: T,
    step: Step,
    /// Sent before in this session of the broker.
    sent_before: bool,
}

/// What an acknowledgement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acked<T> {
    /// This message is done: the broker answers for it from here on.
    Promised(T),
    /// The broker does not take this message, for this reason.
    Refused(T, u8),
    /// PUBREL is to be sent.
    Release,
}

/// What is to be sent again after a connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again<T> {
    /// The message, with this packet id.
    Publish(T, u16, Resent),
    /// PUBREL with this packet id.
    Release(u16),
}

/// The open messages of one publisher, each with what it takes to send it again.
#[derive(Debug)]
pub(crate) struct Window<T> {
    qos: u8,
    /// Messages `base..base + open.len()`.
    open: VecDeque<Open<T>>,
    base: u64,
    /// How many of `open` were sent on this connection.
    cursor: usize,
    /// How many of these are not done.
    under_way: usize,
    receive_max: usize,
}

impl<T: Copy> Window<T> {
    /// Nothing sent yet; `qos` 1 or 2 (with 0 it stays empty).
    pub(crate) fn new(qos: u8) -> Self {
        Self {
            qos,
            open: VecDeque::new(),
            base: 0,
            cursor: 0,
            under_way: 0,
            receive_max: 0,
        }
    }

    /// The number of the next new message; the first has 0.
    pub(crate) fn next(&self) -> u64 {
        self.base + self.open.len() as u64
    }

    /// Messages that are not done.
    pub(crate) fn unacked(&self) -> u64 {
        let waiting = self.open.iter().filter(|open| open.step != Step::Done);
        waiting.count() as u64
    }

    /// True while something waits for the broker.
    pub(crate) fn waits(&self) -> bool {
        !self.open.is_empty()
    }

    /// A connection is up, with the broker's Receive Maximum. With its session gone, everything open is to be published
    /// as new (MQTT 5, 4.1: the client's state ends with the broker's).
    pub(crate) fn begin(&mut self, receive_max: u16, session_lost: bool) {
        self.end();
        self.receive_max = usize::from(receive_max.max(1));
        if !session_lost {
            return;
        }
        for open in self.open.iter_mut().filter(|open| open.step != Step::Done) {
            (open.step, open.sent_before) = (Step::Published, false);
        }
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self) {
        (self.cursor, self.under_way, self.receive_max) = (0, 0, 0);
    }

    /// What is to be sent again next, if there is anything and the broker has room for it.
    pub(crate) fn again(&mut self) -> Option<Again<T>> {
        loop {
            let room = self.under_way < self.receive_max;
            let id = packet_id(self.base + self.cursor as u64);
            let open = self.open.get_mut(self.cursor)?;
            let again = match open.step {
                Step::Done => {
                    self.cursor += 1;
                    continue;
                }
                // It does not count against Receive Maximum (MQTT 5, 4.9).
                Step::Released => Again::Release(id),
                Step::Published if !room => return None,
                Step::Published => {
                    let how = if open.sent_before {
                        Resent::Again
                    } else {
                        Resent::Anew
                    };
                    open.sent_before = true;
                    Again::Publish(open.message, id, how)
                }
            };
            self.cursor += 1;
            self.under_way += 1;
            return Some(again);
        }
    }

    /// Whether a new message may leave: nothing is left to be sent again, and there is room.
    pub(crate) fn has_room(&self) -> bool {
        let sent = self.cursor == self.open.len();
        sent && self.open.len() < OPEN_MAX && self.under_way < self.receive_max
    }

    /// A new message leaves; gives its packet id. There was room.
    pub(crate) fn push(&mut self, message: T) -> u16 {
        debug_assert!(self.has_room());
        let id = packet_id(self.next());
        self.open.push_back(Open {
            message,
            step: Step::Published,
            sent_before: true,
        });
        self.cursor += 1;
        self.under_way += 1;
        id
    }

    /// Whether PUBACK or PUBREC for this packet id would pass over the message before it, which waits for its own (MQTT 5,
    /// 4.6). However many follow, one answer that is held back passes over once.
    pub(crate) fn passes_over(&self, first: u8, id: u16) -> bool {
        let before = self.find(id).and_then(|index| index.checked_sub(1));
        let waits = |index: usize| self.open[index].step == Step::Published;
        first != kind::PUBCOMP && before.is_some_and(waits)
    }

    /// PUBACK, PUBREC or PUBCOMP came (`first` without flags). An error: a broker must not send it.
    pub(crate) fn take(
        &mut self,
        first: u8,
        id: u16,
        reason: u8,
    ) -> Result<Acked<T>, &'static str> {
        let index = self.find(id).ok_or("acknowledgement of nothing open")?;
        let open = &mut self.open[index];
        let message = open.message;
        let refused = reason >= 0x80;
        match (first, open.step, self.qos) {
            (kind::PUBACK, Step::Published, 1) if !refused => {}
            (kind::PUBACK, Step::Published, 1) | (kind::PUBREC, Step::Published, 2) if refused => {
                self.done(index);
                return Ok(Acked::Refused(message, reason));
            }
            (kind::PUBREC, Step::Published, 2) => {
                open.step = Step::Released;
                return Ok(Acked::Release);
            }
            // After a crash the broker may have completed it already (MQTT 5, 3.7.2.1: 0x92).
            (kind::PUBCOMP, Step::Released, 2) if !refused || reason == 0x92 => {}
            (kind::PUBCOMP, Step::Released, 2) => return Err("PUBCOMP with an unknown reason"),
            _ => return Err("acknowledgement of another kind than the message waits for"),
        }
        self.done(index);
        Ok(Acked::Promised(message))
    }

    /// The open message with this packet id that was sent on this connection.
    fn find(&self, id: u16) -> Option<usize> {
        let number = u64::from(id.checked_sub(1)?);
        let index = (number + IDS - self.base % IDS) % IDS;
        let index = usize::try_from(index).ok()?;
        (index < self.cursor && self.open[index].step != Step::Done).then_some(index)
    }

    fn done(&mut self, index: usize) {
        self.open[index].step = Step::Done;
        self.under_way -= 1;
        while self.cursor > 0
            && self
                .open
                .front()
                .is_some_and(|open| open.step == Step::Done)
        {
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
mod tests {
    use super::*;

    fn window(qos: u8, receive_max: u16, sent: u64) -> Window<u64> {
        let mut window = Window::new(qos);
        window.begin(receive_max, false);
        for seq in 0..sent {
            assert_eq!(window.push(seq), seq as u16 + 1);
        }
        window
    }

    #[test]
    fn the_brokers_receive_maximum_is_kept() {
        let mut window = window(1, 2, 2);
        assert!(!window.has_room());
        assert_eq!(window.take(kind::PUBACK, 2, 0), Ok(Acked::Promised(1)));
        assert!(window.has_room());
        assert_eq!(window.push(2), 3);
        assert!(!window.has_room());
    }

    #[test]
    fn at_qos_2_a_message_counts_until_its_pubcomp() {
        let mut window = window(2, 1, 1);
        assert_eq!(window.take(kind::PUBREC, 1, 0), Ok(Acked::Release));
        assert!(!window.has_room() && window.waits());
        assert!(window.take(kind::PUBREC, 1, 0).is_err());
        assert_eq!(window.take(kind::PUBCOMP, 1, 0), Ok(Acked::Promised(0)));
        assert!(window.has_room() && !window.waits());
    }

    #[test]
    fn what_is_open_is_sent_again_in_its_order_and_before_anything_new() {
        let mut window = window(2, 9, 3);
        window.take(kind::PUBREC, 1, 0).expect("open");
        window.take(kind::PUBREC, 2, 0).expect("open");
        window.take(kind::PUBCOMP, 2, 0).expect("released");
        window.end();
        assert!(!window.has_room(), "no connection");
        assert!(
            window.take(kind::PUBCOMP, 1, 0).is_err(),
            "not sent on this one"
        );
        window.begin(9, false);
        assert!(!window.has_room());
        assert_eq!(window.again(), Some(Again::Release(1)));
        assert_eq!(window.again(), Some(Again::Publish(2, 3, Resent::Again)));
        assert_eq!(window.again(), None);
        assert!(window.has_room());
    }

    #[test]
    fn sending_again_keeps_the_receive_maximum_too() {
        let mut window = window(1, 9, 3);
        window.begin(2, false);
        assert!(window.again().is_some() && window.again().is_some());
        assert_eq!(window.again(), None);
        window.take(kind::PUBACK, 1, 0).expect("open");
        assert_eq!(window.again(), Some(Again::Publish(2, 3, Resent::Again)));
    }

    #[test]
    fn without_its_session_everything_is_new() {
        let mut window = window(2, 9, 2);
        window.take(kind::PUBREC, 1, 0).expect("open");
        window.begin(9, true);
        assert_eq!(window.again(), Some(Again::Publish(0, 1, Resent::Anew)));
        assert_eq!(window.again(), Some(Again::Publish(1, 2, Resent::Anew)));
        window.begin(9, false);
        assert_eq!(window.again(), Some(Again::Publish(0, 1, Resent::Again)));
    }

    #[test]
    fn a_refused_message_is_done() {
        for (qos, first) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
            let mut window = window(qos, 9, 1);
            assert_eq!(window.take(first, 1, 0x97), Ok(Acked::Refused(0, 0x97)));
            assert!(!window.waits());
        }
    }

    #[test]
    fn what_a_broker_must_not_send_is_an_error() {
        let mut window = window(1, 9, 2);
        for (first, id) in [
            (kind::PUBACK, 0),
            (kind::PUBACK, 3),
            (kind::PUBREC, 1),
            (kind::PUBCOMP, 1),
        ] {
            assert!(window.take(first, id, 0).is_err(), "{first:#x} {id}");
        }
        window.take(kind::PUBACK, 2, 0).expect("open");
        assert!(window.take(kind::PUBACK, 2, 0).is_err(), "done already");
    }

    #[test]
    fn an_answer_that_passes_over_another_message_is_told() {
        for (qos, first) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
            let mut window = window(qos, 9, 3);
            let passes: Vec<bool> = [2, 3, 1]
                .map(|id| {
                    let passes = window.passes_over(first, id);
                    window.take(first, id, 0).expect("open");
                    passes
                })
                .into();
            assert_eq!(passes, [true, false, false], "QoS {qos}");
            assert!(!window.passes_over(first, 9), "it is none of them");
        }
        // PUBCOMP answers PUBREL, and the message behind may have come as far.
        let mut window = window(2, 9, 2);
        window.take(kind::PUBREC, 1, 0).expect("open");
        window.take(kind::PUBREC, 2, 0).expect("open");
        assert!(!window.passes_over(kind::PUBCOMP, 2));
    }

    #[test]
    fn packet_ids_go_round_and_never_name_two() {
        let mut window = window(1, u16::MAX, 0);
        let mut expected = 0;
        for seq in 0..200_000 {
            let id = window.push(seq);
            assert!(id > 0);
            if seq % 3 == 0 || !window.has_room() {
                let acked = window.take(kind::PUBACK, packet_id(expected), 0);
                assert_eq!(acked, Ok(Acked::Promised(expected)));
                expected += 1;
            }
        }
    }
}
