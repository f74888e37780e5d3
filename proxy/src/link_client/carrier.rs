//! One link with its bags, and the connection it has at the time.

use super::addresses::Place;
use super::counters::LinkCounters;
use super::limits::{LEAVE_AFTER, READS_PER_TURN};
use super::members::Members;
use super::troubles::Troubles;
use crate::link::GroupLink;
use cluster::frame::{FromGroup, ToGroup};
use cluster::link::{Again, LinkError, ProducerLink, Search};
use cluster::topology::{Announcement, Member, NodeName, Topology};
use cluster::transport::{LinkTls, Transport};
use cluster::wire::{Nonce, Refusal, Terms};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// What the thread keeps for all links.
pub(super) struct Scratch {
    block: Box<[u8]>,
    to_group: Vec<ToGroup>,
    from_group: Vec<FromGroup>,
    /// What a broker has told of the fleet.
    pub(super) heard: Option<Topology>,
}

impl Scratch {
    pub(super) fn new(read_bytes: usize) -> Self {
        Self {
            block: vec![0; read_bytes].into_boxed_slice(),
            to_group: Vec::new(),
            from_group: Vec::new(),
            heard: None,
        }
    }
}

pub(super) struct Carrier {
    token: Token,
    link: ProducerLink,
    bags: Arc<GroupLink>,
    /// Links are with mutual TLS only.
    tls: Option<Arc<LinkTls>>,
    search: Search,
    /// The member that is tried, or has the link session; or was the last.
    member: Option<NodeName>,
    /// The member that has refused the link since the group is full. One that has not says so in the link session.
    full: Option<NodeName>,
    /// Connections that were tried.
    tries: usize,
    connection: Option<Connection>,
    counters: Arc<LinkCounters>,
    troubles: Troubles,
}

struct Connection {
    transport: Transport<TcpStream>,
    peer: SocketAddr,
    /// Where the topology says that the broker is.
    broker: Arc<str>,
    /// The broker has another address: when the connection is given up.
    leave_at: Option<Instant>,
    /// The kernel has made the connection.
    made: bool,
    readable: bool,
    /// The socket takes no more for now.
    blocked: bool,
}

impl Carrier {
    pub(super) fn new(
        token: Token,
        link: ProducerLink,
        bags: Arc<GroupLink>,
        tls: Option<Arc<LinkTls>>,
    ) -> Self {
        Self {
            token,
            link,
            bags,
            tls,
            search: Search::default(),
            member: None,
            full: None,
            tries: 0,
            connection: None,
            counters: Arc::default(),
            troubles: Troubles::default(),
        }
    }

    pub(super) fn counters(&self) -> Arc<LinkCounters> {
        Arc::clone(&self.counters)
    }

    /// Whether the group has stored everything that the shard has brought.
    pub(super) fn is_settled(&self) -> bool {
        self.link.figures().kept_frames == 0
            && self.link.outgoing().is_empty()
            && self.bags.to_group.is_empty()
            && !self.has_more()
    }

    fn has_more(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.transport.has_more())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let connection = self.connection.as_ref();
        let leave_at = connection.and_then(|connection| connection.leave_at);
        self.link.deadline().into_iter().chain(leave_at).min()
    }

    pub(super) fn take_event(&mut self, event: &Event) {
        if let Some(connection) = &mut self.connection {
            connection.readable |=
                event.is_readable() || event.is_read_closed() || event.is_error();
            connection.blocked &= !event.is_writable();
        }
    }

    /// Whether nothing can be done before an event; from then on the bags wake the client.
    pub(super) fn is_quiet(&mut self, now: Instant) -> bool {
        let reads = self.listen_for_room(now);
        let readable = self
            .connection
            .as_ref()
            .is_some_and(|c| c.readable && c.made);
        self.listen_to_shard() && !(reads && readable)
    }

    /// The node knows this of the fleet, by which the group has these members.
    pub(super) fn know(&mut self, now: Instant, newest: &Arc<Announcement>, members: &[Member]) {
        self.link.know(Arc::clone(newest));
        let Some(connection) = &mut self.connection else {
            return;
        };
        let mut links = members.iter().map(|member| member.link.as_str());
        connection.leave_at = if links.any(|link| link == &*connection.broker) {
            None
        } else if connection.made {
            connection.leave_at.or(Some(now + LEAVE_AFTER))
        } else {
            Some(now)
        };
    }

    /// Everything that can be done for the link now.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        registry: &Registry,
        members: &mut Members,
        scratch: &mut Scratch,
    ) {
        self.bags.to_group.awake();
        if self.link.wants_connection(now) {
            self.connect(now, registry, members);
        }
        let result = self
            .see_connection(now)
            .and_then(|()| self.read(now, members, scratch))
            .and_then(|()| {
                self.take_resume();
                self.write(now, scratch)
            })
            .and_then(|()| self.link.tick(now))
            // A heartbeat may have become due.
            .and_then(|()| self.write(now, scratch));
        if let Err(error) = result {
            let error = self.last_words(now, members, scratch, error);
            self.lose(now, registry, members, &error);
        }
        self.counters.take(self.link.is_up(), &self.link.figures());
        self.tell_full();
    }

    fn connect(&mut self, now: Instant, registry: &Registry, members: &mut Members) {
        self.link.connecting(now);
        self.member = self.search.next(now, &members.view);
        self.tries = self.tries.wrapping_add(1);
        match self.dial(registry, members) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => self.lose(now, registry, members, &error),
        }
    }

    fn dial(&self, registry: &Registry, members: &Members) -> Result<Connection, LinkError> {
        let failed = |error: io::Error| LinkError::Io(error.kind());
        let member = self.member.as_ref();
        let place = member.and_then(|member| members.place(member, self.tries));
        let Place { peer, host, broker } =
            place.ok_or(LinkError::Io(io::ErrorKind::HostUnreachable))?;
        let socket = TcpStream::connect(peer).map_err(failed)?;
        let mut transport = Transport::connect(socket, self.tls.as_deref(), &host)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        registry
            .register(transport.socket_mut(), self.token, both)
            .map_err(failed)?;
        Ok(Connection {
            transport,
            peer,
            broker,
            leave_at: None,
            made: false,
            readable: false,
            blocked: true,
        })
    }

    /// Finds out whether a connection is made by now, and still leads to the broker.
    fn see_connection(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        if connection.leave_at.is_some_and(|at| at <= now) {
            return Err(LinkError::Moved);
        }
        if connection.made {
            return Ok(());
        }
        let socket = connection.transport.socket();
        if let Some(error) = socket.take_error().map_err(|e| LinkError::Io(e.kind()))? {
            return Err(LinkError::Io(error.kind()));
        }
        match socket.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(LinkError::Io(error.kind())),
        }
        let prepared = socket.set_nodelay(true).and_then(|()| {
            let mut nonce = Nonce::default();
            getrandom::fill(&mut nonce)?;
            Ok(nonce)
        });
        let nonce = prepared.map_err(|error| LinkError::Io(error.kind()))?;
        connection.made = true;
        connection.blocked = false;
        connection.readable = true;
        self.link.connected(now, nonce);
        Ok(())
    }

    /// Reads what has come, a bounded amount, and hands frames to the shard.
    fn read(
        &mut self,
        now: Instant,
        members: &mut Members,
        scratch: &mut Scratch,
    ) -> Result<(), LinkError> {
        for _ in 0..READS_PER_TURN {
            if self.bags.to_shard.is_full() {
                return Ok(());
            }
            let Some(connection) = self.connection.as_mut().filter(|c| c.readable && c.made) else {
                return Ok(());
            };
            let Some(read) = connection.transport.read(&mut scratch.block)? else {
                connection.readable = false;
                return Ok(());
            };
            let frames = &mut scratch.from_group;
            let result = self.link.received(now, &scratch.block[..read], frames);
            // What was handed over before an error is in whole units and counts.
            let frame_bytes = result.as_ref().map_or(0, |received| received.frame_bytes);
            let bytes = frame_bytes + frames.len() * size_of::<FromGroup>();
            self.bags.to_shard.send(frames, bytes);
            let received = result?;
            if received.topology.is_some() {
                scratch.heard = received.topology;
            }
            if let Some(terms) = received.welcomed {
                self.welcomed(terms, members);
            }
        }
        Ok(())
    }

    /// A group that ends a link has said why; a socket that takes no more may have that to read still.
    fn last_words(
        &mut self,
        now: Instant,
        members: &mut Members,
        scratch: &mut Scratch,
        error: LinkError,
    ) -> LinkError {
        let is_io = matches!(error, LinkError::Io(_));
        let Some(connection) = self.connection.as_mut().filter(|_| is_io) else {
            return error;
        };
        connection.readable = true;
        match self.read(now, members, scratch) {
            Err(said @ LinkError::Refused(_)) => said,
            _ => error,
        }
    }

    fn welcomed(&mut self, terms: Terms, members: &mut Members) {
        let (Some(member), Some(connection)) = (&self.member, &self.connection) else {
            return;
        };
        if self.search.welcomed(member, &mut members.view) {
            self.counters.leader_changes.add(1);
        }
        let (shard, broker) = (self.token.0, connection.peer);
        let (reign, known) = (terms.reign, terms.known);
        tracing::info!(shard, %member, %broker, reign, known, "link session begins");
        self.troubles.clear();
        self.full = None;
    }

    /// The shard's `Resume` goes before everything else in the bag.
    fn take_resume(&mut self) {
        let is_resume = |frame: &ToGroup| matches!(frame, ToGroup::Resume(_));
        while self.link.wants_resume()
            && let Some(resume) = self.bags.to_group.extract(is_resume)
        {
            self.link.frames(&mut vec![resume]);
        }
    }

    /// Takes what the shard has brought and sends it, as far as the socket takes it.
    fn write(&mut self, now: Instant, scratch: &mut Scratch) -> Result<(), LinkError> {
        loop {
            if self.link.takes_frames() {
                self.bags.to_group.take(&mut scratch.to_group);
                self.link.frames(&mut scratch.to_group);
            }
            let Some(connection) = self.connection.as_mut().filter(|c| !c.blocked) else {
                return Ok(());
            };
            let outgoing = self.link.outgoing();
            if outgoing.is_empty() && !connection.transport.has_more() {
                return Ok(());
            }
            let written = connection.transport.write(outgoing)?;
            connection.blocked = written.blocked;
            if written.bytes > 0 {
                self.link.written(now, written.bytes);
            }
        }
    }

    fn lose(
        &mut self,
        now: Instant,
        registry: &Registry,
        members: &mut Members,
        error: &LinkError,
    ) {
        let lost = self.connection.take();
        let peer = lost.as_ref().map(|connection| connection.peer);
        if let Some(mut connection) = lost
            && let Err(error) = registry.deregister(connection.transport.socket_mut())
        {
            tracing::debug!(%error, "a connection was not registered");
        }
        let member = self.member.as_ref();
        let again = self.search.failed(now, member, error, &mut members.view);
        self.link.lost(now, again);
        // Others have no say in it.
        if is_refused_as(error, Refusal::Full) {
            self.full = member.cloned();
        } else {
            self.full.take_if(|full| Some(&*full) == member);
        }
        if again != Again::AtOnce {
            members.refresh();
        }
        self.count_loss(error);
        // Who is told where the leader is has no trouble.
        if !is_redirect(error) && self.troubles.is_news(now, member, error) {
            let broker = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            let member = member.map_or("unknown", NodeName::as_str);
            tracing::warn!(shard = self.token.0, member, %broker, %error, "no link to the group; trying again");
        }
    }

    /// Tells the shard whether the group can store nothing more.
    fn tell_full(&self) {
        let full = self.full.is_some() || self.link.is_group_full();
        self.bags.set_group_full(full);
        self.counters.group_full.set(u64::from(full));
    }

    fn count_loss(&self, error: &LinkError) {
        let counters = &self.counters;
        counters.losses.add(1);
        counters
            .refusals
            .add(u64::from(matches!(error, LinkError::Refused(_))));
        counters.redirects.add(u64::from(is_redirect(error)));
        counters.tls_failed.add(u64::from(error.is_about_tls()));
        counters
            .protocol_errors
            .add(u64::from(matches!(error, LinkError::Wire(_))));
    }

    /// `true`: the bag of the shard has nothing that would be taken now, and wakes the client when it has.
    fn listen_to_shard(&mut self) -> bool {
        let bag = &self.bags.to_group;
        if self.link.takes_frames() {
            return bag.prepare_sleep();
        }
        if self.link.wants_resume() {
            bag.listen();
            let before = self.link.is_up();
            self.take_resume();
            return self.link.is_up() == before;
        }
        true
    }

    /// Whether the shard has room for more; if not, the client is woken when it has.
    fn listen_for_room(&mut self, now: Instant) -> bool {
        let full = self.bags.to_shard.is_full() && self.bags.to_shard.wait_for_room();
        self.link.set_deaf(now, full);
        !full
    }
}

fn is_refused_as(error: &LinkError, refusal: Refusal) -> bool {
    matches!(error, LinkError::Refused(refused) if refused.refusal == refusal)
}

fn is_redirect(error: &LinkError) -> bool {
    matches!(error, LinkError::Refused(refused) if refused.leader.is_some())
}
