//! P6: session present is 1 exactly when the session exists and its subscriptions are stored and routable.

mod common;

use common::{Broker, Client, Connect, Publish, Version, prop};

const PERSISTENT: [Version; 3] = [Version::V31, Version::V311, Version::V5];

#[test]
fn a_new_client_has_none_and_a_known_one_has() {
    let broker = Broker::start();
    for version in PERSISTENT {
        let connect = Connect::v5(&format!("{version:?}"))
            .version(version)
            .persistent();
        let client = connect.open(&broker);
        assert!(!client.present, "{version:?}: nothing to resume yet");
        client.disconnect();
        let client = connect.open(&broker);
        // MQTT 3.1 has no such flag, and its reserved byte must be 0.
        assert_eq!(client.present, version != Version::V31, "{version:?}");
    }
}

#[test]
fn a_clean_start_never_has_one() {
    let broker = Broker::start();
    Connect::v5("c").persistent().open(&broker).disconnect();
    assert!(
        !Connect::v5("c")
            .prop_four(prop::SESSION_EXPIRY, 100)
            .open(&broker)
            .present,
        "[MQTT-3.2.2-2]"
    );
    assert!(
        Connect::v5("c").persistent().open(&broker).present,
        "the new one is kept"
    );
}

#[test]
fn present_means_routable_at_once() {
    let mut broker = Broker::start();
    let mut client = Connect::v5("c").persistent().open(&broker);
    let filters = [
        "a",
        "a/+",
        "+/b",
        "#",
        "$share/g/s/t",
        "deep/er/and/deeper/#",
    ];
    for filter in filters {
        client.subscribe(filter, 1);
    }
    client.disconnect();
    for round in 0..4 {
        if round % 2 == 1 {
            broker.kill9();
            broker.restart();
        }
        let mut client = Connect::v5("c").persistent().open(&broker);
        assert!(client.present);
        for topic in [
            "a",
            "a/x",
            "x/b",
            "anything/else",
            "deep/er/and/deeper/still",
            "s/t",
        ] {
            let text = format!("{topic} in round {round}");
            assert_eq!(client.publish(&Publish::new(topic, 1, &text)), 0);
            // `s/t` comes by `#` and by the share.
            for _ in 0..=usize::from(topic == "s/t") {
                assert_eq!(take_new(&mut client, round).text(), text);
            }
        }
        client.assert_no_publish();
        client.disconnect();
    }
}

/// The next message of this round. After a crash, those of the round before may come again: their PUBACK may
/// have died with the broker. (From a shared queue they come as new: DUP is for one and the same delivery.)
fn take_new(client: &mut Client, round: u32) -> Publish {
    loop {
        let got = client.take();
        if got.text().ends_with(&format!("round {round}")) {
            return got;
        }
        let after_crash = round % 2 == 1;
        assert!(
            after_crash && (got.dup || got.topic == "s/t"),
            "round {round}: {got:?}"
        );
    }
}

#[test]
fn a_session_crosses_versions() {
    let broker = Broker::start();
    let mut four = Connect::v311("c").persistent().open(&broker);
    four.subscribe("a", 1);
    four.disconnect();
    let mut five = Connect::v5("c").persistent().open(&broker);
    assert!(five.present);
    five.say("a", 1, "x");
    assert_eq!(five.take().text(), "x");
    five.disconnect();
    assert!(Connect::v311("c").persistent().open(&broker).present);
}

#[test]
fn thousands_of_sessions_are_present_after_a_crash() {
    const N: usize = 1000;
    let mut broker = Broker::start();
    for i in 0..N {
        let mut client = Connect::v5(&format!("s{i}")).persistent().open(&broker);
        client.subscribe(&format!("own/{i}"), 1);
    }
    broker.kill9();
    broker.restart();
    let mut publisher = Connect::v5("pub").open(&broker);
    for i in 0..N {
        let mut client = Connect::v5(&format!("s{i}")).persistent().open(&broker);
        assert!(client.present, "session {i}");
        assert_eq!(
            publisher.publish(&Publish::new(&format!("own/{i}"), 1, "x")),
            0
        );
        assert_eq!(client.take().topic, format!("own/{i}"));
    }
}
