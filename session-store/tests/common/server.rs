//! Real Redis servers for tests, started and stopped by them.

use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mqtt_fleet_session_store::{RedisConfig, RedisMode, RedisStore};
use redis::FromRedisValue;

/// Longest time for anything a server of a test should do, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The least a user needs, as the documentation has it: in a cluster these, and [`IN_A_CLUSTER`].
pub(crate) const PERMISSIONS: [&str; 13] = [
    "~mqtt-fleet:session:*",
    "~mqtt-fleet:mark*",
    "+evalsha",
    "+eval",
    "+hmget",
    "+hget",
    "+hset",
    "+hgetall",
    "+del",
    "+expire",
    "+scan",
    "+get",
    "+set",
];
pub(crate) const IN_A_CLUSTER: [&str; 5] =
    ["+cluster|slots", "+asking", "+persist", "+hkeys", "+hdel"];

/// A server on a port of its own, in a folder of its own; killed when dropped.
pub(crate) struct Server {
    port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    running: Option<Running>,
}

struct Running {
    child: Child,
    said: Arc<Said>,
}

/// What a server has printed.
#[derive(Default)]
struct Said {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Server {
    /// Starts a server that keeps nothing on disk, with further arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(folder, arguments)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        Self::start_with(folder, |_| {
            arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect()
        })
    }

    /// Starts a server whose arguments depend on its port.
    pub(crate) fn start_with(
        folder: tempfile::TempDir,
        arguments: impl Fn(u16) -> Vec<String>,
    ) -> Self {
        let mut server = Self {
            port: 0,
            arguments: Vec::new(),
            folder,
            running: None,
        };
        // Somebody else may take a free port before the server does: then another one.
        for _ in 0..20 {
            server.port = free_port();
            server.arguments = arguments(server.port);
            if server.try_run() {
                return server;
            }
        }
        panic!("redis-server does not start on any of 20 ports");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Settings for a store on it that tries again quickly.
    pub(crate) fn config(&self) -> RedisConfig {
        config(RedisMode::Single, [self.url()])
    }

    pub(crate) fn store(&self) -> RedisStore {
        RedisStore::start(self.config()).expect("a store starts")
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().expect("it can be killed");
            running.child.wait().expect("it ends");
        }
    }

    /// Sends it a signal: `-STOP`, and it takes commands and answers none, as behind a network that
    /// swallows, until `-CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let running = self.running.as_ref().expect("it runs");
        let mut kill = Command::new("kill");
        kill.args([name, &running.child.id().to_string()]);
        assert!(kill.status().expect("kill runs").success());
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.try_run(), "redis-server starts again on its port");
    }

    /// Asks it something.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        ask(&self.url(), words)
    }

    /// A figure of INFO.
    pub(crate) fn info(&self, figure: &str) -> u64 {
        let info: String = self.ask(&["INFO", "all"]);
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        let value = line.unwrap_or_else(|| panic!("INFO has {figure}"));
        value.trim().parse().expect("a number")
    }

    /// Number of calls of a command, by INFO commandstats.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let info: String = self.ask(&["INFO", "commandstats"]);
        let name = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&name));
        let calls = line.and_then(|line| line.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number"))
    }

    fn try_run(&mut self) -> bool {
        let mut command = Command::new(program("redis-server"));
        command.current_dir(self.folder.path());
        // A configuration file comes first.
        let file = self
            .arguments
            .first()
            .filter(|first| !first.starts_with('-'));
        command.args(file);
        if !self.arguments.iter().any(|argument| argument == "--port") {
            command.args(["--port", &self.port.to_string()]);
        }
        command
            .args(["--bind", "127.0.0.1", "--save", ""])
            .args(&self.arguments[usize::from(file.is_some())..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("redis-server runs");
        let said = Arc::new(Said::default());
        said.follow(child.stdout.take().expect("piped"));
        let mut running = Running { child, said };
        let ready = ["Ready to accept connections", "+monitor master"];
        if running.said.wait_for(&ready) {
            self.running = Some(running);
            return true;
        }
        drop(running.child.kill());
        running.child.wait().expect("it ends");
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Said {
    fn follow(self: &Arc<Self>, stdout: ChildStdout) {
        let said = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut text = said.text.lock().expect("nobody panics");
                text.0.push_str(&line);
                text.0.push('\n');
                said.more.notify_all();
            }
            said.text.lock().expect("nobody panics").1 = true;
            said.more.notify_all();
        });
    }

    /// Waits for one of some words; false if the server ends before.
    fn wait_for(&self, words: &[&str]) -> bool {
        let text = self.text.lock().expect("nobody panics");
        let found = |text: &str| words.iter().any(|word| text.contains(word));
        let (text, timeout) = self
            .more
            .wait_timeout_while(text, PATIENCE, |(text, ended)| !found(text) && !*ended)
            .expect("nobody panics");
        assert!(!timeout.timed_out(), "redis-server says only: {}", text.0);
        found(&text.0)
    }
}

/// Settings that try again quickly. A server that is only slow, on a busy machine, is not away.
pub(crate) fn config(mode: RedisMode, urls: impl IntoIterator<Item = String>) -> RedisConfig {
    RedisConfig {
        mode,
        retry_min: Duration::from_millis(10),
        retry_max: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(10),
        response_timeout: Duration::from_secs(10),
        ..RedisConfig::new(urls)
    }
}

/// Asks the server at an address something.
pub(crate) fn ask<T: FromRedisValue>(url: &str, words: &[&str]) -> T {
    let client = redis::Client::open(url).expect("an address");
    let mut connection = client.get_connection().expect("it answers");
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
        .query(&mut connection)
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// Waits until something holds that changes without notice; looks every few milliseconds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    let (_never, tick) = std::sync::mpsc::sync_channel::<()>(0);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        let _ = tick.recv_timeout(Duration::from_millis(5));
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// A Redis Cluster of three masters, started with further arguments.
pub(crate) fn cluster(arguments: &[&str]) -> Vec<Server> {
    let servers: Vec<_> = (0..3)
        .map(|_| {
            let bus = free_port().to_string();
            let cluster = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "3000",
                "--cluster-require-full-coverage",
                "no",
            ];
            Server::start(&[&cluster, arguments].concat())
        })
        .collect();
    let mut command = Command::new(program("redis-cli"));
    command.args(["--cluster", "create"]);
    command.args(
        servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port)),
    );
    command.args(["--cluster-replicas", "0", "--cluster-yes"]);
    let output = command.output().expect("redis-cli runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    for server in &servers {
        eventually("the cluster is complete", || {
            let info: String = server.ask(&["CLUSTER", "INFO"]);
            let complete = [
                "cluster_state:ok",
                "cluster_known_nodes:3",
                "cluster_slots_ok:16384",
            ];
            complete.iter().all(|figure| info.contains(figure))
        });
    }
    servers
}

/// Settings for a store on a cluster.
pub(crate) fn cluster_config(servers: &[Server]) -> RedisConfig {
    config(RedisMode::Cluster, servers.iter().map(Server::url))
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    found.unwrap_or_else(|| {
        panic!("this test needs {name}, which is not installed: apt-get install redis-server")
    })
}

/// A port that nobody listens on. Below the range that outgoing connections take.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 5_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
