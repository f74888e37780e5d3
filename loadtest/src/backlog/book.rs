//! Who there is, and what is owed to whom: all of it follows from the arguments, so the part that drains needs nothing
//! of the part that filled.

use crate::limits::{BACKLOG_PUBLISHERS, BACKLOG_STAMP_BYTES};
use crate::simulate::dice::Dice;

/// The sessions, the publishers, and their messages.
#[derive(Debug, Clone)]
pub(super) struct Book {
    run: String,
    seed: u64,
    pub(super) sessions: u32,
    pub(super) messages: u64,
    pub(super) size: usize,
}

/// One message: whose, and its number in that session's topic, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) session: u32,
    pub(super) number: u64,
}

impl Book {
    /// `messages` of `size` bytes spread evenly over `sessions`; `run` is part of all names and of the payloads.
    pub(super) fn new(run: &str, sessions: u32, messages: u64, size: usize) -> Self {
        let seed = run
            .bytes()
            .fold(0, |seed, byte| Dice::new(seed, u64::from(byte)).draw());
        Self {
            run: run.to_owned(),
            seed,
            sessions,
            messages,
            size,
        }
    }

    /// Client id of a session.
    pub(super) fn client_id(&self, session: usize) -> String {
        format!("backlog-{}-s{session}", self.run)
    }

    /// Client id of a publisher.
    pub(super) fn publisher_id(&self, publisher: usize) -> String {
        format!("backlog-{}-p{publisher}", self.run)
    }

    /// The topic of a session, which is its filter too.
    pub(super) fn topic(&self, session: u32) -> String {
        format!("backlog/{}/{session}", self.run)
    }

    /// Publishers: each has sessions of its own, so the order within a topic is that of one connection.
    pub(super) fn publishers(&self) -> usize {
        BACKLOG_PUBLISHERS.min(self.sessions as usize)
    }

    /// Messages of a session; the first sessions may have one more than the others.
    pub(super) fn owed(&self, session: u32) -> u64 {
        let sessions = u64::from(self.sessions);
        self.messages / sessions + u64::from(u64::from(session) < self.messages % sessions)
    }

    /// The first message of a publisher, if it has any.
    pub(super) fn first(&self, publisher: u32) -> Option<Number> {
        self.owned(publisher, 0)
    }

    /// The message of the same publisher after `sent`: each of its sessions gets one, then each the next one.
    pub(super) fn after(&self, sent: Number) -> Option<Number> {
        let step = self.publishers() as u32;
        let same_round = sent
            .session
            .checked_add(step)
            .filter(|s| *s < self.sessions);
        let same_round = same_round.and_then(|session| self.owned(session, sent.number));
        same_round.or_else(|| self.owned(sent.session % step, sent.number + 1))
    }

    fn owned(&self, session: u32, number: u64) -> Option<Number> {
        (number < self.owed(session)).then_some(Number { session, number })
    }

    /// Writes the payload of a message: whose it is, its number, and noise that follows from both.
    pub(super) fn write(&self, message: Number, payload: &mut [u8]) {
        let (stamp, noise) = payload.split_at_mut(BACKLOG_STAMP_BYTES);
        stamp[..4].copy_from_slice(&message.session.to_be_bytes());
        stamp[4..].copy_from_slice(&message.number.to_be_bytes());
        let mut dice = self.dice(message);
        for piece in noise.chunks_mut(8) {
            piece.copy_from_slice(&dice.draw().to_be_bytes()[..piece.len()]);
        }
    }

    /// Reads a payload; `None` if that was not written for this run, byte by byte.
    pub(super) fn read(&self, payload: &[u8]) -> Option<Number> {
        let (stamp, noise) = payload.split_at_checked(BACKLOG_STAMP_BYTES)?;
        let message = Number {
            session: u32::from_be_bytes(*stamp.first_chunk()?),
            number: u64::from_be_bytes(*stamp.last_chunk()?),
        };
        let mut dice = self.dice(message);
        let is_right = |piece: &[u8]| dice.draw().to_be_bytes()[..piece.len()] == *piece;
        (payload.len() == self.size
            && message.session < self.sessions
            && message.number < self.owed(message.session)
            && noise.chunks(8).all(is_right))
        .then_some(message)
    }

    fn dice(&self, message: Number) -> Dice {
        let seed = self.seed.wrapping_add(u64::from(message.session));
        Dice::new(seed, message.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn publishers_send_every_message_once_and_each_topic_in_order() {
        for (sessions, messages) in [(1, 5), (3, 0), (40, 39), (40, 1_234), (16, 160), (17, 5)] {
            let book = Book::new("r", sessions, messages, 20);
            let mut next = BTreeMap::<u32, u64>::new();
            for publisher in 0..book.publishers() as u32 {
                let mut message = book.first(publisher);
                while let Some(sent) = message {
                    let expected = next.entry(sent.session).or_default();
                    assert_eq!(sent.number, *expected, "{sessions} sessions");
                    *expected += 1;
                    message = book.after(sent);
                }
            }
            let sent: u64 = next.values().sum();
            assert_eq!(sent, messages, "{sessions} sessions");
            assert!(
                next.iter()
                    .all(|(session, sent)| *sent == book.owed(*session))
            );
        }
    }

    #[test]
    fn a_payload_with_any_bit_changed_or_of_another_run_is_not_taken() {
        let (book, other) = (Book::new("r", 3, 30, 33), Book::new("q", 3, 30, 33));
        let message = Number {
            session: 2,
            number: 9,
        };
        let mut payload = vec![0; book.size];
        book.write(message, &mut payload);
        assert_eq!(book.read(&payload), Some(message));
        assert_eq!(other.read(&payload), None);
        assert_eq!(book.read(&payload[..32]), None);
        for bit in 0..payload.len() * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(book.read(&payload), None, "bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_message_that_nobody_sent_is_not_taken() {
        let (book, larger) = (Book::new("r", 3, 30, 33), Book::new("r", 4, 48, 33));
        let mut payload = vec![0; book.size];
        for (session, number) in [(2, 10), (3, 0)] {
            larger.write(Number { session, number }, &mut payload);
            assert_eq!(book.read(&payload), None);
        }
    }
}
