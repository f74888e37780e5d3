//! The first part: sessions that subscribe and leave, and publishers that fill their queues.

use std::time::Duration;

use super::book::{Book, Number};
use super::station::{Crowd, Next};
use super::{Terms, accepted};
use crate::limits::UNSENT_BYTES_MAX;
use crate::wire::{self, Keep, Packet, Publish, kind};

/// Every session subscribes to its topic, and to some more where nothing is published, and leaves.
pub(super) struct Arrivals<'a> {
    book: &'a Book,
    terms: Terms,
    /// Of each session.
    filters: usize,
    left: u64,
}

impl<'a> Arrivals<'a> {
    /// None has come yet.
    pub(super) fn new(book: &'a Book, terms: Terms, filters: usize) -> Self {
        let left = u64::from(book.sessions);
        Self {
            book,
            terms,
            filters,
            left,
        }
    }
}

impl Crowd for Arrivals<'_> {
    fn size(&self) -> usize {
        self.book.sessions as usize
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
            kind::CONNACK => {
                accepted(packet, self.terms.version)?;
                let topic = self.book.topic(device as u32);
                let others = (1..self.filters).map(|n| format!("{topic}/{n}"));
                let all = others.chain([topic.clone()]);
                wire::subscribe(out, self.terms.version, all, 1);
                Ok(Next::Stay)
            }
            kind::SUBACK => match wire::suback(packet.body, self.filters) {
                Some(codes) if codes.iter().all(|code| *code == 1) => {
                    self.left -= 1;
                    wire::disconnect(out);
                    Ok(Next::Leave)
                }
                _ => Err("SUBACK does not grant QoS 1".to_owned()),
            },
            first => Err(unexpected(first)),
        }
    }

    fn go_on(&mut self, _device: usize, _out: &mut Vec<u8>) {}

    fn leave(&self, _out: &mut Vec<u8>) {}

    fn is_done(&self) -> bool {
        self.left == 0
    }

    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    fn progress(&self) -> u64 {
        0 // Connections count by themselves.
    }

    fn flow(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// One connection that publishes, in a closed loop.
#[derive(Debug)]
struct Publisher {
    next: Option<Number>,
    window: u64,
    sent: u64,
    acked: u64,
}

/// The packet id of a connection's message: 1 to 65,535 in turn.
fn packet_id(message: u64) -> u16 {
    (message % 65_535) as u16 + 1
}

/// Publishers that send everything there is.
pub(super) struct Fillers<'a> {
    book: &'a Book,
    terms: Terms,
    publishers: Vec<Publisher>,
    sent: u64,
    acked: u64,
}

impl<'a> Fillers<'a> {
    /// Nothing is sent yet; `window` is what each publisher may have under way.
    pub(super) fn new(book: &'a Book, terms: Terms, window: u32) -> Self {
        let publisher = |number: usize| Publisher {
            next: book.first(number as u32),
            window: u64::from(window),
            sent: 0,
            acked: 0,
        };
        Self {
            book,
            terms,
            publishers: (0..book.publishers()).map(publisher).collect(),
            sent: 0,
            acked: 0,
        }
    }

    /// Messages sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages the broker has acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    fn acknowledged(&mut self, device: usize, packet: &Packet<'_>) -> Result<(), String> {
        let publisher = &mut self.publishers[device];
        let id = wire::packet_id(packet.body);
        if publisher.acked == publisher.sent || id != Some(packet_id(publisher.acked)) {
            return Err("PUBACK out of turn".to_owned());
        }
        match wire::reason(packet.body) {
            0 => {}
            0x10 => return Err("PUBACK says that nobody subscribes".to_owned()),
            code => return Err(format!("PUBACK 0x{code:02x}")),
        }
        publisher.acked += 1;
        self.acked += 1;
        Ok(())
    }
}

impl Crowd for Fillers<'_> {
    fn size(&self) -> usize {
        self.publishers.len()
    }

    fn greet(&self, device: usize, out: &mut Vec<u8>) {
        self.terms
            .connect(out, &self.book.publisher_id(device), Keep::No);
    }

    fn hear(
        &mut self,
        device: usize,
        packet: &Packet<'_>,
        _out: &mut Vec<u8>,
    ) -> Result<Next, String> {
        match packet.first & 0xF0 {
            kind::CONNACK => {
                let connack = accepted(packet, self.terms.version)?;
                let publisher = &mut self.publishers[device];
                publisher.window = publisher.window.min(u64::from(connack.receive_max));
                Ok(Next::Up)
            }
            kind::PUBACK => self.acknowledged(device, packet).map(|()| Next::Stay),
            first => Err(unexpected(first)),
        }
    }

    fn go_on(&mut self, device: usize, out: &mut Vec<u8>) {
        let Self {
            book,
            terms,
            publishers,
            sent,
            ..
        } = self;
        let publisher = &mut publishers[device];
        while publisher.sent - publisher.acked < publisher.window && out.len() < UNSENT_BYTES_MAX {
            let Some(message) = publisher.next else {
                return;
            };
            let publish = Publish {
                version: terms.version,
                qos: 1,
                dup: false,
                topic: &book.topic(message.session),
                id: packet_id(publisher.sent),
                payload_len: book.size,
            };
            publish.append(out, |payload| book.write(message, payload));
            publisher.next = book.after(message);
            publisher.sent += 1;
            *sent += 1;
        }
    }

    fn leave(&self, out: &mut Vec<u8>) {
        wire::disconnect(out);
    }

    fn is_done(&self) -> bool {
        self.acked == self.book.messages
    }

    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    fn progress(&self) -> u64 {
        self.acked
    }

    fn flow(&self) -> (u64, u64) {
        (self.sent, 0)
    }
}

/// What is said of a packet that has no business here.
pub(super) fn unexpected(first: u8) -> String {
    format!("a packet of type {} that nothing asked for", first >> 4)
}
