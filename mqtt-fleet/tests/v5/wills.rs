//! Wills: when they are published, and when not.

use std::time::{Duration, Instant};

use crate::common::{Broker, Client, Connect, Got, Props, Publish, prop};

fn watcher(broker: &Broker) -> Client {
    let mut watcher = Connect::v5("watcher").open(broker);
    watcher.subscribe("will/#", 2);
    watcher
}

fn will(name: &str) -> Publish {
    Publish::new(&format!("will/{name}"), 1, name)
}

fn delayed(name: &str, seconds: u32) -> Publish {
    will(name).props(Props::new().four(prop::WILL_DELAY, seconds))
}

#[test]
fn a_broken_connection_publishes_the_will_as_it_was_given() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for qos in 0..=2 {
        let props = Props::new().text(prop::CONTENT_TYPE, "x/y").user("k", "v");
        let will = Publish::new("will/full", qos, "last words").props(props.clone());
        Connect::v5("full").will(will).open(&broker).vanish();
        let got = watcher.take();
        assert_eq!(
            (got.text().as_str(), got.qos, got.retain),
            ("last words", qos, false)
        );
        assert_eq!(got.props, props);
        Connect::v311("four")
            .will(Publish::new("will/four", qos, "old"))
            .open(&broker)
            .vanish();
        assert_eq!(watcher.take().text(), "old");
    }
}

#[test]
fn a_clean_disconnect_publishes_none_and_reason_4_does() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    Connect::v5("clean")
        .will(will("clean"))
        .open(&broker)
        .disconnect();
    Connect::v311("clean3")
        .will(will("clean3"))
        .open(&broker)
        .disconnect();
    Connect::v5("asked")
        .will(will("asked"))
        .open(&broker)
        .disconnect_with(0x04, &Props::new());
    assert_eq!(watcher.take().text(), "asked");
    watcher.assert_no_publish();
}

#[test]
fn a_protocol_error_publishes_the_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let mut bad = Connect::v5("bad").will(will("bad")).open(&broker);
    bad.send(&[0xf7, 0x00]);
    assert!(bad.expect_closed().is_some());
    assert_eq!(watcher.take().text(), "bad");
}

#[test]
fn a_retained_will_is_kept() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    Connect::v5("kept")
        .will(will("kept").retain())
        .open(&broker)
        .vanish();
    assert_eq!(watcher.take().text(), "kept");
    let mut later = Connect::v5("later").open(&broker);
    later.subscribe("will/kept", 1);
    let kept = later.take();
    assert!(kept.retain);
    assert_eq!(kept.text(), "kept");
}

#[test]
fn a_delayed_will_waits_and_is_withdrawn_by_a_resume() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let back = Connect::v5("back").persistent().will(delayed("back", 3));
    back.open(&broker).vanish();
    let back = Connect::v5("back").persistent().open(&broker);
    assert!(back.present);

    let since = Instant::now();
    Connect::v5("gone")
        .persistent()
        .will(delayed("gone", 4))
        .open(&broker)
        .vanish();
    assert_eq!(
        watcher.take().text(),
        "gone",
        "the other one was withdrawn [MQTT-3.1.3-9]"
    );
    let after = since.elapsed();
    assert!(
        after >= Duration::from_millis(3900),
        "published after {after:?} instead of 4 s"
    );
    assert!(
        after <= Duration::from_secs(8),
        "published after {after:?} instead of 4 s"
    );
    watcher.assert_no_publish();
}

#[test]
fn the_end_of_the_session_publishes_a_waiting_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let since = Instant::now();
    Connect::v5("s")
        .resume()
        .prop_four(prop::SESSION_EXPIRY, 1)
        .will(delayed("ended", 1000))
        .open(&broker)
        .vanish();
    assert_eq!(watcher.take().text(), "ended");
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "after {:?}",
        since.elapsed()
    );

    Connect::v5("c")
        .persistent()
        .will(delayed("cleaned", 1000))
        .open(&broker)
        .vanish();
    let fresh = Connect::v5("c").open(&broker);
    assert!(!fresh.present);
    assert_eq!(
        watcher.take().text(),
        "cleaned",
        "a clean start ends the session too"
    );
}

#[test]
fn a_waiting_will_survives_a_crash() {
    let mut broker = Broker::start();
    let mut lasting = Connect::v5("watcher").persistent().open(&broker);
    lasting.subscribe("will/#", 1);
    Connect::v5("w")
        .persistent()
        .will(delayed("crash", 2))
        .open(&broker)
        .vanish();
    // The broker must have seen the broken connection; a second one behind it on the same path shows it.
    Connect::v5("x").will(will("marker")).open(&broker).vanish();
    assert_eq!(lasting.take().text(), "marker");
    broker.kill9();
    broker.restart();
    let mut lasting = Connect::v5("watcher").persistent().open(&broker);
    assert!(lasting.present);
    loop {
        let got = lasting.take();
        // The marker may come again: its PUBACK may not have been stored.
        if got.text() != "marker" {
            assert_eq!(got.text(), "crash");
            break;
        }
    }
}

#[test]
fn wills_of_those_connected_at_a_crash_are_published_after_it_unless_they_return() {
    let mut broker = Broker::start();
    let mut lasting = Connect::v5("watcher").persistent().open(&broker);
    lasting.subscribe("will/#", 1);
    let back = Connect::v5("back").persistent().will(delayed("back", 5));
    let gone = Connect::v5("gone").persistent().will(delayed("gone", 5));
    let (_a, _b) = (back.open(&broker), gone.open(&broker));
    broker.kill9();
    broker.restart();
    let mut back = back.open(&broker);
    assert!(back.present);
    let mut lasting = Connect::v5("watcher").persistent().open(&broker);
    assert_eq!(lasting.take().text(), "gone");
    back.ping();
    lasting.assert_no_publish();
}

#[test]
fn a_take_over_publishes_the_will_of_the_old_connection() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let mut old = Connect::v5("same").will(will("old")).open(&broker);
    let mut new = Connect::v5("same").will(will("new")).open(&broker);
    assert_eq!(old.expect_closed(), Some(0x8e));
    assert_eq!(watcher.take().text(), "old", "[MQTT-3.1.4-3]");
    new.ping();
    assert_eq!(watcher.next(Duration::from_millis(200)), Got::Silence);
    new.disconnect();
}
