//! `mqtt-fleet cluster`: what it writes, that it brings nodes back, and that nothing outlives it.

mod common;

use std::net::TcpListener;

use common::Connect;
use common::fleet::{Fleet, FleetNode, Process, Watched, free_ports};

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

    fleet.start_again();
    let mut keeper = Connect::v5("keeper").persistent().open_at(fleet.mqtt(0));
    assert!(keeper.present);
    assert_eq!(keeper.take().text(), "over a kill of everything");
}

#[test]
fn a_taken_port_is_named_with_its_node() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_ports();
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let port = port.to_string();
    let args = [
        "cluster",
        "--proxies",
        "1",
        "--base-port",
        &port,
        "--data",
        "fleet",
    ];
    let mut launcher = Process::start("the launcher", folder.path(), &args);
    assert_eq!(launcher.await_exit().code(), Some(3));
    let sentence = launcher.output();
    assert!(
        sentence.contains(&format!("127.0.0.1:{port}, the MQTT port of proxy-0"))
            && sentence.contains("--base-port"),
        "{sentence}"
    );
}
