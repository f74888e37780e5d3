//! `mqtt-fleet loadtest agent`: devices on other machines, here agents on loopback.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::broker::Broker;
use common::fleet::{Process, Watched};
use serde_json::Value;

const RUN_MAX: Duration = Duration::from_secs(120);

/// Forty devices with telemetry and commands for two seconds.
const SCENARIO: &str = r#"
[[population]]
name = "devices"
devices = 40
subscriptions = [{ filter = "d/%c/commands", qos = 1 }]
telemetry = { topic = "d/%c/telemetry", qos = 1, interval = "500ms", payload = 60 }
[[consumer]]
name = "ingest"
filter = "d/+/telemetry"
qos = 1
[[commands]]
name = "commands"
population = "devices"
topic = "d/%c/commands"
qos = 1
rate = 50
payload = 30
[[phase]]
do = "ramp"
rate = 100
[[phase]]
do = "steady"
for = "2s"
[[phase]]
do = "drain"
"#;

/// Starts an agent; its address.
fn agent(name: &str, folder: &Path, secret: &str) -> (Process, String) {
    let args = [
        "loadtest",
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--secret-file",
        secret,
    ];
    let agent = Process::start(name, folder, &args);
    let line = agent.await_line("waiting for runs on ");
    let address = line.split_whitespace().nth(4).expect("an address");
    let address = address.trim_end_matches(';').to_owned();
    (agent, address)
}

/// Starts a run with devices on the agents.
fn run(folder: &Path, target: &str, agents: &str, secret: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    command.args(["loadtest", "run", "scenario.toml", "--target", target]);
    command.args(["--agent", agents, "--secret-file", secret]);
    command.args(["--report", "report", "--report-every", "1"]);
    Process::run("the run", folder, command)
}

/// A folder with the scenario and two secrets.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = [
        ("scenario.toml", SCENARIO),
        ("secret", "a secret of all the machines\n"),
        ("other", "a secret of somebody else's\n"),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("it can be written");
    }
    folder
}

/// The worker process that an agent has lent.
fn lent(agent: &Process) -> Watched {
    let line = agent.await_line("has worker process ");
    let pid = line
        .split_whitespace()
        .last()
        .and_then(|pid| pid.parse().ok());
    Watched::new(pid.expect("a process id")).expect("it runs")
}

#[test]
fn devices_on_two_agents_keep_every_promise() {
    let broker = Broker::start();
    let folder = folder();
    let (one, first) = agent("the first agent", folder.path(), "secret");
    let (two, second) = agent("the second agent", folder.path(), "secret");
    let agents = format!("{first},{second}");
    let target = broker.addr.to_string();
    let mut run = run(folder.path(), &target, &agents, "secret");
    let workers = [lent(&one), lent(&two)];
    let status = run.await_exit_within(RUN_MAX);
    assert_eq!(status.code(), Some(0), "{}", run.output());
    workers.iter().for_each(Watched::await_end);
    let text = std::fs::read_to_string(folder.path().join("report/report.json"));
    let report: Value = serde_json::from_str(&text.expect("a report")).expect("JSON");
    assert_eq!(report["workers"], 3);
    assert_eq!(report["totals"]["connected_max"], 40);
    let totals = &report["totals"];
    assert!(totals["sent"][1].as_u64() > Some(150), "{totals}");
    assert_eq!(totals["sent"], totals["received"]);
    // Both are on this machine, but they are asked for their clocks like any other.
    let error_us = report["clock_error_us"].as_u64().expect("a number");
    assert!((1..1_000_000).contains(&error_us), "{error_us}");
    for agent in [&one, &two] {
        agent.await_line("ended: exit status: 0");
    }
}

#[test]
fn an_agent_lends_nothing_to_a_run_that_does_not_know_the_secret() {
    let folder = folder();
    let (agent, address) = agent("the agent", folder.path(), "secret");
    let mut run = run(folder.path(), "127.0.0.1:1", &address, "other");
    let status = run.await_exit_within(RUN_MAX);
    assert_eq!(status.code(), Some(1), "{}", run.output());
    let said = format!("agent {address}: it does not know the secret");
    assert!(run.output().contains(&said), "{}", run.output());
    agent.await_line("got nothing: it does not know the secret");
}

#[test]
fn an_agent_that_is_killed_fails_the_run_by_name() {
    let broker = Broker::start();
    let folder = folder();
    let long = SCENARIO.replace("\"2s\"", "\"1h\"");
    std::fs::write(folder.path().join("scenario.toml"), long).expect("it can be written");
    let (mut agent, address) = agent("the agent", folder.path(), "secret");
    let target = broker.addr.to_string();
    let mut run = run(folder.path(), &target, &address, "secret");
    let worker = lent(&agent);
    run.await_line("connected");
    assert_eq!(agent.terminate().code(), Some(0));
    worker.await_end();
    let status = run.await_exit_within(RUN_MAX);
    assert_eq!(status.code(), Some(1), "{}", run.output());
    let said = format!("worker 1 at {address} is gone");
    assert!(run.output().contains(&said), "{}", run.output());
}
