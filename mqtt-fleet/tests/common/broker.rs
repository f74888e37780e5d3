//! A broker in a process of its own, on free ports, with its own data folder.
//!
//! `MQTT_FLEET_TEST_BROKER=/usr/sbin/mosquitto` runs the tests against that broker instead: a check of the
//! tests themselves. Tests of what only mqtt-fleet promises must fail against it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::fleet::{signal, without_settings};

/// How long a start, a stop or an awaited log line may take before the test fails.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How a broker is started.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// TOML text of a configuration file.
    pub(crate) config: String,
    /// `fsync` when empty.
    pub(crate) durability: &'static str,
    /// A folder of the caller's; a temporary one when `None`.
    pub(crate) data: Option<PathBuf>,
    /// Limit of open descriptors of the broker's process.
    pub(crate) nofile: Option<u32>,
    /// Number of shards; the broker's own choice when `None`.
    pub(crate) shards: Option<u32>,
}

impl Options {
    pub(crate) fn config(text: &str) -> Self {
        Self {
            config: text.into(),
            ..Self::default()
        }
    }
}

/// A running broker; killed when dropped, and its output printed when the test is failing.
pub(crate) struct Broker {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) dir: PathBuf,
    options: Options,
    child: Child,
    output: Arc<Output>,
    _temp: Option<tempfile::TempDir>,
}

impl Broker {
    /// Starts with default options and waits until it is ready.
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options) -> Self {
        match Self::try_start(options) {
            Ok(broker) => broker,
            Err((status, output)) => panic!("the broker did not start ({status}):\n{output}"),
        }
    }

    /// Starts; when the process ends instead of becoming ready, its exit status and output.
    pub(crate) fn try_start(options: Options) -> Result<Self, (ExitStatus, String)> {
        let (data, temp) = options.data.clone().map_or_else(
            || {
                let temp = tempfile::tempdir().expect("a temporary folder");
                (temp.path().join("data"), Some(temp))
            },
            |data| (data, None),
        );
        let (addr, admin) = (free_address(), free_address());
        let child = spawn(&options, &data, addr, admin);
        let mut broker = Self {
            addr,
            admin,
            dir: data,
            options,
            child,
            output: Arc::default(),
            _temp: temp,
        };
        broker.watch_output();
        broker.await_ready()?;
        Ok(broker)
    }

    /// `SIGKILL`, and waits until the process is gone.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().expect("the broker runs");
        self.child.wait().expect("a killed process ends");
    }

    /// Starts again on the same addresses and data, after `kill9` or `terminate`.
    pub(crate) fn restart(&mut self) {
        if let Err((status, output)) = self.try_restart() {
            panic!("the broker did not start again ({status}):\n{output}");
        }
    }

    pub(crate) fn try_restart(&mut self) -> Result<(), (ExitStatus, String)> {
        self.child = spawn(&self.options, &self.dir, self.addr, self.admin);
        self.watch_output();
        self.await_ready()
    }

    /// `SIGTERM`, without waiting.
    pub(crate) fn signal_term(&self) {
        signal(self.pid(), "-TERM");
    }

    /// `SIGTERM`, and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal_term();
        self.await_exit()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn await_exit(&mut self) -> ExitStatus {
        assert!(
            self.output.wait_end(Instant::now() + START_PATIENCE),
            "the broker did not end in {START_PATIENCE:?}"
        );
        self.child.wait().expect("it has closed its output")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of output (stdout or stderr) that contains `text`; older lines count too.
    pub(crate) fn await_line(&self, text: &str) -> String {
        self.output
            .wait_line(|l| l.contains(text), Instant::now() + START_PATIENCE)
            .unwrap_or_else(|| {
                panic!(
                    "no line with {text:?} in the broker's output:\n{}",
                    self.output.text()
                )
            })
    }

    pub(crate) fn output(&self) -> String {
        self.output.text()
    }

    /// Resident memory of the process in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process lives");
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .expect("Linux says VmRSS");
        let kb = line.split_whitespace().nth(1).expect("a number follows");
        kb.parse::<u64>().expect("in kB") * 1024
    }

    /// Status line's code and body of a GET on the admin listener.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path)
    }

    /// Sum of all metrics whose name (with labels) contains every one of `parts`; panics when there is none.
    pub(crate) fn metric(&self, parts: &[&str]) -> f64 {
        metric(self.admin, parts)
    }

    fn watch_output(&mut self) {
        self.output = watch_child(&mut self.child);
    }

    /// The banner names the MQTT address once the port is open; the health check must then agree.
    fn await_ready(&mut self) -> Result<(), (ExitStatus, String)> {
        let (port, other) = (format!(":{}", self.addr.port()), other_broker().is_some());
        let ready = |l: &str| {
            if other {
                l.contains(" running")
            } else {
                l.contains(&port)
            }
        };
        if self
            .output
            .wait_line(ready, Instant::now() + START_PATIENCE)
            .is_none()
        {
            let text = self.output.text();
            if !self.output.wait_end(Instant::now()) {
                self.kill9();
            }
            return Err((self.child.wait().expect("it has ended"), text));
        }
        if !other {
            let (code, body) = self.get("/health/ready");
            assert_eq!(code, 200, "/health/ready right after the banner: {body}");
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!(
                "--- output of the broker at {}:\n{}---",
                self.addr,
                self.output.text()
            );
        }
    }
}

/// Status line's code and body of a GET on an admin listener.
pub(crate) fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, "GET", path, "").expect("the admin listener answers")
}

/// The same of a POST with this text.
pub(crate) fn post(admin: SocketAddr, path: &str, body: &str) -> (u16, String) {
    ask(admin, "POST", path, body).expect("the admin listener answers")
}

/// `None`: nobody is there, or it is no HTTP.
fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(START_PATIENCE)).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let code = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some((code, body.to_owned()))
}

/// Sum of all metrics of a process whose name (with labels) contains every one of `parts`; panics when there is none.
pub(crate) fn metric(admin: SocketAddr, parts: &[&str]) -> f64 {
    let (code, body) = get(admin, "/metrics");
    assert_eq!(code, 200, "{body}");
    sum(&body, parts).unwrap_or_else(|| panic!("no metric with {parts:?} in\n{body}"))
}

/// As [`metric`] of a process that may not be there, or not have that figure.
pub(crate) fn try_metric(admin: SocketAddr, parts: &[&str]) -> Option<f64> {
    let (_, body) = ask(admin, "GET", "/metrics", "")?;
    sum(&body, parts)
}

fn sum(metrics: &str, parts: &[&str]) -> Option<f64> {
    let is_row =
        |line: &&str| !line.starts_with('#') && parts.iter().all(|part| line.contains(part));
    let rows = metrics.lines().filter(is_row);
    let rows = rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    rows.reduce(|sum, row| sum + row)
}

/// Another broker to run the tests against, if the environment names one.
pub(crate) fn other_broker() -> Option<PathBuf> {
    std::env::var_os("MQTT_FLEET_TEST_BROKER").map(PathBuf::from)
}

fn spawn(options: &Options, data: &Path, addr: SocketAddr, admin: SocketAddr) -> Child {
    let mut words = vec![];
    if let Some(n) = options.nofile {
        words.extend(["prlimit".into(), format!("--nofile={n}")]);
    }
    std::fs::create_dir_all(data.parent().expect("data has a parent")).expect("a writable place");
    if let Some(other) = other_broker() {
        words.extend(other_command(&other, data, addr));
    } else {
        words.push(env!("CARGO_BIN_EXE_mqtt-fleet").into());
        words.push("standalone".into());
        let durability = if options.durability.is_empty() {
            "fsync"
        } else {
            options.durability
        };
        let (listen, admin) = (addr.to_string(), admin.to_string());
        for (flag, value) in [
            ("--listen", listen.as_str()),
            ("--admin", admin.as_str()),
            ("--data", data.to_str().expect("UTF-8 path")),
            ("--durability", durability),
        ] {
            words.extend([flag.to_owned(), value.to_owned()]);
        }
        if let Some(n) = options.shards {
            words.extend(["--shards".into(), n.to_string()]);
        }
        if !options.config.is_empty() {
            let file = data.with_extension("toml");
            std::fs::write(&file, &options.config).expect("a writable place");
            words.extend(["--config".into(), file.to_str().expect("UTF-8 path").into()]);
        }
    }
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    without_settings(&mut command);
    command
        .spawn()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", words[0]))
}

fn other_command(program: &Path, data: &Path, addr: SocketAddr) -> Vec<String> {
    std::fs::create_dir_all(data).expect("a writable place");
    let file = data.with_extension("conf");
    let mut text = String::new();
    writeln!(text, "listener {} 127.0.0.1", addr.port()).expect("to a string");
    writeln!(text, "allow_anonymous true\nuser root\npersistence true").expect("to a string");
    writeln!(text, "autosave_interval 1\nautosave_on_changes true").expect("to a string");
    writeln!(text, "persistence_location {}/", data.display()).expect("to a string");
    writeln!(text, "max_queued_messages 0\nmax_inflight_messages 1000").expect("to a string");
    std::fs::write(&file, text).expect("a writable place");
    vec![
        program.display().to_string(),
        "-c".into(),
        file.display().to_string(),
    ]
}

/// A port that nothing listens on, below the range from which the kernel takes outgoing ports.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = Dice::seeded(u64::from(std::process::id()) << 20 | 0x5eed).below(200) as u16 * 30;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        let addr = SocketAddr::from(([127, 0, 0, 1], 10_000 + (start + step) % 6_000));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// Lines a process has written so far.
#[derive(Default)]
pub(crate) struct Output {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    open: u8,
}

impl Output {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.state.lock().expect("no reader panics")
    }

    pub(crate) fn text(&self) -> String {
        self.lock()
            .lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// How many lines there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().lines.len()
    }

    /// Waits for a matching line; `None` at the deadline or when the process has closed its output.
    pub(crate) fn wait_line(
        &self,
        matches: impl FnMut(&str) -> bool,
        deadline: Instant,
    ) -> Option<String> {
        self.wait_line_from(0, matches, deadline)
    }

    /// The same, of the lines behind the first `seen`.
    pub(crate) fn wait_line_from(
        &self,
        mut seen: usize,
        mut matches: impl FnMut(&str) -> bool,
        deadline: Instant,
    ) -> Option<String> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|l| matches(l)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.open == 0 || left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .expect("no reader panics")
                .0;
        }
    }

    /// Waits until both outputs are closed, which is when the process has ended.
    pub(crate) fn wait_end(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while state.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .expect("no reader panics")
                .0;
        }
        true
    }
}

/// Reads what a child writes as it comes; both its outputs must be piped.
pub(crate) fn watch_child(child: &mut Child) -> Arc<Output> {
    let output = Arc::<Output>::default();
    let stdout = child.stdout.take().expect("piped");
    let stderr = child.stderr.take().expect("piped");
    output.lock().open = 2;
    watch(stdout, Arc::clone(&output));
    watch(stderr, Arc::clone(&output));
    output
}

fn watch(from: impl Read + Send + 'static, output: Arc<Output>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            output.lock().lines.push(line);
            output.changed.notify_all();
        }
        output.lock().open -= 1;
        output.changed.notify_all();
    });
}
