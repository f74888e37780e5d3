//! Overlapping subscriptions: one copy, at the highest `QoS`, with all identifiers.

use crate::common::{Broker, Connect, Props, Publish, Value, prop};

fn id(n: u32) -> Props {
    Props::new().with(prop::SUBSCRIPTION_ID, Value::Var(n))
}

#[test]
fn one_copy_with_all_identifiers() {
    let broker = Broker::start();
    let mut client = Connect::v5("ids").open(&broker);
    assert_eq!(client.try_subscribe("a/b", 0, &id(1)), 0);
    assert_eq!(client.try_subscribe("a/+", 2, &id(268_435_455)), 2);
    assert_eq!(client.try_subscribe("a/#", 1, &id(200)), 1);
    assert_eq!(client.try_subscribe("other", 2, &id(4)), 2);
    for qos in 0..=2 {
        client.say("a/b", qos, "x");
        let got = client.take();
        assert_eq!(
            got.qos, qos,
            "the highest granted QoS counts [MQTT-3.3.4-2]"
        );
        assert_eq!(
            got.props.numbers(prop::SUBSCRIPTION_ID),
            [1, 200, 268_435_455]
        );
    }
    client.assert_no_publish();
}

#[test]
fn subscribing_again_replaces_the_identifier() {
    let broker = Broker::start();
    let mut client = Connect::v5("again").open(&broker);
    client.try_subscribe("a", 1, &id(1));
    client.try_subscribe("a", 1, &id(2));
    client.say("a", 1, "x");
    assert_eq!(client.take().props.numbers(prop::SUBSCRIPTION_ID), [2]);
    client.subscribe("a", 1);
    client.say("a", 1, "x");
    assert_eq!(
        client.take().props.numbers(prop::SUBSCRIPTION_ID),
        Vec::<u32>::new()
    );
}

#[test]
fn retained_messages_carry_the_identifier() {
    let broker = Broker::start();
    let mut client = Connect::v5("ret").open(&broker);
    client.publish(&Publish::new("r", 1, "x").retain());
    client.try_subscribe("r", 1, &id(9));
    assert_eq!(client.take().props.numbers(prop::SUBSCRIPTION_ID), [9]);
}

#[test]
fn identifiers_survive_the_queue_and_a_crash() {
    let mut broker = Broker::start();
    let mut client = Connect::v5("keep").persistent().open(&broker);
    client.try_subscribe("a/+", 1, &id(3));
    client.try_subscribe("a/#", 1, &id(5));
    client.disconnect();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.say("a/b", 1, "before");
    broker.kill9();
    broker.restart();
    Connect::v5("pub").open(&broker).say("a/c", 1, "after");
    let mut client = Connect::v5("keep").persistent().open(&broker);
    for text in ["before", "after"] {
        let got = client.take();
        assert_eq!(got.text(), text);
        assert_eq!(got.props.numbers(prop::SUBSCRIPTION_ID), [3, 5]);
    }
}

#[test]
fn v311_gets_one_copy_too() {
    let broker = Broker::start();
    let mut client = Connect::v311("four").open(&broker);
    client.subscribe("a/+", 0);
    client.subscribe("a/#", 2);
    client.say("a/b", 2, "once");
    assert_eq!(client.take().qos, 2, "[MQTT-3.3.5-1]");
    client.assert_no_publish();
}
