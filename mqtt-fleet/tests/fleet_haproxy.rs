//! `mqtt-fleet cluster --haproxy --tls`: HAProxy as a node of the fleet, in front of all proxies, as it is deployed.

mod common;

use std::net::SocketAddr;
use std::process::{Command, Output};

use common::Connect;
use common::broker::get;
use common::fleet::{Fleet, FleetNode, Watched};
use common::tools::await_that;

const HOW: &str = "`cargo xtask test` installs the packages mosquitto-clients and haproxy";

fn start(more: &[&str]) -> Fleet {
    let args = ["--respawn", "--proxies", "2", "--groups", "2", "--haproxy"];
    Fleet::start_with(&[&args[..], more].concat())
}

fn port_of(node: &FleetNode, what: &str) -> u16 {
    node.addresses[what].port()
}

/// `mosquitto_pub` with a message for `t/tls`, stored before it ends.
fn publish(fleet: &Fleet, address: SocketAddr, message: &str) -> Output {
    let ca = fleet.folder.join("certs/ca.pem");
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "localhost", "-p", &address.port().to_string()]);
    command.arg("--cafile").arg(ca);
    command.args(["-t", "t/tls", "-m", message, "-q", "1"]);
    let output = command.output();
    output.unwrap_or_else(|error| panic!("mosquitto_pub cannot be run ({error}): {HOW}"))
}

#[test]
fn haproxy_is_a_node_that_comes_back_and_ends_with_the_others() {
    let mut fleet = start(&["--tls"]);
    let base = fleet.base_port;
    let haproxy = fleet.node("haproxy");
    assert_eq!(haproxy.role, "haproxy");
    let ports = ["mqtt", "mqtts", "admin"].map(|what| port_of(&haproxy, what));
    assert_eq!(ports, [base + 401, base + 402, base + 403]);
    for n in [0, 1] {
        let proxy = fleet.node(&format!("proxy-{n}"));
        let ports = ["mqtt", "mqtts"].map(|what| port_of(&proxy, what));
        assert_eq!(ports, [base + n, base + 501 + n]);
    }
    let words = std::fs::read(format!("/proc/{}/comm", haproxy.pid)).expect("it runs");
    assert_eq!(
        words.trim_ascii(),
        b"haproxy",
        "the process id is HAProxy's own"
    );

    // A session that hears what comes in everywhere, and comes back through HAProxy when that is killed.
    let keeper = Connect::v5("keeper").persistent();
    let mut connection = keeper.open_at(haproxy.addresses["mqtt"]);
    connection.subscribe("t/#", 1);
    for (name, message) in [("haproxy", "balanced"), ("proxy-0", "direct")] {
        let address = fleet.node(name).addresses["mqtts"];
        let output = publish(&fleet, address, message);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(connection.take().text(), message);
    }
    fleet.kill9("haproxy");
    connection.expect_closed();
    fleet.await_back(&haproxy);
    assert_eq!(fleet.node("haproxy").addresses, haproxy.addresses);
    let mut connection = keeper.open_at(haproxy.addresses["mqtt"]);
    assert!(connection.present);

    let watched: Vec<_> = fleet
        .nodes()
        .iter()
        .filter_map(|node| Watched::new(node.pid))
        .collect();
    assert_eq!(watched.len(), 6);
    assert!(fleet.launcher.terminate().success());
    watched.iter().for_each(Watched::await_end);
    // Through HAProxy the proxy took leave of it.
    assert_eq!(connection.expect_closed(), Some(0x8b));
}

/// Its record has the device's own address: `HAProxy` has said whose the connection is.
#[test]
fn without_tls_devices_come_through_it_with_their_own_address() {
    let fleet = start(&[]);
    for node in fleet.nodes() {
        assert!(!node.addresses.contains_key("mqtts"), "{node:?}");
    }
    let haproxy = fleet.node("haproxy");
    let device = Connect::v5("device").persistent();
    let device = device.open_at(haproxy.addresses["mqtt"]);
    let own = device.stream.local_addr().expect("connected").to_string();
    let record = || fleet.redis(&["HGET", "mqtt-fleet:session:{device}", "address"]);
    await_that(
        || record().trim() == own,
        || format!("{own}, not {}", record()),
    );
    assert_eq!(get(haproxy.addresses["admin"], "/health/ready").0, 200);
    let (status, figures) = get(haproxy.addresses["admin"], "/metrics");
    assert_eq!(status, 200);
    assert!(
        figures
            .contains("haproxy_server_current_sessions{proxy=\"mqtt-proxies\",server=\"proxy-1\"}")
    );
}
