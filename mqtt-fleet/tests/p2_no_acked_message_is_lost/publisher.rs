//! A publisher that keeps its side of the standard: what is not acknowledged when a connection breaks is sent
//! again on the next one, in order, with the same packet identifiers.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::common::{Client, Connect, Dice, Got, PATIENCE, Packet, Publish, Version, wire};
use crate::stage::{Phase, Stage, Stream};

/// Unacknowledged messages at most.
const WINDOW: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Published,
    /// `QoS` 2: PUBREC has come, PUBREL is out.
    Released,
}

struct Flight {
    id: u16,
    stream: Stream,
    seq: u64,
    step: Step,
}

pub(crate) struct Publisher {
    stage: Arc<Stage>,
    number: u8,
    connect: Connect,
    dice: Dice,
    flights: VecDeque<Flight>,
    next_id: u16,
    /// Last sequence number used, of `QoS` 1 and 2.
    sent: [u64; 2],
    /// Whether a CONNACK was ever seen: from then on the session must be there.
    known: bool,
}

impl Publisher {
    pub(crate) fn new(stage: &Arc<Stage>, number: u8, version: Version, seed: u64) -> Self {
        let connect = Connect::v5(&format!("publisher-{number}"))
            .version(version)
            .persistent()
            .keep_alive(0);
        Self {
            stage: Arc::clone(stage),
            number,
            connect,
            dice: Dice::seeded(seed),
            flights: VecDeque::new(),
            next_id: 1,
            sent: [0; 2],
            known: false,
        }
    }

    pub(crate) fn run(mut self) {
        let mut failed = 0;
        while let Some(generation) = self.stage.await_up(failed) {
            let Some(mut client) = self.connect.dial(self.stage.addr) else {
                failed = generation;
                continue;
            };
            assert!(
                client.present || !self.known,
                "session present is 0 after a CONNACK was seen"
            );
            self.known = true;
            match self.work(&mut client, generation) {
                Some(End::Done) => return,
                Some(End::Again) => {}
                None => failed = generation,
            }
        }
    }

    /// Works on one connection; `None` when it broke.
    fn work(&mut self, client: &mut Client, generation: u64) -> Option<End> {
        self.send_again(client)?;
        loop {
            match self.stage.phase() {
                Phase::Failed => return Some(End::Done),
                Phase::LastPublishes | Phase::LastDeliveries if self.flights.is_empty() => {
                    return Some(End::Done);
                }
                Phase::Working => self.send_more(client)?,
                _ => {}
            }
            if self.flights.is_empty() {
                self.stage
                    .await_work(self.sent[0].min(self.sent[1]), generation);
                continue;
            }
            match client.next(PATIENCE) {
                Got::Packet(packet) => self.answer(client, &packet)?,
                Got::Closed => return None,
                Got::Silence => panic!("no acknowledgement in {PATIENCE:?}"),
            }
            if self.dice.one_in(500) {
                return Some(End::Again);
            }
        }
    }

    fn send_again(&mut self, client: &mut Client) -> Option<()> {
        let mut out = Vec::new();
        for flight in &self.flights {
            match flight.step {
                Step::Published => out.extend(flight.encode(client.version, true)),
                Step::Released => out.extend(wire::ack(wire::PUBREL, flight.id)),
            }
        }
        client.try_send(&out)
    }

    fn send_more(&mut self, client: &mut Client) -> Option<()> {
        let budget = self.stage.budget();
        let mut out = Vec::new();
        while self.flights.len() < WINDOW {
            let behind = usize::from(self.sent[1] < self.sent[0]);
            if self.sent[behind] >= budget {
                break;
            }
            self.sent[behind] += 1;
            let stream = Stream {
                publisher: self.number,
                qos: behind as u8 + 1,
            };
            let flight = Flight {
                id: self.next_id,
                stream,
                seq: self.sent[behind],
                step: Step::Published,
            };
            // Far more identifiers than the window: one is never in use when it comes round again.
            self.next_id = self.next_id % 1000 + 1;
            out.extend(flight.encode(client.version, false));
            self.flights.push_back(flight);
        }
        client.try_send(&out)
    }

    fn answer(&mut self, client: &mut Client, packet: &Packet) -> Option<()> {
        match packet {
            Packet::PubAck { id, code } => {
                assert!(*code < 0x80, "PUBACK says {code:#x}");
                let at = self.oldest(1, *id);
                let flight = self.flights.remove(at).expect("found");
                self.stage.acked(flight.stream, flight.seq);
            }
            Packet::PubRec { id, code } => {
                assert!(*code < 0x80, "PUBREC says {code:#x}");
                let at = self.oldest(2, *id);
                let flight = &mut self.flights[at];
                flight.step = Step::Released;
                // From here the broker owns the message.
                self.stage.acked(flight.stream, flight.seq);
                return client.try_send(&wire::ack(wire::PUBREL, *id));
            }
            Packet::PubComp { id, .. } => {
                let done = self
                    .flights
                    .iter()
                    .position(|f| f.id == *id && f.step == Step::Released);
                self.flights.remove(done.expect("PUBCOMP answers a PUBREL"));
            }
            other => panic!("a publisher gets {other:?}"),
        }
        Some(())
    }

    /// Place of the oldest unacknowledged message of a `QoS`, which must be the one with this identifier
    /// [MQTT-4.6.0-2, MQTT-4.6.0-3].
    fn oldest(&self, qos: u8, id: u16) -> usize {
        let waits = |f: &Flight| f.stream.qos == qos && f.step == Step::Published;
        let at = self
            .flights
            .iter()
            .position(waits)
            .expect("something waits for this answer");
        let expected = self.flights[at].id;
        assert_eq!(
            id, expected,
            "acknowledgements out of the order of the messages at QoS {qos}"
        );
        at
    }
}

impl Flight {
    fn encode(&self, version: Version, again: bool) -> Vec<u8> {
        let text = self.seq.to_string();
        let mut p = Publish::new(&self.stream.topic(), self.stream.qos, text).id(self.id);
        p.dup = again;
        wire::publish(version, &p)
    }
}

enum End {
    Done,
    /// Leave this connection without a word and come back.
    Again,
}
