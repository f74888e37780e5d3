//! What a run is given from outside.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::scenario::{FleetNodes, Scenario};

/// Everything about one run.
#[derive(Debug)]
pub struct RunOptions {
    /// What happens.
    pub scenario: Scenario,
    /// Where.
    pub target: Target,
    /// Time between two lines of progress where there is no live view.
    pub report_every: Duration,
    /// True for a panel that renews itself, where stderr is a terminal.
    pub live: bool,
    /// How worker processes are started.
    pub worker: WorkerProgram,
    /// Further machines; with any the devices are all there, and worker 0 stays here.
    pub agents: Option<Agents>,
}

/// A program that is a worker: its stdin is the control connection.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// The file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// Agents on further machines.
#[derive(Debug, Clone)]
pub struct Agents {
    /// `HOST:PORT` of each.
    pub addresses: Vec<String>,
    /// What all of them know.
    pub secret: Secret,
}

/// What controller and agents prove to each other that they know. It is never shown.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// What is driven.
pub struct Target {
    /// Where devices connect; not empty.
    pub addresses: Vec<SocketAddr>,
    /// Where devices with TLS connect; not empty if the scenario has such.
    pub tls_addresses: Vec<SocketAddr>,
    /// What devices with TLS believe.
    pub tls: Option<Trust>,
    /// In words: "53 proxies, 2 groups, Redis, started by this run".
    pub about: String,
    /// Its processes on this machine as they are now. Asked at the start, and whenever one of them has ended.
    pub processes: ProcessList,
    /// How its nodes are restarted, where it is a fleet that has a launcher.
    pub restart: Option<RestartHook>,
}

/// Certificates that targets are trusted by.
#[derive(Debug, Clone)]
pub struct Trust {
    /// PEM.
    pub ca_pem: String,
    /// The name that must be in the targets' certificates.
    pub name: String,
}

/// Says which processes a target has now; nothing where they are not known.
pub type ProcessList = Box<dyn FnMut() -> Vec<TargetProcess> + Send>;

/// Restarts the node of the given number (from 0) among those that are to be restarted, and waits until it is ready; false if
/// there is none of that number. It runs in a thread of its own, and the run decides when the next one is due.
pub type RestartHook = Box<dyn FnMut(FleetNodes, usize) -> Result<bool, Error> + Send>;

/// A process of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetProcess {
    /// `proxies`, `brokers`, `redis`, or another word.
    pub role: String,
    /// Its name, the same after it was restarted.
    pub name: String,
    /// Process id.
    pub pid: u32,
}

impl Secret {
    /// A secret of at least 16 bytes, without white space around it.
    pub fn new(text: &[u8]) -> Result<Self, Error> {
        let bytes = text.trim_ascii();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(Error::Arguments(format!(
                "a secret of {} bytes is too short: at least {SECRET_BYTES_MIN} (try `openssl rand -hex 32`)",
                bytes.len()
            )));
        }
        Ok(Self(bytes.to_vec()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A guess of fewer bytes could be tried out.
const SECRET_BYTES_MIN: usize = 16;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("addresses", &self.addresses)
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}
