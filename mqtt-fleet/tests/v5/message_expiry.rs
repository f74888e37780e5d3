//! Message expiry: counted down while the message waits, and dropped when it is over.

use std::time::Duration;

use crate::common::{Broker, Connect, Got, Props, Publish, prop};

fn expiring(topic: &str, text: &str, seconds: u32) -> Publish {
    Publish::new(topic, 1, text).props(Props::new().four(prop::MESSAGE_EXPIRY, seconds))
}

#[test]
fn a_queued_message_expires_and_the_rest_counts_down() {
    let broker = Broker::start();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    sub.subscribe("a", 1);
    sub.disconnect();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&expiring("a", "short", 1));
    publisher.publish(&expiring("a", "long", 100));
    publisher.say("a", 1, "forever");
    assert_eq!(publisher.next(Duration::from_millis(2300)), Got::Silence);
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    let long = sub.take();
    assert_eq!(long.text(), "long", "the short one has expired");
    let left = long
        .props
        .number(prop::MESSAGE_EXPIRY)
        .expect("the rest is told");
    assert!(
        (90..=98).contains(&left),
        "{left} of 100 s left after 2.3 s [MQTT-3.3.2-6]"
    );
    let forever = sub.take();
    assert_eq!(
        (
            forever.text().as_str(),
            forever.props.number(prop::MESSAGE_EXPIRY)
        ),
        ("forever", None)
    );
}

#[test]
fn a_retained_message_expires() {
    let broker = Broker::start();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&expiring("r/short", "short", 1).retain());
    publisher.publish(&expiring("r/long", "long", 100).retain());
    assert_eq!(publisher.next(Duration::from_millis(2300)), Got::Silence);
    publisher.subscribe("r/#", 1);
    let kept = publisher.take();
    assert_eq!(kept.text(), "long");
    assert!(kept.props.number(prop::MESSAGE_EXPIRY).expect("told") <= 98);
    publisher.assert_no_publish();
}

#[test]
fn delivered_at_once_it_keeps_its_expiry() {
    let broker = Broker::start();
    let mut client = Connect::v5("both").open(&broker);
    client.subscribe("a", 1);
    client.publish(&expiring("a", "now", 100));
    let left = client
        .take()
        .props
        .number(prop::MESSAGE_EXPIRY)
        .expect("told");
    assert!((95..=100).contains(&left), "{left}");
}

#[test]
fn expired_messages_do_not_come_back_after_a_crash() {
    let mut broker = Broker::start();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    sub.subscribe("a", 1);
    sub.disconnect();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&expiring("a", "short", 1));
    publisher.publish(&expiring("a", "long", 100));
    assert_eq!(publisher.next(Duration::from_millis(2300)), Got::Silence);
    broker.kill9();
    broker.restart();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    let long = sub.take();
    assert_eq!(long.text(), "long");
    assert!(long.props.number(prop::MESSAGE_EXPIRY).expect("told") <= 98);
}
