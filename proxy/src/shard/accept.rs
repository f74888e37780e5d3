//! The listeners of a shard, and what comes in by them.

use super::connection::{Connection, Layers};
use super::{FIRST_CONNECTION, FIRST_LISTENER, Shard};
use crate::counters::ProxyCounters;
use crate::limits::{ACCEPT_BATCH, LISTENERS_MAX};
use crate::link::ShardPoll;
use crate::proxy_protocol::HeaderReader;
use crate::session::{End, Session};
use crate::tls::{TlsAcceptor, TlsStream};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Out of descriptors: EMFILE for the process, ENFILE for the machine.
const OUT_OF_DESCRIPTORS: [i32; 2] = [24, 23];

/// Seconds between two log lines about the same trouble.
const LOG_EVERY_S: u32 = 10;

/// One listening socket, and what its connections begin with.
#[derive(Debug)]
pub struct ListenerConfig {
    /// The socket.
    pub socket: std::net::TcpListener,
    /// What its connections are accepted with; `None`: without TLS.
    pub tls: Option<Arc<TlsAcceptor>>,
    /// Its connections come from a load balancer and begin with a PROXY protocol header of version 2. Whoever can
    /// reach the socket can say any address there.
    pub proxy_protocol: bool,
}

impl ListenerConfig {
    /// Of connections that begin with MQTT.
    pub fn plain(socket: std::net::TcpListener) -> Self {
        Self {
            socket,
            tls: None,
            proxy_protocol: false,
        }
    }
}

/// Takes the sockets into the poll.
pub(crate) fn register(
    configs: Vec<ListenerConfig>,
    poll: &ShardPoll,
) -> io::Result<Vec<Listener>> {
    if configs.len() > LISTENERS_MAX {
        let sentence = format!("a shard has at most {LISTENERS_MAX} listeners");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    let register = |(position, config): (usize, ListenerConfig)| {
        config.socket.set_nonblocking(true)?;
        let mut listener = Listener::new(config);
        let token = Token(FIRST_LISTENER - position);
        let registry = poll.poll.registry();
        registry.register(&mut listener.socket, token, Interest::READABLE)?;
        Ok(listener)
    };
    configs.into_iter().enumerate().map(register).collect()
}

/// A listening socket and what is known of it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    tls: Option<Arc<TlsAcceptor>>,
    proxy_protocol: bool,
    /// A descriptor held back: given up for a moment, it lets a connection be accepted and refused when there is
    /// no other. Otherwise the connection would stay in the kernel's queue and the peer would wait for nothing.
    spare: Option<File>,
    /// The kernel may have more connections.
    pub(crate) pending: bool,
    /// Not before this second, after trouble.
    pub(crate) not_before_s: u32,
    logged_s: Option<u32>,
}

impl Listener {
    fn new(config: ListenerConfig) -> Self {
        Self {
            socket: TcpListener::from_std(config.socket),
            tls: config.tls,
            proxy_protocol: config.proxy_protocol,
            spare: spare(),
            pending: true,
            not_before_s: 0,
            logged_s: None,
        }
    }

    /// Accepts up to a batch of connections into `accepted`.
    pub(crate) fn accept(
        &mut self,
        now_s: u32,
        counters: &ProxyCounters,
        accepted: &mut Vec<TcpStream>,
    ) {
        for _ in 0..ACCEPT_BATCH {
            match self.socket.accept() {
                Ok((stream, _)) => accepted.push(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pending = false;
                    return;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) if is_out_of_descriptors(&error) => {
                    if !self.refuse_one(now_s, counters, &error) {
                        return;
                    }
                }
                Err(error) => {
                    counters.accept_errors.increment();
                    self.complain(now_s, &error, "cannot accept connections");
                    self.not_before_s = now_s + 1;
                    return;
                }
            }
        }
    }

    /// What a new connection begins with.
    fn layers(&self) -> Result<Option<Box<Layers>>, rustls::Error> {
        let tls = self.tls.as_ref();
        let tls = tls.map(|tls| TlsStream::new(tls.config())).transpose()?;
        let layers = Layers {
            header: self.proxy_protocol.then(HeaderReader::default),
            client: None,
            tls,
        };
        let any = layers.header.is_some() || layers.tls.is_some();
        Ok(any.then(|| Box::new(layers)))
    }

    /// Accepts a connection with the spare descriptor and closes it. `false`: that was all for now.
    fn refuse_one(&mut self, now_s: u32, counters: &ProxyCounters, error: &io::Error) -> bool {
        self.spare = None;
        let result = self.socket.accept().map(|_| ());
        self.spare = spare();
        match result {
            Ok(()) => {
                counters.refused_descriptors.increment();
                self.complain(
                    now_s,
                    error,
                    "out of descriptors: refusing connections, raise `ulimit -n`",
                );
                true
            }
            // The kernel looks for a descriptor before it looks for a connection, and there is none.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pending = false;
                false
            }
            Err(_) => {
                self.not_before_s = now_s + 1;
                false
            }
        }
    }

    /// Says, now and then, that the configured maximum is reached.
    pub(crate) fn complain_of_maximum(&mut self, now_s: u32, max: u32) {
        if self.may_log(now_s) {
            tracing::warn!(
                max,
                "refusing connections: the maximum is reached (the configured one, or what there are descriptors for)"
            );
        }
    }

    fn complain(&mut self, now_s: u32, error: &io::Error, what: &str) {
        if self.may_log(now_s) {
            tracing::warn!(%error, "{what}");
        }
    }

    fn may_log(&mut self, now_s: u32) -> bool {
        let may = self
            .logged_s
            .is_none_or(|logged_s| now_s >= logged_s + LOG_EVERY_S);
        if may {
            self.logged_s = Some(now_s);
        }
        may
    }
}

impl Shard {
    pub(super) fn accept(&mut self) {
        for position in 0..self.listeners.len() {
            self.accept_at(position);
        }
    }

    fn accept_at(&mut self, position: usize) {
        let now_s = self.rules.now_s;
        let listener = &mut self.listeners[position];
        if !listener.pending || listener.not_before_s > now_s {
            return;
        }
        listener.accept(now_s, &self.rules.counters, &mut self.accepted);
        let mut accepted = std::mem::take(&mut self.accepted);
        for socket in accepted.drain(..) {
            self.admit(socket, position);
        }
        self.accepted = accepted;
    }

    fn admit(&mut self, mut socket: TcpStream, position: usize) {
        let limits = &self.rules.limits;
        let connections_max = limits.connections_max;
        if !limits.connections_open.try_increment(connections_max) {
            self.rules.counters.refused_connections_max.increment();
            let now_s = self.rules.now_s;
            return self.listeners[position].complain_of_maximum(now_s, connections_max);
        }
        let counters = &self.rules.counters;
        let handle = self.table.next_handle();
        let token = Token(handle.index as usize + FIRST_CONNECTION);
        let both = Interest::READABLE | Interest::WRITABLE;
        let prepared = socket
            .set_nodelay(true)
            .and_then(|()| self.poll.poll.registry().register(&mut socket, token, both))
            .and_then(|()| self.listeners[position].layers().map_err(io::Error::other));
        let layers = match prepared {
            Ok(layers) => layers,
            Err(error) => {
                tracing::debug!(%error, "an accepted connection was gone");
                limits.connections_open.decrement();
                return counters.accept_errors.increment();
            }
        };
        counters.connections_accepted.increment();
        counters.connections_open.increment();
        let session = Session::new(handle);
        let connection = Connection::new(socket, layers, session, self.rules.now_s);
        self.table.insert(connection);
        self.arm(handle.index);
    }

    /// A read has failed: by the socket, or by a layer on it.
    pub(super) fn end_read(&mut self, index: u32, error: &io::Error) {
        let refused = error.kind() == io::ErrorKind::InvalidData;
        let by_tls = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<rustls::Error>())
            .is_some();
        let end = match (refused, by_tls) {
            (true, true) => End::TlsError,
            (true, false) => End::NoProxyHeader,
            (false, _) => return self.end(index, End::SocketError),
        };
        let now_s = self.rules.now_s;
        let may_log = self
            .refusals_logged_s
            .is_none_or(|at_s| now_s >= at_s + LOG_EVERY_S);
        if may_log && let Some(connection) = self.table.at(index) {
            self.refusals_logged_s = Some(now_s);
            let peer = connection.shown_address();
            tracing::warn!(%peer, %error, "refused a connection; the next {LOG_EVERY_S} s without a line");
        }
        self.end(index, end);
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| OUT_OF_DESCRIPTORS.contains(&code))
}

/// The connection was gone before it was accepted; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
    )
}
