//! What the codec costs per packet: `cargo bench -p mqtt-fleet-protocol`.
//!
//! Each figure is the median of many short batches, in nanoseconds per operation; a busy machine
//! shows in the distance between the quickest batch and the median.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use protocol::{
    AckKind, Decoded, Message, Packet, PacketId, PublishOptions, PublishTemplate, QoS, ReasonCode,
    TopicName, Version, decode, encode_ack, encode_publish,
};

const BATCHES: usize = 200;
const PER_BATCH: u32 = 20_000;
const PAYLOAD: [u8; 64] = [b'x'; 64];
const MAX_PACKET: usize = 1 << 20;

fn main() {
    let topic = TopicName::new("devices/4711/telemetry").expect("a topic");
    let message = Message::new(&topic, b"", &PAYLOAD).expect("small");
    let packet_id = PacketId::new(17);
    let options = PublishOptions {
        qos: QoS::AtLeastOnce,
        packet_id,
        ..PublishOptions::default()
    };
    for version in [Version::V311, Version::V5] {
        bench_version(version, &message, &options);
    }
    let topic = message.topic();
    measure("filter_matches, wildcard", || {
        black_box(protocol::filter_matches(
            black_box("devices/+/telemetry"),
            black_box(topic),
        ))
    });
    let mut stored = Vec::new();
    message.write_to(&mut stored);
    let stored = Bytes::from(stored);
    measure("Message::read_from", || {
        Message::read_from(black_box(&stored))
    });
}

fn bench_version(version: Version, message: &Message, options: &PublishOptions<'_>) {
    let mut frame = Vec::new();
    encode_publish(&mut frame, version, message, options);
    let chunk = Bytes::from(frame);
    measure(&format!("{version}: decode PUBLISH QoS 1, 64 B"), || {
        decode(black_box(&chunk), 0, version, MAX_PACKET)
    });
    let mut out = Vec::with_capacity(1 << 16);
    measure(&format!("{version}: encode PUBLISH QoS 1, 64 B"), || {
        out.clear();
        encode_publish(&mut out, version, black_box(message), options);
        black_box(out.len())
    });
    let template = PublishTemplate::new(version, message, options);
    measure(&format!("{version}: patch PUBLISH QoS 1, 64 B"), || {
        out.clear();
        template.append_to(&mut out, black_box(options.packet_id), false);
        black_box(out.len())
    });
    let mut ack = Vec::new();
    let id = PacketId::new(17).expect("not zero");
    measure(&format!("{version}: encode PUBACK"), || {
        ack.clear();
        encode_ack(
            &mut ack,
            version,
            AckKind::PubAck,
            black_box(id),
            ReasonCode::Success,
        );
        black_box(ack.len())
    });
    let chunk = Bytes::copy_from_slice(&ack);
    measure(&format!("{version}: decode PUBACK"), || {
        let decoded = decode(black_box(&chunk), 0, version, MAX_PACKET);
        assert!(matches!(
            decoded,
            Ok(Decoded::Packet {
                packet: Packet::PubAck(_),
                ..
            })
        ));
    });
}

fn measure<T>(name: &str, mut operation: impl FnMut() -> T) {
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..PER_BATCH {
                black_box(operation());
            }
            start.elapsed().as_nanos() as f64 / f64::from(PER_BATCH)
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    println!(
        "{name:<34} {:>7.1} ns (quickest {:.1})",
        batches[BATCHES / 2],
        batches[0]
    );
}
