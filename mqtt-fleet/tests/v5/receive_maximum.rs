//! Receive maximum, in both directions.

use std::time::Duration;

use crate::common::{Broker, Connect, Got, Options, Packet, Publish, Version, prop, wire};

#[test]
fn a_client_never_has_more_unacknowledged_than_it_allows() {
    let broker = Broker::start();
    let mut sub = Connect::v5("sub")
        .prop_two(prop::RECEIVE_MAXIMUM, 3)
        .open(&broker);
    sub.subscribe("a", 2);
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..10 {
        publisher.say("a", 1 + i % 2, &i.to_string());
    }
    let mut open: Vec<Publish> = (0..3).map(|_| sub.recv_publish()).collect();
    assert_eq!(
        sub.next(Duration::from_millis(300)),
        Got::Silence,
        "three are out"
    );
    // QoS 0 is not counted.
    publisher.say("a", 0, "free");
    assert_eq!(sub.recv_publish().text(), "free");
    for expected in 3..10 {
        let first = open.remove(0);
        if first.qos == 1 {
            sub.send(&wire::ack(wire::PUBACK, first.id));
        } else {
            sub.send(&wire::ack(wire::PUBREC, first.id));
            assert_eq!(
                sub.recv(),
                Packet::PubRel {
                    id: first.id,
                    code: 0
                },
                "PUBREC alone frees nothing"
            );
            sub.send(&wire::ack(wire::PUBCOMP, first.id));
        }
        let next = sub.recv_publish();
        assert_eq!(next.text(), expected.to_string());
        assert!(open.iter().all(|p| p.id != next.id), "an id in use");
        open.push(next);
    }
}

#[test]
fn the_client_may_change_it_with_each_connection() {
    let broker = Broker::start();
    let connect = |n| {
        Connect::v5("sub")
            .persistent()
            .prop_two(prop::RECEIVE_MAXIMUM, n)
    };
    let mut sub = connect(5).open(&broker);
    sub.subscribe("a", 1);
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..8 {
        publisher.say("a", 1, &i.to_string());
    }
    let before: Vec<u16> = (0..5).map(|_| sub.recv_publish().id).collect();
    sub.vanish();
    let mut sub = connect(2).open(&broker);
    assert!(sub.present);
    for i in 0..8 {
        let p = sub.recv_publish();
        assert_eq!(p.text(), i.to_string());
        // What was held back may be marked too: DUP says that it might have been sent before.
        assert!(p.dup || i >= 5, "{i} was sent before");
        if let Some(id) = before.get(i) {
            assert_eq!(p.id, *id, "sent again under its own id");
        }
        if i == 0 {
            assert_eq!(sub.recv_publish().text(), "1");
            assert_eq!(
                sub.next(Duration::from_millis(300)),
                Got::Silence,
                "two are out"
            );
            sub.vanish();
            sub = connect(2).open(&broker);
            assert_eq!(sub.recv_publish().text(), "0");
        }
        sub.send(&wire::ack(wire::PUBACK, p.id));
    }
}

#[test]
fn the_servers_limit_is_told_and_kept() {
    let broker = Broker::start_with(Options::config("[limits]\nreceive_maximum = 5\n"));
    let mut client = Connect::v5("eager").open(&broker);
    assert_eq!(client.connack.number(prop::RECEIVE_MAXIMUM), Some(5));
    for id in 1..=5 {
        client.send(&wire::publish(
            Version::V5,
            &Publish::new("a", 2, "x").id(id),
        ));
        client.await_pubrec(id);
    }
    client.send(&wire::publish(
        Version::V5,
        &Publish::new("a", 2, "x").id(6),
    ));
    assert_eq!(
        client.expect_closed(),
        Some(0x93),
        "receive maximum exceeded"
    );
}

#[test]
fn a_client_within_the_servers_limit_lives_on() {
    let broker = Broker::start_with(Options::config("[limits]\nreceive_maximum = 5\n"));
    let mut client = Connect::v5("steady").open(&broker);
    for round in 0..4 {
        for id in 1..=5 {
            client.send(&wire::publish(
                Version::V5,
                &Publish::new("a", 1 + round % 2, "x").id(id),
            ));
        }
        for id in 1..=5 {
            if round % 2 == 0 {
                client.await_puback(id);
            } else {
                client.await_pubrec(id);
                client.release(id);
            }
        }
    }
    client.ping();
}
