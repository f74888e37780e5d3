//! P1: an acknowledgement means stored. The broker is killed the moment an acknowledgement arrives,
//! and what it vouched for must be there after the restart.

mod common;

use common::{Broker, Client, Connect, Dice, Publish, Version, prop, wire};

/// A session that is away, subscribed to `#`.
fn absent(broker: &Broker, qos: u8) {
    let mut client = Connect::v5("absent").persistent().open(broker);
    client.subscribe("#", qos);
    client.disconnect();
}

fn back(broker: &Broker) -> Client {
    let client = Connect::v5("absent").persistent().open(broker);
    assert!(client.present, "session present");
    client
}

fn burst(client: &mut Client, qos: u8, from: u16, to: u16) {
    let mut bytes = Vec::new();
    for id in from..=to {
        bytes.extend(wire::publish(
            client.version,
            &Publish::new("t", qos, id.to_string()).id(id),
        ));
    }
    client.send(&bytes);
}

#[test]
fn puback_and_pubrec_mean_that_the_message_is_stored() {
    let mut dice = Dice::new();
    for round in 0..12 {
        let qos = 1 + round % 2;
        let mut broker = Broker::start();
        absent(&broker, 2);
        let mut publisher = Connect::v5("pub").persistent().open(&broker);
        let sent = publisher.send_window().min(200);
        burst(&mut publisher, qos, 1, sent);
        let acked = 1 + dice.below(u64::from(sent) * 3 / 4) as u16;
        for id in 1..=acked {
            let code = if qos == 1 {
                publisher.await_puback(id)
            } else {
                publisher.await_pubrec(id)
            };
            assert_eq!(code, 0);
        }
        broker.kill9();
        broker.restart();
        let mut sub = back(&broker);
        for id in 1..=acked {
            assert_eq!(
                sub.take().text(),
                id.to_string(),
                "QoS {qos}, {acked} acknowledged"
            );
        }
    }
}

#[test]
fn suback_means_that_the_subscription_is_stored() {
    for version in [Version::V311, Version::V5] {
        let mut broker = Broker::start();
        for round in 0..4 {
            let connect = Connect::v5(&format!("s{round}"))
                .version(version)
                .persistent();
            let mut client = connect.open(&broker);
            client.subscribe("a/+", 1);
            broker.kill9();
            broker.restart();
            let mut client = connect.open(&broker);
            assert!(client.present);
            let mut publisher = Connect::v5("pub").open(&broker);
            assert_eq!(
                publisher.publish(&Publish::new("a/b", 1, "x")),
                0,
                "somebody is subscribed"
            );
            assert_eq!(client.take().text(), "x");
        }
    }
}

#[test]
fn unsuback_means_that_the_subscription_is_gone_for_good() {
    let mut broker = Broker::start();
    let mut client = Connect::v5("u").persistent().open(&broker);
    client.subscribe("a", 1);
    client.subscribe("b", 1);
    assert_eq!(client.unsubscribe("a"), 0);
    broker.kill9();
    broker.restart();
    let mut client = Connect::v5("u").persistent().open(&broker);
    assert!(client.present);
    assert_eq!(
        client.publish(&Publish::new("a", 1, "x")),
        0x10,
        "nobody is subscribed"
    );
    assert_eq!(client.publish(&Publish::new("b", 1, "y")), 0);
    assert_eq!(client.take().text(), "y");
}

#[test]
fn pubcomp_means_that_the_identifier_is_free() {
    let mut broker = Broker::start();
    absent(&broker, 2);
    let mut publisher = Connect::v5("pub").persistent().open(&broker);
    assert_eq!(publisher.publish(&Publish::new("t", 2, "first").id(7)), 0);
    broker.kill9();
    broker.restart();
    let mut publisher = Connect::v5("pub").persistent().open(&broker);
    assert!(publisher.present);
    assert_eq!(publisher.publish(&Publish::new("t", 2, "second").id(7)), 0);
    assert_eq!(back(&broker).take_texts(2), ["first", "second"]);
}

#[test]
fn connack_means_that_the_session_exists() {
    let mut broker = Broker::start();
    let connect = Connect::v5("c").persistent();
    let client = connect.open(&broker);
    assert!(!client.present);
    broker.kill9();
    broker.restart();
    assert!(connect.open(&broker).present);
}

#[test]
fn connack_of_a_clean_start_means_that_the_old_session_is_gone() {
    let mut broker = Broker::start();
    absent(&broker, 1);
    Connect::v5("pub")
        .open(&broker)
        .say("t", 1, "for the old session");
    let clean = Connect::v5("absent")
        .prop_four(prop::SESSION_EXPIRY, 3600)
        .open(&broker);
    assert!(!clean.present);
    broker.kill9();
    broker.restart();
    let mut client = back(&broker);
    assert_eq!(
        client.publish(&Publish::new("t", 1, "x")),
        0x10,
        "the old subscription is gone"
    );
    client.assert_no_publish();
}

#[test]
fn an_acknowledged_retained_message_is_kept() {
    let mut broker = Broker::start();
    for round in 0..4 {
        let mut publisher = Connect::v5("pub").open(&broker);
        let qos = 1 + round % 2;
        let kept = Publish::new("r", qos, round.to_string()).retain();
        assert!(publisher.publish(&kept) < 0x80);
        broker.kill9();
        broker.restart();
        let mut fresh = Connect::v5("fresh").open(&broker);
        fresh.subscribe("r", 2);
        assert_eq!(fresh.take().text(), round.to_string());
    }
}

#[test]
fn a_subscribers_acknowledgement_is_kept_too() {
    let mut broker = Broker::start();
    absent(&broker, 2);
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..6 {
        publisher.say("t", 1 + i % 2, &i.to_string());
    }
    let mut sub = back(&broker);
    assert_eq!(sub.take_texts(4), ["0", "1", "2", "3"]);
    // It stands behind the acknowledgements in the log.
    sub.subscribe("elsewhere", 1);
    sub.disconnect();
    let probe = Connect::v5("absent").persistent().open(&broker);
    assert!(probe.present);
    broker.kill9();
    broker.restart();
    let mut sub = back(&broker);
    assert_eq!(
        sub.take_texts(2),
        ["4", "5"],
        "what was acknowledged does not come again"
    );
    sub.assert_no_publish();
}
