//! How long a session lives after its connection.

use std::time::{Duration, Instant};

use crate::common::{Broker, Client, Connect, Options, Props, Publish, prop};

fn with_expiry(id: &str, seconds: u32) -> Connect {
    Connect::v5(id)
        .resume()
        .prop_four(prop::SESSION_EXPIRY, seconds)
}

/// A will whose delay is longer than any session here: it is published when the session ends,
/// which makes that end an event to wait for [MQTT-3.1.3.2.2].
fn last_words() -> Publish {
    Publish::new("ended", 1, "x").props(Props::new().four(prop::WILL_DELAY, 1000))
}

fn watcher(broker: &Broker) -> Client {
    let mut watcher = Connect::v5("watcher").open(broker);
    watcher.subscribe("ended", 1);
    watcher
}

#[test]
fn without_expiry_the_session_ends_with_the_connection() {
    let broker = Broker::start();
    let mut client = Connect::v5("short").open(&broker);
    client.subscribe("a", 1);
    client.disconnect();
    assert!(!with_expiry("short", 0).open(&broker).present);
}

#[test]
fn within_its_expiry_it_is_resumed_and_after_it_is_gone() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let mut client = with_expiry("four", 4).will(last_words()).open(&broker);
    assert!(!client.present);
    client.subscribe("a", 1);
    client.vanish();
    let client = with_expiry("four", 4).will(last_words()).open(&broker);
    assert!(client.present, "resumed at once");
    let since = Instant::now();
    client.vanish();
    assert_eq!(watcher.take().topic, "ended");
    let after = since.elapsed();
    assert!(
        after >= Duration::from_millis(3900),
        "ended after {after:?} instead of 4 s"
    );
    assert!(
        after <= Duration::from_secs(8),
        "ended after {after:?} instead of 4 s"
    );
    assert!(
        !with_expiry("four", 4).open(&broker).present,
        "the session has ended"
    );
}

#[test]
fn disconnect_may_change_the_expiry() {
    let broker = Broker::start();
    let client = with_expiry("shorter", 1000).open(&broker);
    client.disconnect_with(0, &Props::new().four(prop::SESSION_EXPIRY, 0));
    assert!(!with_expiry("shorter", 1000).open(&broker).present);

    let mut watcher = watcher(&broker);
    let client = with_expiry("longer", 1).will(last_words()).open(&broker);
    // 0x04: disconnect with will; the will then waits for the end of the session.
    client.disconnect_with(0x04, &Props::new().four(prop::SESSION_EXPIRY, 1000));
    let probe = with_expiry("probe", 2).will(last_words()).open(&broker);
    probe.vanish();
    assert_eq!(watcher.take().topic, "ended");
    assert!(
        with_expiry("longer", 1).open(&broker).present,
        "it has outlived its first expiry"
    );
}

#[test]
fn an_expiry_of_zero_cannot_be_raised_at_disconnect() {
    let broker = Broker::start();
    let mut client = Connect::v5("raise").open(&broker);
    let bytes = crate::common::wire::disconnect(
        client.version,
        0,
        &Props::new().four(prop::SESSION_EXPIRY, 100),
    );
    client.send(&bytes);
    assert_eq!(client.expect_closed(), Some(0x82), "[MQTT-3.14.2.2.2]");
    assert!(!with_expiry("raise", 0).open(&broker).present);
}

#[test]
fn clean_start_ends_the_old_session() {
    let broker = Broker::start();
    let mut client = Connect::v5("clean").persistent().open(&broker);
    client.subscribe("a", 1);
    client.disconnect();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.say("a", 1, "queued for the old session");
    let client = Connect::v5("clean")
        .prop_four(prop::SESSION_EXPIRY, 100)
        .open(&broker);
    assert!(!client.present);
    assert_eq!(
        publisher.publish(&Publish::new("a", 1, "x")),
        0x10,
        "its subscription is gone"
    );
    client.disconnect();
    let mut client = Connect::v5("clean").persistent().open(&broker);
    assert!(client.present);
    client.assert_no_publish();
}

#[test]
fn the_servers_longest_expiry_is_told() {
    let broker = Broker::start_with(Options::config("[limits]\nsession_expiry_max_s = 60\n"));
    let client = with_expiry("forever", u32::MAX).open(&broker);
    assert_eq!(client.connack.number(prop::SESSION_EXPIRY), Some(60));
    let modest = with_expiry("modest", 30).open(&broker);
    assert_eq!(modest.connack.number(prop::SESSION_EXPIRY), None);
}

#[test]
fn sessions_of_v311_survive_a_crash_and_clean_ones_do_not() {
    let mut broker = Broker::start();
    let mut kept = Connect::v311("kept").persistent().open(&broker);
    kept.subscribe("a", 1);
    let mut clean = Connect::v311("clean").open(&broker);
    clean.subscribe("a", 1);
    broker.kill9();
    broker.restart();
    assert!(Connect::v311("kept").persistent().open(&broker).present);
    assert!(!Connect::v311("clean").persistent().open(&broker).present);
}

#[test]
fn expiry_goes_on_while_the_broker_is_down() {
    let mut broker = Broker::start();
    let mut watcher = watcher(&broker);
    with_expiry("long", 1000).open(&broker).vanish();
    // Its will comes once the loss of the connection is stored. Before that a killed broker may take the session
    // for one whose connection ended with the broker, and counts from its next start.
    let will = Publish::new("ended", 1, "short");
    with_expiry("short", 1).will(will).open(&broker).vanish();
    assert_eq!(watcher.take().text(), "short");
    broker.kill9();
    // The broker is down for longer than the short session lives: the dead socket says nothing for that long.
    let since = Instant::now();
    watcher.expect_closed();
    let (_silent, quiet) = std::sync::mpsc::sync_channel::<()>(0);
    let _ = quiet.recv_timeout(Duration::from_millis(2200).saturating_sub(since.elapsed()));
    broker.restart();
    assert!(with_expiry("long", 1000).open(&broker).present);
    assert!(
        !with_expiry("short", 1).open(&broker).present,
        "a session of one second is alive after 2.2 s without the broker"
    );
}
