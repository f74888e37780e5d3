//! `mqtt-fleet cluster`: what it writes, that it brings nodes back, and that nothing outlives it.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::Connect;
use common::ctl_group::{await_members, change};
use common::damage::flip_in_log;
use common::fleet::{Fleet, FleetNode, Process, Watched, free_ports, signal};
use common::members::await_even;
use common::tools::await_that;
use serde_json::Value;

#[test]
fn the_file_describes_the_fleet_and_follows_it() {
    let mut fleet = Fleet::start(2);
    let base = fleet.base_port;
    let nodes = fleet.nodes();
    let shapes: Vec<_> = nodes.iter().map(shape).collect();
    let expected = [
        format!("redis redis None false [\"redis:{}\"]", base + 100),
        format!(
            "broker-0 broker Some(0) true [\"admin:{}\", \"link:{}\"]",
            base + 201,
            base + 101
        ),
        format!(
            "proxy-0 proxy None false [\"admin:{}\", \"mqtt:{base}\"]",
            base + 301
        ),
        format!(
            "proxy-1 proxy None false [\"admin:{}\", \"mqtt:{}\"]",
            base + 302,
            base + 1
        ),
    ];
    assert_eq!(shapes, expected);
    let group = &manifest(&fleet)["groups"][0];
    let member = &group["members"][0];
    assert_eq!(group["leader"], "broker-0");
    assert_eq!(member["pid"], nodes[1].pid);
    assert_eq!(member["link"], format!("127.0.0.1:{}", base + 101));
    let log = member["log"].as_str().expect("a path");
    // Being ready comes before its first lines.
    let log = || std::fs::read_to_string(log).unwrap_or_default();
    await_that(|| log().contains("links on"), log);
    for node in &nodes {
        assert!(Watched::new(node.pid).is_some(), "{node:?} runs");
        let words = std::fs::read(format!("/proc/{}/cmdline", node.pid)).expect("it runs");
        assert!(
            !words.starts_with(b"guard"),
            "the node itself, not who started it"
        );
    }
    for name in ["redis", "broker-0", "proxy-1"] {
        let killed = fleet.kill9(name);
        fleet.await_back(&killed);
        assert_eq!(fleet.nodes().len(), nodes.len());
    }
    fleet
        .launcher
        .await_line("proxy-1  | ended (signal: 9 (SIGKILL)), coming back");
    Connect::v5("after").open_at(fleet.mqtt(1)).say("a", 1, "b");

    let watched: Vec<_> = fleet
        .nodes()
        .iter()
        .filter_map(|node| Watched::new(node.pid))
        .collect();
    assert_eq!(watched.len(), nodes.len());
    assert!(fleet.launcher.terminate().success(), "a clean end");
    watched.iter().for_each(Watched::await_end);
    assert!(!fleet.folder.join("cluster.json").exists());
    let output = fleet.launcher.output();
    for name in ["broker-0", "proxy-0", "proxy-1"] {
        let stopped = |line: &str| line.starts_with(name) && line.ends_with("stopped");
        assert!(
            output.lines().any(stopped),
            "{name} stopped in order:\n{output}"
        );
    }
}

#[test]
fn a_group_starts_without_a_member_that_is_damaged() {
    let mut fleet = Fleet::start_with(&["--proxies", "1", "--groups", "1", "--members", "3"]);
    let mut mouth = Connect::v5("mouth").persistent().open_at(fleet.mqtt(0));
    mouth.subscribe("a", 1);
    for text in ["one of the messages", "another"] {
        mouth.say("a", 1, text);
    }
    drop(mouth);
    let admins = admins_of_group_0(&fleet);
    await_even(&admins);
    assert!(fleet.launcher.terminate().success(), "a clean end");
    let bad = "broker-0-1";
    flip_in_log(&fleet.folder.join(bad), "one of the messages");
    fleet.start_again();
    fleet.launcher.await_line(&format!("Not ready: {bad};"));
    Connect::v5("after").open_at(fleet.mqtt(0)).say("a", 1, "b");
    change(&admins, &format!("repair {bad}"));
    await_members(&admins, &["broker-0-0", bad, "broker-0-2"]);
    assert!(fleet.launcher.terminate().success(), "a clean end");
}

#[test]
fn a_group_without_a_majority_keeps_no_other_down() {
    let mut fleet = Fleet::start_with(&["--proxies", "1", "--groups", "2", "--members", "3"]);
    let mut mouth = Connect::v5("mouth").persistent().open_at(fleet.mqtt(0));
    mouth.subscribe("of/#", 1);
    // Some belong to group 0.
    for n in 0..20 {
        mouth.say(&format!("of/{n}"), 1, "one of the messages");
    }
    drop(mouth);
    await_even(&admins_of_group_0(&fleet));
    assert!(fleet.launcher.terminate().success(), "a clean end");
    for bad in ["broker-0-0", "broker-0-2"] {
        flip_in_log(&fleet.folder.join(bad), "one of the messages");
    }
    fleet.start_again();
    let line = fleet.launcher.await_line("Group 0 has no leader yet");
    assert!(line.contains("is damaged at byte"), "{line}");
    fleet.launcher.await_line("Started without group 0,");
    // One that did not answer at once is asked again.
    let groups = || manifest(&fleet)["groups"].clone();
    await_that(
        || groups()[1]["leader"].is_string(),
        || format!("{}", groups()),
    );
    assert_eq!(groups()[0]["leader"], Value::Null, "{}", groups());
    let mqtt = fleet.mqtt(0).to_string();
    assert!(
        std::net::TcpStream::connect(&mqtt).is_ok(),
        "the proxy runs"
    );
    assert!(fleet.launcher.terminate().success(), "a clean end");
}

fn admins_of_group_0(fleet: &Fleet) -> [SocketAddr; 3] {
    [0, 1, 2].map(|n| fleet.node(&format!("broker-0-{n}")).addresses["admin"])
}

/// `cluster.json`.
fn manifest(fleet: &Fleet) -> Value {
    let text = std::fs::read_to_string(fleet.folder.join("cluster.json")).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

fn shape(node: &FleetNode) -> String {
    let mut addresses: Vec<_> = node
        .addresses
        .iter()
        .map(|(what, address)| format!("{what}:{}", address.port()))
        .collect();
    addresses.sort();
    format!(
        "{} {} {:?} {} {addresses:?}",
        node.name, node.role, node.group, node.leader
    )
}

#[test]
fn nothing_outlives_a_killed_launcher_and_the_data_do() {
    let mut fleet = Fleet::start(1);
    let mut keeper = Connect::v5("keeper").persistent().open_at(fleet.mqtt(0));
    keeper.subscribe("kept", 1);
    keeper.say("kept", 1, "over a kill of everything");
    let watched: Vec<_> = fleet
        .nodes()
        .iter()
        .filter_map(|node| Watched::new(node.pid))
        .collect();
    assert_eq!(watched.len(), 3);
    fleet.launcher.kill9();
    watched.iter().for_each(Watched::await_end);

    other_ports_are_refused(&fleet);
    fleet.start_again();
    let mut keeper = Connect::v5("keeper").persistent().open_at(fleet.mqtt(0));
    assert!(keeper.present);
    assert_eq!(keeper.take().text(), "over a kill of everything");
}

/// Outlives no failure.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_fleet_whose_output_nobody_reads_runs_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = free_ports();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    common::fleet::without_settings(&mut command);
    command.args([
        "cluster",
        "--proxies",
        "1",
        "--groups",
        "1",
        "--data",
        "fleet",
    ]);
    command.args(["--base-port", &base.to_string()]);
    command.current_dir(folder.path()).stdin(Stdio::null());
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut launcher = Unread(piped.spawn().expect("the binary runs"));
    drop((launcher.0.stdout.take(), launcher.0.stderr.take()));
    let manifest = folder.path().join("fleet/cluster.json");
    let complaint = || format!("{} is not there", manifest.display());
    await_that(|| manifest.exists(), complaint);
    let proxy = SocketAddr::from(([127, 0, 0, 1], base));
    Connect::v5("device").open_at(proxy).say("a", 1, "b");
    signal(launcher.0.id(), "-TERM");
    assert!(launcher.0.wait().expect("it ends").success());
}

/// Exit code and sentence of a launcher that must refuse; `base` is its first port.
fn refusal(folder: &Path, base: u16, more: &[&str]) -> (Option<i32>, String) {
    let base = base.to_string();
    let args = ["cluster", "--proxies", "1", "--groups", "1", "--base-port"];
    let words = [&args[..], &[&base, "--data", "fleet"], more].concat();
    let mut launcher = Process::start("the launcher", folder, &words);
    let code = launcher.await_exit().code();
    (code, launcher.output())
}

/// Group 0's log says where the brokers are.
fn other_ports_are_refused(fleet: &Fleet) {
    let folder = fleet.folder.parent().expect("a folder");
    let (code, sentence) = refusal(folder, free_ports(), &[]);
    assert_eq!(code, Some(2));
    let link = format!(
        "broker-0 of the fleet in this folder is at 127.0.0.1:{}",
        fleet.base_port + 101
    );
    assert!(sentence.contains(&link), "{sentence}");
}

#[test]
fn a_taken_port_is_named_with_its_node() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = free_ports();
    let options = ["--haproxy", "--tls"];
    for (offset, whose) in [
        (0, "the MQTT port of proxy-0"),
        (100, "the Redis port of redis"),
        (101, "the link port of broker-0"),
        (402, "the MQTT/TLS port of haproxy"),
        (701, "the HAProxy-side MQTT/TLS port of proxy-0"),
    ] {
        let port = base + offset;
        let _taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let (code, sentence) = refusal(folder.path(), base, &options);
        assert_eq!(code, Some(3));
        let named = format!("127.0.0.1:{port}, {whose}");
        assert!(
            sentence.contains(&named) && sentence.contains("--base-port"),
            "{sentence}"
        );
    }
}

#[test]
fn a_program_that_is_not_there_is_named_with_what_to_install() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for words in [
        &["--redis-server", "/no/redis"][..],
        &["--haproxy", "--haproxy-program", "/no/haproxy"],
    ] {
        let (code, sentence) = refusal(folder.path(), 10_000, words);
        assert_eq!(code, Some(2));
        let path = words.last().expect("one");
        assert!(sentence.contains(&format!("{path}: there is no such program")));
    }
    if !Path::new("/usr/sbin/redis-server").exists() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
        command.arg("cluster").env("PATH", "/no/programs");
        let mut launcher = Process::run("the launcher", folder.path(), command);
        assert_eq!(launcher.await_exit().code(), Some(1));
        let sentence = launcher.output();
        assert!(
            sentence.contains("apt-get install redis-server")
                && sentence.contains("--redis-server FILE"),
            "{sentence}"
        );
    }
}

#[test]
fn a_folder_belongs_to_one_fleet_of_its_number_of_groups() {
    let fleet = ["--proxies", "1", "--groups", "1"];
    let mut fleet = Fleet::start_with(&[&fleet[..], &["--home-key", "devices/%c"]].concat());
    let parent = fleet
        .folder
        .parent()
        .expect("a folder around it")
        .to_owned();
    let (code, sentence) = refusal(&parent, free_ports(), &[]);
    assert_eq!(code, Some(4));
    assert!(
        sentence.contains("another mqtt-fleet cluster runs a fleet in this folder")
            && sentence.contains("--data"),
        "{sentence}"
    );
    assert!(fleet.launcher.terminate().success());
    let file = fleet.folder.join("cluster.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert!(
        text.contains("\n[routing]\nhome_key = \"devices/%c\"\n"),
        "{text}"
    );
    for (words, said) in [
        (["--groups", "2", "--home-key", "devices/%c"], "--groups 1"),
        (
            ["--groups", "1", "--home-key", "d/%c"],
            "--home-key devices/%c",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
        command.arg("cluster").args(words).arg("--data");
        command
            .arg(&fleet.folder)
            .args(["--base-port", &free_ports().to_string()]);
        let mut launcher = Process::run("the launcher", &parent, command);
        assert_eq!(launcher.await_exit().code(), Some(2));
        let sentence = launcher.output();
        let names_both = sentence.contains(&file.display().to_string()) && sentence.contains(said);
        assert!(names_both, "{sentence}");
    }
}
