//! A worker in a thread against a small server on another codec, with the test as its controller and as the back end.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::fixture;
use crate::Error;
use crate::account::Stamp;
use crate::control::desk::own_clock_us;
use crate::control::line::Line;
use crate::control::message::{
    Assignment, Finding, FindingKind, FromWorker, LatencyKind, Receipt, Sample, Seen, Stream,
    ToWorker,
};
use crate::scenario::{Phase, PhaseKind, Population};
use crate::simulate::lies::Server;
use crate::simulate::{self, names};
use crate::wire::{self, Keep, Publish, Scan, Version, kind};

const PATIENCE: Duration = Duration::from_secs(30);

/// A back end of one connection: it takes telemetry and sends commands.
struct BackEnd {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// Numbers of telemetry that came, by device.
    came: HashMap<u32, Vec<u32>>,
    /// Receipts that the worker was not given yet.
    receipts: Vec<Receipt>,
    next_id: u16,
    sent: HashMap<u32, u32>,
    acknowledged: usize,
}

impl BackEnd {
    fn connect(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut out = Vec::new();
        wire::connect(&mut out, Version::V5, "backend", 0, Keep::No);
        wire::subscribe(&mut out, Version::V5, ["d/+/up"], 2);
        socket.write_all(&out).expect("open");
        let mut back_end = Self {
            socket,
            buffer: Vec::new(),
            came: HashMap::new(),
            receipts: Vec::new(),
            next_id: 1,
            sent: HashMap::new(),
            acknowledged: 0,
        };
        loop {
            match back_end.take() {
                Some(kind::SUBACK) => break,
                Some(_) => {}
                None => back_end.read(),
            }
        }
        back_end.socket.set_nonblocking(true).expect("a socket");
        back_end
    }

    fn read(&mut self) {
        let mut block = [0; 16_384];
        match self.socket.read(&mut block) {
            Ok(len) => {
                assert!(len > 0, "the server keeps the back end");
                self.buffer.extend_from_slice(&block[..len]);
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }

    /// Takes one packet, answers it and gives its type.
    fn take(&mut self) -> Option<u8> {
        let bytes = std::mem::take(&mut self.buffer);
        let Scan::Packet(packet) = wire::scan(&bytes) else {
            self.buffer = bytes;
            return None;
        };
        let mut out = Vec::new();
        let id = wire::packet_id(packet.body);
        match packet.first & 0xF0 {
            kind::PUBLISH => {
                let publish = wire::published(&packet, Version::V5).expect("well-formed");
                let answer = [0, kind::PUBACK, kind::PUBREC][usize::from(publish.qos)];
                if answer > 0 {
                    wire::ack(&mut out, answer, publish.id);
                }
                if let Ok(stamp) = Stamp::read(publish.payload) {
                    self.came
                        .entry(stamp.stream.device)
                        .or_default()
                        .push(stamp.seq);
                    self.receipts.push(Receipt {
                        stream: stamp.stream,
                        seq: stamp.seq,
                        seen: Seen::First,
                    });
                }
            }
            kind::PUBREL => wire::ack(&mut out, kind::PUBCOMP, id.expect("an id")),
            kind::PUBREC => wire::ack(&mut out, kind::PUBREL | 0b10, id.expect("an id")),
            kind::PUBACK | kind::PUBCOMP => self.acknowledged += 1,
            _ => {}
        }
        self.write(&out);
        self.buffer = bytes[packet.len..].to_vec();
        Some(packet.first & 0xF0)
    }

    fn write(&mut self, mut out: &[u8]) {
        while !out.is_empty() {
            match self.socket.write(out) {
                Ok(len) => out = &out[len..],
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
    }

    fn command(&mut self, assignment: &Assignment, device: u32) {
        let (mut client_id, mut topic) = (String::new(), String::new());
        names::client_id(&assignment.scenario, assignment.run, device, &mut client_id);
        let commands = &assignment.scenario.commands[0];
        names::topic(&commands.topic, device, &client_id, &mut topic);
        let seq = self.sent.entry(device).or_default();
        let stamp = Stamp {
            run: assignment.run,
            stream: Stream { kind: 1, device },
            seq: *seq,
            due_us: own_clock_us(),
        };
        *seq += 1;
        self.next_id += 1;
        let mut out = Vec::new();
        let publish = Publish {
            version: Version::V5,
            qos: commands.qos,
            dup: false,
            topic: &topic,
            id: self.next_id,
            payload_len: 40,
        };
        publish.append(&mut out, |payload| stamp.write(payload));
        self.write(&out);
    }
}

/// The controller of one worker.
struct Controller {
    line: Line,
    poll: Poll,
    worker: Option<JoinHandle<Result<(), Error>>>,
    assignment: Assignment,
    back_end: BackEnd,
    sample: Sample,
    latencies: HashMap<LatencyKind, u64>,
    findings: Vec<Finding>,
    receipts: Vec<Receipt>,
    subscribed: HashMap<u32, bool>,
    done: Vec<u16>,
    over: bool,
}

impl Controller {
    fn start(devices: u32, phases: Vec<PhaseKind>, change: impl FnOnce(&mut Population)) -> Self {
        let address = Server::truthful().address;
        let back_end = BackEnd::connect(address);
        let mut assignment = fixture::assignment(change);
        assignment.scenario.populations[0].devices = 0..devices;
        assignment.shares = vec![0..0, 0..devices];
        assignment.targets = vec![address];
        assignment.scenario.phases = phases.into_iter().map(phase).collect();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let worker = std::thread::spawn(move || simulate::serve(theirs));
        let mut line = Line::open("worker 1".to_owned(), ours.into()).expect("a socket");
        let poll = Poll::new().expect("epoll");
        line.register(poll.registry(), Token(0)).expect("a socket");
        let begin = ToWorker::Begin(Box::new(assignment.clone()));
        line.send(&begin).expect("room");
        line.send(&ToWorker::Offset { us: 0 }).expect("room");
        Self {
            line,
            poll,
            worker: Some(worker),
            assignment,
            back_end,
            sample: Sample::default(),
            latencies: HashMap::new(),
            findings: Vec::new(),
            receipts: Vec::new(),
            subscribed: HashMap::new(),
            done: Vec::new(),
            over: false,
        }
    }

    fn send(&mut self, message: &ToWorker) {
        self.line.send(message).expect("the worker reads");
    }

    /// One phase, from its beginning to what the worker says of it.
    fn play(&mut self, index: u16) {
        let at_us = own_clock_us();
        self.send(&ToWorker::Phase { index, at_us });
        self.until("the phase to be done", |c| c.done.contains(&index));
        self.send(&ToWorker::PhaseEnd { index });
    }

    /// Passes on what comes until `is_so`.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(4);
        while !is_so(self) {
            assert!(
                Instant::now() < deadline,
                "waited for {what}: {:?}",
                self.sample
            );
            let wait = Some(Duration::from_millis(2));
            self.poll.poll(&mut events, wait).expect("epoll");
            while !self.over {
                let Some(message) = self.line.take().expect("the worker lives") else {
                    break;
                };
                self.hear(message);
            }
            self.back_end.read();
            while self.back_end.take().is_some() {}
            let receipts = std::mem::take(&mut self.back_end.receipts);
            if !receipts.is_empty() {
                self.send(&ToWorker::Receipts(receipts));
            }
        }
    }

    fn hear(&mut self, message: FromWorker) {
        match message {
            FromWorker::Sample(sample) => self.look(*sample),
            FromWorker::Final(sample) => {
                self.look(*sample);
                self.over = true;
            }
            FromWorker::Findings(findings) => self.findings.extend(findings),
            FromWorker::Receipts { of, receipts } => {
                assert_eq!(of, 0);
                self.receipts.extend(receipts);
            }
            FromWorker::Presence(presence) => {
                let known = presence.into_iter().map(|p| (p.device, p.subscribed));
                self.subscribed.extend(known);
            }
            FromWorker::PhaseDone { index } => self.done.push(index),
            FromWorker::Ready { process } => assert_eq!(process, std::process::id()),
            FromWorker::Failed(why) => panic!("{why}"),
            FromWorker::Clock { .. } => {}
        }
    }

    fn look(&mut self, sample: Sample) {
        for (kind, spread) in &sample.latencies {
            let count: u64 = spread.0.iter().map(|(_, count)| count).sum();
            *self.latencies.entry(*kind).or_default() += count;
        }
        self.sample = sample;
    }

    fn finish(&mut self) {
        self.send(&ToWorker::Finish);
        self.until("the last words", |c| c.over);
        let worker = self.worker.take().expect("once");
        worker.join().expect("no panic").expect("no error");
    }
}

fn phase(what: PhaseKind) -> Phase {
    Phase {
        name: "phase".to_owned(),
        what,
        limit_ms: 60_000,
        commands: 1.0,
    }
}

/// Ramp, telemetry and commands, a storm, a drain; everything that was sent has come, once.
fn life(devices: u32, qos: u8, change: impl FnOnce(&mut Population)) -> Controller {
    let phases = vec![
        PhaseKind::Ramp { per_s: 2_000.0 },
        PhaseKind::Storm { share: 0.5 },
        PhaseKind::Drain,
    ];
    let mut controller = Controller::start(devices, phases, |population| {
        let telemetry = population.telemetry.as_mut().expect("some");
        telemetry.qos = qos;
        telemetry.interval_ms = 200;
        telemetry.jitter = 0.5;
        population.subscriptions[0].qos = qos;
        population.reconnect.first_ms = 500;
        change(population);
    });
    controller.assignment.scenario.commands[0].qos = qos;
    controller.play(0);
    let connected = controller.sample.connected;
    assert_eq!(connected, u64::from(devices), "told before the phase is");
    controller.until("presence", |c| {
        c.subscribed.len() == devices as usize && c.subscribed.values().all(|there| *there)
    });
    for device in 0..devices {
        let assignment = controller.assignment.clone();
        controller.back_end.command(&assignment, device);
    }
    controller.until("commands", |c| c.receipts.len() == devices as usize);
    controller.play(1);
    let sent = controller.sample.counts.sent[usize::from(qos)];
    controller.until("telemetry after the storm", |c| {
        c.sample.counts.sent[usize::from(qos)] > sent + u64::from(devices)
    });
    controller.play(2);
    let sent = controller.sample.counts.sent;
    let at_us = controller.sample.at_us;
    controller.until("a sample after the drain", |c| c.sample.at_us > at_us);
    assert_eq!(
        controller.sample.counts.sent, sent,
        "nothing may begin another phase"
    );
    controller.finish();
    controller
}

fn agrees(controller: &Controller, devices: u32, qos: u8) {
    let counts = controller.sample.counts;
    let at = usize::from(qos);
    let devices = u64::from(devices);
    assert_eq!(controller.findings, []);
    assert_eq!(counts.findings, [0; FindingKind::COUNT]);
    assert_eq!((counts.owed, counts.connections_lost), (0, 0));
    assert_eq!(counts.connects, devices + counts.dropped);
    assert_eq!(counts.reconnects, counts.dropped);
    assert!(counts.dropped > devices / 3 && counts.dropped < devices * 2 / 3);
    assert_eq!(controller.sample.errors, []);
    assert_eq!(counts.received[at], devices);
    assert_eq!(controller.latencies[&LatencyKind::Connect], counts.connects);
    assert_eq!(controller.latencies[&LatencyKind::Command], devices);
    assert_eq!(
        (controller.sample.connected, controller.sample.connecting),
        (0, 0)
    );
    assert!(controller.sample.rss_bytes > 0 && controller.sample.cpu_us > 0);
}

#[test]
fn two_hundred_persistent_devices_live_through_a_storm_and_nothing_is_lost() {
    for qos in [1, 2] {
        let controller = life(200, qos, |_| {});
        agrees(&controller, 200, qos);
        let counts = controller.sample.counts;
        assert_eq!(counts.unacknowledged, 0);
        assert_eq!(
            counts.sent[usize::from(qos)],
            counts.acknowledged[usize::from(qos)]
        );
        let mut came = 0;
        for (device, seqs) in &controller.back_end.came {
            let mut distinct = seqs.clone();
            distinct.dedup();
            let all: Vec<u32> = (0..distinct.len() as u32).collect();
            assert!(
                qos == 1 || distinct.len() == seqs.len(),
                "device {device}: {seqs:?}"
            );
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct[..], all[..distinct.len()], "device {device}");
            came += distinct.len() as u64;
        }
        assert_eq!(came, counts.sent[usize::from(qos)]);
        // Sessions outlived the storm: nobody had to subscribe again.
        assert_eq!(controller.latencies[&LatencyKind::Subscribe], 200);
    }
}

#[test]
fn clean_devices_subscribe_again_after_a_storm() {
    let controller = life(200, 0, |population| population.clean = true);
    agrees(&controller, 200, 0);
    let counts = controller.sample.counts;
    let subscribed = controller.latencies[&LatencyKind::Subscribe];
    assert_eq!(subscribed, 200 + counts.dropped);
    assert!(counts.sent[0] > 400);
}
