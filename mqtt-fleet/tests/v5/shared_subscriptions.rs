//! Shared subscriptions: each message to one member, balanced, and never lost with a member.

use std::collections::BTreeSet;

use crate::common::{Broker, Client, Connect, Props, Publish, Version, prop, wire};

fn member(broker: &Broker, id: &str, filter: &str, qos: u8) -> Client {
    let mut client = Connect::v5(id).open(broker);
    client.subscribe(filter, qos);
    client
}

/// Takes messages of all `members` until there are `total`; how many each had.
fn drain(members: &mut [Client], total: usize) -> (Vec<usize>, BTreeSet<String>) {
    let mut counts = vec![0; members.len()];
    let mut texts = BTreeSet::new();
    let deadline = std::time::Instant::now() + crate::common::PATIENCE;
    while counts.iter().sum::<usize>() < total {
        assert!(
            std::time::Instant::now() < deadline,
            "{counts:?} of {total}"
        );
        for (i, m) in members.iter_mut().enumerate() {
            m.ping();
            while let Some(p) = m.take_waiting() {
                assert!(texts.insert(p.text()), "{} was delivered twice", p.text());
                counts[i] += 1;
            }
        }
    }
    (counts, texts)
}

#[test]
fn each_message_goes_to_one_member_and_all_have_their_share() {
    for qos in 0..=2 {
        let broker = Broker::start();
        let mut members: Vec<Client> = (0..3)
            .map(|i| member(&broker, &format!("m{i}"), "$share/g/jobs/#", qos))
            .collect();
        let mut publisher = Connect::v5("pub").open(&broker);
        for i in 0..90 {
            publisher.say("jobs/a", qos, &i.to_string());
        }
        let (counts, texts) = drain(&mut members, 90);
        assert_eq!(texts.len(), 90);
        assert!(
            counts.iter().all(|c| *c >= 10),
            "QoS {qos}: unfair: {counts:?}"
        );
        for m in &mut members {
            m.assert_no_publish();
        }
    }
}

#[test]
fn groups_and_plain_subscribers_each_get_their_own_copy() {
    let broker = Broker::start();
    let mut g = member(&broker, "g", "$share/g/a", 1);
    let mut h = member(&broker, "h", "$share/h/a", 1);
    let mut plain = member(&broker, "plain", "a", 1);
    plain.say("a", 1, "x");
    for client in [&mut g, &mut h, &mut plain] {
        assert_eq!(client.take().text(), "x");
        client.assert_no_publish();
    }
}

#[test]
fn what_a_lost_member_had_not_acknowledged_goes_to_another() {
    let broker = Broker::start();
    let mut slow = member(&broker, "slow", "$share/g/a", 1);
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..5 {
        publisher.say("a", 1, &i.to_string());
    }
    for _ in 0..5 {
        slow.recv_publish();
    }
    let mut other = member(&broker, "other", "$share/g/a", 1);
    slow.vanish();
    let got: BTreeSet<String> = other.take_texts(5).into_iter().collect();
    assert_eq!(got, (0..5).map(|i| i.to_string()).collect());
}

#[test]
fn messages_wait_while_no_member_is_connected() {
    let mut broker = Broker::start();
    for id in ["a", "b"] {
        let mut client = Connect::v5(id).persistent().open(&broker);
        client.subscribe("$share/g/t", 1);
        client.disconnect();
    }
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..20 {
        assert_eq!(publisher.publish(&Publish::new("t", 1, i.to_string())), 0);
    }
    broker.kill9();
    broker.restart();
    let mut back = Connect::v5("a").persistent().open(&broker);
    assert!(back.present);
    let got = back.take_texts(20);
    assert_eq!(got, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
    back.assert_no_publish();
}

#[test]
fn retained_messages_are_not_sent_to_shared_subscriptions() {
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&Publish::new("r", 1, "kept").retain());
    let mut shared = member(&broker, "shared", "$share/g/r", 1);
    publisher.say("r", 1, "live");
    assert_eq!(shared.take().text(), "live", "[MQTT 5, 4.8.2]");
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let broker = Broker::start();
    let mut client = Connect::v5("nl").open(&broker);
    client.send(&wire::subscribe(
        Version::V5,
        1,
        &[("$share/g/a", 1 | 4)],
        &Props::new(),
    ));
    assert_eq!(client.expect_closed(), Some(0x82), "[MQTT-3.8.3-4]");
}

#[test]
fn unsubscribing_leaves_the_group() {
    let broker = Broker::start();
    let mut leaver = member(&broker, "leaver", "$share/g/a", 1);
    let mut stayer = member(&broker, "stayer", "$share/g/a", 1);
    assert_eq!(leaver.unsubscribe("$share/g/a"), 0);
    for i in 0..6 {
        stayer.say("a", 1, &i.to_string());
    }
    assert_eq!(stayer.take_texts(6).len(), 6);
    leaver.assert_no_publish();
}

#[test]
fn a_shared_subscription_carries_its_identifier() {
    let broker = Broker::start();
    let mut client = Connect::v5("id").open(&broker);
    let props = Props::new().with(prop::SUBSCRIPTION_ID, crate::common::Value::Var(7));
    assert_eq!(client.try_subscribe("$share/g/a", 1, &props), 1);
    client.say("a", 1, "x");
    assert_eq!(client.take().props.numbers(prop::SUBSCRIPTION_ID), [7]);
}
