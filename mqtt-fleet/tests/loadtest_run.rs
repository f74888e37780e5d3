//! `mqtt-fleet loadtest run`: scenarios from the start of their fleet to the report, and that nothing of it stays.

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::broker::Broker;
use common::fleet::{Fleet, Process, Watched, kill9, signal};
use common::tools::await_that;
use serde_json::Value;

/// A run of 20 seconds may take so long on a machine that has other things to do.
const RUN_MAX: Duration = Duration::from_secs(120);

/// A run with its own folder for what is temporary.
struct Run {
    process: Process,
    folder: tempfile::TempDir,
}

impl Run {
    fn start(words: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).expect("a folder in it");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
        command.args(["loadtest", "run"]).args(words);
        command.args(["--report", "report", "--report-every", "1"]);
        command.env("TMPDIR", &temporary);
        let process = Process::run("the run", folder.path(), command);
        Self { process, folder }
    }

    /// What is temporary.
    fn temporary(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.folder.path().join("temporary"));
        let entries = folder
            .expect("it is there")
            .map(|entry| entry.expect("readable").path());
        entries.collect()
    }

    /// The processes of the fleet it has started, once all of them are ready.
    fn fleet(&self) -> Vec<Watched> {
        let manifest = || {
            let home = self.temporary().pop()?;
            std::fs::read_to_string(home.join("fleet").join("cluster.json")).ok()
        };
        await_that(
            || manifest().is_some(),
            || "the fleet is not there".to_owned(),
        );
        let manifest: Value = serde_json::from_str(&manifest().expect("seen")).expect("JSON");
        let nodes = manifest["nodes"].as_array().expect("nodes").clone();
        let pids = nodes.iter().filter_map(|node| node["pid"].as_u64());
        pids.filter_map(|pid| Watched::new(pid as u32)).collect()
    }

    fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.folder.path().join("report/report.json"));
        serde_json::from_str(&text.expect("a report")).expect("JSON")
    }
}

#[test]
fn smoke_passes_and_leaves_nothing_but_its_report() {
    let mut run = Run::start(&["smoke"]);
    let fleet = run.fleet();
    assert_eq!(fleet.len(), 1 + 2 + 2, "Redis, groups, proxies");
    let status = run.process.await_exit_within(RUN_MAX);
    let output = run.process.output();
    assert_eq!(status.code(), Some(0), "{output}");
    fleet.iter().for_each(Watched::await_end);
    assert_eq!(run.temporary(), [""; 0].map(PathBuf::from), "removed");
    let report = run.report();
    assert_eq!(report["passed"], true);
    assert_eq!(report["totals"]["connected_max"], 200);
    for qos in 0..3 {
        let sent = report["totals"]["sent"][qos].as_u64();
        assert!(sent > Some(20), "QoS {qos}: {sent:?}");
        if qos > 0 {
            assert_eq!(report["totals"]["received"][qos].as_u64(), sent);
        }
    }
    let dropped = report["totals"]["dropped"].as_u64().expect("a number");
    assert!((15..80).contains(&dropped), "{dropped} are no fifth");
    assert!(report["totals"]["pings"].as_u64() > Some(0));
    let roles = report["resources"]["roles"].as_array().expect("roles");
    let roles: Vec<_> = roles
        .iter()
        .filter_map(|role| role["role"].as_str())
        .collect();
    for role in ["proxies", "brokers", "redis", "simulator"] {
        assert!(roles.contains(&role), "{role} is not in {roles:?}");
    }
    let page = std::fs::read_to_string(run.folder.path().join("report/report.html"));
    assert!(page.expect("a page").contains("<svg"));
}

#[test]
fn a_killed_run_takes_its_fleet_with_it() {
    let mut run = Run::start(&["smoke"]);
    let fleet = run.fleet();
    run.process.kill9();
    fleet.iter().for_each(Watched::await_end);
}

#[test]
fn a_stopped_run_ends_its_fleet_in_good_order_and_reports() {
    let mut run = Run::start(&["soak"]);
    let fleet = run.fleet();
    run.process.await_line("connect");
    signal(run.process.pid(), "-TERM");
    let status = run.process.await_exit_within(RUN_MAX);
    assert_eq!(status.code(), Some(1), "it did not do what it was to do");
    fleet.iter().for_each(Watched::await_end);
    assert_eq!(run.temporary(), [""; 0].map(PathBuf::from), "removed");
    assert_eq!(run.report()["passed"], false);
}

/// Ten devices, a moment, and a threshold that nothing can keep.
const HOPELESS: &str = r#"
[[population]]
name = "devices"
devices = 10
subscriptions = [{ filter = "d/%c/commands" }]
[[commands]]
name = "commands"
population = "devices"
topic = "d/%c/commands"
rate = 50
payload = 30
[[phase]]
do = "ramp"
rate = 100
[[phase]]
do = "steady"
for = "1s"
[[phase]]
do = "drain"
[pass]
connect_p99_ms_max = 0
"#;

#[test]
fn a_threshold_that_is_missed_fails_the_run_on_a_target_that_runs_already() {
    let broker = Broker::start();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), HOPELESS).expect("it can be written");
    let scenario = file.path().to_str().expect("UTF-8");
    let target = broker.addr.to_string();
    let mut run = Run::start(&[scenario, "--target", &target]);
    let status = run.process.await_exit_within(RUN_MAX);
    assert_eq!(status.code(), Some(1), "{}", run.process.output());
    let report = run.report();
    let checks = report["checks"].as_array().expect("checks");
    let missed = checks.iter().filter(|check| check["passed"] == false);
    let missed: Vec<_> = missed.filter_map(|check| check["key"].as_str()).collect();
    assert_eq!(missed, ["connect_p99_ms_max"], "{report}");
}

#[test]
fn a_run_that_is_stopped_in_a_steady_phase_has_not_passed() {
    let broker = Broker::start();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let scenario = HOPELESS.replace("1s", "1h");
    let scenario = scenario.replace("connect_p99_ms_max = 0", "connections_lost_max = 0");
    std::fs::write(file.path(), scenario).expect("it can be written");
    let scenario = file.path().to_str().expect("UTF-8");
    let target = broker.addr.to_string();
    let mut run = Run::start(&[scenario, "--target", &target]);
    run.process
        .await_line("steady (2 of 3): 10 of 10 connected");
    signal(run.process.pid(), "-TERM");
    let status = run.process.await_exit_within(RUN_MAX);
    let output = run.process.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("FAILED: stopped by a signal"), "{output}");
    let report = run.report();
    let checks = report["checks"].as_array().expect("checks");
    assert!(checks.iter().all(|check| check["passed"] == true));
    assert_eq!(report["stopped"], true);
}

/// The worker processes of a run.
fn workers(run: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux");
    let names = entries.filter_map(|entry| entry.expect("readable").file_name().into_string().ok());
    let is_worker = |pid: &u32| {
        // It may be gone by now.
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let status = read("status").unwrap_or_default();
        let words = read("cmdline").unwrap_or_default();
        status.contains(&format!("PPid:\t{run}\n")) && words.ends_with("loadtest\0worker\0")
    };
    let pids = names.filter_map(|name| name.parse().ok());
    pids.filter(is_worker).collect()
}

#[test]
fn a_run_that_ends_by_an_error_reports_how_far_it_came() {
    let broker = Broker::start();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let scenario = HOPELESS.replace("1s", "1h");
    std::fs::write(file.path(), scenario).expect("it can be written");
    let scenario = file.path().to_str().expect("UTF-8");
    let target = broker.addr.to_string();
    let mut run = Run::start(&[scenario, "--target", &target]);
    run.process
        .await_line("steady (2 of 3): 10 of 10 connected");
    let workers = workers(run.process.pid());
    let watched: Vec<_> = workers
        .iter()
        .filter_map(|&pid| Watched::new(pid))
        .collect();
    kill9(workers[0]);
    let status = run.process.await_exit_within(RUN_MAX);
    let output = run.process.output();
    assert_eq!(status.code(), Some(1), "{output}");
    watched.iter().for_each(Watched::await_end);
    let report = run.report();
    let error = report["error"].as_str().expect("named");
    assert!(error.contains("ended early, with signal: 9"), "{error}");
    assert!(output.contains(&format!("mqtt-fleet: {error}")), "{output}");
    assert!(output.contains("verdict    FAILED: ended by an error: worker "));
    assert_eq!(
        (&report["passed"], &report["checks"]),
        (&false.into(), &Value::Array(Vec::new()))
    );
    assert_eq!(report["totals"]["connects"], 10);
    let steady = &report["phases"][1];
    assert_eq!(
        (&steady["kind"], &steady["done"]),
        (&"steady".into(), &false.into())
    );
    let page = std::fs::read_to_string(run.folder.path().join("report/report.html"));
    assert!(page.expect("a page").contains("ended by an error: worker "));
}

/// Devices that see their proxies and Redis restart.
const RESTARTS: &str = r#"
[[population]]
name = "devices"
devices = 50
subscriptions = [{ filter = "d/%c/commands" }]
telemetry = { topic = "d/%c/telemetry", qos = 1, interval = "500ms", payload = 30 }
reconnect = { first = "500ms", longest = "2s" }
[[consumer]]
name = "consumer"
filter = "d/+/telemetry"
[[commands]]
name = "commands"
population = "devices"
topic = "d/%c/commands"
rate = 50
payload = 30
[[phase]]
do = "ramp"
rate = 100
[[phase]]
do = "restart"
nodes = "proxies"
every = "1s"
[[phase]]
do = "restart"
nodes = "redis"
every = "0s"
[[phase]]
do = "drain"
"#;

#[test]
fn a_fleet_that_runs_already_is_measured_and_restarted_with_devices_on_an_agent() {
    let fleet = Fleet::start(2);
    let nodes = fleet.nodes();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("secret"), "a secret of this test\n").expect("it can be written");
    std::fs::write(path("restarts.toml"), RESTARTS).expect("it can be written");
    let words = [
        "loadtest",
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--secret-file",
        "secret",
    ];
    let mut agent = Process::start("the agent", folder.path(), &words);
    let line = agent.await_line("waiting for runs on ");
    let address = line.trim_start_matches("waiting for runs on ");
    let address = address.split(';').next().expect("an address");

    let cluster = fleet.folder.join("cluster.json").display().to_string();
    let (scenario, secret) = (path("restarts.toml"), path("secret"));
    let words = [&scenario, "--cluster-json", &cluster, "--agent", address];
    let mut run = Run::start(&[&words[..], &["--secret-file", &secret]].concat());
    let status = run.process.await_exit_within(RUN_MAX);
    assert_eq!(status.code(), Some(0), "{}", run.process.output());
    for old in nodes {
        let new = fleet.node(&old.name);
        assert_eq!(
            old.pid == new.pid,
            old.role == "broker",
            "{} was restarted",
            old.name
        );
    }
    let report = run.report();
    assert!(
        report["totals"]["reconnects"].as_u64() >= Some(50),
        "each has lost its proxy"
    );
    assert!(report["resources"]["target_cpu_s"].as_f64() > Some(0.0));
    assert!(agent.terminate().success());
}
