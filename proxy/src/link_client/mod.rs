//! The link client: a thread that carries the links of all shards of a proxy to a group over TCP.
//!
//! To a shard its link looks as in one process: two bags. What is numbered, kept, sent again and handed over is
//! decided in [`cluster::link::ProducerLink`], and which member of the group is tried in [`cluster::link::Search`]; here are
//! the sockets and the clock.

mod addresses;
mod carrier;
mod counters;
mod limits;
mod members;
mod troubles;

pub use counters::LinkCounters;

use crate::link::{GroupLink, ShardWaker};
use carrier::{Carrier, Scratch};
use cluster::link::{ProducerIdentity, ProducerLink};
use cluster::mailbag::{Mailbag, Wake};
use cluster::slots::GroupNo;
use cluster::topology::{Announcement, SharedTopology, TopologyWatch};
use cluster::transport::LinkTls;
use limits::{EVENTS, READ_BYTES, TO_GROUP_BYTES_MAX, TO_SHARD_BYTES_MAX};
use members::Members;
use mio::{Events, Poll, Token, Waker};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const WAKER: Token = Token(usize::MAX);

/// What the links of a proxy have in common.
#[derive(Clone)]
pub struct LinkClientConfig {
    /// What is known of the fleet, which says where the group's brokers are; links are made anew where that changes.
    pub topology: Arc<SharedTopology>,
    /// The group.
    pub group: GroupNo,
    /// Name of this node: 1 to 64 letters, digits, `.`, `_`, `-`.
    pub name: Box<str>,
    /// Number of this node.
    pub node: u32,
    /// Random, new at each start of this process.
    pub incarnation: u64,
    /// The fleet's secret.
    pub secret: Arc<[u8]>,
    /// Links are with mutual TLS only; the broker's certificate must be for the host of its address.
    pub tls: Option<Arc<LinkTls>>,
}

/// A link client that does not run yet: shards get their links from it.
pub struct LinkClient {
    config: LinkClientConfig,
    poll: Poll,
    waker: Arc<Waker>,
    carriers: Vec<Carrier>,
}

/// A link client that runs.
#[derive(Debug)]
pub struct RunningLinkClient {
    counters: Vec<Arc<LinkCounters>>,
    stop: Arc<Stop>,
    waker: Arc<Waker>,
    thread: JoinHandle<io::Result<()>>,
}

/// When the thread ends.
#[derive(Debug, Default)]
struct Stop {
    asked: AtomicBool,
    /// The latest, once it is asked.
    until: Mutex<Option<Instant>>,
}

impl LinkClient {
    /// A client without links. Fails if the process is out of descriptors.
    pub fn new(config: LinkClientConfig) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            config,
            poll,
            waker,
            carriers: Vec::new(),
        })
    }

    /// The link of the next shard; they are numbered from 0.
    pub fn link(&mut self, shard: &ShardWaker) -> io::Result<Arc<GroupLink>> {
        self.link_waking(|| shard.wake())
    }

    /// The link of the next shard, which is woken in another way.
    pub fn link_waking(&mut self, shard: impl Fn() -> Wake) -> io::Result<Arc<GroupLink>> {
        let wake = || wake(&self.waker);
        let bags = Arc::new(GroupLink::of_bags(
            Mailbag::new(TO_GROUP_BYTES_MAX, wake(), shard()),
            Mailbag::new(TO_SHARD_BYTES_MAX, shard(), wake()),
        ));
        let number = self.carriers.len();
        let config = &self.config;
        let identity = ProducerIdentity {
            group: u32::from(config.group.0),
            node: config.node,
            shard: number as u32,
            incarnation: config.incarnation,
            name: config.name.clone(),
            secret: Arc::clone(&config.secret),
        };
        let known = config.topology.newest();
        let link = ProducerLink::new(identity, known, getrandom::u64()?, Instant::now());
        let carrier = Carrier::new(Token(number), link, Arc::clone(&bags), config.tls.clone());
        self.carriers.push(carrier);
        Ok(bags)
    }

    /// Starts the thread, which makes the connections and makes them again whenever they are lost.
    pub fn start(self) -> io::Result<RunningLinkClient> {
        let Self {
            config,
            poll,
            waker,
            carriers,
        } = self;
        let (watch, newest) = config.topology.watch(wake(&waker));
        let members = Members::new(wake(&waker));
        let stop = Arc::<Stop>::default();
        let counters = carriers.iter().map(Carrier::counters).collect();
        let mut client = Client {
            poll,
            carriers,
            members,
            watch,
            group: config.group,
            stop: Arc::clone(&stop),
            scratch: Scratch::new(READ_BYTES),
        };
        client.take_topology(&newest);
        let thread = std::thread::Builder::new()
            .name("links".into())
            .spawn(move || {
                let _abort = AbortOnPanic;
                client.run()
            })?;
        Ok(RunningLinkClient {
            counters,
            stop,
            waker,
            thread,
        })
    }
}

impl RunningLinkClient {
    /// What each link counts, by shard.
    pub fn counters(&self) -> &[Arc<LinkCounters>] {
        &self.counters
    }

    /// How many links carry frames now.
    pub fn up(&self) -> usize {
        self.counters
            .iter()
            .filter(|link| link.up.get() > 0)
            .count()
    }

    /// Ends the thread once the group has stored everything that the shards have put into their bags, or after
    /// `limit`. An error is one of the poll itself, after which nothing was carried.
    pub fn stop(self, limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        *self
            .stop
            .until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(until);
        self.stop.asked.store(true, Ordering::Release);
        self.waker.wake()?;
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A panic ends the process: the shards would wait for ever, and a process that ends is started again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// What the thread owns.
struct Client {
    poll: Poll,
    carriers: Vec<Carrier>,
    members: Members,
    watch: TopologyWatch,
    group: GroupNo,
    stop: Arc<Stop>,
    scratch: Scratch,
}

impl Client {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            let mut until = None;
            if self.stop.asked.load(Ordering::Acquire) {
                let stop = self.stop.until.lock();
                until = *stop.unwrap_or_else(PoisonError::into_inner);
                let settled = self.carriers.iter().all(Carrier::is_settled);
                if settled || until.is_none_or(|until| until <= now) {
                    return Ok(());
                }
            }
            let timeout = self.timeout(now, until);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            for event in &events {
                if let Some(carrier) = self.carriers.get_mut(event.token().0) {
                    carrier.take_event(event);
                }
            }
            if let Some(newest) = self.watch.news() {
                self.take_topology(&newest);
            }
            let now = Instant::now();
            for carrier in &mut self.carriers {
                let registry = self.poll.registry();
                carrier.turn(now, registry, &mut self.members, &mut self.scratch);
            }
            if let Some(topology) = self.scratch.heard.take() {
                self.watch.hear(topology);
            }
        }
    }

    /// The node knows this of the fleet: brokers are told, and links go where the group's brokers are.
    fn take_topology(&mut self, newest: &Arc<Announcement>) {
        let members = newest.topology().members(self.group);
        let now = Instant::now();
        for carrier in &mut self.carriers {
            carrier.know(now, newest, members);
        }
        self.members.set(members);
    }

    /// How long nothing is due. Every bag has been told when this is not zero.
    fn timeout(&mut self, now: Instant, until: Option<Instant>) -> Option<Duration> {
        let mut quiet = true;
        let mut next = until;
        for carrier in &mut self.carriers {
            quiet &= carrier.is_quiet(now);
            next = next.into_iter().chain(carrier.deadline()).min();
        }
        if quiet {
            next.map(|next| next.saturating_duration_since(now))
        } else {
            Some(Duration::ZERO)
        }
    }
}

fn wake(waker: &Arc<Waker>) -> Wake {
    let waker = Arc::clone(waker);
    Box::new(move || {
        if let Err(error) = waker.wake() {
            // The write of eight bytes into an eventfd that only a full counter can refuse, and then it is awake.
            tracing::error!(%error, "cannot wake the link client");
        }
    })
}
