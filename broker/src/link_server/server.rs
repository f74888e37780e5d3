//! The server's loop: events, frames, deadlines.

use super::connection::{Bags, Connection, Link, Scratch, producer};
use super::counters::LinkServerCounters;
use super::limits::{ACCEPT_AGAIN, COMPLAIN_EVERY, CONNECTIONS_MAX, EVENTS, READ_BYTES};
use super::refusal::{is_by_role, refusal};
use crate::command::Producer;
use crate::group::{GroupLinks, GroupWaker};
use cluster::link::{GroupIdentity, GroupSession, LinkError};
use cluster::mailbag::Wake;
use cluster::topology::{Announcement, TopologyWatch};
use cluster::transport::{LinkTls, Transport};
use cluster::wire::{Hello, Nonce};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LISTENER: Token = Token(0);
pub(super) const WAKER: Token = Token(1);
/// Tokens of connections: their place and this.
const FIRST_CONNECTION: usize = 2;

/// What the thread has from its starter.
pub(super) struct Shared {
    pub(super) identity: GroupIdentity,
    pub(super) tls: Option<Arc<LinkTls>>,
    pub(super) links: GroupLinks,
    pub(super) wake_group: GroupWaker,
    pub(super) waker: Arc<Waker>,
    pub(super) counters: Arc<LinkServerCounters>,
    pub(super) stop: Arc<AtomicBool>,
}

pub(super) struct Server {
    poll: Poll,
    listener: TcpListener,
    shared: Shared,
    watch: TopologyWatch,
    /// What this node knows of the fleet.
    newest: Arc<Announcement>,
    connections: Slab<Connection>,
    scratch: Scratch,
    /// When to accept next, if it is time to.
    accept_at: Option<Instant>,
    complaints: Complaints,
    /// Places of connections, to go through while they change.
    places: Vec<usize>,
}

impl Server {
    pub(super) fn new(
        poll: Poll,
        listener: std::net::TcpListener,
        (watch, newest): (TopologyWatch, Arc<Announcement>),
        shared: Shared,
    ) -> io::Result<Self> {
        let mut listener = TcpListener::from_std(listener);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            shared,
            watch,
            newest,
            connections: Slab::new(),
            scratch: Scratch {
                block: vec![0; READ_BYTES].into_boxed_slice(),
                to_group: Vec::new(),
                from_group: Vec::new(),
                heard: None,
            },
            accept_at: None,
            complaints: Complaints::default(),
            places: Vec::new(),
        })
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.shared.stop.load(Ordering::Acquire) {
            let timeout = self.timeout(Instant::now());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result?,
            }
            let now = Instant::now();
            self.take_events(&events, now);
            self.take_news();
            self.accept(now);
            self.turn(now);
        }
        self.close_all();
        Ok(())
    }

    fn close_all(&mut self) {
        let now = Instant::now();
        let places: Vec<usize> = self.connections.iter().map(|(place, _)| place).collect();
        for place in places {
            // A session that the group has ended just now is told why, and closed with that.
            self.write(place, now);
            if self.connections.contains(place) {
                self.close(place, &LinkError::Closed);
            }
        }
    }

    /// How long nothing is due. Every bag has been told when this is not zero.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let mut quiet = true;
        let mut next = self.accept_at;
        for (_, connection) in &self.connections {
            quiet &= connection.is_quiet();
            next = next.into_iter().chain(connection.session.deadline()).min();
        }
        if quiet {
            next.map(|next| next.saturating_duration_since(now))
        } else {
            Some(Duration::ZERO)
        }
    }

    fn take_events(&mut self, events: &Events, now: Instant) {
        for event in events {
            match event.token() {
                LISTENER => self.accept_at = Some(now),
                WAKER => {}
                Token(token) => {
                    let Some(connection) = self.connections.get_mut(token - FIRST_CONNECTION)
                    else {
                        continue;
                    };
                    connection.readable |=
                        event.is_readable() || event.is_read_closed() || event.is_error();
                    connection.blocked &= !event.is_writable();
                }
            }
        }
    }

    /// Every proxy is told what this node has heard of the fleet.
    fn take_news(&mut self) {
        let Some(newest) = self.watch.news() else {
            return;
        };
        for (_, connection) in &mut self.connections {
            connection.session.know(Arc::clone(&newest));
        }
        self.newest = newest;
    }

    /// Every connection gets what is its due: what came is read, what waits is written, and time passes.
    fn turn(&mut self, now: Instant) {
        let mut places = std::mem::take(&mut self.places);
        places.extend(self.connections.iter().map(|(place, _)| place));
        for place in &places {
            if let Some(connection) = self.connections.get(*place) {
                connection.awake();
            }
        }
        for place in &places {
            self.read(*place, now);
        }
        // After all have been read: one turn of the group has answered many of them.
        let mut waiting = 0;
        for place in places.drain(..) {
            waiting += self.write(place, now);
        }
        self.shared.counters.bytes_waiting.set(waiting as u64);
        self.places = places;
    }

    fn read(&mut self, place: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(place) else {
            return;
        };
        if !connection.readable {
            return;
        }
        let read = connection.read(now, &mut self.scratch);
        if let Some(topology) = self.scratch.heard.take() {
            self.watch.hear(topology);
        }
        match read {
            Ok(None) => {}
            Ok(Some(hello)) => self.admit(place, &hello, now),
            Err(error) => self.close(place, &error),
        }
    }

    /// Returns the bytes that wait for the socket.
    fn write(&mut self, place: usize, now: Instant) -> usize {
        let Some(connection) = self.connections.get_mut(place) else {
            return 0;
        };
        let result = connection.go_on(now, &self.shared.identity.name, &mut self.scratch);
        let waiting = connection.session.outgoing().len();
        let figures = connection.take_figures();
        let counters = &self.shared.counters;
        counters.bytes_in.add(figures.bytes_in);
        counters.bytes_out.add(figures.bytes_out);
        counters.frames_in.add(figures.frames_in);
        counters.frames_out.add(figures.frames_out);
        match result {
            Ok(()) => waiting,
            Err(error) => {
                self.close(place, &error);
                0
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        while self.accept_at.is_some_and(|at| at <= now) {
            match self.listener.accept() {
                Ok((socket, peer)) => self.take_in(socket, peer, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.accept_at = None,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept links; trying again in a second");
                    self.accept_at = Some(now + ACCEPT_AGAIN);
                }
            }
        }
    }

    fn take_in(&mut self, mut socket: TcpStream, peer: SocketAddr, now: Instant) {
        if self.connections.len() >= CONNECTIONS_MAX {
            self.shared.counters.connections_refused.add(1);
            if self.complaints.may(now) {
                tracing::warn!(%peer, max = CONNECTIONS_MAX, "too many connections for links; closed one");
            }
            return;
        }
        let entry = self.connections.vacant_entry();
        let token = Token(entry.key() + FIRST_CONNECTION);
        let both = Interest::READABLE | Interest::WRITABLE;
        let prepared = socket
            .set_nodelay(true)
            .and_then(|()| self.poll.registry().register(&mut socket, token, both));
        let transport = prepared
            .map_err(|error| LinkError::Io(error.kind()))
            .and_then(|()| Transport::accept(socket, self.shared.tls.as_deref()));
        let nonce = nonce().map_err(|error| LinkError::Io(error.kind()));
        match transport.and_then(|transport| Ok((transport, nonce?))) {
            Ok((transport, nonce)) => {
                let (identity, newest) = (self.shared.identity.clone(), Arc::clone(&self.newest));
                let session = GroupSession::new(identity, newest, nonce, now);
                entry.insert(Connection::new(transport, peer, session));
                self.shared.counters.connections_accepted.add(1);
            }
            Err(error) => tracing::warn!(%peer, %error, "cannot serve an accepted connection"),
        }
    }

    /// A proxy has proved who it is: its link session begins, and an earlier one of the same producer ends.
    fn admit(&mut self, place: usize, hello: &Hello, now: Instant) {
        let producer = producer(hello);
        self.replace(place, producer);
        let wake_group = self.shared.wake_group.clone();
        let waker = &self.shared.waker;
        let bags = Bags::new(Box::new(move || wake_group.wake()), || wake(waker));
        let Bags {
            to_group,
            from_group,
        } = bags.clone();
        let result = self.shared.links.link_up(producer, to_group, from_group);
        let connection = &mut self.connections[place];
        match result {
            Ok(ticket) => {
                let (peer, name, shard) = (connection.peer, &hello.name, hello.shard);
                let known = ticket.known;
                tracing::info!(%peer, proxy = %name, shard, known, "link session begins");
                connection.session.welcome(now, ticket.reign, known);
                connection.link = Some(Link {
                    name: hello.name.clone(),
                    producer,
                    ticket,
                    bags,
                });
                self.shared.counters.sessions_begun.add(1);
                self.count_links();
            }
            Err(refused) => {
                let refused = refusal(&refused, &self.shared.identity.name);
                let error = connection.session.refuse(refused);
                self.close(place, &error);
            }
        }
    }

    fn replace(&mut self, place: usize, producer: Producer) {
        let same = |(at, connection): &(usize, &Connection)| {
            *at != place
                && connection
                    .link
                    .as_ref()
                    .is_some_and(|link| link.producer == producer)
        };
        let older = self.connections.iter().find(same).map(|(at, _)| at);
        if let Some(older) = older {
            self.close(older, &LinkError::Replaced);
        }
    }

    fn close(&mut self, place: usize, error: &LinkError) {
        let mut connection = self.connections.remove(place);
        if let Err(error) = self
            .poll
            .registry()
            .deregister(connection.transport.socket_mut())
        {
            tracing::debug!(%error, "a connection was not registered");
        }
        let peer = connection.peer;
        let counters = &self.shared.counters;
        let is_elsewhere = is_by_role(error);
        counters.sessions_refused.add(u64::from(is_elsewhere));
        let Some(link) = connection.close() else {
            if is_elsewhere {
                // A proxy that looks for the leader asks each member.
                return tracing::debug!(%peer, %error, "no link with this peer");
            }
            counters.handshakes_failed.add(1);
            counters.tls_failed.add(u64::from(error.is_about_tls()));
            if self.complaints.may(Instant::now()) {
                tracing::warn!(%peer, %error, "no link with this peer");
            }
            return;
        };
        counters.sessions_ended.add(1);
        counters
            .protocol_errors
            .add(u64::from(matches!(error, LinkError::Wire(_))));
        tracing::warn!(%peer, proxy = %link.name, shard = link.producer.shard, %error, "link session ends");
        self.shared.links.link_lost(link.ticket);
        self.count_links();
    }

    fn count_links(&self) {
        let links = self.connections.iter().filter(|(_, c)| c.link.is_some());
        self.shared.counters.links_up.set(links.count() as u64);
    }
}

pub(super) fn wake(waker: &Arc<Waker>) -> Wake {
    let waker = Arc::clone(waker);
    Box::new(move || {
        if let Err(error) = waker.wake() {
            // The write of eight bytes into an eventfd that only a full counter can refuse, and then it is awake.
            tracing::error!(%error, "cannot wake the link server");
        }
    })
}

fn nonce() -> io::Result<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

/// Lines about strangers, who could write as many as they like.
#[derive(Debug, Default)]
struct Complaints {
    not_before: Option<Instant>,
}

impl Complaints {
    fn may(&mut self, now: Instant) -> bool {
        if self.not_before.is_some_and(|at| now < at) {
            return false;
        }
        self.not_before = Some(now + COMPLAIN_EVERY);
        true
    }
}
