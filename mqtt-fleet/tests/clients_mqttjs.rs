//! MQTT.js (Node) works with this broker in MQTT 3.1.1 and 5.
//!
//! `MQTT_FLEET_NODE_MODULES` names a `node_modules` folder with `mqtt`; `cargo xtask test` makes one and sets it.

mod common;

use std::process::Command;

use common::Broker;
use common::tools::{Tool, scripts};

fn run(version: u8, scenario: &str) {
    let how = "`cargo xtask test` installs MQTT.js under target/ and sets MQTT_FLEET_NODE_MODULES; Node itself is \
               the package nodejs";
    let modules = std::env::var_os("MQTT_FLEET_NODE_MODULES").unwrap_or_default();
    let mut probe = Command::new("node");
    probe
        .args(["-e", "require('mqtt')"])
        .env("NODE_PATH", &modules);
    let usable = probe.output().is_ok_and(|output| output.status.success());
    assert!(usable, "node cannot load MQTT.js: {how}");
    let broker = Broker::start();
    let mut command = Command::new("node");
    command
        .arg(scripts().join("mqttjs_client.js"))
        .env("NODE_PATH", modules);
    command.args([
        broker.addr.port().to_string(),
        version.to_string(),
        scenario.into(),
    ]);
    let lines = Tool::start(&mut command, how).finish();
    assert_eq!(lines.last().map(String::as_str), Some("ok"), "{lines:#?}");
}

#[test]
fn publish_and_subscribe_at_each_qos() {
    run(4, "publish_and_subscribe");
    run(5, "publish_and_subscribe");
}

#[test]
fn retained_messages() {
    run(4, "retained");
    run(5, "retained");
}

#[test]
fn wills() {
    run(4, "will");
    run(5, "will");
}

#[test]
fn persistent_sessions() {
    run(4, "persistent");
    run(5, "persistent");
}

#[test]
fn shared_subscriptions() {
    run(4, "shared");
    run(5, "shared");
}
