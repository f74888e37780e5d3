//! Links with TLS: a whole fleet on them, certificates that change, and a node that lacks them.

mod common;

use common::Connect;
use common::broker::{get, metric};
use common::fleet::{ByHand, Fleet, Process, signal};

#[test]
fn a_fleet_with_tls_between_its_nodes_keeps_what_it_acknowledged() {
    let args = ["--respawn", "--proxies", "2", "--groups", "1", "--link-tls"];
    let fleet = Fleet::start_with(&args);
    let mut keeper = Connect::v5("keeper").persistent().open_at(fleet.mqtt(0));
    keeper.subscribe("kept", 1);
    keeper.say("kept", 1, "before");
    assert_eq!(keeper.take().text(), "before");

    let killed = fleet.kill9("broker-0");
    fleet.await_back(&killed);
    Connect::v5("speaker")
        .open_at(fleet.mqtt(1))
        .say("kept", 1, "after");
    assert_eq!(keeper.take().text(), "after");
    // The one end of a link that has no certificate to show.
    let link = fleet.node("broker-0").addresses["link"];
    let mut stranger = std::net::TcpStream::connect(link).expect("it listens");
    std::io::Write::write_all(&mut stranger, b"\x20\x00\x00\x00\x01").expect("it listens");
    fleet
        .launcher
        .await_line("broker-0 takes links with TLS, the proxy comes without it");
    let failed = fleet.metric("broker-0", &["links_tls_failed"]);
    assert!((failed - 1.0).abs() < f64::EPSILON, "{failed}");
}

/// Makes certificates in folder `dir` of the fleet's.
fn dev_certs(fleet: &ByHand, dir: &str) {
    let mut made = Process::start("dev-certs", fleet.folder.path(), &["dev-certs", dir]);
    assert!(made.await_exit().success(), "{}", made.output());
}

fn write_config(fleet: &ByHand, certs: &str) {
    fleet.write(
        "link.toml",
        &format!(
            "[link_tls]\nca = \"{certs}/ca.pem\"\ncertificate = \"{certs}/fleet.pem\"\nkey = \"{certs}/fleet.key\"\n"
        ),
    );
}

#[test]
fn the_end_without_tls_is_named_by_both_and_new_certificates_are_read() {
    let fleet = ByHand::new();
    dev_certs(&fleet, "certs");
    write_config(&fleet, "certs");
    let mut broker = fleet.broker();
    broker.await_line("links on");
    let mut proxy = fleet.proxy("cluster.toml", &["--config", "link.toml"]);
    broker.await_line("the broker lacks section [link_tls]");
    proxy.await_line("the other end lacks section [link_tls]");
    assert_eq!(get(fleet.proxy_admin, "/health/ready").0, 503);
    assert!(metric(fleet.proxy_admin, &["link_tls_failed"]) > 0.0);
    assert!(proxy.terminate().success());
    assert!(broker.terminate().success());

    let broker = fleet.broker_with(&["--config", "link.toml"]);
    broker.await_line("links on");
    let mut proxy = fleet.proxy("cluster.toml", &[]);
    let why = "broker-0 takes links with TLS, the proxy comes without it; the proxy lacks section [link_tls]";
    broker.await_line(why);
    proxy.await_line(why);
    assert!(proxy.terminate().success());

    // The broker gets certificates of another CA: the proxy, whose configuration names the same files, has them at its
    // start, and the broker at the signal.
    dev_certs(&fleet, "new");
    for name in ["ca.pem", "fleet.pem", "fleet.key"] {
        let place = |dir: &str| fleet.folder.path().join(dir).join(name);
        std::fs::copy(place("new"), place("certs")).expect("writable");
    }
    let proxy = fleet.proxy("cluster.toml", &["--config", "link.toml"]);
    proxy.await_line("check its link_tls.certificate and this end's link_tls.ca");
    signal(broker.pid(), "-HUP");
    broker.await_line("link TLS files read again");
    proxy.await_line("listening on");
    Connect::v5("welcome").open_at(fleet.mqtt).say("a", 1, "b");
}

#[test]
fn half_a_section_is_refused_with_the_missing_key() {
    let fleet = ByHand::new();
    fleet.write("link.toml", "[link_tls]\nca = \"ca.pem\"\n");
    let mut broker = fleet.broker_with(&["--config", "link.toml"]);
    assert_eq!(broker.await_exit().code(), Some(2));
    let output = broker.output();
    let needs = "link_tls.ca needs link_tls.certificate and link_tls.key too";
    assert!(
        output.contains("link.toml:2") && output.contains(needs),
        "{output}"
    );
}
