//! No local, retain as published, retain handling.

use crate::common::{Broker, Connect, Publish};

const NO_LOCAL: u8 = 4;
const RETAIN_AS_PUBLISHED: u8 = 8;
const RETAIN_IF_NEW: u8 = 0x10;
const RETAIN_NEVER: u8 = 0x20;

#[test]
fn no_local_keeps_a_clients_own_messages_away() {
    let broker = Broker::start();
    let mut client = Connect::v5("bridge").open(&broker);
    let mut other = Connect::v5("other").open(&broker);
    client.subscribe("a", 1 | NO_LOCAL);
    for qos in 0..=2 {
        client.say("a", qos, "own");
    }
    other.say("a", 1, "foreign");
    assert_eq!(client.take().text(), "foreign", "[MQTT-3.8.3-3]");
    client.assert_no_publish();
}

#[test]
fn no_local_counts_per_subscription() {
    let broker = Broker::start();
    let mut client = Connect::v5("both").open(&broker);
    client.subscribe("a/#", 1 | NO_LOCAL);
    client.subscribe("a/b", 1);
    client.say("a/b", 1, "own");
    assert_eq!(client.take().text(), "own", "the other filter wants it");
    client.say("a/c", 1, "unwanted");
    client.say("a/b", 1, "end");
    assert_eq!(client.take().text(), "end");
}

#[test]
fn no_local_holds_for_a_resumed_session() {
    let broker = Broker::start();
    let mut client = Connect::v5("resumed").persistent().open(&broker);
    client.subscribe("a", 1 | NO_LOCAL);
    client.disconnect();
    let mut client = Connect::v5("resumed").persistent().open(&broker);
    client.say("a", 1, "own");
    Connect::v5("other").open(&broker).say("a", 1, "foreign");
    assert_eq!(client.take().text(), "foreign");
}

#[test]
fn retain_as_published_keeps_the_flag() {
    let broker = Broker::start();
    let mut keeps = Connect::v5("keeps").open(&broker);
    let mut clears = Connect::v5("clears").open(&broker);
    keeps.subscribe("a", 1 | RETAIN_AS_PUBLISHED);
    clears.subscribe("a", 1);
    keeps.publish(&Publish::new("a", 1, "flagged").retain());
    keeps.say("a", 1, "plain");
    assert!(keeps.take().retain);
    assert!(!keeps.take().retain);
    assert!(!clears.take().retain, "[MQTT-3.3.1-12]");
    assert!(!clears.take().retain);
}

#[test]
fn retain_handling_decides_what_subscribing_sends() {
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&Publish::new("r", 1, "kept").retain());

    let mut always = Connect::v5("always").open(&broker);
    for _ in 0..2 {
        always.subscribe("r", 1);
        let got = always.take();
        assert_eq!((got.text().as_str(), got.retain), ("kept", true));
    }

    let mut new_only = Connect::v5("new").open(&broker);
    new_only.subscribe("r", 1 | RETAIN_IF_NEW);
    assert_eq!(new_only.take().text(), "kept");
    new_only.subscribe("r", 1 | RETAIN_IF_NEW);

    let mut never = Connect::v5("never").open(&broker);
    never.subscribe("r", 1 | RETAIN_NEVER);

    publisher.say("r", 1, "live");
    assert_eq!(
        new_only.take().text(),
        "live",
        "nothing retained came before it"
    );
    assert_eq!(never.take().text(), "live");
}

#[test]
fn retain_if_new_knows_a_resumed_subscription() {
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&Publish::new("r", 1, "kept").retain());
    let mut client = Connect::v5("resumed").persistent().open(&broker);
    client.subscribe("r", 1 | RETAIN_IF_NEW);
    assert_eq!(client.take().text(), "kept");
    client.disconnect();
    let mut client = Connect::v5("resumed").persistent().open(&broker);
    client.subscribe("r", 1 | RETAIN_IF_NEW);
    publisher.say("r", 1, "live");
    assert_eq!(client.take().text(), "live");
}
