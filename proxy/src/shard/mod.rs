//! One shard: a thread with its own listener, connections, timers and links to the groups.
//!
//! A turn: wait for the kernel or a group; read from the sockets that have something, at most one block each;
//! hand the frames over; handle the groups' frames; write once to each socket that has bytes; look at the timers.
//! One system call a read, one a write, one lock a batch in each direction, and none per message.

mod accept;
mod connection;
mod links;
mod pool;
mod reading;
mod table;
mod timers;
mod traffic;
mod wheel;

use crate::auth::Authenticator;
use crate::counters::ProxyCounters;
use crate::limits::{LISTENERS_MAX, POLL_EVENTS, ProxyLimits};
use crate::link::{GroupLink, ShardPoll, ShardWaker, WAKER};
use crate::records::RecordSink;
use crate::session::{AssignedIds, Context, End, Fanout, Frames, Rules, Session};
use accept::Listener;
pub use accept::ListenerConfig;
use cluster::frame::FromGroup;
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use connection::{Connection, peer_of};
use links::Link;
use mio::net::TcpStream;
use mio::{Events, Token};
use pool::Pool;
use reading::ReadBlock;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use table::Table;
use wheel::{Visit, Wheel};

/// Tokens of listeners: the last ones there are, counted downwards.
const FIRST_LISTENER: usize = usize::MAX;
/// Tokens of connections: their slot and this.
const FIRST_CONNECTION: usize = WAKER.0 + 1;

/// What a shard is made of.
pub struct ShardConfig {
    /// Its own listening sockets (`SO_REUSEPORT` where there are several shards), at most
    /// [`crate::limits::LISTENERS_MAX`].
    pub listeners: Vec<ListenerConfig>,
    /// Limits of this shard and its connections.
    pub limits: ProxyLimits,
    /// A link to each group of `routing`, made with the waker of the [`ShardPoll`].
    pub links: Vec<(GroupNo, Arc<GroupLink>)>,
    /// Which group has what.
    pub routing: Arc<Routing>,
    /// Who may connect.
    pub authenticator: Arc<dyn Authenticator>,
    /// Where the changes of session records go; `None`: nowhere.
    pub records: Option<Box<dyn RecordSink>>,
    /// Where the shard counts; read by anyone, written by it alone.
    pub counters: Arc<ProxyCounters>,
}

/// A shard, to be run on a thread of its own.
pub struct Shard {
    poll: ShardPoll,
    listeners: Vec<Listener>,
    links: Vec<Link>,
    drain: Arc<AtomicBool>,
    rules: Rules,
    records: Option<Box<dyn RecordSink>>,
    started: Instant,
    table: Table<Connection>,
    block: ReadBlock,
    pool: Pool,
    wheel: Wheel,
    fanout: Fanout,
    /// For the groups, in order.
    frames: Frames,
    /// From a group, in order.
    inbox: Vec<FromGroup>,
    /// Slots with something to read. A slot is in it once.
    ready: Vec<u32>,
    /// Slots with something to write, or to close. A slot is in it once.
    dirty: Vec<u32>,
    /// The only group does not keep up: nothing is read until it has taken what is on its way.
    paused: bool,
    /// When a drain must be over.
    drain_until: Option<Instant>,
    /// When a refused connection was last logged.
    refusals_logged_s: Option<u32>,
    // Kept for their room.
    reading: Vec<u32>,
    accepted: Vec<TcpStream>,
    visits: Vec<Visit>,
}

/// The other threads' end of a shard.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    waker: ShardWaker,
    drain: Arc<AtomicBool>,
}

impl ShardHandle {
    /// Lets the shard take its leave: no more connections, 0x8B to the 5.0 clients, wills kept back, everything
    /// written that the sockets take in time; then [`Shard::run`] returns.
    pub fn drain(&self) {
        self.drain.store(true, Ordering::Release);
        self.waker.ring();
    }

    /// Wakes the shard.
    pub fn wake(&self) {
        self.waker.ring();
    }
}

impl Shard {
    /// Takes the listeners into the poll. Fails as the kernel does, and where a group has no link.
    pub fn new(poll: ShardPoll, config: ShardConfig) -> io::Result<Self> {
        let links = links_of(config.links, &config.routing)?;
        let listeners = accept::register(config.listeners, &poll)?;
        // A keyed hasher of the standard library is the randomness at hand; ids must differ, not be secret.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Ok(Self {
            poll,
            listeners,
            frames: Frames::new(config.routing.groups()),
            links,
            drain: Arc::new(AtomicBool::new(false)),
            rules: Rules {
                limits: config.limits,
                counters: config.counters,
                authenticator: config.authenticator,
                now_s: 0,
                keeps_records: config.records.is_some(),
                ids: AssignedIds::new(seed),
                routing: config.routing,
            },
            records: config.records,
            started: Instant::now(),
            table: Table::new(),
            block: ReadBlock::new(),
            pool: Pool::default(),
            wheel: Wheel::new(0),
            fanout: Fanout::default(),
            inbox: Vec::new(),
            ready: Vec::new(),
            dirty: Vec::new(),
            paused: false,
            drain_until: None,
            refusals_logged_s: None,
            reading: Vec::new(),
            accepted: Vec::new(),
            visits: Vec::new(),
        })
    }

    /// What other threads may do with it.
    pub fn handle(&self) -> ShardHandle {
        ShardHandle {
            waker: self.poll.waker().clone(),
            drain: Arc::clone(&self.drain),
        }
    }

    /// Serves until drained. An error is one of the poll itself, after which nothing can be served.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(POLL_EVENTS);
        while !self.is_drained() {
            self.wait(&mut events)?;
            self.tell_time();
            self.take_events(&events);
            self.accept();
            self.read_ready();
            self.hand_over();
            self.take_frames();
            self.write_dirty();
            self.visit_due();
            self.begin_drain_if_asked();
            // Timers and drains end connections; the group and the peers hear of it in the same turn.
            self.hand_over();
            self.write_dirty();
            self.write_records();
            self.ask_for_records();
        }
        if let Some(records) = &mut self.records {
            records.flush(&self.rules.counters);
        }
        Ok(())
    }

    /// Hands changes to the session store. The wall clock is for people to read; nothing is decided by it.
    fn write_records(&mut self) {
        let Some(records) = &mut self.records else {
            return;
        };
        if self.frames.changes.is_empty() && !records.has_waiting() {
            return;
        }
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = now.as_millis() as u64;
        for change in self.frames.changes.drain(..) {
            records.take(now_ms, change, &self.rules.counters);
        }
        records.flush_due(now_ms, &self.rules.counters);
    }

    /// Asks groups what records have to say, where that is not known.
    fn ask_for_records(&mut self) {
        let next = |records: &mut Option<Box<dyn RecordSink>>| records.as_mut()?.next_question();
        let mut any = false;
        while let Some(asked) = next(&mut self.records) {
            any = true;
            if self.table.get(asked.handle).is_some() {
                let index = asked.handle.index;
                self.with(index, |session, context| {
                    session.ask_for_filters(asked, context);
                });
            }
        }
        if any {
            self.hand_over();
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = if self.has_work() || !self.prepare_sleep() {
            Some(Duration::ZERO)
        } else {
            self.until_next_second()
        };
        match self.poll.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        self.awake();
        Ok(())
    }

    fn has_work(&self) -> bool {
        let now_s = self.rules.now_s;
        let accepts = |listener: &Listener| listener.pending && listener.not_before_s <= now_s;
        self.listeners.iter().any(accepts) || (!self.paused && !self.ready.is_empty())
    }

    /// Until the wheel's next bucket; a shard with nothing that could be due sleeps on.
    fn until_next_second(&self) -> Option<Duration> {
        let waits = self.table.len() > 0
            || self.drain_until.is_some()
            || self
                .records
                .as_ref()
                .is_some_and(|records| records.has_waiting())
            || self.listeners.iter().any(|listener| listener.pending);
        waits.then(|| {
            let next = Duration::from_secs(u64::from(self.rules.now_s) + 1);
            next.saturating_sub(self.started.elapsed())
        })
    }

    /// One look at the clock a turn.
    fn tell_time(&mut self) {
        self.rules.now_s = self.started.elapsed().as_secs() as u32;
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(token) if token > FIRST_LISTENER - LISTENERS_MAX => {
                    if let Some(listener) = self.listeners.get_mut(FIRST_LISTENER - token) {
                        listener.pending = true;
                    }
                }
                Token(token) => {
                    let index = (token - FIRST_CONNECTION) as u32;
                    let readable = event.is_readable() || event.is_error();
                    self.take_event(index, readable, event.is_read_closed(), event.is_writable());
                }
            }
        }
    }

    fn take_event(&mut self, index: u32, readable: bool, closed: bool, writable: bool) {
        // The slot may have a new connection by now; then the event makes for one needless look at it.
        let Some(connection) = self.table.at(index) else {
            return;
        };
        connection.peer_closed |= closed;
        if (readable || closed) && !connection.ready {
            connection.ready = true;
            self.ready.push(index);
        }
        if writable && connection.blocked {
            connection.blocked = false;
            mark(&mut connection.dirty, &mut self.dirty, index);
        }
    }

    /// Runs a piece of a session and sees to what it left: bytes, or its end.
    fn with<R>(
        &mut self,
        index: u32,
        run: impl FnOnce(&mut Session, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let connection = self.table.at(index)?;
        self.pool.lend(&mut connection.out);
        let (socket, layers) = (&connection.socket, connection.layers.as_deref());
        let mut context = Context {
            bytes: &mut connection.out,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &|| peer_of(socket, layers),
        };
        let result = run(&mut connection.session, &mut context);
        if connection.out.is_empty() {
            self.pool.take_back(&mut connection.out);
        } else if !connection.blocked {
            mark(&mut connection.dirty, &mut self.dirty, index);
        }
        Some(result)
    }

    /// Ends a session, if it is not over, and lets the connection go once its last bytes are out.
    fn end(&mut self, index: u32, end: End) {
        self.with(index, |session, context| session.end(end, context));
        self.see_end(index);
    }

    /// If the session is over: the connection is not read from any more, and closes after its last bytes.
    fn see_end(&mut self, index: u32) {
        let Some(connection) = self.table.at(index) else {
            return;
        };
        let Some(end) = connection.session.ended() else {
            return;
        };
        let client_id = connection.session.client_id();
        tracing::debug!(client_id, peer = %connection.shown_address(), %end, "connection ends");
        connection.unread = None;
        connection.heard_s = self.rules.now_s;
        mark(&mut connection.dirty, &mut self.dirty, index);
        self.arm(index);
    }

    fn close(&mut self, index: u32) {
        if let Some(mut connection) = self.table.remove(index) {
            connection.say_goodbye();
            if connection.is_opening_tls() {
                self.rules.counters.tls_handshakes_failed.increment();
            }
            self.pool.take_back(&mut connection.out);
            self.rules.limits.connections_open.decrement();
            self.rules.counters.connections_open.decrement();
        }
    }

    fn begin_drain_if_asked(&mut self) {
        if self.drain_until.is_some() || !self.drain.load(Ordering::Acquire) {
            return;
        }
        self.drain_until = Some(Instant::now() + self.rules.limits.drain);
        self.listeners.clear();
        for index in 0..self.table.slots() {
            self.end(index, End::Drained);
        }
    }

    fn is_drained(&self) -> bool {
        self.drain_until
            .is_some_and(|until| self.table.len() == 0 || Instant::now() >= until)
    }
}

/// One link to each group of the routing, in its order; others are nobody's.
fn links_of(mut links: Vec<(GroupNo, Arc<GroupLink>)>, routing: &Routing) -> io::Result<Vec<Link>> {
    let link_to = |group: &GroupNo| {
        let Some(at) = links.iter().position(|(to, _)| to == group) else {
            let text = format!(
                "group {} has slots, but the shard has no link to it",
                group.0
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let (group, bags) = links.swap_remove(at);
        Ok(Link::new(group, bags))
    };
    routing.groups().iter().map(link_to).collect()
}

/// Enters a slot into a list it may be in already.
fn mark(is_in: &mut bool, list: &mut Vec<u32>, index: u32) {
    if !*is_in {
        *is_in = true;
        list.push(index);
    }
}
