//! Two devices, a model of a broker, and between them wires that are cut at any byte.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ledger::Sums;
use super::super::publisher::Due;
use super::*;
use crate::limits::BACKOFF_MAX;
use crate::traffic::Errors;
use crate::wire::{Scan, Template, scan};

const MS: u64 = 1_000_000;
const FILTERS: usize = 3;
const SUBSCRIBER: usize = 0;
const PUBLISHER: usize = 1;

/// What the broker does wrong, to the message of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    /// Acknowledged and dropped.
    Lose(u64),
    /// Delivered twice, as two messages.
    Repeat(u64),
    /// Delivered after its successor.
    Delay(u64),
    /// When it has been taken, the session of this device is forgotten at its next connection.
    Forget(u64, usize),
    /// Sessions that were never made are said to be there.
    Pretend,
}

/// A message in the subscriber's session.
#[derive(Debug)]
struct Entry {
    publish: Vec<u8>,
    released: bool,
}

/// The model: one publisher, one subscriber, one topic.
#[derive(Debug)]
struct Broker {
    lie: Lie,
    qos: u8,
    known: [bool; 2],
    to_forget: [bool; 2],
    /// `QoS` 2 packet ids that wait for their PUBREL.
    received: BTreeSet<u16>,
    subscribed: bool,
    kept_back: Option<Vec<u8>>,
    entries: BTreeMap<u16, Entry>,
    last_id: u16,
    online: bool,
}

impl Broker {
    fn new(lie: Lie, qos: u8) -> Self {
        Self {
            lie,
            qos,
            known: [false; 2],
            to_forget: [false; 2],
            received: BTreeSet::new(),
            subscribed: false,
            kept_back: None,
            entries: BTreeMap::new(),
            last_id: 0,
            online: false,
        }
    }

    fn take(&mut self, from: usize, packet: &Packet<'_>, down: &mut [Vec<u8>; 2]) {
        let id = wire::packet_id(packet.body).unwrap_or_default();
        match (from, packet.first & 0xF0) {
            (_, kind::CONNECT) => self.connect(from, down),
            (SUBSCRIBER, kind::SUBSCRIBE) => {
                self.subscribed = true;
                let codes = [self.qos; FILTERS];
                down[SUBSCRIBER].extend_from_slice(&[kind::SUBACK, 3 + FILTERS as u8, 0, 1, 0]);
                down[SUBSCRIBER].extend_from_slice(&codes);
            }
            (SUBSCRIBER, kind::PUBACK | kind::PUBCOMP) => drop(self.entries.remove(&id)),
            (SUBSCRIBER, kind::PUBREC) => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.released = true;
                }
                wire::ack(&mut down[SUBSCRIBER], kind::PUBREL | 0b10, id);
            }
            (PUBLISHER, kind::PUBLISH) => self.publish(packet, down),
            (PUBLISHER, kind::PUBREL) => {
                self.received.remove(&id);
                wire::ack(&mut down[PUBLISHER], kind::PUBCOMP, id);
            }
            (SUBSCRIBER, kind::DISCONNECT) => self.online = false,
            (_, kind::PINGREQ) => down[from].extend_from_slice(&[kind::PINGRESP, 0]),
            (_, first) => panic!("a device {from} sent 0x{first:02x}"),
        }
    }

    fn connect(&mut self, from: usize, down: &mut [Vec<u8>; 2]) {
        if std::mem::take(&mut self.to_forget[from]) {
            self.known[from] = false;
            match from {
                SUBSCRIBER => {
                    self.subscribed = false;
                    self.entries.clear();
                }
                _ => self.received.clear(),
            }
        }
        let present = u8::from(self.known[from] || self.lie == Lie::Pretend);
        self.known[from] = true;
        down[from].extend_from_slice(&[kind::CONNACK, 3, present, 0, 0]);
        if from == SUBSCRIBER {
            self.online = true;
            for (&id, entry) in &self.entries {
                if entry.released {
                    wire::ack(&mut down[SUBSCRIBER], kind::PUBREL | 0b10, id);
                    continue;
                }
                let start = down[SUBSCRIBER].len();
                down[SUBSCRIBER].extend_from_slice(&entry.publish);
                down[SUBSCRIBER][start] |= wire::DUP;
            }
        }
    }

    fn publish(&mut self, packet: &Packet<'_>, down: &mut [Vec<u8>; 2]) {
        let (id, stamp) = wire::delivery(packet, Version::V5).expect("well-formed");
        let new = self.qos == 1 || self.received.insert(id);
        if new {
            self.forward(packet, stamp.seq, down);
        }
        let answer = if self.qos == 1 {
            kind::PUBACK
        } else {
            kind::PUBREC
        };
        wire::ack(&mut down[PUBLISHER], answer, id);
    }

    fn forward(&mut self, packet: &Packet<'_>, number: u64, down: &mut [Vec<u8>; 2]) {
        let mut bytes = vec![packet.first & !wire::DUP, packet.body.len() as u8];
        bytes.extend_from_slice(packet.body);
        match self.lie {
            Lie::Lose(lost) if lost == number => return,
            Lie::Delay(late) if late == number => {
                self.kept_back = Some(bytes);
                return;
            }
            Lie::Repeat(twice) if twice == number => self.deliver(bytes.clone(), down),
            Lie::Forget(at, device) if at == number => {
                self.to_forget[device] = true;
                self.lie = Lie::None;
            }
            _ => {}
        }
        self.deliver(bytes, down);
        if let Lie::Delay(late) = self.lie
            && number > late
        {
            self.lie = Lie::None;
            let late = self.kept_back.take().expect("it came first");
            self.deliver(late, down);
        }
    }

    fn deliver(&mut self, mut bytes: Vec<u8>, down: &mut [Vec<u8>; 2]) {
        if !self.subscribed {
            return;
        }
        self.last_id += 1;
        // Behind the fixed header of 2 bytes and the topic "a/b" with its length.
        bytes[7..9].copy_from_slice(&self.last_id.to_be_bytes());
        if self.online {
            down[SUBSCRIBER].extend_from_slice(&bytes);
        }
        let released = false;
        let publish = bytes;
        let entry = Entry { publish, released };
        self.entries.insert(self.last_id, entry);
    }
}

struct World {
    settings: Settings,
    broker: Broker,
    devices: [Device; 2],
    /// Bytes on their way to the broker and to the devices.
    up: [Vec<u8>; 2],
    down: [Vec<u8>; 2],
    open: [bool; 2],
    pair: Pair,
    log: Log,
    now_ns: u64,
    random: u64,
}

impl World {
    fn new(qos: u8, lie: Lie, seed: u64) -> Self {
        let template = Template::new(Version::V5, qos, "a/b", 0, 20);
        let publisher = Side::Publisher(Publisher::new(template, qos));
        let filters = Filters::new("x".to_owned(), false, FILTERS);
        let subscriber = Side::Subscriber(Subscriber::new(qos), filters);
        Self {
            settings: Settings {
                version: Version::V5,
                qos,
                keep_alive_s: 10,
                session_expiry_s: 60,
                patience_ns: 60_000 * MS,
                addresses: 3,
                away_ns: 0,
            },
            broker: Broker::new(lie, qos),
            devices: [
                Device::new(("s".into(), 0, subscriber), 2 * seed, 0, 0),
                Device::new(("p".into(), 0, publisher), 2 * seed + 1, 1, 0),
            ],
            up: [Vec::new(), Vec::new()],
            down: [Vec::new(), Vec::new()],
            open: [false; 2],
            pair: Pair {
                ledger: Ledger::new(qos),
                arena: Arena::default(),
            },
            log: Log::new(),
            now_ns: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    fn both_up(&self) -> bool {
        self.devices.iter().all(Device::is_up)
    }

    /// Deadlines that have passed.
    fn attend(&mut self, at: usize) {
        let device = &mut self.devices[at];
        match device.due(&self.settings, self.now_ns, &mut self.up[at]) {
            None | Some(Order::Write) => {}
            Some(Order::Dial(_)) => {
                self.broker.online &= at != SUBSCRIBER;
                self.down[at].clear();
                self.up[at].clear();
                device.dialed(&self.settings, self.now_ns, &mut self.up[at]);
                self.open[at] = true;
            }
            Some(Order::Lose(loss)) => self.cut(at, loss),
            Some(Order::GiveUp) => panic!("nothing here lasts that long"),
        }
    }

    fn cut(&mut self, at: usize, loss: Loss) {
        self.open[at] = false;
        self.broker.online &= at != SUBSCRIBER;
        self.up[at].clear();
        self.down[at].clear();
        self.devices[at].lost(loss, &self.settings, self.now_ns, &mut self.log);
    }

    /// The broker takes up to `packets` of what a device has sent.
    fn carry_up(&mut self, at: usize, packets: usize) {
        for _ in 0..packets {
            let bytes = std::mem::take(&mut self.up[at]);
            let Scan::Packet(packet) = scan(&bytes) else {
                self.up[at] = bytes;
                return;
            };
            self.up[at] = bytes[packet.len..].to_vec();
            self.broker.take(at, &packet, &mut self.down);
            let closed = (0..2).filter(|&at| !self.open[at]);
            closed.for_each(|at| self.down[at].clear());
        }
    }

    /// A device takes up to `packets` of what the broker has sent.
    fn carry_down(&mut self, at: usize, packets: usize) {
        for _ in 0..packets {
            let bytes = std::mem::take(&mut self.down[at]);
            let Scan::Packet(packet) = scan(&bytes) else {
                self.down[at] = bytes;
                return;
            };
            self.down[at] = bytes[packet.len..].to_vec();
            self.devices[at].heard(self.now_ns);
            let mut turn = Turn {
                now_ns: self.now_ns,
                settings: &self.settings,
                pair: &mut self.pair,
                log: &mut self.log,
                out: &mut self.up[at],
            };
            if let Err(loss) = self.devices[at].hear(&packet, &mut turn) {
                return self.cut(at, loss);
            }
        }
    }

    /// The publisher sends what is open and what is due.
    fn publish(&mut self, below: u64) {
        let device = &mut self.devices[PUBLISHER];
        let up = device.is_up();
        let Side::Publisher(publisher) = &mut device.side else {
            panic!("the publisher")
        };
        if up {
            let due = Due {
                below,
                intended_ns: |number| number * MS,
                now_ns: self.now_ns,
                late_ns: u64::MAX,
            };
            publisher.fill(&due, &mut self.pair.ledger, &mut self.up[PUBLISHER]);
            self.pair.ledger.sent(publisher.next());
        }
    }

    fn settled(&self) -> bool {
        let Side::Publisher(publisher) = &self.devices[PUBLISHER].side else {
            panic!("the publisher")
        };
        let quiet = self.up.iter().chain(&self.down).all(Vec::is_empty);
        !publisher.waits() && quiet && self.both_up() && self.broker.entries.is_empty()
    }

    /// Publishes `messages` while wires are cut one time in `cuts`, and once in any case; then lets
    /// everything arrive.
    fn run(self, messages: u64, cuts: usize) -> (Sums, Log) {
        self.run_cut(messages, cuts, true)
    }

    fn run_cut(mut self, messages: u64, cuts: usize, mut once: bool) -> (Sums, Log) {
        while !self.both_up() {
            self.now_ns += MS;
            (0..2).for_each(|at| self.attend(at));
            (0..2).for_each(|at| self.carry_up(at, 1));
            (0..2).for_each(|at| self.carry_down(at, 1));
        }
        let mut due = 0;
        while due < messages || !self.settled() {
            self.now_ns += 5 * MS;
            assert!(self.now_ns < 3_600_000 * MS, "it never settles");
            if due < messages && self.both_up() {
                due = (due + self.draw(4) as u64).min(messages);
            }
            (0..2).for_each(|at| self.attend(at));
            self.publish(due);
            for at in 0..2 {
                let (to, from) = (self.draw(6), self.draw(6));
                self.carry_up(at, to);
                self.carry_down(at, from);
                let cut = due < messages && self.draw(cuts) == 0;
                if cut && self.open[at] {
                    self.cut(at, Loss::Closed);
                }
            }
            if self.draw(cuts) == 0 {
                let (device, up) = (&mut self.devices[SUBSCRIBER], &mut self.up[SUBSCRIBER]);
                let until_ns = self.now_ns + 100 * MS;
                self.log.churned +=
                    u64::from(device.leave(until_ns, &self.settings, self.now_ns, up));
            }
            if once && due > messages / 2 && self.both_up() {
                once = false;
                (0..2).for_each(|at| self.cut(at, Loss::Closed));
            }
        }
        let sums = self.pair.ledger.sums();
        assert_eq!(
            self.pair.ledger.owed(),
            sums.lost,
            "two ways to count the same"
        );
        (sums, self.log)
    }
}

fn faults(sums: &Sums) -> (u64, u64, u64) {
    (sums.lost, sums.duplicated, sums.reordered)
}

#[test]
fn an_honest_broker_is_found_honest_however_wires_are_cut() {
    for qos in [1, 2] {
        let (mut repeated, mut reconnects, mut churned) = (0, 0, 0);
        for seed in 0..200 {
            let (sums, log) = World::new(qos, Lie::None, seed).run(60, 25);
            assert_eq!(faults(&sums), (0, 0, 0), "QoS {qos}, seed {seed}");
            assert_eq!(log.violations, Errors::new(), "QoS {qos}, seed {seed}");
            assert_eq!((sums.acked, sums.delivered), (60, 60));
            assert_eq!((log.session_lost, sums.unrecorded), (0, 0));
            repeated += sums.repeated;
            reconnects += log.reconnects;
            churned += log.churned;
            assert!(log.resume.finish().len() >= log.reconnects);
        }
        assert!(reconnects > 400 && churned > 100, "{reconnects}, {churned}");
        assert_eq!(repeated > 0, qos == 1, "repetitions at QoS {qos}");
    }
}

#[test]
fn every_lie_is_found_however_wires_are_cut() {
    for seed in 0..100 {
        let number = seed % 50;
        for qos in [1, 2] {
            let judged = |lie| World::new(qos, lie, seed).run(60, 25);
            let (sums, _) = judged(Lie::Lose(number));
            assert_eq!(faults(&sums), (1, 0, 0), "QoS {qos}, seed {seed}");
            let (sums, _) = judged(Lie::Delay(number));
            assert_eq!(faults(&sums), (0, 0, 1), "QoS {qos}, seed {seed}");
        }
        let (sums, _) = World::new(2, Lie::Repeat(number), seed).run(60, 25);
        assert_eq!(faults(&sums), (0, 1, 0), "seed {seed}");
    }
}

#[test]
fn at_qos_1_a_repetition_without_cause_is_found_where_no_wire_is_cut() {
    for seed in 0..20 {
        let (sums, log) = World::new(1, Lie::Repeat(7), seed).run_cut(60, usize::MAX, false);
        assert_eq!(log.reconnects, 0);
        assert_eq!(faults(&sums), (0, 1, 0), "seed {seed}");
    }
}

#[test]
fn a_forgotten_session_is_found() {
    let (mut found, mut lost) = (0, 0);
    for seed in 0..100 {
        for device in [SUBSCRIBER, PUBLISHER] {
            for qos in [1, 2] {
                let (sums, log) = World::new(qos, Lie::Forget(5, device), seed).run(200, 25);
                // The CONNACK that admits it may be cut off; then only the losses show it.
                let shown = log.session_lost == 1 || device == PUBLISHER || sums.lost > 0;
                assert!(shown && log.session_lost <= 1, "QoS {qos}, seed {seed}");
                found += log.session_lost;
                lost += sums.lost;
                assert_eq!(sums.acked, 200, "everything is published all the same");
            }
        }
    }
    assert!(found > 380 && lost > 0, "{found} found, {lost} lost");
}

#[test]
fn a_session_that_cannot_be_there_is_found() {
    let mut world = World::new(1, Lie::Pretend, 0);
    for at in 0..2 {
        world.attend(at);
        world.carry_up(at, 1);
        world.carry_down(at, 1);
    }
    let [(kind, count)] = &Vec::from_iter(&world.log.violations)[..] else {
        panic!("one kind: {:?}", world.log.violations)
    };
    assert!(kind.contains("never connected"), "{kind}");
    assert_eq!(**count, 2);
}

#[test]
fn a_lost_connection_goes_on_at_the_next_address_after_a_wait() {
    let mut world = World::new(1, Lie::None, 0);
    let mut out = Vec::new();
    for address in [0, 1, 2, 0] {
        let device = &mut world.devices[SUBSCRIBER];
        let at = device.deadline_ns(&world.settings).expect("a next try");
        assert!(at <= world.now_ns + BACKOFF_MAX.as_nanos() as u64);
        world.now_ns = at;
        let order = device.due(&world.settings, at, &mut out);
        assert_eq!(order, Some(Order::Dial(address)));
        assert_eq!(device.address(), address);
        device.dialed(&world.settings, at, &mut out);
        assert_eq!(device.due(&world.settings, at, &mut out), None);
        device.lost(Loss::Closed, &world.settings, at, &mut world.log);
        assert_eq!(device.due(&world.settings, at, &mut out), None, "it waits");
    }
}

#[test]
fn a_broker_that_says_nothing_is_left_and_patience_ends() {
    let mut world = World::new(1, Lie::None, 0);
    let mut out = Vec::new();
    let device = &mut world.devices[SUBSCRIBER];
    let mut silent = 0;
    loop {
        world.now_ns = device.deadline_ns(&world.settings).expect("not given up");
        match device.due(&world.settings, world.now_ns, &mut out) {
            Some(Order::Dial(_)) => device.dialed(&world.settings, world.now_ns, &mut out),
            Some(Order::Lose(loss)) => {
                assert_eq!(loss, Loss::Silent);
                device.lost(loss, &world.settings, world.now_ns, &mut world.log);
                silent += 1;
            }
            Some(Order::GiveUp) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.now_ns, world.settings.patience_ns);
    assert_eq!(
        silent,
        (world.settings.patience_ns / ANSWER_MAX.as_nanos() as u64) - 1
    );
    assert!(device.gave_up() && device.deadline_ns(&world.settings).is_none());
}

#[test]
fn keepalive_finds_a_connection_that_died_silently() {
    let mut world = World::new(1, Lie::None, 0);
    while !world.both_up() {
        world.now_ns += MS;
        (0..2).for_each(|at| world.attend(at));
        (0..2).for_each(|at| world.carry_up(at, 9));
        (0..2).for_each(|at| world.carry_down(at, 9));
    }
    let since = world.now_ns;
    let mut out = Vec::new();
    let device = &mut world.devices[SUBSCRIBER];
    let mut orders = Vec::new();
    while orders.len() < 2 {
        world.now_ns = device.deadline_ns(&world.settings).expect("a keepalive");
        orders.extend(device.due(&world.settings, world.now_ns, &mut out));
    }
    assert_eq!(orders, [Order::Write, Order::Lose(Loss::Silent)]);
    assert_eq!(out, [kind::PINGREQ, 0]);
    assert!(world.now_ns - since <= 10_000 * MS);
}

/// Lets a device hear `bytes`, one packet, on its connection.
fn tell(world: &mut World, device: &mut Device, bytes: &[u8]) -> Result<Heard, Loss> {
    let Scan::Packet(packet) = scan(bytes) else {
        panic!("a whole packet")
    };
    world.up[0].clear();
    let mut turn = Turn {
        now_ns: world.now_ns,
        settings: &world.settings,
        pair: &mut world.pair,
        log: &mut world.log,
        out: &mut world.up[0],
    };
    device.hear(&packet, &mut turn)
}

#[test]
fn contenders_share_a_session_and_what_reaches_a_superseded_one_is_found() {
    let mut world = World::new(1, Lie::None, 0);
    world.pair.arena = Arena::new(2);
    let template = Template::new(Version::V5, 1, "a/b", 0, 20);
    let message = |id: u16, number: u64| {
        let mut bytes = Vec::new();
        template.append(&mut bytes, id, number, 0);
        bytes
    };
    let mut devices = [0, 1].map(|own| {
        let filters = Filters::new("x".to_owned(), false, 1);
        let side = Side::Contender(own, filters);
        Device::new(("c".into(), 0, side), own as u64, own, 0)
    });
    for (own, device) in devices.iter_mut().enumerate() {
        device.dialed(&world.settings, world.now_ns, &mut Vec::new());
        world.pair.arena.connecting(own);
        let connack = [kind::CONNACK, 3, own as u8, 0, 0];
        let heard = tell(&mut world, device, &connack).expect("accepted");
        if own == 0 {
            assert_eq!(heard, Heard::Little, "it subscribes first");
            assert_eq!(world.up[0][0], kind::SUBSCRIBE | 0b10);
            let suback = [kind::SUBACK, 4, 0, 1, 0, 1];
            tell(&mut world, device, &suback).expect("accepted");
            world.pair.ledger.sent(5);
        } else {
            assert_eq!(heard, Heard::Up, "the session has its subscription");
        }
        assert!(device.is_up());
    }
    world.pair.ledger.sent(8);
    for (id, number, stale) in [(1, 4, 0), (2, 5, 1)] {
        let heard = tell(&mut world, &mut devices[0], &message(id, number));
        assert_eq!(heard, Ok(Heard::Message));
        assert_eq!(world.up[0][..2], [kind::PUBACK, 2]);
        assert_eq!(world.pair.arena.sums.stale, stale);
    }
    tell(&mut world, &mut devices[1], &message(3, 6)).expect("its own");
    assert_eq!(world.pair.arena.sums.stale, 1);
    let kicked = tell(&mut world, &mut devices[0], &[kind::DISCONNECT, 1, 0x8E]);
    let loss = kicked.expect_err("it has to go");
    devices[0].lost(loss, &world.settings, 0, &mut world.log);
    assert!(devices[0].rests());
    assert_eq!(devices[0].address(), 1);
    assert_eq!((world.log.taken_over, world.log.errors.len()), (1, 0));
}
