//! Devices against a broker made of bytes.

use super::*;
use crate::account::Stamp;
use crate::control::message::{Counts, FromWorker, Receipt, Seen, Stream};
use crate::scenario::Protocol;
use crate::simulate::devices::crowd::Crowd;
use crate::simulate::devices::fixture;
use crate::wire::{Publish, Published, Scan, published, scan};

/// Device 4 of ten, alone.
struct Bench {
    crowd: Crowd,
    now_us: u64,
}

const DEVICE: u32 = 4;
const START_US: u64 = 1_000_000;

impl Bench {
    fn new(change: impl FnOnce(&mut Population)) -> Self {
        let plan = fixture::plan(change);
        let tally = Tally::new(&[0..0, 0..10], &(0..10), 1);
        Self {
            crowd: Crowd::new(plan, tally),
            now_us: START_US,
        }
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Device, &mut Turn<'_>) -> R) -> R {
        self.crowd.act(DEVICE as usize, self.now_us, false, act)
    }

    fn device(&self) -> &Device {
        &self.crowd.devices[DEVICE as usize]
    }

    fn due(&mut self) -> Due {
        self.act(Device::due)
    }

    /// Lets time pass up to the device's next deadline, and lets it act.
    fn next(&mut self) -> Due {
        let at_us = self
            .crowd
            .deadline_us(DEVICE as usize, false)
            .expect("a timer");
        self.now_us = self.now_us.max(at_us);
        self.due()
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), Loss> {
        let Scan::Packet(packet) = scan(bytes) else {
            panic!("one packet")
        };
        self.act(|device, turn| device.hear(&packet, turn))
    }

    fn lose(&mut self, loss: &Loss) {
        self.crowd.out.clear();
        self.act(|device, turn| device.lost(loss, turn));
    }

    /// The first bytes of the packets that it has said since the last look.
    fn said(&mut self) -> Vec<u8> {
        self.packets().into_iter().map(|(first, _)| first).collect()
    }

    fn packets(&mut self) -> Vec<(u8, Vec<u8>)> {
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
    fn telemetry(&mut self) -> Vec<(bool, u16, u32)> {
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
    fn dial(&mut self) {
        if self.device().stage() == Stage::Idle {
            let at_us = self.now_us;
            self.act(|device, _| device.begin(at_us));
        }
        assert_eq!(self.next(), Due::Dial);
        self.act(Device::dialed);
        assert_eq!(self.said(), [kind::CONNECT]);
    }

    /// Up to what CONNACK brings. Half a minute is the broker's keep alive.
    fn connect(&mut self, present: bool, receive_max: u16) -> Vec<u8> {
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

    fn suback(&mut self) {
        self.crowd.out.clear();
        self.hear(&[kind::SUBACK, 4, 0, 1, 0, 2]).expect("granted");
    }

    fn up(change: impl FnOnce(&mut Population)) -> Self {
        let mut bench = Self::new(change);
        assert_eq!(bench.connect(false, 65_535), [kind::SUBSCRIBE | 0b10]);
        bench.suback();
        assert_eq!(bench.device().stage(), Stage::Up);
        bench
    }

    fn ack(&mut self, first: u8, id: u16) -> Result<(), Loss> {
        let [high, low] = id.to_be_bytes();
        self.hear(&[first, 2, high, low])
    }

    /// A command, as the broker delivers it.
    fn command(&mut self, qos: u8, dup: bool, id: u16, seq: u32) -> Result<(), Loss> {
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

    fn deliver(&mut self, qos: u8, dup: bool, id: u16, stamp: Stamp) -> Result<(), Loss> {
        let mut bytes = Vec::new();
        let version = plan::version(self.crowd.plan.population(DEVICE).0);
        let topic = "d/a1-p4/cmd";
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

    fn counts(&self) -> Counts {
        self.crowd.tally.counts()
    }

    fn found(&self, kind: FindingKind) -> u64 {
        self.counts().findings[kind as usize]
    }

    fn reports(&mut self) -> Vec<FromWorker> {
        self.crowd.tally.report();
        self.crowd.tally.outgoing(self.now_us)
    }

    fn receipts(&mut self) -> Vec<Receipt> {
        let of = |message| match message {
            FromWorker::Receipts { of: 0, receipts } => receipts,
            _ => Vec::new(),
        };
        self.reports().into_iter().flat_map(of).collect()
    }

    fn presence(&mut self) -> Vec<bool> {
        let of = |message| match message {
            FromWorker::Presence(presence) => presence,
            _ => Vec::new(),
        };
        let told = self.reports().into_iter().flat_map(of);
        told.map(|presence| presence.subscribed).collect()
    }
}

fn quiet(population: &mut Population) {
    population.telemetry = None;
}

#[test]
fn a_connect_counts_from_the_time_it_was_due() {
    let mut bench = Bench::new(quiet);
    bench.act(|device, _| device.begin(START_US));
    bench.now_us += 70_000;
    assert_eq!(bench.due(), Due::Dial);
    bench.now_us += 30_000;
    bench.act(Device::dialed);
    bench.now_us += 900;
    bench.hear(&[kind::CONNACK, 3, 0, 0, 0]).expect("accepted");
    let taken = bench.crowd.tally.spreads.take();
    assert_eq!(taken[0].0, LatencyKind::Connect);
    assert!(taken[0].1.0[0].0.abs_diff(100_900) < 100, "{taken:?}");
    assert_eq!(bench.crowd.standing.connecting, 1);
    bench.suback();
    assert_eq!(
        (bench.crowd.standing.up, bench.crowd.standing.connecting),
        (1, 0)
    );
    assert_eq!(bench.presence(), [true]);
}

#[test]
fn telemetry_leaves_when_due_and_waits_for_the_receive_maximum() {
    let mut bench = Bench::new(|_| {});
    bench.connect(false, 2);
    bench.suback();
    assert!(
        bench.device().due_us <= START_US + 1_000_000,
        "within the first interval"
    );
    let first_us = bench.device().due_us;
    bench.next();
    assert_eq!(bench.telemetry(), [(false, 2, 0)]);
    bench.next();
    assert_eq!(bench.device().due_us, first_us + 2_000_000);
    assert_eq!(bench.telemetry(), [(false, 3, 1)]);
    bench.now_us = first_us + 2_500_000;
    bench.due();
    assert!(bench.telemetry().is_empty(), "no room");
    let deadline_us = bench
        .crowd
        .deadline_us(DEVICE as usize, false)
        .expect("keepalive");
    assert!(deadline_us > bench.now_us, "it does not spin");
    bench.ack(kind::PUBACK, 2).expect("in order");
    assert_eq!(bench.telemetry(), [(false, 4, 2)]);
    let counts = bench.counts();
    assert_eq!((counts.sent, counts.acknowledged), ([0, 3, 0], [0, 1, 0]));
    assert_eq!((counts.left_late, bench.crowd.standing.open), (1, 2));
    let mut taken = bench.crowd.tally.spreads.take().into_iter();
    let took = taken.find(|(kind, _)| *kind == LatencyKind::TelemetryAck);
    assert!(took.expect("one").1.0[0].0.abs_diff(2_500_000) < 2_500);
}

#[test]
fn in_a_drain_nothing_is_sent_and_what_fell_due_is_skipped() {
    let mut bench = Bench::up(|_| {});
    bench.crowd.sending = false;
    bench.now_us += 5_000_000;
    bench.due();
    assert!(bench.said().is_empty());
    bench.crowd.sending = true;
    bench.act(|device, turn| device.schedule(turn));
    assert!(bench.device().due_us >= bench.now_us);
    bench.next();
    assert_eq!(bench.telemetry(), [(false, 2, 0)]);
    assert_eq!(bench.counts().left_late, 0);
}

#[test]
fn what_is_open_is_sent_again_when_the_session_is_there() {
    let mut bench = Bench::up(|p| p.telemetry.as_mut().expect("some").qos = 2);
    for _ in 0..3 {
        bench.next();
    }
    assert_eq!(
        bench.telemetry(),
        [(false, 2, 0), (false, 3, 1), (false, 4, 2)]
    );
    bench.ack(kind::PUBREC, 2).expect("in order");
    assert_eq!(bench.said(), [kind::PUBREL | 0b10]);
    bench.lose(&Loss::Closed);
    assert_eq!(bench.counts().connections_lost, 1);
    assert_eq!(
        bench.connect(true, 2),
        [kind::PUBREL | 0b10, kind::PUBLISH | 0b1100]
    );
    assert_eq!(bench.telemetry(), [(true, 3, 1)], "Receive Maximum is 2");
    assert_eq!(
        bench.ack(kind::PUBREC, 4),
        Err(Loss::Violation("acknowledgement of nothing"))
    );
    bench.ack(kind::PUBCOMP, 2).expect("released");
    assert_eq!(bench.telemetry(), [(true, 4, 2)]);
    for id in [3, 4] {
        bench.ack(kind::PUBREC, id).expect("in order");
        bench.ack(kind::PUBCOMP, id).expect("released");
    }
    assert_eq!(bench.counts().acknowledged, [0, 0, 3]);
    assert!(bench.device().session.is_none(), "nothing is kept");
    assert_eq!(bench.found(FindingKind::SessionLost), 0);
    assert_eq!(
        bench.presence(),
        [true],
        "its subscriptions stand since the first connection"
    );
}

#[test]
fn a_lost_session_is_found_and_begins_anew() {
    let mut bench = Bench::up(|_| {});
    bench.next();
    assert_eq!(bench.telemetry(), [(false, 2, 0)]);
    bench.lose(&Loss::Closed);
    assert_eq!(bench.connect(false, 10), [kind::SUBSCRIBE | 0b10]);
    assert_eq!(bench.found(FindingKind::SessionLost), 1);
    bench.crowd.out.clear();
    bench.hear(&[kind::SUBACK, 4, 0, 1, 0, 2]).expect("granted");
    assert_eq!(bench.telemetry()[0], (false, 2, 0), "as new");
}

#[test]
fn a_session_that_may_be_gone_is_none_lost() {
    let mut bench = Bench::up(quiet);
    bench.lose(&Loss::Closed);
    bench.now_us += 601_000_000;
    bench.connect(false, 10);
    assert_eq!(bench.found(FindingKind::SessionLost), 0);
}

#[test]
fn a_session_that_cannot_be_is_unexpected() {
    let mut bench = Bench::new(quiet);
    bench.connect(true, 10);
    assert_eq!(bench.found(FindingKind::SessionUnexpected), 1);
    let mut bench = Bench::up(|p| p.clean = true);
    bench.lose(&Loss::Closed);
    bench.connect(true, 10);
    assert_eq!(bench.found(FindingKind::SessionUnexpected), 1);
    // A CONNECT whose answer was lost may have made one.
    let mut bench = Bench::new(quiet);
    bench.dial();
    bench.lose(&Loss::Closed);
    bench.connect(true, 10);
    assert_eq!(bench.found(FindingKind::SessionUnexpected), 0);
}

#[test]
fn a_clean_session_ends_with_its_connection() {
    let mut bench = Bench::up(|p| p.clean = true);
    bench.next();
    assert_eq!(bench.telemetry().len(), bench.crowd.standing.open);
    bench.act(Device::storm);
    assert_eq!(bench.crowd.standing.open, 0);
    let counts = bench.counts();
    assert_eq!(
        (
            counts.unacknowledged,
            counts.dropped,
            counts.connections_lost
        ),
        (1, 1, 0)
    );
    assert_eq!(bench.presence(), [true, false]);
    assert_eq!(bench.crowd.standing.stormed, 1);
    bench.connect(false, 10);
    bench.suback();
    assert_eq!(bench.crowd.standing.stormed, 0);
    assert_eq!(bench.counts().reconnects, 1);
}

#[test]
fn idle_devices_ping_in_time_and_notice_silence() {
    let mut bench = Bench::up(quiet);
    let since_us = bench.now_us;
    assert_eq!(bench.next(), Due::Nothing);
    assert_eq!(bench.said(), [kind::PINGREQ]);
    let idle_us = bench.now_us - since_us;
    // The broker has asked for 30 s where the scenario says 60.
    assert!((24_000_000..=27_100_000).contains(&idle_us), "{idle_us}");
    assert_eq!(bench.now_us % 100_000, 0, "in steps");
    bench.now_us += 2_000;
    bench.hear(&[kind::PINGRESP, 0]).expect("asked for");
    assert_eq!(bench.counts().pings, 1);
    bench.next();
    assert_eq!(bench.said(), [kind::PINGREQ]);
    assert_eq!(bench.next(), Due::Lose(Loss::Silent("PINGREQ")));
}

#[test]
fn brokers_that_do_not_answer_are_left() {
    let mut bench = Bench::new(quiet);
    bench.dial();
    assert_eq!(bench.next(), Due::Lose(Loss::Silent("CONNECT")));
    bench.lose(&Loss::Silent("CONNECT"));
    bench.connect(false, 10);
    assert_eq!(bench.next(), Due::Lose(Loss::Silent("SUBSCRIBE")));
}

#[test]
fn refusals_are_counted_by_reason_and_tried_again_later_and_later() {
    let mut bench = Bench::new(quiet);
    let mut longest_us = 0;
    for _ in 0..40 {
        bench.dial();
        let refused = bench.hear(&[kind::CONNACK, 3, 0, 0x97, 0]);
        assert_eq!(refused, Err(Loss::Refused(0x97)));
        bench.lose(&Loss::Refused(0x97));
        let until_us = bench
            .crowd
            .deadline_us(DEVICE as usize, false)
            .expect("again");
        longest_us = longest_us.max(until_us - bench.now_us);
    }
    assert!(
        (4_000_000..=8_000_000).contains(&longest_us),
        "{longest_us}"
    );
    bench.connect(false, 10);
    let refused = bench.hear(&[kind::SUBACK, 4, 0, 1, 0, 0x87]);
    assert_eq!(refused, Err(Loss::SubscribeRefused(0x87)));
    bench.lose(&Loss::SubscribeRefused(0x87));
    let errors = bench.crowd.tally.errors();
    let expected = [
        ("CONNACK 0x97".to_owned(), 40),
        ("SUBACK 0x87".to_owned(), 1),
    ];
    assert_eq!(errors, expected);
    assert_eq!(bench.counts().connections_lost, 0, "none was up");
}

#[test]
fn commands_are_acknowledged_and_get_receipts() {
    let mut bench = Bench::up(quiet);
    bench.command(0, false, 0, 0).expect("allowed");
    bench.command(1, false, 9, 1).expect("allowed");
    bench.command(2, false, 10, 2).expect("allowed");
    bench.ack(kind::PUBREL | 0b10, 10).expect("allowed");
    assert_eq!(bench.said(), [kind::PUBACK, kind::PUBREC, kind::PUBCOMP]);
    assert!(bench.device().session.is_none(), "nothing is kept");
    bench.command(1, true, 11, 1).expect("QoS 1 allows it");
    bench
        .command(1, false, 12, 1)
        .expect("the sender knows whether it may");
    let counts = bench.counts();
    assert_eq!((counts.received, counts.repeated), ([1, 1, 1], 1));
    let receipts = bench.receipts().into_iter();
    let seen: Vec<(u32, Seen)> = receipts
        .map(|receipt| (receipt.seq, receipt.seen))
        .collect();
    let again = Seen::Again { qos: 1 };
    let expected = [
        (0, Seen::First),
        (1, Seen::First),
        (2, Seen::First),
        (1, again),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn order_repetition_and_strangers_are_found() {
    let mut bench = Bench::up(quiet);
    bench.command(0, false, 0, 1).expect("a gap");
    bench.command(0, false, 0, 0).expect("late");
    bench.command(0, false, 0, 0).expect("again");
    assert_eq!(bench.found(FindingKind::Reordered), 1);
    assert_eq!(bench.found(FindingKind::DuplicatedQos0), 1);
    let stamp = |run, kind, device| Stamp {
        run,
        stream: Stream { kind, device },
        seq: 0,
        due_us: START_US,
    };
    for (run, kind, device, found) in [(0xA1, 1, 5, 1), (0xA1, 2, 4, 2), (0xA2, 1, 5, 2)] {
        bench
            .deliver(0, false, 0, stamp(run, kind, device))
            .expect("allowed");
        assert_eq!(bench.found(FindingKind::Misdelivered), found);
    }
    bench
        .hear(&[kind::PUBLISH, 6, 0, 1, b'x', 0, b'?', b'?'])
        .expect("allowed");
    assert_eq!(bench.found(FindingKind::Misdelivered), 3);
    assert_eq!(bench.counts().received, [2, 0, 0]);
}

#[test]
fn qos_2_messages_are_remembered_over_connections() {
    let mut bench = Bench::up(quiet);
    bench.command(2, false, 10, 0).expect("new");
    bench.lose(&Loss::Closed);
    bench.connect(true, 10);
    assert!(bench.said().is_empty());
    bench.command(2, true, 10, 0).expect("again");
    assert_eq!(bench.said(), [kind::PUBREC]);
    assert_eq!(bench.counts().received, [0, 0, 1]);
    bench.ack(kind::PUBREL | 0b10, 10).expect("allowed");
    bench
        .ack(kind::PUBREL | 0b10, 10)
        .expect("its PUBCOMP may have been lost");
    bench
        .command(2, false, 10, 1)
        .expect("the packet id is free");
    assert_eq!(bench.counts().received, [0, 0, 2]);
}

#[test]
fn what_a_broker_must_not_do_is_named() {
    let violation = |act: &dyn Fn(&mut Bench) -> Result<(), Loss>| {
        let mut bench = Bench::up(|_| {});
        bench.next();
        bench.next();
        bench.command(2, false, 10, 0).expect("new");
        let loss = act(&mut bench).expect_err("a violation");
        bench.lose(&loss);
        assert_eq!(bench.found(FindingKind::Violation), 1, "{loss}");
        assert_eq!(bench.counts().connections_lost, 1);
    };
    violation(&|bench| bench.command(2, true, 10, 0));
    violation(&|bench| bench.command(2, false, 10, 1));
    violation(&|bench| bench.command(1, false, 0, 1));
    violation(&|bench| bench.ack(kind::PUBACK, 3));
    violation(&|bench| bench.ack(kind::PUBACK, 9));
    violation(&|bench| bench.ack(kind::PUBREC, 2));
    violation(&|bench| bench.ack(kind::PUBCOMP, 2));
    violation(&|bench| bench.ack(kind::SUBSCRIBE | 0b10, 2));
    violation(&|bench| bench.hear(&[kind::PINGRESP, 0]));
    violation(&|bench| bench.hear(&[kind::CONNACK, 3, 0, 0, 0]));
    violation(&|bench| bench.hear(&[kind::SUBACK, 4, 0, 1, 0, 2]));
    violation(&|bench| {
        bench.lose(&Loss::Closed);
        bench.crowd.tally.counts.connections_lost = 0;
        bench.connect(true, 10);
        bench.command(2, false, 10, 0)
    });
    let mut bench = Bench::up(quiet);
    let goodbye = bench.hear(&[kind::DISCONNECT, 1, 0x8B]);
    assert_eq!(goodbye, Err(Loss::Goodbye(0x8B)), "in version 5");
    let mut bench = Bench::new(|p| p.protocol = Protocol::V311);
    bench.dial();
    assert!(matches!(
        bench.hear(&[kind::PINGRESP, 0]),
        Err(Loss::Violation(_))
    ));
    assert!(matches!(
        bench.hear(&[kind::DISCONNECT, 0]),
        Err(Loss::Violation(_))
    ));
}

#[test]
fn it_leaves_in_good_order() {
    let mut bench = Bench::up(quiet);
    bench.act(Device::leave);
    assert_eq!(
        bench.packets(),
        [(kind::DISCONNECT, vec![0, 5, 0x11, 0, 0, 0, 0])]
    );
    bench
        .hear(&[kind::PINGRESP, 0])
        .expect("whatever comes now");
    bench.lose(&Loss::Closed);
    assert_eq!(
        (bench.crowd.standing.gone, bench.crowd.standing.leaving),
        (1, 0)
    );
    assert_eq!(
        (bench.counts().connections_lost, bench.crowd.tally.errors()),
        (0, Vec::new())
    );
    assert_eq!(bench.crowd.deadline_us(DEVICE as usize, false), None);
    let mut bench = Bench::up(quiet);
    bench.act(Device::leave);
    assert_eq!(
        bench.next(),
        Due::Lose(Loss::Left),
        "a broker that does not close"
    );
}

#[test]
fn refused_telemetry_is_not_owed() {
    let mut bench = Bench::up(|_| {});
    bench.next();
    bench.hear(&[kind::PUBACK, 3, 0, 2, 0x97]).expect("allowed");
    assert_eq!(bench.crowd.tally.errors(), [("PUBACK 0x97".to_owned(), 1)]);
    assert_eq!(
        (bench.counts().acknowledged, bench.counts().owed),
        ([0; 3], 0)
    );
    bench.next();
    bench.crowd.out.clear();
    bench.ack(kind::PUBACK, 3).expect("in order");
    assert_eq!(
        (bench.counts().acknowledged, bench.counts().owed),
        ([0, 1, 0], 1)
    );
}
