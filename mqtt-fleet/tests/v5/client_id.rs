//! Client identifiers: given, assigned, and refused.

use std::io::Read;

use crate::common::{Broker, Client, Connect, PATIENCE, Value, Version, prop};

#[test]
fn an_empty_id_is_replaced_and_connack_says_by_what() {
    let broker = Broker::start();
    let mut first = Connect::v5("").open(&broker);
    let second = Connect::v5("").open(&broker);
    let name = |c: &Client| match c.connack.get(prop::ASSIGNED_CLIENT_ID) {
        Some(Value::Text(id)) if !id.is_empty() => id.clone(),
        other => panic!("assigned client id is {other:?}"),
    };
    assert_ne!(name(&first), name(&second));
    first.ping();
}

#[test]
fn an_assigned_id_can_be_used_to_resume_the_session() {
    let broker = Broker::start();
    let first = Connect::v5("")
        .prop_four(prop::SESSION_EXPIRY, 100)
        .open(&broker);
    let Some(Value::Text(id)) = first.connack.get(prop::ASSIGNED_CLIENT_ID).cloned() else {
        panic!("no id assigned: {:?}", first.connack)
    };
    first.vanish();
    assert!(Connect::v5(&id).persistent().open(&broker).present);
}

#[test]
fn a_given_id_is_not_repeated_in_connack() {
    let broker = Broker::start();
    let client = Connect::v5("given").open(&broker);
    assert_eq!(client.connack.get(prop::ASSIGNED_CLIENT_ID), None);
}

#[test]
fn v311_with_an_empty_id_needs_a_clean_session() {
    let broker = Broker::start();
    Connect::v311("").open(&broker).ping();
    let (mut client, code) = Connect::v311("").persistent().try_open(broker.addr);
    assert_eq!(code, 2, "identifier rejected [MQTT-3.1.3-8]");
    assert!(!client.present);
    client.expect_closed();
}

#[test]
fn v31_is_spoken_too() {
    let broker = Broker::start();
    let mut old = Connect::v5("old").version(Version::V31).open(&broker);
    old.subscribe("v31/#", 1);
    old.say("v31/a", 1, "still here");
    assert_eq!(old.take().text(), "still here");
}

#[test]
fn an_unknown_protocol_version_is_refused_by_name() {
    let broker = Broker::start();
    let mut v6 = Client::raw(broker.addr, Version::V5);
    let mut bytes = Connect::v5("six").encode();
    bytes[8] = 6;
    v6.send(&bytes);
    let mut answer = Vec::new();
    v6.stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    v6.stream
        .read_to_end(&mut answer)
        .expect("an answer, then the end of the connection");
    // CONNACK of MQTT 5 with 0x84 (whatever properties follow), or of 3.1.1 with code 1.
    let refused = matches!(answer[..], [0x20, _, 0, 0x84, ..] | [0x20, 2, 0, 1]);
    assert!(refused, "version 6 was answered with {answer:02x?}");
}
