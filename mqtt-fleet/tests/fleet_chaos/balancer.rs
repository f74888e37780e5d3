//! HAProxy in front of the proxies, with the configuration of deploy/.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use crate::common::broker::free_address;
use crate::common::fleet::{FleetNode, Process};
use crate::common::tools;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A load balancer that is killed and started again.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    stats: SocketAddr,
    folder: tempfile::TempDir,
    process: Process,
    /// What those before this one have said.
    earlier: String,
}

impl Balancer {
    /// In front of these proxies; waits until it listens.
    pub(crate) fn start(proxies: &[FleetNode]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let configuration = adapted(&deployed(), proxies);
        std::fs::write(folder.path().join("haproxy.cfg"), configuration).expect("writable");
        let (address, stats) = (free_address(), free_address());
        let balancer = Self {
            process: spawn(folder.path(), address, stats),
            address,
            stats,
            folder,
            earlier: String::new(),
        };
        balancer.await_listening();
        balancer
    }

    /// `SIGKILL`, and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again, and waits until it listens.
    pub(crate) fn start_again(&mut self) {
        self.earlier += &self.process.output();
        self.process = spawn(self.folder.path(), self.address, self.stats);
        self.await_listening();
    }

    pub(crate) fn output(&self) -> String {
        self.earlier.clone() + &self.process.output()
    }

    fn await_listening(&self) {
        let deadline = Instant::now() + PATIENCE;
        let (_never, tick) = sync_channel::<()>(0);
        // It says nothing when it listens. (A connection to the devices' port would go on to a proxy.)
        while TcpStream::connect(self.stats).is_err() {
            let output = self.process.output();
            assert!(
                Instant::now() < deadline,
                "HAProxy does not listen:\n{output}"
            );
            // Nobody sends: it is the wait between two tries.
            let _ = tick.recv_timeout(Duration::from_millis(5));
        }
    }
}

fn spawn(folder: &Path, address: SocketAddr, stats: SocketAddr) -> Process {
    let mut command = Command::new(tools::haproxy());
    command
        .args(["-db", "-f", "haproxy.cfg"])
        .env("MQTTS_BIND", address.to_string())
        .env("STATS_BIND", stats.to_string());
    Process::run("HAProxy", folder, command)
}

fn deployed() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/haproxy/haproxy.cfg");
    std::fs::read_to_string(path).expect("deploy/ has it")
}

/// The configuration with these proxies as its servers, which are spoken to without the PROXY protocol: their MQTT ports
/// take devices as well.
fn adapted(text: &str, proxies: &[FleetNode]) -> String {
    let is_server = |line: &&str| line.trim_start().starts_with("server ");
    let (servers, rest): (Vec<_>, Vec<_>) = text.lines().partition(is_server);
    assert_eq!(servers.len(), 2, "the configuration has two servers");
    let own = proxies.iter().map(|proxy| {
        let (mqtt, admin) = (proxy.addresses["mqtt"], proxy.addresses["admin"].port());
        format!("    server {} {mqtt} port {admin}\n", proxy.name)
    });
    let own: String = own.collect();
    let (head, tail) = rest
        .iter()
        .position(|line| line.trim_start().starts_with("default-server "))
        .map(|at| rest.split_at(at + 1))
        .expect("it has a list of servers");
    let head = head.join("\n");
    let plain = head.strip_suffix(" send-proxy-v2");
    let plain = plain.expect("it speaks the PROXY protocol");
    format!("{plain}\n{own}{}\n", tail.join("\n"))
}
