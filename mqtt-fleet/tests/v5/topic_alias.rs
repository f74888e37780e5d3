//! Topic aliases, in both directions.

use std::collections::HashMap;

use crate::common::{Broker, Client, Connect, Options, Props, Publish, Version, prop, wire};

fn aliased(topic: &str, alias: u16, text: &str) -> Vec<u8> {
    let props = Props::new().two(prop::TOPIC_ALIAS, alias);
    wire::publish(Version::V5, &Publish::new(topic, 0, text).props(props))
}

#[test]
fn a_publisher_may_name_a_topic_once() {
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    let most = publisher
        .connack
        .number(prop::TOPIC_ALIAS_MAXIMUM)
        .expect("aliases are offered");
    assert!(most >= 2);
    let mut sub = Connect::v5("sub").open(&broker);
    sub.subscribe("long/#", 0);
    publisher.send(&aliased("long/one", 1, "1"));
    publisher.send(&aliased("long/two", 2, "2"));
    publisher.send(&aliased("", 1, "3"));
    publisher.send(&aliased("", 2, "4"));
    publisher.send(&aliased("long/three", 1, "5"));
    publisher.send(&aliased("", 1, "6"));
    let got: Vec<(String, String)> = (0..6)
        .map(|_| {
            let p = sub.take();
            assert_eq!(
                p.props.get(prop::TOPIC_ALIAS),
                None,
                "the publisher's alias is its own"
            );
            (p.topic.clone(), p.text())
        })
        .collect();
    let expected = [
        ("long/one", "1"),
        ("long/two", "2"),
        ("long/one", "3"),
        ("long/two", "4"),
        ("long/three", "5"),
        ("long/three", "6"),
    ];
    assert_eq!(got, expected.map(|(t, p)| (t.to_owned(), p.to_owned())));
}

#[test]
fn an_unknown_alias_is_a_protocol_error_and_one_too_high_is_invalid() {
    let broker = Broker::start_with(Options::config("[limits]\ntopic_alias_maximum = 8\n"));
    let mut client = Connect::v5("unknown").open(&broker);
    assert_eq!(client.connack.number(prop::TOPIC_ALIAS_MAXIMUM), Some(8));
    client.send(&aliased("", 3, "x"));
    assert_eq!(client.expect_closed(), Some(0x82), "no topic known for it");
    let mut client = Connect::v5("high").open(&broker);
    client.send(&aliased("a", 9, "x"));
    assert_eq!(client.expect_closed(), Some(0x94), "[MQTT-3.3.2-9]");
}

#[test]
fn aliases_end_with_the_connection() {
    let broker = Broker::start();
    let mut client = Connect::v5("again").persistent().open(&broker);
    client.send(&aliased("a", 1, "x"));
    client.ping();
    client.vanish();
    let mut client = Connect::v5("again").persistent().open(&broker);
    client.send(&aliased("", 1, "x"));
    assert_eq!(client.expect_closed(), Some(0x82));
}

/// Resolves the topic of each delivery as a client must.
fn resolve(
    client: &mut Client,
    table: &mut HashMap<u32, String>,
    most: u32,
) -> (String, String, bool) {
    let p = client.take();
    let alias = p.props.number(prop::TOPIC_ALIAS);
    if let Some(alias) = alias {
        assert!(
            (1..=most).contains(&alias),
            "alias {alias} of at most {most}"
        );
        if !p.topic.is_empty() {
            table.insert(alias, p.topic.clone());
        }
        let topic = table
            .get(&alias)
            .expect("an alias with a known topic")
            .clone();
        return (topic, p.text(), p.topic.is_empty());
    }
    assert!(!p.topic.is_empty(), "neither topic nor alias");
    (p.topic.clone(), p.text(), false)
}

#[test]
fn a_subscriber_that_allows_aliases_gets_short_packets() {
    let broker = Broker::start();
    let connect = Connect::v5("sub")
        .persistent()
        .prop_two(prop::TOPIC_ALIAS_MAXIMUM, 2);
    let mut sub = connect.open(&broker);
    sub.subscribe("t/#", 1);
    let mut publisher = Connect::v5("pub").open(&broker);
    let mut table = HashMap::new();
    let mut short = 0;
    for round in 0..10 {
        for topic in ["t/a", "t/b", "t/c", "t/d"] {
            publisher.say(topic, 1, &format!("{topic} {round}"));
            let (resolved, text, was_short) = resolve(&mut sub, &mut table, 2);
            assert_eq!(text, format!("{resolved} {round}"));
            short += u32::from(was_short);
        }
    }
    assert!(short > 0, "no alias was ever used");
    // A new connection starts with an empty table on both sides.
    sub.vanish();
    let mut sub = connect.open(&broker);
    publisher.say("t/a", 1, "t/a again");
    let (resolved, text, _) = resolve(&mut sub, &mut HashMap::new(), 2);
    assert_eq!((resolved.as_str(), text.as_str()), ("t/a", "t/a again"));
}

#[test]
fn without_permission_no_alias_is_sent() {
    let broker = Broker::start();
    let mut client = Connect::v5("plain").open(&broker);
    client.subscribe("t", 1);
    for i in 0..5 {
        client.say("t", 1, &i.to_string());
        let p = client.take();
        assert_eq!(
            (p.topic.as_str(), p.props.get(prop::TOPIC_ALIAS)),
            ("t", None),
            "[MQTT-3.1.2-26]"
        );
    }
}
