//! Why a run could not give a verdict.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a run could not give a verdict. A run that found losses is not an error: see
/// [`Verdict`](crate::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arguments contradict each other or exceed a limit.
    #[error("{0}")]
    Arguments(String),
    /// An address of `--addr` has no meaning.
    #[error("--addr {addr}: {source}")]
    Resolve {
        /// The address as typed.
        addr: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection to a broker.
    #[error("cannot connect to {addr}: {source}; is the broker listening there?")]
    Connect {
        /// The broker.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The broker ended a connection before its CONNECT or SUBSCRIBE was answered.
    #[error("{addr} broke off connection {device}: {what}")]
    Handshake {
        /// The broker.
        addr: SocketAddr,
        /// Which device, by client id.
        device: String,
        /// What happened.
        what: String,
    },
    /// The broker did not answer in time.
    #[error("{addr} did not answer CONNECT and SUBSCRIBE of {device} within {seconds} s")]
    Silent {
        /// The broker.
        addr: SocketAddr,
        /// Which device, by client id.
        device: String,
        /// How long it was given.
        seconds: u64,
    },
    /// endure: a device never got through to any broker.
    #[error("{device} got through to none of {addrs:?} within {seconds} s: {what}")]
    GaveUp {
        /// All brokers.
        addrs: Vec<SocketAddr>,
        /// Which device, by client id.
        device: String,
        /// How long it was given.
        seconds: f64,
        /// What came between.
        what: String,
    },
    /// Too few file descriptors.
    #[error("{needed} file descriptors needed, {allowed} allowed; raise `ulimit -n`")]
    Descriptors {
        /// How many the run needs.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// A broker process of `--pid` cannot be observed.
    #[error("--pid {pid}: {source}; is it the broker's process id?")]
    Pid {
        /// The process id.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The file of `--json` cannot be written.
    #[error("--json {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the report cannot be written.
    #[error("the report cannot be written: {}: {source}", path.display())]
    Report {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A system call failed that should not.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// An agent cannot listen.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The fleet that a run has started, or a node of it, does not do what it should.
    #[error("the target: {0}")]
    Target(String),
    /// A process of the load simulator is gone, or said what it should not.
    #[error("{who} {what}")]
    Control {
        /// `worker 3`, `the controller`, ….
        who: String,
        /// What it did.
        what: String,
    },
    /// A limit of the oracle was hit, as told here.
    #[error("{0}")]
    Oracle(String),
    /// A thread of the generator ended early; its panic message is on stderr.
    #[error("a thread of the load generator ended early")]
    Thread,
}

impl From<crate::account::Full> for Error {
    fn from(full: crate::account::Full) -> Self {
        Self::Oracle(full.to_string())
    }
}

impl Error {
    /// For `map_err`: `what` was tried.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
