//! Reason codes that tell a client what became of its packet.

use crate::common::{Broker, Client, Connect, Packet, Props, Publish, Version, wire};

#[test]
fn nobody_subscribed_is_said_and_is_no_error() {
    let broker = Broker::start();
    let mut client = Connect::v5("alone").open(&broker);
    assert_eq!(
        client.publish(&Publish::new("void", 1, "x")),
        0x10,
        "no matching subscribers"
    );
    assert_eq!(client.publish(&Publish::new("void", 2, "x")), 0x10);
    client.subscribe("void", 0);
    assert_eq!(client.publish(&Publish::new("void", 1, "x")), 0);
    assert_eq!(client.publish(&Publish::new("void", 2, "x")), 0);
}

#[test]
fn unsubscribe_says_whether_there_was_something() {
    let broker = Broker::start();
    let mut client = Connect::v5("u").open(&broker);
    client.subscribe("a/+", 1);
    assert_eq!(client.unsubscribe("a/b"), 0x11, "no subscription existed");
    assert_eq!(client.unsubscribe("a/+"), 0);
    assert_eq!(client.unsubscribe("a/+"), 0x11);
    client.say("a/b", 1, "unheard");
    client.assert_no_publish();
}

#[test]
fn suback_answers_each_filter_in_order() {
    let broker = Broker::start();
    let mut client = Connect::v5("s").open(&broker);
    let filters = [("a", 2), ("b", 0), ("c", 1)];
    client.send(&wire::subscribe(Version::V5, 9, &filters, &Props::new()));
    assert_eq!(
        client.recv(),
        Packet::SubAck {
            id: 9,
            codes: vec![2, 0, 1]
        }
    );
}

#[test]
fn pubrel_of_an_unknown_id_is_told_so() {
    let broker = Broker::start();
    let mut client = Connect::v5("rel").open(&broker);
    assert_eq!(client.release(77), 0x92, "packet identifier not found");
    let mut old = Connect::v311("rel3").open(&broker);
    assert_eq!(
        old.release(77),
        0,
        "3.1.1 has no codes, but PUBCOMP must come"
    );
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    let broker = Broker::start();
    let mut client = Connect::v5("twice").open(&broker);
    client.send(&Connect::v5("twice").encode());
    assert_eq!(client.expect_closed(), Some(0x82), "[MQTT-3.1.0-2]");
}

#[test]
fn anything_before_connect_closes() {
    let broker = Broker::start();
    for bytes in [
        wire::frame(0xc0, &[]),
        wire::publish(Version::V5, &Publish::new("a", 0, "x")),
    ] {
        let mut client = Client::raw(broker.addr, Version::V5);
        client.send(&bytes);
        client.expect_closed();
    }
}

#[test]
fn packets_only_a_server_may_send_close() {
    let broker = Broker::start();
    for bytes in [
        wire::frame(0xd0, &[]),
        wire::frame(0x90, &[0, 1, 0, 0]),
        wire::frame(0x20, &[0, 0, 0]),
    ] {
        let mut client = Connect::v5("confused").open(&broker);
        client.send(&bytes);
        assert_eq!(client.expect_closed(), Some(0x82), "after {bytes:02x?}");
    }
}
