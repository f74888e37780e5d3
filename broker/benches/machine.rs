//! What the group machine costs: nanoseconds a publish and bytes a session.
//!
//! `cargo bench -p mqtt-fleet-broker --bench machine`

use bytes::Bytes;
use cluster::frame::{Ack, AckKind, Body, Claim, FromGroup, Publish, StoredAt, Subscribe};
use cluster::ids::{Actor, Handle, LinkNo};
use mqtt_fleet_broker::command::{Command, Producer};
use mqtt_fleet_broker::command_codec::{decode_entry, encode_entry};
use mqtt_fleet_broker::limits::MachineLimits;
use mqtt_fleet_broker::log::Location;
use mqtt_fleet_broker::machine::{Effects, State};
use protocol::{Message, PacketId, QoS, SubscribeOptions, TopicFilter, TopicName, Version};
use std::time::Instant;

const LINK: LinkNo = LinkNo(0);
/// Commands between two times that the effects are taken: a busy turn.
const TURN: usize = 500;

struct Group {
    state: State,
    out: Effects,
    index: u64,
    number: u64,
}

impl Group {
    fn new() -> Self {
        let state = State::new(MachineLimits::default());
        let mut group = Self {
            state,
            out: Effects::default(),
            index: 0,
            number: 1,
        };
        let producer = Producer {
            node: 1,
            shard: 0,
            incarnation: 1,
        };
        group.apply(Command::LeaderStart);
        group.apply(Command::LinkUp {
            link: LINK,
            producer,
        });
        group.turn();
        group
    }

    /// The next commands are a new entry.
    fn turn(&mut self) {
        self.out.clear();
        self.index += 1;
        let from = Command::From {
            link: LINK,
            first: self.number,
        };
        self.state.apply(self.index, 1_000, from, &mut self.out);
    }

    fn apply(&mut self, command: Command) {
        self.number += u64::from(command.is_numbered());
        self.state.apply(self.index, 1_000, command, &mut self.out);
    }

    fn connect(&mut self, number: u32) -> Actor {
        self.turn();
        self.apply(Command::Claim(Box::new(Claim {
            handle: Handle {
                index: number,
                generation: 1,
            },
            client_id: format!("device-{number:07}").into(),
            version: Version::V311,
            clean_start: true,
            expiry_s: u32::MAX,
            will: None,
        })));
        self.apply(Command::Attach {
            actor: None,
            if_free: true,
        });
        let claimed = self.out.links[0].pop();
        let Some(FromGroup::Claimed(claimed)) = claimed else {
            panic!("claimed, not {claimed:?}")
        };
        Actor {
            client: claimed.client,
            epoch: claimed.epoch,
        }
    }

    fn subscribe(&mut self, actor: Actor, filter: &str, qos: QoS) {
        let options = SubscribeOptions {
            qos,
            ..SubscribeOptions::default()
        };
        let filters = vec![(TopicFilter::new(filter).expect("a filter"), options)];
        let packet_id = PacketId::MIN;
        let subscribe = Subscribe {
            actor,
            packet_id,
            subscription_id: 0,
            filters,
        };
        self.apply(Command::Subscribe(Box::new(subscribe)));
    }

    /// A publish the way a leader treats it; then every receiver answers.
    fn publish(&mut self, publish: Publish, at: StoredAt) {
        if self.state.must_log(&publish) {
            self.apply(Command::Publish(publish, at));
        } else {
            self.number += 1;
            self.state.deliver_unlogged(1_000, publish, &mut self.out);
        }
    }
}

fn message(topic: &str) -> Message {
    let topic = TopicName::new(topic).expect("a topic");
    Message::new(&topic, &[], &[7; 64]).expect("a message")
}

fn at(n: usize) -> StoredAt {
    StoredAt {
        segment: 1 + (n >> 18) as u32,
        record: (n as u32 & 0x3_ffff) << 7,
        offset: 29,
        len: 95,
    }
}

/// Publishers to `subscribers` each their own way; `per` is how many deliveries one publish makes.
fn run(
    name: &str,
    qos: QoS,
    group: &mut Group,
    pairs: &[(Actor, Message)],
    receivers: &[Actor],
    count: usize,
) {
    let mut delivered = 0;
    let mut acks: Vec<(Handle, PacketId)> = Vec::new();
    let start = Instant::now();
    for n in 0..count {
        let (actor, message) = &pairs[n % pairs.len()];
        let packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::MIN);
        let publish = Publish {
            actor: *actor,
            packet_id,
            qos,
            retain: false,
            message: message.clone(),
        };
        group.publish(publish, at(n));
        if qos == QoS::ExactlyOnce {
            group.apply(Command::Release {
                actor: *actor,
                packet_id: PacketId::MIN,
            });
        }
        if n % TURN == TURN - 1 || receivers.len() > 500 {
            for frame in &group.out.links[0] {
                let FromGroup::Deliver(delivery) = frame else {
                    continue;
                };
                assert!(
                    matches!(delivery.body, Body::Inline(_)),
                    "{name}: nothing waits"
                );
                delivered += delivery.receivers.len();
                acks.extend(
                    delivery
                        .receivers
                        .iter()
                        .filter_map(|r| Some((r.handle, r.packet_id?))),
                );
            }
            group.turn();
            for (handle, packet_id) in acks.drain(..) {
                let actor = receivers[handle.index as usize];
                let kinds: &[AckKind] = match qos {
                    QoS::ExactlyOnce => &[AckKind::Received, AckKind::Complete],
                    _ => &[AckKind::Ack],
                };
                for kind in kinds {
                    group.apply(Command::Ack(Ack {
                        actor,
                        packet_id,
                        kind: *kind,
                    }));
                }
            }
        }
    }
    let ns = start.elapsed().as_nanos() as f64;
    println!(
        "{name:<34} {:>8.1} ns a publish  {:>8.1} ns a delivery",
        ns / count as f64,
        ns / delivered as f64
    );
}

fn pair(qos: QoS, count: usize) {
    let mut group = Group::new();
    let receivers: Vec<_> = (0..500).map(|n| group.connect(n)).collect();
    let mut pairs = Vec::new();
    for (n, receiver) in receivers.iter().enumerate() {
        let topic = format!("load/run-1/{n:05}");
        group.subscribe(*receiver, &topic, qos);
        let publisher = group.connect(500 + n as u32);
        pairs.push((publisher, message(&topic)));
    }
    run(
        &format!("pair, 500 pairs, {qos:?}"),
        qos,
        &mut group,
        &pairs,
        &receivers,
        count,
    );
}

fn fan_out(qos: QoS, count: usize) {
    let mut group = Group::new();
    let receivers: Vec<_> = (0..1_000).map(|n| group.connect(n)).collect();
    for receiver in &receivers {
        group.subscribe(*receiver, "load/all", qos);
    }
    let pairs = [(group.connect(5_000), message("load/all"))];
    run(
        &format!("fan-out to 1,000, {qos:?}"),
        qos,
        &mut group,
        &pairs,
        &receivers,
        count,
    );
}

fn fan_in(count: usize) {
    let mut group = Group::new();
    let receivers = [group.connect(0)];
    group.subscribe(receivers[0], "load/run-1/#", QoS::AtLeastOnce);
    let pairs: Vec<_> = (0..500)
        .map(|n| (group.connect(1 + n), message(&format!("load/run-1/{n:05}"))))
        .collect();
    let name = "fan-in from 500, load/run-1/#, QoS 1";
    run(
        name,
        QoS::AtLeastOnce,
        &mut group,
        &pairs,
        &receivers,
        count,
    );
}

fn codec(count: usize) {
    let mut group = Group::new();
    let actor = group.connect(1);
    let message = message("load/run-1/00001");
    let commands: Vec<_> = (0..1_000)
        .map(|n| {
            let packet_id = Some(PacketId::MIN);
            let message = message.clone();
            let publish = Publish {
                actor,
                packet_id,
                qos: QoS::AtLeastOnce,
                retain: false,
                message,
            };
            Command::Publish(publish, at(n))
        })
        .collect();
    let (mut bytes, mut placed) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for _ in 0..count {
        bytes.clear();
        placed.clear();
        encode_entry(1, &commands, &mut bytes, &mut placed);
    }
    let encode = start.elapsed().as_nanos() as f64 / (count * commands.len()) as f64;
    let body = Bytes::from(bytes);
    let start = Instant::now();
    for index in 0..count {
        let entry = decode_entry(
            index as u64,
            &body,
            Location {
                segment: 1,
                offset: 0,
            },
        );
        assert_eq!(entry.expect("just encoded").commands.len(), commands.len());
    }
    let decode = start.elapsed().as_nanos() as f64 / (count * commands.len()) as f64;
    println!(
        "log entry, a publish of 64 B          {encode:>6.1} ns to encode  {decode:>6.1} ns to decode"
    );
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| {
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<usize>()
            .ok()
    });
    kib.unwrap_or(0) * 1024
}

fn idle(count: u32) {
    let before = resident_bytes();
    let mut group = Group::new();
    let start = Instant::now();
    for n in 0..count {
        let actor = group.connect(n);
        group.subscribe(actor, &format!("devices/{n:07}/cmd"), QoS::AtLeastOnce);
    }
    let per = start.elapsed().as_nanos() as f64 / f64::from(count);
    let bytes = (resident_bytes() - before) as f64 / f64::from(count);
    println!(
        "idle session, one filter of 19 B      {bytes:>6.0} bytes  {per:>6.0} ns to connect and subscribe"
    );
    let start = Instant::now();
    let snapshot = group.state.snapshot();
    let wrote = start.elapsed();
    let start = Instant::now();
    let restored =
        State::restore(&mut &snapshot[..], MachineLimits::default()).expect("just written");
    println!(
        "snapshot of {count} sessions: {} bytes each, {wrote:.2?} to write, {:.2?} to restore",
        snapshot.len() / count as usize,
        start.elapsed()
    );
    assert_eq!(restored.counters().sessions, u64::from(count));
}

fn main() {
    idle(1_000_000);
    let count = 3_000_000;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        pair(qos, count);
    }
    fan_out(QoS::AtMostOnce, 5_000);
    fan_out(QoS::AtLeastOnce, 2_000);
    fan_in(count);
    codec(2_000);
}
