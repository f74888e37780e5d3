//! What a message in and out costs a shard: `cargo bench -p mqtt-fleet-proxy --bench shard`.
//!
//! Pairs of clients over loopback, each pair with a window of messages on its way, and a group that answers at
//! once. Prints messages per second and the processor time of the shard's thread, in user mode (our code) and in
//! the kernel (the sockets), per message.

#[path = "../tests/support/mod.rs"]
mod support;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use mqtt_fleet_proxy::limits::ProxyLimits;
use protocol::{QoS, Version, encode};
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};
use support::{Server, publish};

const SECONDS: u64 = 4;
const PAYLOAD: [u8; 64] = [b'x'; 64];

fn main() {
    for (pairs, window) in [(500, 16), (50, 100), (100, 1)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            measure(pairs, window, qos);
        }
    }
}

struct Pair {
    sender: TcpStream,
    receiver: TcpStream,
    unread: Vec<u8>,
    batch: Vec<u8>,
    packet: Vec<u8>,
    next_id: u16,
}

fn measure(pairs: usize, window: usize, qos: QoS) {
    let server = Server::start(ProxyLimits::default());
    let mut poll = Poll::new().expect("descriptors are left");
    let mut table: Vec<Pair> = (0..pairs).map(|n| pair(&server, &poll, n, qos)).collect();
    for pair in &mut table {
        pair.send(window, qos);
    }
    let mut events = Events::with_capacity(1024);
    let (start, before) = (Instant::now(), shard_time());
    let end = start + Duration::from_secs(SECONDS);
    let mut messages = 0_u64;
    let mut buf = vec![0; 65536];
    while Instant::now() < end {
        poll.poll(&mut events, Some(Duration::from_secs(1)))
            .expect("poll works");
        for event in &events {
            let pair = &mut table[event.token().0 / 2];
            if event.token().0 % 2 == 1 {
                let done = pair.receive(&mut buf, qos);
                pair.send(done, qos);
                messages += done as u64;
            } else {
                drain(&mut pair.sender, &mut buf);
            }
        }
    }
    let (after, elapsed) = (shard_time(), start.elapsed());
    let per_message = |time: Duration| time.as_nanos() as u64 / messages.max(1);
    println!(
        "{pairs} pairs, window {window}, {qos:?}: {:.0} messages/s, shard {} ns user + {} ns kernel per message",
        messages as f64 / elapsed.as_secs_f64(),
        per_message(after.0.saturating_sub(before.0)),
        per_message(after.1.saturating_sub(before.1)),
    );
    drop(table);
    server.stop();
}

fn pair(server: &Server, poll: &Poll, n: usize, qos: QoS) -> Pair {
    let topic = format!("pair/{n:05}");
    let mut receiver = server.client(&format!("receiver-{n}"));
    receiver.subscribe(&topic, qos);
    let sender = server.client(&format!("sender-{n}"));
    let register = |client: support::Client, token| {
        client.socket.set_nonblocking(true).expect("a socket");
        let mut socket = TcpStream::from_std(client.socket);
        poll.registry()
            .register(&mut socket, Token(token), Interest::READABLE)
            .expect("fresh");
        socket
    };
    let mut packet = Vec::new();
    let id = u16::from(qos != QoS::AtMostOnce);
    encode(
        &publish(&topic, qos, id, &PAYLOAD),
        Version::V311,
        &mut packet,
    )
    .expect("valid");
    Pair {
        sender: register(sender, 2 * n),
        receiver: register(receiver, 2 * n + 1),
        unread: Vec::new(),
        batch: Vec::new(),
        packet,
        next_id: 0,
    }
}

impl Pair {
    /// Where the packet id is: the payload is the end of the packet.
    fn id_at(&self) -> usize {
        self.packet.len() - PAYLOAD.len() - 2
    }

    fn send(&mut self, messages: usize, qos: QoS) {
        self.batch.clear();
        for _ in 0..messages {
            let start = self.batch.len();
            self.batch.extend_from_slice(&self.packet);
            if qos != QoS::AtMostOnce {
                self.next_id = self.next_id % 60_000 + 1;
                let at = start + self.id_at();
                self.batch[at..at + 2].copy_from_slice(&self.next_id.to_be_bytes());
            }
        }
        self.sender
            .write_all(&self.batch)
            .expect("a window fits in the socket");
    }

    /// Takes what has come, acknowledges it, and says how many messages it was.
    fn receive(&mut self, buf: &mut [u8], qos: QoS) -> usize {
        loop {
            match self.receiver.read(buf) {
                Ok(len) => self.unread.extend_from_slice(&buf[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let messages = self.unread.len() / self.packet.len();
        if qos != QoS::AtMostOnce {
            self.batch.clear();
            for packet in self.unread.chunks_exact(self.packet.len()) {
                let at = self.id_at();
                self.batch
                    .extend_from_slice(&[0x40, 2, packet[at], packet[at + 1]]);
            }
            self.receiver
                .write_all(&self.batch)
                .expect("a window fits in the socket");
        }
        self.unread.drain(..messages * self.packet.len());
        messages
    }
}

fn drain(socket: &mut TcpStream, buf: &mut [u8]) {
    while socket.read(buf).is_ok_and(|len| len > 0) {}
}

/// Processor time of the thread named `shard`, in user mode and in the kernel.
fn shard_time() -> (Duration, Duration) {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    for task in tasks {
        let path = task.expect("readable").path();
        let stat = std::fs::read_to_string(path.join("stat")).expect("readable");
        let Some((name, fields)) = stat.rsplit_once(") ") else {
            continue;
        };
        if name.ends_with("(shard") {
            let fields: Vec<&str> = fields.split(' ').collect();
            let ticks = |field: usize| fields[field].parse::<u64>().expect("a number of ticks");
            // 100 ticks a second on every Linux; fields 14 and 15 of stat, of which two are before the split.
            return (
                Duration::from_millis(ticks(11) * 10),
                Duration::from_millis(ticks(12) * 10),
            );
        }
    }
    panic!("no thread of that name");
}
