//! No news is lost between the threads that bring it, whoever runs the turn.
//!
//! In tests the group's thread does not look around by itself ([`IDLE_WAIT`](super::IDLE_WAIT)): news that nobody
//! looks at stays unanswered, and the test fails.

use super::*;
use crate::command::Producer;
use crate::limits::MachineLimits;
use crate::log::{Durability, LogOptions};
use crate::{GroupOptions, OpenGroup};
use cluster::frame::{Claim, Claimed, Disconnect, FromGroup, Publish, WillFate};
use cluster::ids::{Actor, Handle};
use cluster::mailbag::Mailbag;
use protocol::{Message, PacketId, QoS, TopicName, Version};
use std::path::Path;
use std::sync::atomic::AtomicU64;

const PATIENCE: Duration = Duration::from_secs(60);
const PRODUCERS: u32 = 4;

/// Lets all producers go on at once, again and again: whoever's news is lost has nobody to bring other news.
#[derive(Default)]
struct Rounds {
    arrived: AtomicU64,
    failed: AtomicBool,
}

impl Rounds {
    fn wait(&self, round: u64) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < round * u64::from(PRODUCERS) {
            assert!(!self.failed.load(Ordering::Acquire), "another one failed");
            std::thread::yield_now();
        }
    }
}

/// One shard's end of a link, on a thread of its own.
struct Producing {
    rounds: Arc<Rounds>,
    to_group: Arc<Mailbag<ToGroup>>,
    from_group: Arc<Mailbag<FromGroup>>,
    got: Vec<FromGroup>,
}

impl Producing {
    fn send(&self, frame: ToGroup) {
        self.to_group.send(&mut vec![frame], 64);
    }

    fn next(&mut self) -> FromGroup {
        loop {
            if let Some(frame) = self.got.pop() {
                return frame;
            }
            self.from_group.take(&mut self.got);
            self.got.reverse();
            if self.got.is_empty() && self.from_group.prepare_sleep() {
                let began = Instant::now();
                std::thread::park_timeout(PATIENCE);
                let in_time = began.elapsed() < PATIENCE;
                self.rounds.failed.fetch_or(!in_time, Ordering::AcqRel);
                assert!(in_time, "the news was lost");
            }
        }
    }

    fn claim(&mut self, number: u32) -> Actor {
        self.send(claim(number, 0));
        let claimed = self.claimed();
        Actor {
            client: claimed.client,
            epoch: claimed.epoch,
        }
    }

    fn claimed(&mut self) -> Claimed {
        match self.next() {
            FromGroup::Claimed(claimed) => *claimed,
            other => panic!("{other:?} instead of Claimed"),
        }
    }

    /// One a round: the group has a quiet moment after each, and falls asleep again and again.
    fn publish(&mut self, actor: Actor, count: u64) {
        for n in 1..=count {
            let topic = TopicName::new(&format!("kept/{}", n % 100)).expect("a topic");
            self.rounds.wait(n);
            // Not all in the same moment: now while another one's turn begins, now while it ends.
            for _ in 0..n * u64::from(actor.client.0 + 1) % 1_021 {
                std::hint::spin_loop();
            }
            let packet_id = PacketId::new((n % 60_000) as u16 + 1).expect("not 0");
            self.send(ToGroup::Publish(Publish {
                actor,
                packet_id: Some(packet_id),
                qos: QoS::AtLeastOnce,
                // So that it has to be stored.
                retain: true,
                message: Message::new(&topic, &[], b"x").expect("a small message"),
            }));
            match self.next() {
                FromGroup::Published { packet_id: id, .. } => assert_eq!(id, packet_id),
                other => panic!("{other:?} instead of Published"),
            }
        }
    }
}

/// A claim of a session that is gone on with, if there is one.
fn claim(number: u32, expiry_s: u32) -> ToGroup {
    ToGroup::Claim(Box::new(Claim {
        handle: handle(number),
        client_id: format!("client-{number}").into(),
        version: Version::V5,
        clean_start: false,
        expiry_s,
        will: None,
    }))
}

fn handle(number: u32) -> Handle {
    Handle {
        index: number,
        generation: 0,
    }
}

fn options(data: &Path, durability: Durability) -> GroupOptions {
    GroupOptions {
        data: data.to_path_buf(),
        log: LogOptions {
            durability,
            ..LogOptions::default()
        },
        limits: MachineLimits::default(),
        snapshot_bytes: 16 << 10,
    }
}

/// Runs the group with all producers, each of which publishes so many. How often it fell behind its snapshots.
fn every_frame_is_answered(options: GroupOptions, count: u64) -> u64 {
    let open = OpenGroup::open(options, Box::new(())).expect("a new folder");
    let mut links = Vec::new();
    let mut threads = Vec::new();
    let rounds = Arc::new(Rounds::default());
    for number in 0..PRODUCERS {
        let (waker, rounds) = (open.waker(), Arc::clone(&rounds));
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (go, begin) = std::sync::mpsc::sync_channel::<()>(1);
        let body = move || {
            let this = std::thread::current();
            let wake_group = Box::new(move || waker.wake());
            let wake_this = Box::new(move || this.unpark());
            let to_group = Arc::new(Mailbag::new(1 << 20, wake_group, Box::new(|| {})));
            let from_group = Arc::new(Mailbag::new(1 << 20, wake_this, Box::new(|| {})));
            let bags = (Arc::clone(&to_group), Arc::clone(&from_group));
            ready.send(bags).expect("the test waits");
            begin.recv().expect("the test goes on");
            let mut producing = Producing {
                rounds,
                to_group,
                from_group,
                got: Vec::new(),
            };
            let actor = producing.claim(number);
            producing.publish(actor, count);
        };
        threads.push((std::thread::spawn(body), go));
        let (to_group, from_group) = started.recv().expect("the thread runs");
        let producer = Producer {
            node: 0,
            shard: number,
            incarnation: 1,
        };
        links.push(LinkEnd {
            producer,
            to_group,
            from_group,
        });
    }
    let failed = |error: &LogError| eprintln!("the log failed: {error}");
    let group = open
        .start(links, Box::new(failed))
        .expect("a thread is free");
    assert!(group.wait_until_serving(PATIENCE));
    for (_, go) in &threads {
        go.send(()).expect("the thread waits");
    }
    for (thread, _) in threads {
        thread.join().expect("every frame was answered");
    }
    let status = group.status_reader();
    group.stop().expect("everything is stored");
    status().snapshot_waits
}

#[test]
fn every_frame_is_answered_in_memory() {
    let data = tempfile::tempdir().expect("a folder");
    every_frame_is_answered(options(data.path(), Durability::Memory), 50_000);
}

#[test]
fn every_frame_is_answered_with_fsync() {
    let data = tempfile::tempdir().expect("a folder");
    every_frame_is_answered(options(data.path(), Durability::Fsync), 2_000);
}

/// Snapshots are taken all the time, in slices so small that the group changes faster than they are written.
#[test]
fn a_snapshot_and_the_log_behind_it_are_the_whole_log() {
    // Which thread gets on how fast is the machine's to say.
    let behind = (0..8).find_map(|_| {
        let data = tempfile::tempdir().expect("a folder");
        let options = options(data.path(), Durability::Os);
        let waits = every_frame_is_answered(options.clone(), 3_000);
        (waits > 0).then_some((data, options))
    });
    let (data, options) = behind.expect("no snapshot fell behind");
    let open = || OpenGroup::open(options.clone(), Box::new(())).expect("it was closed");
    let mut with_snapshot = open();
    let (records, state) = (
        with_snapshot.replay_stats().records,
        with_snapshot.snapshot(),
    );
    drop(with_snapshot);
    std::fs::remove_dir_all(data.path().join("snapshots")).expect("there are some");
    let mut from_the_log = open();
    assert!(from_the_log.replay_stats().records > records);
    assert!(
        from_the_log.snapshot() == state,
        "a snapshot has changed the state"
    );
}

#[test]
fn a_snapshot_that_cannot_be_written_ends_the_group() {
    let data = tempfile::tempdir().expect("a folder");
    let mut options = options(data.path(), Durability::Os);
    options.snapshot_bytes = 1;
    let open = OpenGroup::open(options, Box::new(())).expect("a new folder");
    std::fs::remove_dir_all(data.path().join("snapshots")).expect("it was made");
    let (failed, failure) = std::sync::mpsc::sync_channel(1);
    let tell = move |error: &LogError| failed.send(error.to_string()).expect("the test waits");
    let group = open.start(Vec::new(), Box::new(tell)).expect("a thread");
    let text = failure.recv_timeout(PATIENCE).expect("it is told");
    assert!(text.contains("snapshots"), "{text}");
    assert!(group.stop().is_err());
}

/// The shards' frames lie there together, since the group was busy: in the order of the links the claim would be first.
#[test]
fn what_a_client_said_last_on_one_shard_comes_before_its_claim_on_another() {
    let data = tempfile::tempdir().expect("a folder");
    let open = OpenGroup::open(options(data.path(), Durability::Memory), Box::new(()));
    let open = open.expect("a new folder");
    let ends = [0, 1].map(|shard| {
        let (waker, this) = (open.waker(), std::thread::current());
        let wake_group = Box::new(move || waker.wake());
        let wake_this = Box::new(move || this.unpark());
        let producer = Producer {
            node: 0,
            shard,
            incarnation: 1,
        };
        LinkEnd {
            producer,
            to_group: Arc::new(Mailbag::new(1 << 20, wake_group, Box::new(|| {}))),
            from_group: Arc::new(Mailbag::new(1 << 20, wake_this, Box::new(|| {}))),
        }
    });
    let [mut first, mut second] = [0, 1].map(|at: usize| Producing {
        rounds: Arc::default(),
        to_group: Arc::clone(&ends[at].to_group),
        from_group: Arc::clone(&ends[at].from_group),
        got: Vec::new(),
    });
    let group = open.start(ends.into(), Box::new(|_| ())).expect("a thread");
    assert!(group.wait_until_serving(PATIENCE));
    second.send(claim(7, 1_000));
    let claimed = second.claimed();
    let busy = group.seat.lock();
    second.send(ToGroup::Disconnect(Box::new(Disconnect {
        actor: Actor {
            client: claimed.client,
            epoch: claimed.epoch,
        },
        will: WillFate::Dropped,
        expiry_s: Some(0),
    })));
    first.send(claim(7, 1_000));
    drop(busy);
    GroupWaker(Arc::clone(&group.seat)).nudge();
    assert!(!first.claimed().session_present, "it had ended");
    group.stop().expect("everything is stored");
}
