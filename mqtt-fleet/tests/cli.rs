//! The command line keeps its promises: exit codes, one clear sentence for each error, precedence
//! of the settings.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const USAGE: Option<i32> = Some(2);
const ADDRESS: Option<i32> = Some(3);
const DATA: Option<i32> = Some(4);
const DAMAGED: Option<i32> = Some(5);

/// The binary, with a clean environment and `dir` as its current folder.
fn mqtt_fleet(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("MQTT_FLEET_") {
            command.env_remove(variable);
        }
    }
    command.current_dir(dir).stdin(Stdio::null());
    command
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn run(command: &mut Command) -> (Output, String, String) {
    let output = command.output().expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// The sentences that the command gave as its reason.
fn complaints(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter_map(|line| line.strip_prefix("mqtt-fleet: "))
        .collect()
}

/// A running broker, killed if the test ends early.
struct Running {
    child: Child,
    banner: String,
}

impl Running {
    /// Starts on ports of the kernel's choice and reads the banner to its last line.
    fn start(command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut running = Self {
            child: child.expect("the binary starts"),
            banner: String::new(),
        };
        let mut stdout = BufReader::new(running.child.stdout.take().expect("piped"));
        while !running.banner.contains("Ctrl-C") {
            let n = stdout.read_line(&mut running.banner).expect("text");
            assert_ne!(n, 0, "ended early, after {:?}", running.banner);
        }
        running
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().expect("taken once");
        stderr.read_to_string(&mut text).expect("text");
        text
    }

    /// The address behind `label` in the banner.
    fn address(&self, label: &str) -> SocketAddr {
        let (_, rest) = self
            .banner
            .split_once(label)
            .expect("the banner has the label");
        let word = rest.split_whitespace().next().expect("an address follows");
        let word = word.trim_start_matches("http://").trim_end_matches('/');
        word.parse().expect("an address")
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([signal, &pid])
            .status()
            .expect("kill is there");
        assert!(status.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the process has already ended, which is what most tests want.
        if self.child.try_wait().ok().flatten().is_none() {
            self.child.kill().expect("ours to kill");
            self.child.wait().expect("ours to wait for");
        }
    }
}

/// The answer of the admin port: status and body.
fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).expect("the admin port is open");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head
        .split(' ')
        .nth(1)
        .expect("a status")
        .parse()
        .expect("a number");
    (status, body.to_owned())
}

const ANY_PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

#[test]
fn version_and_help_are_fine() {
    let dir = folder();
    let (output, stdout, _) = run(mqtt_fleet(dir.path()).arg("--version"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout.trim(),
        concat!("mqtt-fleet ", env!("CARGO_PKG_VERSION"))
    );
    let (output, stdout, _) = run(mqtt_fleet(dir.path()).arg("--help"));
    assert_eq!(output.status.code(), Some(0));
    for part in [
        "standalone",
        "check",
        "--durability",
        "mosquitto_pub",
        "Exit codes: 0 fine",
    ] {
        assert!(stdout.contains(part), "no {part} in {stdout}");
    }
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let dir = folder();
    for wrong in [
        &["--listen", "nowhere"][..],
        &["standalone", "--durability", "disk"],
        &["fly"],
        &["--shards", "257"],
    ] {
        let (output, _, stderr) = run(mqtt_fleet(dir.path()).args(wrong));
        assert_eq!(output.status.code(), USAGE, "{wrong:?}");
        assert!(
            stderr.contains(wrong[wrong.len() - 1]),
            "{wrong:?}: {stderr}"
        );
    }
}

#[test]
fn check_names_file_line_and_key_of_each_mistake() {
    let dir = folder();
    let file = "[data]\ndurability = \"disk\"\n\n[limits]\nqueue_mesages = 5\n";
    std::fs::write(dir.path().join("fleet.toml"), file).expect("written");
    for command in [&["check"][..], &["standalone"], &[]] {
        let config = ["--config", "fleet.toml"];
        let (output, _, stderr) = run(mqtt_fleet(dir.path()).args(command).args(config));
        assert_eq!(output.status.code(), USAGE, "{command:?}");
        assert_eq!(
            complaints(&stderr),
            [
                "fleet.toml:2: data.durability = \"disk\": expected one of \"fsync\", \"os\", \
                 \"memory\"",
                "fleet.toml:5: unknown key limits.queue_mesages; did you mean \
                 limits.queue_messages?"
            ],
            "{command:?}"
        );
    }
}

#[test]
fn check_names_a_missing_file_and_an_unknown_variable() {
    let dir = folder();
    let (output, _, stderr) = run(mqtt_fleet(dir.path())
        .args(["check", "--config", "none.toml"])
        .env("MQTT_FLEET_DATA__DURABILTY", "os"));
    assert_eq!(output.status.code(), USAGE);
    let sentences = complaints(&stderr);
    assert_eq!(sentences.len(), 2, "{stderr}");
    assert!(
        sentences[0].starts_with("cannot read the configuration file none.toml"),
        "{stderr}"
    );
    assert!(
        sentences[1].contains("MQTT_FLEET_DATA__DURABILTY"),
        "{stderr}"
    );
    assert!(
        sentences[1].ends_with("did you mean MQTT_FLEET_DATA__DURABILITY?"),
        "{stderr}"
    );
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let dir = folder();
    let file = "[listen]\nmqtt = \"127.0.0.1:1001\"\n[data]\ndurability = \"os\"\ndir = \"a\"\n\
                [limits]\nqos2_ids = 9\n";
    std::fs::write(dir.path().join("fleet.toml"), file).expect("written");
    let (output, stdout, stderr) = run(mqtt_fleet(dir.path())
        .args([
            "check",
            "--config",
            "fleet.toml",
            "--listen",
            "127.0.0.1:1003",
        ])
        .env("MQTT_FLEET_LISTEN__MQTT", "127.0.0.1:1002")
        .env("MQTT_FLEET_DATA__DURABILITY", "memory"));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stdout.starts_with("ok\n"), "{stdout}");
    let line = |start: &str| {
        let found = stdout.lines().find(|line| line.starts_with(start));
        found
            .unwrap_or_else(|| panic!("no {start} in {stdout}"))
            .to_owned()
    };
    assert!(line("mqtt = \"127.0.0.1:1003\"").contains("# --listen;"));
    assert!(
        line("durability = \"memory\"")
            .contains("# environment variable MQTT_FLEET_DATA__DURABILITY;")
    );
    assert!(line("dir = \"a\"").contains("# fleet.toml:5;"));
    assert!(line("qos2_ids = 9").contains("# fleet.toml:7;"));
    assert!(line("queue_full = \"drop_oldest\"").contains("# default;"));
}

#[test]
fn what_check_prints_is_a_valid_file() {
    let dir = folder();
    let (_, stdout, _) = run(mqtt_fleet(dir.path()).arg("check"));
    let file = stdout.strip_prefix("ok\n").expect("ok first");
    std::fs::write(dir.path().join("fleet.toml"), file).expect("written");
    let (output, again, stderr) =
        run(mqtt_fleet(dir.path()).args(["check", "--config", "fleet.toml"]));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(again.contains("# fleet.toml:"), "{again}");
    assert!(!again.contains("# default"), "{again}");
}

#[test]
fn beyond_loopback_must_be_asked_for() {
    let dir = folder();
    let open = ["--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"];
    let (output, _, stderr) = run(mqtt_fleet(dir.path()).args(open));
    assert_eq!(output.status.code(), USAGE);
    assert!(
        complaints(&stderr)[0].contains("--allow-anonymous"),
        "{stderr}"
    );
    let _running = Running::start(mqtt_fleet(dir.path()).args(open).arg("--allow-anonymous"));
}

#[test]
fn a_port_in_use_is_one_sentence_and_exit_code_3() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let free = "127.0.0.1:0";
    for (listen, admin, key) in [
        (address.as_str(), free, "listen.mqtt"),
        (free, address.as_str(), "listen.admin"),
    ] {
        let dir = folder();
        let (output, stdout, stderr) =
            run(mqtt_fleet(dir.path()).args(["--listen", listen, "--admin", admin]));
        assert_eq!(output.status.code(), ADDRESS, "{stderr}");
        assert_eq!(stdout, "", "no banner");
        let sentences = complaints(&stderr);
        assert_eq!(sentences.len(), 1, "{stderr}");
        assert!(
            sentences[0].starts_with(&format!("{address} is in use")),
            "{stderr}"
        );
        assert!(sentences[0].contains(key), "{stderr}");
    }
}

#[test]
fn a_second_broker_on_the_same_port_is_refused() {
    let dir = folder();
    let running = Running::start(mqtt_fleet(dir.path()).args(ANY_PORTS));
    let address = running.address("listening on").to_string();
    let other = folder();
    let (output, _, stderr) =
        run(mqtt_fleet(other.path()).args(["--listen", &address, "--admin", "127.0.0.1:0"]));
    assert_eq!(output.status.code(), ADDRESS, "{stderr}");
    assert!(complaints(&stderr)[0].contains("in use"), "{stderr}");
}

#[test]
fn a_data_folder_belongs_to_one_process() {
    let dir = folder();
    let running = Running::start(mqtt_fleet(dir.path()).args(ANY_PORTS));
    let (output, stdout, stderr) = run(mqtt_fleet(dir.path()).args(ANY_PORTS));
    assert_eq!(output.status.code(), DATA, "{stderr}");
    assert_eq!(stdout, "", "no banner");
    let sentence = complaints(&stderr).concat();
    assert!(
        sentence.contains(&format!("process {}", running.child.id())),
        "{stderr}"
    );
    assert!(sentence.contains("--data"), "{stderr}");
    drop(running);
    Running::start(mqtt_fleet(dir.path()).args(ANY_PORTS));
}

#[test]
fn a_data_folder_that_cannot_be_made_is_exit_code_4() {
    let dir = folder();
    std::fs::write(dir.path().join("file"), "not a folder").expect("written");
    let data = ["--data", "file/data"];
    let (output, _, stderr) = run(mqtt_fleet(dir.path()).args(ANY_PORTS).args(data));
    assert_eq!(output.status.code(), DATA, "{stderr}");
    let sentences = complaints(&stderr);
    assert_eq!(sentences.len(), 1, "{stderr}");
    assert!(sentences[0].contains("file/data"), "{stderr}");
}

/// The largest file below `folder`.
fn largest_file(folder: &Path) -> PathBuf {
    let mut largest = (0, PathBuf::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            let size = path.metadata().expect("there").len();
            if path.is_dir() {
                folders.push(path);
            } else if size > largest.0 {
                largest = (size, path);
            }
        }
    }
    largest.1
}

#[test]
fn a_damaged_log_is_refused_by_the_name_of_the_file() {
    let dir = folder();
    let mut running = Running::start(mqtt_fleet(dir.path()).args(ANY_PORTS));
    running.signal("-TERM");
    assert!(running.child.wait().expect("ends").success());
    let segment = largest_file(&dir.path().join("data"));
    let mut file = OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("the log has a file");
    file.write_all(b"something else")
        .expect("written over its beginning");
    let (output, stdout, stderr) = run(mqtt_fleet(dir.path()).args(ANY_PORTS));
    assert_eq!(output.status.code(), DAMAGED, "{stderr}");
    assert_eq!(stdout, "", "no banner");
    let name = segment.file_name().expect("a file").to_string_lossy();
    assert!(complaints(&stderr).concat().contains(&*name), "{stderr}");
}

#[test]
fn the_memory_policy_touches_no_disk() {
    let dir = folder();
    let running = Running::start(
        mqtt_fleet(dir.path())
            .args(ANY_PORTS)
            .args(["--durability", "memory"]),
    );
    assert_eq!(get(running.address("admin"), "/health/ready").0, 200);
    assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0);
}

#[test]
fn a_failed_loadtest_and_wrong_loadtest_arguments_differ() {
    let dir = folder();
    let free = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port");
    let addr = free.to_string();
    let (output, _, stderr) =
        run(mqtt_fleet(dir.path()).args(["loadtest", "pair", "--conns", "1", "--addr", &addr]));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(complaints(&stderr).concat().contains(&addr), "{stderr}");
    let (output, _, stderr) =
        run(mqtt_fleet(dir.path()).args(["loadtest", "pair", "--conns", "0"]));
    assert_eq!(output.status.code(), USAGE, "{stderr}");
    let (output, _, _) = run(mqtt_fleet(dir.path()).args(["loadtest", "march"]));
    assert_eq!(output.status.code(), USAGE);
}

#[test]
fn scenarios_are_listed_and_printed_and_every_mistake_in_one_is_named() {
    let dir = folder();
    let loadtest = |words: &[&str]| run(mqtt_fleet(dir.path()).arg("loadtest").args(words));
    let (output, list, _) = loadtest(&["scenarios"]);
    assert_eq!(output.status.code(), Some(0));
    let names: Vec<_> = list
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names, ["smoke", "fleet-10k", "storm", "million", "soak"]);
    let (output, text, _) = loadtest(&["scenarios", "--show", "smoke"]);
    assert!(output.status.success() && text.contains("name = \"smoke\""));

    let wrong = text
        .replace("rate = 100", "rte = 100")
        .replace("20\nmqtt", "0\nmqtt");
    std::fs::write(dir.path().join("mine.toml"), wrong).expect("a writable folder");
    let (output, _, stderr) = loadtest(&["run", "mine.toml"]);
    assert_eq!(output.status.code(), USAGE);
    let said = complaints(&stderr);
    assert_eq!(said.len(), 4, "{stderr}");
    assert!(
        said.iter().all(|line| line.starts_with("mine.toml:")),
        "{stderr}"
    );
    assert!(
        said[3].ends_with("unknown key phase.rte; did you mean rate?"),
        "{stderr}"
    );

    for (words, reason) in [
        (&["run", "smok"][..], "ready ones: smoke, fleet-10k"),
        (
            &["run", "smoke", "--target", "127.0.0.1:1"],
            "--target-tls ADDR,...",
        ),
        (
            &["run", "smoke", "--target", "nowhere"],
            "--target nowhere: ",
        ),
        (
            &["run", "soak", "--target", "127.0.0.1:1"],
            "hook = [\"program\"]",
        ),
        (
            &["run", "smoke", "--cluster-json", "none.json"],
            "none.json: ",
        ),
        (
            &["run", "smoke", "--agent", "a:1", "--secret-file", "no"],
            "no: ",
        ),
        (&["scenarios", "--show", "smok"], "there are: smoke"),
    ] {
        let (output, _, stderr) = loadtest(words);
        assert_eq!(output.status.code(), USAGE, "{words:?}: {stderr}");
        assert!(
            complaints(&stderr).concat().contains(reason),
            "{words:?}: {stderr}"
        );
    }
}

#[test]
fn the_admin_port_tells_health_and_figures() {
    let dir = folder();
    let running = Running::start(mqtt_fleet(dir.path()).args(ANY_PORTS));
    let admin = running.address("admin");
    assert_eq!(get(admin, "/health/live"), (200, "live\n".into()));
    assert_eq!(get(admin, "/health/ready"), (200, "ready\n".into()));
    let (status, metrics) = get(admin, "/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("# TYPE process_resident_memory_bytes gauge"),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let (status, page) = get(admin, "/");
    assert_eq!(status, 200);
    assert!(
        page.contains(&running.address("listening on").to_string()),
        "{page}"
    );
    assert!(page.contains("href=\"/metrics\""), "{page}");
    assert_eq!(get(admin, "/nothing").0, 404);
}

#[test]
fn sigterm_and_ctrl_c_are_a_fine_end() {
    for signal in ["-TERM", "-INT"] {
        let dir = folder();
        let mut running = Running::start(mqtt_fleet(dir.path()).args(ANY_PORTS));
        running.signal(signal);
        let status = running.child.wait().expect("ends");
        assert_eq!(status.code(), Some(0), "{signal}: {}", running.stderr());
    }
}

#[test]
fn the_banner_names_what_memory_durability_loses() {
    let dir = folder();
    let running = Running::start(
        mqtt_fleet(dir.path())
            .args(ANY_PORTS)
            .args(["--durability", "memory"]),
    );
    assert!(
        running.banner.contains("lost when the broker stops"),
        "{}",
        running.banner
    );
    assert!(
        running.banner.contains("mosquitto_sub -p "),
        "{}",
        running.banner
    );
}
