//! One publisher for each group, ten messages a second at `QoS` 1, and when each was acknowledged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::tools::pause;
use crate::common::wire::{self, Packet, Publish};
use crate::common::{Client, Connect, Got};

/// Between two messages.
const EVERY: Duration = Duration::from_millis(100);
/// Between two tries to connect again.
const AGAIN: Duration = Duration::from_millis(50);
/// Table 3-1 of MQTT 5.
const SERVER_UNAVAILABLE: u8 = 0x88;

/// A publisher that runs.
pub(crate) struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    news: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct Seen {
    /// When each acknowledged message was sent, and when its PUBACK came; in the order of the latter.
    acked: Vec<(Instant, Instant)>,
    sockets_lost: u32,
    refused: u32,
}

impl Probe {
    /// Publishes on this topic through the first of these proxies; if that is gone, through the next one.
    pub(crate) fn start(topic: &str, proxies: Vec<SocketAddr>) -> Self {
        let shared = Arc::new(Shared::default());
        let publisher = Publisher {
            shared: Arc::clone(&shared),
            topic: topic.to_owned(),
            proxies,
        };
        let thread = std::thread::spawn(move || publisher.run());
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Waits for the PUBACK of a message that was sent after `from`; how long after that it came.
    pub(crate) fn await_ack(&self, from: Instant, patience: Duration) -> Duration {
        let deadline = Instant::now() + patience;
        let mut seen = self.shared.seen.lock().expect("no panic there");
        loop {
            let later = seen
                .acked
                .iter()
                .rev()
                .take_while(|(sent, _)| *sent >= from);
            if let Some((_, acked)) = later.last() {
                return acked.duration_since(from);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no PUBACK for {patience:?}");
            let waited = self.shared.news.wait_timeout(seen, left);
            seen = waited.expect("no panic there").0;
        }
    }

    /// The longest time without a PUBACK since `from`.
    pub(crate) fn longest_silence(&self, from: Instant) -> Duration {
        let seen = self.shared.seen.lock().expect("no panic there");
        let (mut last, mut longest) = (from, Duration::ZERO);
        let first = seen.acked.partition_point(|(_, acked)| *acked < from);
        for (_, acked) in &seen.acked[first..] {
            longest = longest.max(acked.duration_since(last));
            last = *acked;
        }
        longest.max(last.elapsed())
    }

    /// Connections that it lost so far.
    pub(crate) fn sockets_lost(&self) -> u32 {
        self.shared
            .seen
            .lock()
            .expect("no panic there")
            .sockets_lost
    }

    /// Messages that were refused so far.
    pub(crate) fn refused(&self) -> u32 {
        self.shared.seen.lock().expect("no panic there").refused
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || !matches!(ended, Some(Err(_))),
            "a publisher panicked"
        );
    }
}

struct Publisher {
    shared: Arc<Shared>,
    topic: String,
    proxies: Vec<SocketAddr>,
}

impl Publisher {
    fn run(self) {
        let mut addresses = self.proxies.iter().copied().cycle();
        while !self.stops() {
            let address = addresses.next().expect("there is a proxy");
            let name = format!("of {}", self.topic.replace('/', "-"));
            match Connect::v5(&name).keep_alive(0).try_dial(address) {
                Some((client, 0)) => self.publish(client),
                // After a kill of everything a proxy may be there before its groups are.
                Some((_, SERVER_UNAVAILABLE)) | None => pause(AGAIN),
                Some((_, code)) => panic!("CONNACK for {name} says {code:#x}"),
            }
        }
    }

    fn stops(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Until it is to stop or its connection is lost.
    fn publish(&self, mut client: Client) {
        let mut unacked = HashMap::new();
        let mut due = Instant::now();
        while !self.stops() {
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                due += EVERY;
                if self.send(&mut client, &mut unacked).is_none() {
                    return self.lost();
                }
                continue;
            }
            match client.next(wait) {
                Got::Packet(Packet::PubAck { id, code, .. }) => {
                    let sent = unacked
                        .remove(&id)
                        .expect("it was sent, and acknowledged once");
                    self.answered(sent, code);
                }
                Got::Packet(_) | Got::Silence => {}
                Got::Closed => return self.lost(),
            }
        }
    }

    /// Sends the next message, if so many may be under way. `None`: the connection is lost.
    fn send(&self, client: &mut Client, unacked: &mut HashMap<u16, Instant>) -> Option<()> {
        if unacked.len() >= usize::from(client.send_window()) {
            return Some(());
        }
        let id = client.fresh_id();
        let message = Publish::new(&self.topic, 1, "probe").id(id);
        unacked.insert(id, Instant::now());
        client.try_send(&wire::publish(client.version, &message))
    }

    fn answered(&self, sent: Instant, code: u8) {
        let mut seen = self.shared.seen.lock().expect("no panic there");
        if code < 0x80 {
            seen.acked.push((sent, Instant::now()));
            self.shared.news.notify_all();
        } else {
            seen.refused += 1;
        }
    }

    fn lost(&self) {
        self.shared
            .seen
            .lock()
            .expect("no panic there")
            .sockets_lost += 1;
    }
}
