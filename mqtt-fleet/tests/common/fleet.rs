//! Whole fleets: started by the launcher, or process by process.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::broker::{Output, free_address, metric, watch_child};
use super::dice::Dice;

/// How long a fleet may take to start, to stop, or to bring a node back, before the test fails: a slow machine that
/// syncs slowly and runs other tests too.
const PATIENCE: Duration = Duration::from_secs(40);
/// Starts of a fleet with other ports where somebody is quicker.
const PORT_TRIES: usize = 5;

/// Removes what the tests' environment says to the program under test.
pub(crate) fn without_settings(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("MQTT_FLEET_") {
            command.env_remove(key);
        }
    }
}

/// `SIGKILL` to a process that need not be ours.
pub(crate) fn kill9(pid: u32) {
    signal(pid, "-KILL");
}

/// Any signal, named as `kill` takes it, such as `-TERM`.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.expect("kill is installed").success(), "{pid} runs");
}

/// A hold on a process that need not be ours, to wait for its end.
pub(crate) struct Watched(rustix::fd::OwnedFd);

impl Watched {
    /// `None`: there is no such process any more.
    pub(crate) fn new(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(pid.try_into().expect("a process id")).expect("not 0");
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Waits until it has ended.
    pub(crate) fn await_end(&self) {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let wait = Timespec {
            tv_sec: PATIENCE.as_secs().try_into().expect("less than a minute"),
            tv_nsec: 0,
        };
        let ended = poll(&mut fds, Some(&wait)).expect("a process can be waited for");
        assert_eq!(ended, 1, "a process is still there after {PATIENCE:?}");
    }
}

/// A program of ours that runs; killed when dropped, its output printed when the test is failing.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

impl Process {
    /// Starts `mqtt-fleet` with these arguments in a folder.
    pub(crate) fn start(name: &str, folder: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
        command.args(args);
        Self::run(name, folder, command)
    }

    /// Starts a program of any kind.
    pub(crate) fn run(name: &str, folder: &Path, mut command: Command) -> Self {
        without_settings(&mut command);
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = watch_child(&mut child);
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with this text; earlier ones count.
    pub(crate) fn await_line(&self, text: &str) -> String {
        self.await_lines(text, 1)
    }

    /// Waits until there are so many lines with this text; the last one.
    pub(crate) fn await_lines(&self, text: &str, count: usize) -> String {
        let mut seen = 0;
        let enough = |line: &str| {
            seen += usize::from(line.contains(text));
            seen == count
        };
        let line = self.output.wait_line(enough, Instant::now() + PATIENCE);
        line.unwrap_or_else(|| panic!("no {count} lines of {} with {text:?}", self.name))
    }

    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// `SIGKILL`, and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a killed process ends");
    }

    /// `SIGTERM`, and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), "-TERM");
        self.await_exit()
    }

    /// Waits until it ends by itself.
    pub(crate) fn await_exit(&mut self) -> ExitStatus {
        self.await_exit_within(PATIENCE)
    }

    /// The same for one that takes its time.
    pub(crate) fn await_exit_within(&mut self, patience: Duration) -> ExitStatus {
        let ended = self.output.wait_end(Instant::now() + patience);
        assert!(ended, "{} did not end in {patience:?}", self.name);
        self.child.wait().expect("it has closed its output")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- output of {}:\n{}---", self.name, self.output.text());
        }
    }
}

/// A node as `cluster.json` describes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FleetNode {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) group: Option<u32>,
    pub(crate) pid: u32,
    pub(crate) leader: bool,
    pub(crate) addresses: HashMap<String, SocketAddr>,
}

#[derive(Deserialize)]
struct Manifest {
    nodes: Vec<FleetNode>,
}

/// A fleet that `mqtt-fleet cluster` runs.
pub(crate) struct Fleet {
    pub(crate) launcher: Process,
    pub(crate) folder: PathBuf,
    pub(crate) base_port: u16,
    args: Vec<String>,
    temp: tempfile::TempDir,
}

impl Fleet {
    /// Starts a fleet with so many proxies and one group, which brings its nodes back, and waits until all are ready.
    pub(crate) fn start(proxies: u16) -> Self {
        let proxies = proxies.to_string();
        Self::start_with(&["--respawn", "--proxies", &proxies, "--groups", "1"])
    }

    /// Starts a fleet with these arguments.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        (0..PORT_TRIES)
            .find_map(|_| Self::try_start(args))
            .expect("ports that nobody takes away")
    }

    /// `None`: somebody took a port between our look and the start.
    fn try_start(args: &[&str]) -> Option<Self> {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = temp.path().join("fleet");
        let base_port = free_ports();
        let port = base_port.to_string();
        let data = folder.to_str().expect("UTF-8 path");
        let own = ["cluster", "--base-port", &port, "--data", data];
        let args: Vec<_> = own.iter().chain(args).map(ToString::to_string).collect();
        let fleet = Self {
            launcher: launch(temp.path(), &args),
            folder,
            base_port,
            args,
            temp,
        };
        let ready = fleet.sees(|nodes| !nodes.is_empty());
        let output = fleet.launcher.output();
        let taken = [
            "is in use by another process",
            "choose others with --base-port",
        ];
        assert!(
            ready || taken.iter().any(|text| output.contains(text)),
            "{output}"
        );
        ready.then_some(fleet)
    }

    /// Starts it again after it has ended, on the same ports and data.
    pub(crate) fn start_again(&mut self) {
        // One that was killed has left its file, which says nothing of the new one.
        let left = std::fs::remove_file(self.folder.join("cluster.json"));
        assert!(
            left.is_ok() || left.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        );
        self.launcher = launch(self.temp.path(), &self.args);
        assert!(self.sees(|nodes| !nodes.is_empty()), "it starts again");
    }

    /// Where devices reach a proxy, counted from 0.
    pub(crate) fn mqtt(&self, proxy: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + proxy))
    }

    /// All nodes, as the file says now; none where it is not there.
    pub(crate) fn nodes(&self) -> Vec<FleetNode> {
        let path = self.folder.join("cluster.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            return Vec::new();
        };
        let manifest: Manifest = serde_json::from_str(&text).expect("never half written");
        manifest.nodes
    }

    /// The names of all nodes, also of those that are not there: each has a folder.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).expect("the fleet has a folder");
        let entries = entries.map(|entry| entry.expect("a readable folder"));
        let folders = entries.filter(|entry| entry.path().is_dir());
        let names = folders.map(|folder| folder.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "certs").collect()
    }

    pub(crate) fn node(&self, name: &str) -> FleetNode {
        let nodes = self.nodes();
        let node = nodes.iter().find(|node| node.name == name);
        node.unwrap_or_else(|| panic!("no {name} in {nodes:?}"))
            .clone()
    }

    /// `SIGKILL` to a node; the node as it was.
    pub(crate) fn kill9(&self, name: &str) -> FleetNode {
        let node = self.node(name);
        kill9(node.pid);
        node
    }

    /// Waits until a killed node is there again.
    pub(crate) fn await_back(&self, killed: &FleetNode) {
        let is_new = |node: &FleetNode| node.name == killed.name && node.pid != killed.pid;
        let back = self.sees(|nodes| nodes.iter().any(is_new));
        assert!(back, "waited in vain for {} to come back", killed.name);
    }

    /// Waits until `cluster.json` is as wanted; `false` if it never is. Whenever it changes the launcher prints the
    /// table.
    fn sees(&self, wanted: impl Fn(&[FleetNode]) -> bool) -> bool {
        let output = &self.launcher.output;
        let (seen, deadline) = (output.count(), Instant::now() + PATIENCE);
        let looks = |_: &str| wanted(&self.nodes());
        looks("") || output.wait_line_from(seen, looks, deadline).is_some()
    }

    /// Sum of the metrics of a node whose name contains every one of `parts`.
    pub(crate) fn metric(&self, node: &str, parts: &[&str]) -> f64 {
        metric(self.node(node).addresses["admin"], parts)
    }

    /// Has Redis carry out a command; its answer.
    pub(crate) fn redis(&self, command: &[&str]) -> String {
        redis(self.node("redis").addresses["redis"], command)
    }
}

fn launch(folder: &Path, args: &[String]) -> Process {
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    Process::start("the launcher", folder, &words)
}

/// Has a Redis carry out a command; its answer as `redis-cli` shows it.
pub(crate) fn redis(address: SocketAddr, command: &[&str]) -> String {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let output = Command::new("redis-cli")
        .args(["-h", &host, "-p", &port, "-e"])
        .args(command)
        .output()
        .expect("redis-cli is installed (apt-get install redis-tools)");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Starts a Redis that keeps nothing, unless `more` says so, and waits until it serves.
pub(crate) fn start_redis(folder: &Path, address: SocketAddr, more: &[&str]) -> Process {
    let mut command = Command::new("redis-server");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["--bind", &host, "--port", &port, "--save", ""]);
    command.args(more);
    let server = Process::run("redis-server", folder, command);
    server.await_line("Ready to accept connections");
    server
}

/// The ports of a fleet from the one returned on: a few for proxies, and those from 100 on. They are below the range
/// from which the kernel takes outgoing ports, and above those of [`free_address`](super::broker::free_address).
pub(crate) fn free_ports() -> u16 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut dice = Dice::seeded(u64::from(std::process::id()) << 20 | call << 12 | 0xf1e);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    loop {
        let base = 16_000 + dice.below(500) as u16 * 30;
        let mut ports = [0, 100].into_iter().chain((101..=1_601).step_by(100));
        if ports.all(|from| (0..4).all(|n| is_free(base + from + n))) {
            return base;
        }
    }
}

/// A fleet of one broker and one proxy whose processes a test starts itself.
pub(crate) struct ByHand {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) mqtt: SocketAddr,
    pub(crate) link: SocketAddr,
    pub(crate) broker_admin: SocketAddr,
    pub(crate) proxy_admin: SocketAddr,
}

impl ByHand {
    /// Writes cluster file and secret.
    pub(crate) fn new() -> Self {
        let by_hand = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            mqtt: free_address(),
            link: free_address(),
            broker_admin: free_address(),
            proxy_admin: free_address(),
        };
        by_hand.write("cluster.toml", &by_hand.cluster_file("secret"));
        by_hand.write("secret", "the secret of the fleet");
        by_hand
    }

    /// The text of the cluster file, with the secret in this file.
    pub(crate) fn cluster_file(&self, secret: &str) -> String {
        format!(
            "[cluster]\nid = \"by-hand\"\n[secret]\nfile = \"{secret}\"\n[[group]]\nnumber = 0\n[[group.member]]\n\
             name = \"broker-0\"\nlink = \"{}\"\n",
            self.link
        )
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a writable folder");
    }

    /// Starts the broker.
    pub(crate) fn broker(&self) -> Process {
        self.broker_with(&[])
    }

    /// Starts the broker with more arguments.
    pub(crate) fn broker_with(&self, more: &[&str]) -> Process {
        let admin = self.broker_admin.to_string();
        let args = ["--name", "broker-0", "--cluster", "cluster.toml"];
        let rest = ["--data", "data", "--admin", &admin];
        let words = [&["broker"][..], &args, &rest, more].concat();
        Process::start("the broker", self.folder.path(), &words)
    }

    /// Starts the proxy with this cluster file and more arguments.
    pub(crate) fn proxy(&self, cluster: &str, more: &[&str]) -> Process {
        let (mqtt, admin) = (self.mqtt.to_string(), self.proxy_admin.to_string());
        let args = ["proxy", "--name", "proxy-0", "--cluster", cluster];
        let rest = ["--listen", &mqtt, "--admin", &admin, "--shards", "1"];
        let words = [&args[..], &rest, more].concat();
        Process::start("the proxy", self.folder.path(), &words)
    }
}
