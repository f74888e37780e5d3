//! The second part: the sessions come back and take what is theirs. Per session there are counters and nothing else.

use std::time::{Duration, Instant};

use super::book::Book;
use super::fill::unexpected;
use super::report::Backlog;
use super::station::{Crowd, Next};
use super::{Terms, accepted};
use crate::limits::LINGER;
use crate::oracle::{Seen, Stream};
use crate::wire::{self, Packet, kind};

/// The sessions, and what each has got.
pub(super) struct Drainers<'a> {
    book: &'a Book,
    terms: Terms,
    streams: Vec<Stream>,
    /// Messages that came, each counted once.
    arrived: u64,
    /// Messages of sessions that are gone: they cannot come.
    gone: u64,
    session_lost: u64,
    altered: u64,
    repeated: u64,
    duplicated: u64,
    /// When the last message came.
    last: Option<Instant>,
}

impl<'a> Drainers<'a> {
    /// Nothing has come yet.
    pub(super) fn new(book: &'a Book, terms: Terms) -> Self {
        Self {
            book,
            terms,
            streams: (0..book.sessions).map(|_| Stream::default()).collect(),
            arrived: 0,
            gone: 0,
            session_lost: 0,
            altered: 0,
            repeated: 0,
            duplicated: 0,
            last: None,
        }
    }

    /// Messages that came, each counted once.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// When everything had come.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Messages that did not come.
    pub(super) fn lost(&self) -> u64 {
        let streams = (0..).zip(&self.streams);
        streams
            .map(|(session, stream)| stream.lost(self.book.owed(session)))
            .sum()
    }

    /// First arrivals behind a later message of their topic.
    pub(super) fn reordered(&self) -> u64 {
        self.streams.iter().map(|stream| stream.reordered).sum()
    }

    /// Repetitions without DUP, which nothing excuses.
    pub(super) fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Adds what was found.
    pub(super) fn tell(&self, backlog: &mut Backlog) {
        backlog.session_lost = self.session_lost;
        backlog.altered = self.altered;
        backlog.repeated = self.repeated;
    }

    fn came_back(&mut self, device: usize, packet: &Packet<'_>) -> Result<(), String> {
        let connack = accepted(packet, self.terms.version)?;
        if !connack.session_present {
            self.session_lost += 1;
            self.gone += self.book.owed(device as u32);
        }
        Ok(())
    }

    fn delivered(
        &mut self,
        device: usize,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let publish = wire::published(packet, self.terms.version)?;
        if publish.qos != 1 {
            return Err(format!("PUBLISH at QoS {} instead of 1", publish.qos));
        }
        let message = self.book.read(publish.payload);
        let own = message.filter(|message| message.session == device as u32);
        let own = own.filter(|own| self.book.topic(own.session).as_bytes() == publish.topic);
        match own.map(|own| self.streams[device].see(own.number)) {
            None => self.altered += 1,
            Some(Seen::New { .. } | Seen::Late) => self.arrived += 1,
            Some(Seen::Duplicate) if publish.dup => self.repeated += 1,
            Some(Seen::Duplicate) => self.duplicated += 1,
        }
        wire::ack(out, kind::PUBACK, publish.id);
        if self.is_done() && self.last.is_none() {
            self.last = Some(Instant::now());
        }
        Ok(())
    }
}

impl Crowd for Drainers<'_> {
    fn size(&self) -> usize {
        self.streams.len()
    }

    fn greet(&self, device: usize, out: &mut Vec<u8>) {
        self.terms
            .connect(out, &self.book.client_id(device), self.terms.keep());
    }

    fn hear(
        &mut self,
        device: usize,
        packet: &Packet<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Next, String> {
        match packet.first & 0xF0 {
            kind::CONNACK => self.came_back(device, packet).map(|()| Next::Up),
            kind::PUBLISH => self.delivered(device, packet, out).map(|()| Next::Stay),
            first => Err(unexpected(first)),
        }
    }

    fn go_on(&mut self, _device: usize, _out: &mut Vec<u8>) {}

    fn leave(&self, out: &mut Vec<u8>) {
        wire::end_session(out, self.terms.version);
    }

    fn is_done(&self) -> bool {
        self.arrived + self.gone >= self.book.messages
    }

    /// For what should not come any more.
    fn linger(&self) -> Duration {
        LINGER
    }

    fn progress(&self) -> u64 {
        self.arrived
    }

    fn flow(&self) -> (u64, u64) {
        (0, self.arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::Number;
    use super::*;
    use crate::wire::{Publish, Scan, Version, scan};

    struct World<'a>(Drainers<'a>, &'a Book);

    impl<'a> World<'a> {
        fn of(book: &'a Book) -> Self {
            let terms = Terms {
                version: Version::V4,
                expiry_s: 60,
            };
            Self(Drainers::new(book, terms), book)
        }

        fn connack(&mut self, device: usize, flags: u8) {
            let packet = Packet {
                first: kind::CONNACK,
                body: &[flags, 0],
                len: 4,
            };
            let next = self.0.hear(device, &packet, &mut Vec::new());
            assert_eq!(next, Ok(Next::Up));
        }

        fn publish(&mut self, device: usize, (session, number): (u32, u64), dup: bool) {
            self.altered_publish(device, (session, number), dup, |_| {});
        }

        fn altered_publish(
            &mut self,
            device: usize,
            (session, number): (u32, u64),
            dup: bool,
            alter: impl FnOnce(&mut [u8]),
        ) {
            let (mut bytes, mut out) = (Vec::new(), Vec::new());
            let publish = Publish {
                version: Version::V4,
                qos: 1,
                dup,
                topic: &self.1.topic(session),
                id: 7,
                payload_len: self.1.size,
            };
            publish.append(&mut bytes, |payload| {
                self.1.write(Number { session, number }, payload);
                alter(payload);
            });
            let Scan::Packet(packet) = scan(&bytes) else {
                panic!("whole")
            };
            assert_eq!(self.0.hear(device, &packet, &mut out), Ok(Next::Stay));
            assert_eq!(out, [kind::PUBACK, 2, 0, 7]);
        }

        /// Lost, repeated with DUP, duplicated, reordered, altered, sessions lost.
        fn verdict(&self) -> [u64; 6] {
            let mut backlog = Backlog::default();
            self.0.tell(&mut backlog);
            let Drainers { duplicated, .. } = &self.0;
            let (lost, reordered) = (self.0.lost(), self.0.reordered());
            let Backlog {
                repeated,
                altered,
                session_lost,
                ..
            } = backlog;
            [
                lost,
                repeated,
                *duplicated,
                reordered,
                altered,
                session_lost,
            ]
        }
    }

    #[test]
    fn what_comes_whole_and_in_order_is_no_fault() {
        let book = Book::new("r", 2, 5, 40);
        let mut world = World::of(&book);
        world.connack(0, 1);
        world.connack(1, 1);
        for message in [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2)] {
            assert!(!world.0.is_done());
            world.publish(message.0 as usize, message, false);
        }
        assert!(world.0.is_done());
        assert_eq!(world.verdict(), [0; 6]);
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let book = Book::new("r", 2, 10, 40);
        let mut world = World::of(&book);
        world.connack(0, 1);
        world.publish(0, (0, 0), false);
        world.publish(0, (0, 0), true);
        world.publish(0, (0, 0), false);
        world.publish(0, (0, 2), false);
        world.publish(0, (0, 1), false);
        world.altered_publish(0, (0, 3), false, |payload| payload[39] ^= 1);
        world.publish(0, (1, 0), false);
        world.publish(0, (0, 4), false);
        world.connack(1, 0);
        assert!(!world.0.is_done(), "number 3 has not come");
        assert_eq!(world.verdict(), [1 + 5, 1, 1, 1, 2, 1]);
        world.publish(0, (0, 3), false);
        assert!(world.0.is_done());
        assert_eq!(world.verdict(), [5, 1, 1, 2, 2, 1]);
    }
}
