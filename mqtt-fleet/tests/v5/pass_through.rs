//! What a publisher says about a message reaches the subscriber unaltered.

use crate::common::{Broker, Connect, Props, Publish, Value, Version, prop};

fn rich() -> Props {
    Props::new()
        .byte(prop::PAYLOAD_FORMAT, 1)
        .text(prop::CONTENT_TYPE, "text/plain")
        .text(prop::RESPONSE_TOPIC, "answers/here")
        .with(prop::CORRELATION_DATA, Value::Bytes(vec![0, 1, 0xff, 0xfe]))
        .user("b", "2")
        .user("a", "1")
        .user("b", "2")
}

fn sorted(props: &Props) -> Vec<String> {
    let mut all: Vec<String> = props.0.iter().map(|p| format!("{p:?}")).collect();
    all.sort();
    all
}

fn users(props: &Props) -> Vec<&Value> {
    props
        .0
        .iter()
        .filter(|(id, _)| *id == prop::USER)
        .map(|(_, v)| v)
        .collect()
}

#[test]
fn properties_arrive_as_sent_at_every_qos() {
    let broker = Broker::start();
    let mut client = Connect::v5("both").open(&broker);
    client.subscribe("a", 2);
    for qos in 0..=2 {
        client.publish(&Publish::new("a", qos, "x").props(rich()));
        let got = client.take();
        assert_eq!(got.qos, qos);
        assert_eq!(sorted(&got.props), sorted(&rich()));
        assert_eq!(
            users(&got.props),
            users(&rich()),
            "user properties keep their order [MQTT-3.3.2-18]"
        );
    }
}

#[test]
fn properties_survive_the_queue_a_crash_and_retain() {
    let mut broker = Broker::start();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    sub.subscribe("a", 1);
    sub.disconnect();
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.publish(&Publish::new("a", 1, "x").props(rich()).retain());
    broker.kill9();
    broker.restart();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    assert_eq!(sorted(&sub.take().props), sorted(&rich()));
    let mut fresh = Connect::v5("fresh").open(&broker);
    fresh.subscribe("#", 1);
    let kept = fresh.take();
    assert!(kept.retain);
    assert_eq!(sorted(&kept.props), sorted(&rich()));
}

#[test]
fn request_and_response_find_each_other() {
    let broker = Broker::start();
    let mut server = Connect::v5("server").open(&broker);
    server.subscribe("requests/#", 1);
    let mut client = Connect::v5("client").open(&broker);
    client.subscribe("answers/client", 1);
    let props = Props::new()
        .text(prop::RESPONSE_TOPIC, "answers/client")
        .with(prop::CORRELATION_DATA, Value::Bytes(vec![7; 16]));
    client.publish(&Publish::new("requests/time", 1, "what time").props(props));
    let request = server.take();
    let Some(Value::Text(to)) = request.props.get(prop::RESPONSE_TOPIC) else {
        panic!("{request:?}")
    };
    let token = request
        .props
        .get(prop::CORRELATION_DATA)
        .expect("sent above")
        .clone();
    server.publish(
        &Publish::new(to, 1, "noon").props(Props::new().with(prop::CORRELATION_DATA, token)),
    );
    let answer = client.take();
    assert_eq!(answer.text(), "noon");
    assert_eq!(
        answer.props.get(prop::CORRELATION_DATA),
        Some(&Value::Bytes(vec![7; 16]))
    );
}

#[test]
fn versions_meet_on_one_topic() {
    let broker = Broker::start();
    let mut five = Connect::v5("five").open(&broker);
    let mut four = Connect::v311("four").open(&broker);
    let mut three = Connect::v5("three").version(Version::V31).open(&broker);
    let all = [&mut five, &mut four, &mut three];
    for client in all {
        client.subscribe("mixed/+", 2);
    }
    five.publish(&Publish::new("mixed/5", 2, "from five").props(rich()));
    assert_eq!(four.take().text(), "from five");
    assert_eq!(three.take().text(), "from five");
    assert_eq!(sorted(&five.take().props), sorted(&rich()));
    three.say("mixed/3", 1, "from three");
    for client in [&mut five, &mut four, &mut three] {
        let got = client.take();
        assert_eq!(
            (got.text().as_str(), got.qos, got.props.0.len()),
            ("from three", 1, 0)
        );
    }
}

#[test]
fn payloads_of_every_size_arrive_whole() {
    let broker = Broker::start();
    let mut client = Connect::v5("sizes").open(&broker);
    client.subscribe("a", 1);
    for size in [
        0, 1, 127, 128, 16_383, 16_384, 65_535, 65_536, 70_000, 1_000_000,
    ] {
        let payload: Vec<u8> = (0..size).map(|i: u32| (i % 251) as u8).collect();
        assert_eq!(client.publish(&Publish::new("a", 1, &payload)), 0);
        assert!(
            client.take().payload == payload,
            "{size} bytes arrive altered"
        );
    }
}
