//! The listener of a shard.

use crate::counters::ProxyCounters;
use crate::limits::ACCEPT_BATCH;
use mio::net::{TcpListener, TcpStream};
use std::fs::File;
use std::io;

/// Out of descriptors: EMFILE for the process, ENFILE for the machine.
const OUT_OF_DESCRIPTORS: [i32; 2] = [24, 23];

/// Seconds between two log lines about the same trouble.
const LOG_EVERY_S: u32 = 10;

/// A listening socket and what is known of it.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
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
    pub(crate) fn new(socket: TcpListener) -> Self {
        Self {
            socket,
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
