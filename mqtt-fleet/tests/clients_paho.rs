//! paho-mqtt (Python), the most used client of all, works with this broker in MQTT 3.1.1 and 5.
//!
//! `MQTT_FLEET_PYTHON` names a Python that has paho-mqtt; `cargo xtask test` installs one and sets it.

mod common;

use std::process::Command;

use common::Broker;
use common::tools::{Tool, scripts};

fn run(version: u8, scenario: &str) {
    let python = std::env::var_os("MQTT_FLEET_PYTHON").unwrap_or_else(|| "python3".into());
    let how = "`cargo xtask test` installs Python with paho-mqtt under target/ and sets MQTT_FLEET_PYTHON";
    let found = Command::new(&python)
        .args(["-c", "import paho.mqtt.properties"])
        .output();
    let usable = found.is_ok_and(|output| output.status.success());
    assert!(usable, "{} has no paho-mqtt: {how}", python.display());
    let broker = Broker::start();
    let mut command = Command::new(python);
    command.arg(scripts().join("paho_client.py"));
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

#[test]
fn message_properties() {
    run(5, "properties");
}
