//! Nodes that do not belong together do not link, and both say why.

mod common;

use common::Connect;
use common::broker::get;
use common::fleet::{ByHand, Process};

#[test]
fn a_proxy_with_another_secret_is_refused_until_it_has_the_right_one() {
    let fleet = ByHand::new();
    fleet.write("other-secret", "the secret of another fleet");
    fleet.write("other.toml", &fleet.cluster_file("other-secret"));
    let broker = fleet.broker();
    broker.await_line("links on");
    let mut proxy = fleet.proxy("other.toml", &[]);
    let why = "the link secrets of broker-0 and proxy-0 differ";
    refused(&fleet, &broker, &proxy, why);
    assert!(proxy.terminate().success(), "it stops when asked to");

    let proxy = fleet.proxy("cluster.toml", &[]);
    proxy.await_line("listening on");
    assert_eq!(get(fleet.proxy_admin, "/health/ready").0, 200);
    Connect::v5("welcome").open_at(fleet.mqtt).say("a", 1, "b");
    assert!(!proxy.output().contains("differ"), "{}", proxy.output());
}

#[test]
fn a_proxy_with_another_fixed_part_is_refused() {
    let fleet = ByHand::new();
    let other = fleet.cluster_file("secret") + "[routing]\nkey_levels = 3\n";
    fleet.write("other.toml", &other);
    let broker = fleet.broker();
    broker.await_line("links on");
    let proxy = fleet.proxy("other.toml", &[]);
    let why = "the fixed parts of the cluster files of broker-0 (hash ";
    refused(&fleet, &broker, &proxy, why);
}

/// Both ends say it, the proxy never is ready, and the broker is as before.
fn refused(fleet: &ByHand, broker: &Process, proxy: &Process, why: &str) {
    for node in [proxy, broker] {
        node.await_line(why);
    }
    assert_eq!(get(fleet.proxy_admin, "/health/ready").0, 503);
    assert_eq!(get(fleet.broker_admin, "/health/ready").0, 200);
    let links = common::broker::metric(fleet.broker_admin, &["mqtt_fleet_links_links_up"]);
    assert!(links.abs() < f64::EPSILON, "{links}");
    assert!(
        !proxy.output().contains("listening on"),
        "{}",
        proxy.output()
    );
}
