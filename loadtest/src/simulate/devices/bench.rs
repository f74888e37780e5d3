//! A device against a broker made of bytes.

use super::device::{Device, Due, Stage, Turn};
use super::loss::Loss;
use super::plan;
use super::tally::Tally;
use crate::account::Stamp;
use crate::control::message::FindingKind;
use crate::control::message::{Counts, FromWorker, Receipt, Stream};
use crate::scenario::Population;
use crate::simulate::devices::crowd::Crowd;
use crate::simulate::devices::fixture;
use crate::wire::{Packet, kind};
use crate::wire::{Publish, Published, Scan, published, scan};

/// Device 4 of ten, alone.
pub(super) struct Bench {
    pub(super) crowd: Crowd,
    pub(super) now_us: u64,
}

pub(super) const DEVICE: u32 = 4;
pub(super) const START_US: u64 = 1_000_000;

impl Bench {
    pub(super) fn new(change: impl FnOnce(&mut Population)) -> Self {
        let plan = fixture::plan(change);
        let tally = Tally::new(&[0..0, 0..10], &(0..10), 1);
        Self {
            crowd: Crowd::new(plan, tally),
            now_us: START_US,
        }
    }

    pub(super) fn act<R>(&mut self, act: impl FnOnce(&mut Device, &mut Turn<'_>) -> R) -> R {
        self.crowd.act(DEVICE as usize, self.now_us, false, act)
    }

    pub(super) fn device(&self) -> &Device {
        &self.crowd.devices[DEVICE as usize]
    }

    pub(super) fn due(&mut self) -> Due {
        self.act(Device::due)
    }

    /// Lets time pass up to the device's next deadline, and lets it act.
    pub(super) fn next(&mut self) -> Due {
        let at_us = self
            .crowd
            .deadline_us(DEVICE as usize, false)
            .expect("a timer");
        self.now_us = self.now_us.max(at_us);
        self.due()
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<(), Loss> {
        let Scan::Packet(packet) = scan(bytes) else {
            panic!("one packet")
        };
        self.act(|device, turn| device.hear(&packet, turn))
    }

    pub(super) fn lose(&mut self, loss: &Loss) {
        self.crowd.out.clear();
        self.act(|device, turn| device.lost(loss, turn));
    }

    /// The first bytes of the packets that it has said since the last look.
    pub(super) fn said(&mut self) -> Vec<u8> {
        self.packets().into_iter().map(|(first, _)| first).collect()
    }

    pub(super) fn packets(&mut self) -> Vec<(u8, Vec<u8>)> {
        let bytes = std::mem::take(&mut self.crowd.out);
        let (mut at, mut found) = (0, Vec::new());
        while let Scan::Packet(packet) = scan(&bytes[at..]) {
            at += packet.len;
            found.push((packet.first, packet.body.to_vec()));
        }
        assert_eq!(at, bytes.len(), "whole packets");
        found
    }

    /// Telemetry among what it has said: DUP, packet id, number.
    pub(super) fn telemetry(&mut self) -> Vec<(bool, u16, u32)> {
        let version = plan::version(self.crowd.plan.population(DEVICE).0);
        let packets = self.packets().into_iter();
        let publishes = packets.filter(|(first, _)| first & 0xF0 == kind::PUBLISH);
        let read = |(first, body): (u8, Vec<u8>)| {
            let len = body.len() + 2;
            let packet = Packet {
                first,
                body: &body,
                len,
            };
            let Published {
                dup,
                id,
                payload,
                topic,
                ..
            } = published(&packet, version).expect("well-formed");
            assert_eq!(topic, b"d/a1-p4/up");
            let stamp = Stamp::read(payload).expect("a stamp");
            assert_eq!(
                (stamp.run, stamp.stream),
                (
                    0xA1,
                    Stream {
                        kind: 0,
                        device: DEVICE
                    }
                )
            );
            (dup, id, stamp.seq)
        };
        publishes.map(read).collect()
    }

    /// Up to the dial.
    pub(super) fn dial(&mut self) {
        if self.device().stage() == Stage::Idle {
            let at_us = self.now_us;
            self.act(|device, _| device.begin(at_us));
        }
        assert_eq!(self.next(), Due::Dial);
        self.act(Device::dialed);
        assert_eq!(self.said(), [kind::CONNECT]);
    }

    /// Up to what CONNACK brings. Half a minute is the broker's keep alive.
    pub(super) fn connect(&mut self, present: bool, receive_max: u16) -> Vec<u8> {
        self.dial();
        let [high, low] = receive_max.to_be_bytes();
        let flags = u8::from(present);
        let connack = [kind::CONNACK, 9, flags, 0, 6, 0x21, high, low, 0x13, 0, 30];
        self.hear(&connack).expect("accepted");
        let out = self.crowd.out.clone();
        let said = self.said();
        self.crowd.out = out;
        said
    }

    pub(super) fn suback(&mut self) {
        self.crowd.out.clear();
        self.hear(&[kind::SUBACK, 4, 0, 1, 0, 2]).expect("granted");
    }

    pub(super) fn up(change: impl FnOnce(&mut Population)) -> Self {
        let mut bench = Self::new(change);
        assert_eq!(bench.connect(false, 65_535), [kind::SUBSCRIBE | 0b10]);
        bench.suback();
        assert_eq!(bench.device().stage(), Stage::Up);
        bench
    }

    pub(super) fn ack(&mut self, first: u8, id: u16) -> Result<(), Loss> {
        let [high, low] = id.to_be_bytes();
        self.hear(&[first, 2, high, low])
    }

    /// A command, as the broker delivers it.
    pub(super) fn command(&mut self, qos: u8, dup: bool, id: u16, seq: u32) -> Result<(), Loss> {
        let stamp = Stamp {
            run: 0xA1,
            stream: Stream {
                kind: 1,
                device: DEVICE,
            },
            seq,
            due_us: self.now_us - 500,
        };
        self.deliver(qos, dup, id, stamp)
    }

    pub(super) fn deliver(
        &mut self,
        qos: u8,
        dup: bool,
        id: u16,
        stamp: Stamp,
    ) -> Result<(), Loss> {
        self.deliver_as("d/a1-p4/cmd", qos, dup, id, stamp)
    }

    pub(super) fn deliver_as(
        &mut self,
        topic: &str,
        qos: u8,
        dup: bool,
        id: u16,
        stamp: Stamp,
    ) -> Result<(), Loss> {
        let mut bytes = Vec::new();
        let version = plan::version(self.crowd.plan.population(DEVICE).0);
        let publish = Publish {
            version,
            qos,
            dup,
            topic,
            id,
            payload_len: 40,
        };
        publish.append(&mut bytes, |payload| stamp.write(payload));
        self.hear(&bytes)
    }

    pub(super) fn counts(&self) -> Counts {
        self.crowd.tally.counts()
    }

    pub(super) fn found(&self, kind: FindingKind) -> u64 {
        self.counts().findings[kind as usize]
    }

    pub(super) fn reports(&mut self) -> Vec<FromWorker> {
        self.crowd.tally.report();
        self.crowd.tally.outgoing(self.now_us)
    }

    pub(super) fn receipts(&mut self) -> Vec<Receipt> {
        let of = |message| match message {
            FromWorker::Receipts { of: 0, receipts } => receipts,
            _ => Vec::new(),
        };
        self.reports().into_iter().flat_map(of).collect()
    }

    pub(super) fn presence(&mut self) -> Vec<bool> {
        let of = |message| match message {
            FromWorker::Presence(presence) => presence,
            _ => Vec::new(),
        };
        let told = self.reports().into_iter().flat_map(of);
        told.map(|presence| presence.subscribed).collect()
    }
}

pub(super) fn quiet(population: &mut Population) {
    population.telemetry = None;
}
