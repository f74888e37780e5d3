//! A subscriber with a persistent session that keeps its side of the standard, over all its connections.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Client, Connect, Dice, Got, PATIENCE, Packet, Publish, Version, wire};
use crate::stage::{Phase, Stage, Stream};

/// How a subscriber treats its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Stays connected as long as it can.
    Online,
    /// Breaks off at random moments and comes back at once, also over a connection that still lives;
    /// acknowledges in bursts.
    Flaky,
    /// Is there in every fourth round only.
    Offline,
}

pub(crate) struct Subscriber {
    stage: Arc<Stage>,
    name: String,
    habit: Habit,
    connect: Connect,
    dice: Dice,
    /// Last sequence number taken, of each stream.
    last: HashMap<Stream, u64>,
    /// `QoS` 2 messages taken and not yet released: the state a receiver keeps [MQTT-4.3.3-10].
    held: HashMap<u16, (Stream, u64)>,
    /// Acknowledgements not sent yet.
    owed: Vec<u8>,
    /// The last packets and connections, to explain a broken promise.
    diary: VecDeque<String>,
}

impl Subscriber {
    pub(crate) fn new(
        stage: &Arc<Stage>,
        name: &str,
        habit: Habit,
        version: Version,
        streams: &[Stream],
        seed: u64,
    ) -> Self {
        Self {
            stage: Arc::clone(stage),
            name: name.into(),
            habit,
            connect: Connect::v5(name)
                .version(version)
                .persistent()
                .keep_alive(0),
            dice: Dice::seeded(seed),
            last: streams.iter().map(|s| (*s, 0)).collect(),
            held: HashMap::new(),
            owed: Vec::new(),
            diary: VecDeque::new(),
        }
    }

    pub(crate) fn subscribe_first(&mut self) {
        let mut client = self.connect.open_at(self.stage.addr);
        client.subscribe("load/#", 2);
        client.disconnect();
    }

    pub(crate) fn run(&mut self) {
        let mut failed = 0;
        let mut old = None;
        while let Some(generation) = self.stage.await_up(failed) {
            if self.is_away() {
                let (round, phase) = (self.stage.round(), self.stage.phase());
                if self.is_away() {
                    self.stage.await_change(round, phase);
                }
                continue;
            }
            let Some(mut client) = self.connect.dial(self.stage.addr) else {
                failed = generation;
                continue;
            };
            assert!(client.present, "session present is 0");
            drop(old.take());
            self.note(format!("connected; {} bytes were owed", self.owed.len()));
            self.owed.clear();
            match self.receive(&mut client) {
                Some(End::Done) => return,
                // The next connection takes over from this one, or finds it closed.
                Some(End::Again) => old = self.dice.one_in(2).then_some(client),
                None => failed = generation,
            }
        }
    }

    fn is_away(&self) -> bool {
        self.habit == Habit::Offline
            && self.stage.phase() != Phase::LastDeliveries
            && self.stage.phase() != Phase::Failed
            && !self.stage.round().is_multiple_of(4)
    }

    /// Receives on one connection; `None` when it broke.
    fn receive(&mut self, client: &mut Client) -> Option<End> {
        let mut last_packet = std::time::Instant::now();
        loop {
            if self.stage.phase() == Phase::Failed || self.has_all(client)? {
                return Some(End::Done);
            }
            if self.is_away() {
                return Some(End::Again);
            }
            match client.next(Duration::from_millis(20)) {
                Got::Packet(packet) => {
                    last_packet = std::time::Instant::now();
                    self.answer(&packet);
                    if self.habit != Habit::Flaky || self.owed.len() > 40 {
                        self.pay(client)?;
                    }
                    if self.habit == Habit::Flaky && self.dice.one_in(300) {
                        return Some(End::Again);
                    }
                }
                Got::Closed => return None,
                Got::Silence => {
                    self.pay(client)?;
                    self.check_missing(last_packet.elapsed());
                }
            }
        }
    }

    fn check_missing(&self, silent: Duration) {
        if self.stage.phase() == Phase::LastDeliveries && silent > PATIENCE {
            let missing: Vec<String> = self
                .stage
                .all_acked()
                .iter()
                .filter(|(stream, seq)| self.last[stream] < **seq)
                .map(|(stream, seq)| {
                    format!("{stream:?}: has {}, acknowledged {seq}", self.last[stream])
                })
                .collect();
            panic!("acknowledged messages are lost: {missing:#?}");
        }
    }

    fn pay(&mut self, client: &mut Client) -> Option<()> {
        let owed = std::mem::take(&mut self.owed);
        if !owed.is_empty() {
            self.note(format!("sends {owed:02x?}"));
        }
        client.try_send(&owed)
    }

    /// After the last publish: whether all that was acknowledged is here, and nothing more comes.
    fn has_all(&mut self, client: &mut Client) -> Option<bool> {
        let all = self.stage.phase() == Phase::LastDeliveries
            && self
                .stage
                .all_acked()
                .iter()
                .all(|(stream, seq)| self.last[stream] >= *seq)
            && self.held.is_empty();
        if all {
            self.pay(client)?;
            client.ping();
            while let Got::Packet(packet) = client.next(Duration::from_millis(50)) {
                self.answer(&packet);
                self.pay(client)?;
            }
        }
        Some(all)
    }

    fn note(&mut self, line: String) {
        if self.diary.len() == 2000 {
            self.diary.pop_front();
        }
        self.diary.push_back(line);
    }

    /// What the diary says about a packet identifier, between the connections.
    fn story(&self, id: u16) -> String {
        let [high, low] = id.to_be_bytes();
        let (named, sent) = (format!("id: {id},"), format!("{high:02x}, {low:02x}"));
        let wanted = |line: &&String| {
            let about = if line.starts_with("sends") {
                &sent
            } else {
                &named
            };
            line.starts_with("connected") || line.contains(about)
        };
        let lines = self.diary.iter().filter(wanted);
        lines.fold(String::new(), |all, line| all + line + "\n")
    }

    fn answer(&mut self, packet: &Packet) {
        self.note(format!("{packet:?}"));
        match packet {
            Packet::Publish(p) if p.qos == 1 => {
                let (stream, seq) = read(p);
                self.in_order(stream, seq, p);
                self.owed.extend(wire::ack(wire::PUBACK, p.id));
            }
            Packet::Publish(p) => {
                let (stream, seq) = read(p);
                assert_eq!(p.qos, 2, "{p:?} of QoS 1 or 2 was published");
                if let Some(held) = self.held.get(&p.id) {
                    assert!(p.dup, "{}: {p:?} is sent again without DUP", self.name);
                    assert_eq!(
                        *held,
                        (stream, seq),
                        "another message under an identifier in use"
                    );
                } else {
                    assert!(
                        seq > self.last[&stream],
                        "{stream:?}: QoS 2 message {seq} came twice: {p:?}\n{}",
                        self.story(p.id)
                    );
                    self.in_order(stream, seq, p);
                    self.held.insert(p.id, (stream, seq));
                }
                self.owed.extend(wire::ack(wire::PUBREC, p.id));
            }
            Packet::PubRel { id, .. } => {
                self.held.remove(id);
                self.owed.extend(wire::ack(wire::PUBCOMP, *id));
            }
            other => panic!("a subscriber gets {other:?}"),
        }
    }

    /// Each stream comes without a gap; `QoS` 1 messages may come again, but not for the first time out of order.
    fn in_order(&mut self, stream: Stream, seq: u64, p: &Publish) {
        assert_eq!(p.qos, stream.qos, "{p:?}");
        let last = self.last.get_mut(&stream).expect("a known stream");
        assert!(
            seq <= *last + 1,
            "{stream:?}: {seq} comes after {last}: lost or out of order"
        );
        *last = seq.max(*last);
    }
}

fn read(p: &Publish) -> (Stream, u64) {
    (
        Stream::of_topic(&p.topic),
        p.text().parse().expect("a sequence number"),
    )
}

enum End {
    Done,
    /// Leave this connection without a word and come back.
    Again,
}
