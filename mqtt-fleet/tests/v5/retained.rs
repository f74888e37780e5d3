//! Retained messages.

use std::collections::BTreeSet;

use crate::common::{Broker, Connect, Publish};

#[test]
fn the_last_one_is_kept_and_an_empty_one_removes_it() {
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    for qos in 0..=2 {
        publisher.publish(&Publish::new("r/a", qos, "old").retain());
        publisher.publish(&Publish::new("r/a", qos, "new").retain());
        let mut fresh = Connect::v5("fresh").open(&broker);
        fresh.subscribe("r/+", 2);
        let kept = fresh.take();
        assert_eq!(
            (kept.text().as_str(), kept.retain, kept.qos),
            ("new", true, qos)
        );
        publisher.publish(&Publish::new("r/a", qos, "").retain());
        let gone = fresh.take();
        assert_eq!(
            (gone.payload.len(), gone.retain),
            (0, false),
            "live subscribers see the empty message"
        );
        let mut later = Connect::v5("later").open(&broker);
        later.subscribe("r/+", 2);
        later.assert_no_publish();
    }
}

#[test]
fn the_subscription_limits_the_qos_of_what_is_retained() {
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&Publish::new("r", 2, "x").retain());
    for qos in 0..=2 {
        let mut fresh = Connect::v311("fresh").open(&broker);
        fresh.subscribe("r", qos);
        assert_eq!(fresh.take().qos, qos);
    }
}

#[test]
fn many_retained_messages_all_arrive_once() {
    const N: usize = 1500;
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..N {
        let p = Publish::new(&format!("many/{}/{i}", i % 7), (i % 2) as u8, i.to_string()).retain();
        publisher.publish(&p);
    }
    for qos in 0..=1 {
        let mut fresh = Connect::v5(&format!("fresh{qos}")).open(&broker);
        fresh.subscribe("many/#", qos);
        let got: BTreeSet<usize> = (0..N)
            .map(|_| fresh.take().text().parse().expect("a number"))
            .collect();
        assert_eq!(got.len(), N, "each exactly once at QoS {qos}");
        fresh.assert_no_publish();
    }
}

#[test]
fn retained_messages_survive_a_crash() {
    let mut broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..50 {
        assert!(
            publisher.publish(&Publish::new(&format!("r/{i}"), 1, i.to_string()).retain()) < 0x80
        );
    }
    publisher.publish(&Publish::new("r/7", 1, "").retain());
    broker.kill9();
    broker.restart();
    let mut fresh = Connect::v5("fresh").open(&broker);
    fresh.subscribe("r/#", 1);
    let got: BTreeSet<String> = fresh.take_texts(49).into_iter().collect();
    let expected: BTreeSet<String> = (0..50).filter(|i| *i != 7).map(|i| i.to_string()).collect();
    assert_eq!(got, expected);
    fresh.assert_no_publish();
}

#[test]
fn dollar_topics_are_hidden_from_wildcards() {
    let broker = Broker::start();
    let mut client = Connect::v5("dollar").open(&broker);
    client.subscribe("#", 1);
    client.subscribe("+/x", 1);
    client.say("$priv/x", 1, "hidden");
    client.say("open/x", 1, "seen");
    assert_eq!(client.take().text(), "seen", "[MQTT-4.7.2-1]");
}
