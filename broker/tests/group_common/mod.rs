//! A whole group on real files, driven over one link.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod frames;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::frame::{Body, Delivery, FromGroup, ToGroup};
use cluster::ids::{Actor, Handle};
use cluster::mailbag::Mailbag;
use mqtt_fleet_broker::command::Producer;
use mqtt_fleet_broker::group::{GroupStatus, GroupTopology, LinkEnd, RunningGroup};
use mqtt_fleet_broker::limits::MachineLimits;
use mqtt_fleet_broker::log::{Durability, LogHandle, LogOptions};
use mqtt_fleet_broker::{GroupOptions, OpenGroup};
use protocol::{Message, PacketId, QoS};

#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use frames::{message, number};

/// No step of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Small sizes, so that a test of some MiB sees many segments and snapshots.
pub(crate) fn options(data: &Path, durability: Durability) -> GroupOptions {
    GroupOptions {
        data: data.to_path_buf(),
        log: LogOptions {
            durability,
            segment_bytes: 1 << 20,
            cache_bytes: 1 << 20,
            ..LogOptions::default()
        },
        limits: MachineLimits::default(),
        snapshot_bytes: 2 << 20,
    }
}

/// A running group and the proxy's end of its link.
pub(crate) struct Node {
    group: Option<RunningGroup>,
    pub(crate) log: LogHandle,
    to_group: Arc<Mailbag<ToGroup>>,
    from_group: Arc<Mailbag<FromGroup>>,
    frames: Vec<FromGroup>,
    handles: u32,
    ids: u16,
}

/// A connected client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) actor: Actor,
    pub(crate) handle: Handle,
    pub(crate) session_present: bool,
}

impl Node {
    pub(crate) fn start(options: GroupOptions) -> Self {
        let open = OpenGroup::open(options, Box::new(())).expect("the folder is whole");
        let log = open.log().clone();
        let waker = open.waker();
        let this = std::thread::current();
        let wake_group = move || waker.wake();
        let wake_test = move || this.unpark();
        let to_group = Arc::new(Mailbag::new(8 << 20, Box::new(wake_group), Box::new(|| {})));
        let from_group = Arc::new(Mailbag::new(8 << 20, Box::new(wake_test), Box::new(|| {})));
        let link = LinkEnd {
            producer: Producer {
                node: 0,
                shard: 0,
                incarnation: u64::from(std::process::id()) << 32 | u64::from(this_start()),
            },
            to_group: Arc::clone(&to_group),
            from_group: Arc::clone(&from_group),
        };
        let failed = |error: &_| eprintln!("the log failed: {error}");
        let group = open
            .start(vec![link], Box::new(failed))
            .expect("a thread is free");
        assert!(group.wait_until_serving(PATIENCE));
        Self {
            group: Some(group),
            log,
            to_group,
            from_group,
            frames: Vec::new(),
            handles: 0,
            ids: 0,
        }
    }

    /// The ordered end.
    pub(crate) fn stop(mut self) {
        let group = self.group.take().expect("it runs");
        group.stop().expect("everything is stored");
    }

    pub(crate) fn status(&self) -> GroupStatus {
        self.group.as_ref().expect("it runs").status()
    }

    pub(crate) fn topology(&self) -> GroupTopology {
        self.group.as_ref().expect("it runs").topology()
    }

    pub(crate) fn send(&self, frames: Vec<ToGroup>) {
        let (mut frames, bytes) = (frames, 0);
        self.to_group.send(&mut frames, bytes);
    }

    /// Waits for the first frame that `want` takes; others stay for later.
    pub(crate) fn expect<T>(&mut self, mut want: impl FnMut(&FromGroup) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut found = self.frames.iter().enumerate();
            if let Some((at, wanted)) = found.find_map(|(at, f)| Some((at, want(f)?))) {
                self.frames.remove(at);
                return wanted;
            }
            let mut more = Vec::new();
            self.from_group.take(&mut more);
            if more.is_empty() && self.from_group.prepare_sleep() {
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "not answered; there is {:?}", self.frames);
                std::thread::park_timeout(left);
            }
            self.frames.append(&mut more);
        }
    }

    /// A connected client with a session that does not expire.
    pub(crate) fn connect(&mut self, id: &str) -> Client {
        self.handles += 1;
        let handle = Handle {
            index: self.handles,
            generation: 0,
        };
        self.send(vec![frames::claim(handle, id)]);
        let (actor, session_present) = self.expect(|frame| frames::claimed(frame, handle));
        Client {
            actor,
            handle,
            session_present,
        }
    }

    pub(crate) fn disconnect(&self, client: Client) {
        self.send(vec![frames::disconnect(client.actor)]);
    }

    pub(crate) fn subscribe(&mut self, client: Client, filter: &str) {
        let packet_id = self.packet_id();
        let qos = QoS::AtLeastOnce;
        self.send(vec![frames::subscribe(
            client.actor,
            packet_id,
            filter,
            qos,
        )]);
        self.expect(|frame| frames::is_subscribed(frame, packet_id, qos));
    }

    /// Publishes at QoS 1 and waits until all are acknowledged.
    pub(crate) fn publish(&mut self, client: Client, retain: bool, messages: Vec<Message>) {
        let mut open = Vec::new();
        let frames = messages.into_iter().map(|message| {
            let packet_id = self.packet_id();
            open.push(packet_id);
            let how = (QoS::AtLeastOnce, retain);
            frames::publish(client.actor, Some(packet_id), how, message)
        });
        let frames = frames.collect();
        self.send(frames);
        for id in open {
            self.expect(|frame| match frame {
                FromGroup::Published { packet_id, .. } if *packet_id == id => Some(()),
                _ => None,
            });
        }
    }

    /// The next delivery to the client, answered.
    pub(crate) fn receive(&mut self, client: Client) -> Message {
        let (message, packet_id) = self.expect(|frame| match frame {
            FromGroup::Deliver(delivery) => to(delivery, client.handle),
            _ => None,
        });
        if let Some(packet_id) = packet_id {
            self.send(vec![frames::ack(client.actor, packet_id)]);
        }
        message
    }

    fn packet_id(&mut self) -> PacketId {
        self.ids = self.ids.wrapping_add(1).max(1);
        PacketId::new(self.ids).expect("not zero")
    }

    /// Waits until the group has come this far, looking ten times a second.
    pub(crate) fn wait_until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "in vain for {what}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

fn to(delivery: &Delivery, handle: Handle) -> Option<(Message, Option<PacketId>)> {
    let receiver = delivery.receivers.iter().find(|r| r.handle == handle)?;
    let Body::Inline(message) = &delivery.body else {
        panic!("{delivery:?} has left the group without its body");
    };
    Some((message.clone(), receiver.packet_id))
}

/// Tells the lives of a group within one test process apart.
fn this_start() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static STARTS: AtomicU32 = AtomicU32::new(0);
    STARTS.fetch_add(1, Ordering::Relaxed)
}

/// What a `kill -9` leaves of a group that takes nothing in: its files as they are. The group may still be tidying
/// up; a copy during which files came or went is no moment's picture and is made again.
pub(crate) fn killed(data: &Path) -> tempfile::TempDir {
    let all = || [files(&data.join("log")), files(&data.join("snapshots"))].map(sorted);
    loop {
        let copy = tempfile::tempdir().expect("a folder");
        let before = all();
        let copied = copy_of(data, copy.path(), &before);
        match copied {
            Ok(()) if all() == before => return copy,
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

fn copy_of(data: &Path, copy: &Path, folders: &[Vec<PathBuf>; 2]) -> std::io::Result<()> {
    for file in folders.iter().flatten() {
        let to = copy.join(file.strip_prefix(data).expect("a file of the data folder"));
        std::fs::create_dir_all(to.parent().expect("a folder"))?;
        std::fs::copy(file, to)?;
    }
    Ok(())
}

fn sorted(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths
}

/// The files in a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.is_file()).collect()
}
