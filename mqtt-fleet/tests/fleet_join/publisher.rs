//! A publisher at `QoS` 1 in an open loop: messages leave when they are due, and their latency counts from then.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::tools::pause;
use crate::common::wire::{self, Packet, Publish, Version};
use crate::common::{Client, Connect, Got};

const TOPIC: &str = "join/probe";
/// Messages without an answer: as many as there are packet ids. At the limit those that follow leave late, which their
/// latency says.
const UNANSWERED_MAX: usize = 65_535;
/// Longer than any message may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A publisher that runs, and a subscriber, so that its messages are stored.
pub(crate) struct Publisher {
    /// Of each acknowledged message when it was due, and how long it took from then.
    acked: Arc<Mutex<Vec<(Instant, Duration)>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Latencies of a time.
pub(crate) struct Latency {
    /// In order of length.
    sorted: Vec<Duration>,
    /// The longest of each second.
    longest: Vec<Duration>,
}

impl Publisher {
    /// Publishes so many messages a second.
    pub(crate) fn start(mqtt: SocketAddr, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(Mutex::new(Vec::new()));
        let mut ear = Connect::v311("join-ear").keep_alive(0).open_at(mqtt);
        ear.subscribe(TOPIC, 1);
        let mouth = Connect::v311("join-mouth").keep_alive(0).open_at(mqtt);
        let stream = mouth.stream.try_clone().expect("a second handle");
        let (tell, told) = sync_channel(UNANSWERED_MAX);
        let every = Duration::from_secs(1) / rate;
        let sending = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || send(stream, every, &stop, &tell))
        };
        let hearing = {
            let acked = Arc::clone(&acked);
            std::thread::spawn(move || hear(mouth, &told, &acked))
        };
        let taking = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || take(ear, &stop))
        };
        Self {
            acked,
            stop,
            threads: vec![sending, hearing, taking],
        }
    }

    /// Lets time pass.
    pub(crate) fn let_run(&self, time: Duration) {
        self.check();
        pause(time);
    }

    /// The latencies of what was due while this was done.
    pub(crate) fn measure(&self, what: impl FnOnce()) -> Latency {
        let from = Instant::now();
        what();
        let to = Instant::now();
        self.await_acked(to);
        let acked = self.acked.lock().expect("no panic there");
        let due = acked.iter().filter(|(due, _)| (from..to).contains(due));
        let (mut sorted, mut longest) = (Vec::new(), Vec::new());
        for (due, took) in due {
            let second = due.duration_since(from).as_secs() as usize;
            longest.resize((second + 1).max(longest.len()), Duration::ZERO);
            longest[second] = longest[second].max(*took);
            sorted.push(*took);
        }
        sorted.sort_unstable();
        assert!(!sorted.is_empty(), "nothing was published");
        Latency { sorted, longest }
    }

    /// Waits until all that was due by then is acknowledged.
    fn await_acked(&self, by: Instant) {
        let deadline = Instant::now() + PATIENCE;
        let is_over = || {
            let acked = self.acked.lock().expect("no panic there");
            acked.last().is_some_and(|(due, _)| *due >= by)
        };
        while !is_over() {
            self.check();
            assert!(Instant::now() < deadline, "no PUBACK for {PATIENCE:?}");
            pause(Duration::from_millis(5));
        }
    }

    fn check(&self) {
        assert!(
            self.threads.iter().all(|thread| !thread.is_finished()),
            "a connection was lost"
        );
    }

    /// Ends it.
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no connection was lost");
        }
    }
}

/// Sends each message when it is due, and tells when that was.
fn send(
    mut stream: std::net::TcpStream,
    every: Duration,
    stop: &AtomicBool,
    tell: &SyncSender<(u16, Instant)>,
) {
    let mut due = Instant::now();
    let mut id = 0_u16;
    while !stop.load(Ordering::Relaxed) {
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            pause(wait);
        }
        id = id.checked_add(1).unwrap_or(1);
        tell.send((id, due)).expect("somebody hears the answers");
        let message = Publish::new(TOPIC, 1, [b'x'; 64]).id(id);
        let bytes = wire::publish(Version::V311, &message);
        std::io::Write::write_all(&mut stream, &bytes).expect("the connection stands");
        due += every;
    }
}

/// Takes the answers, which come in the order of the messages, until no more are sent.
fn hear(
    mut mouth: Client,
    told: &Receiver<(u16, Instant)>,
    acked: &Mutex<Vec<(Instant, Duration)>>,
) {
    for (sent, due) in told {
        match mouth.next(PATIENCE) {
            Got::Packet(Packet::PubAck { id, .. }) => assert_eq!(id, sent),
            other => panic!("{other:?} instead of a PUBACK"),
        }
        let took = due.elapsed();
        acked.lock().expect("no panic there").push((due, took));
    }
}

/// Takes and acknowledges what is delivered.
fn take(mut ear: Client, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match ear.next(Duration::from_millis(100)) {
            Got::Packet(Packet::Publish(message)) => {
                ear.send(&wire::ack(wire::PUBACK, message.id));
            }
            Got::Packet(_) | Got::Silence => {}
            Got::Closed => panic!("the subscriber's connection was lost"),
        }
    }
}

impl Latency {
    fn at(&self, percent: usize) -> f64 {
        let last = self.sorted.len() - 1;
        self.sorted[(self.sorted.len() * percent / 100).min(last)].as_secs_f64()
    }

    /// How many times as long its p99 is.
    pub(crate) fn ratio(&self, before: &Self) -> f64 {
        self.at(99) / before.at(99)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.at(percent) * 1e3;
        write!(
            f,
            "{} messages: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; the longest of each second:",
            self.sorted.len(),
            ms(50),
            ms(99),
            ms(100)
        )?;
        self.longest
            .iter()
            .try_for_each(|longest| write!(f, " {:.0}", longest.as_secs_f64() * 1e3))
    }
}
