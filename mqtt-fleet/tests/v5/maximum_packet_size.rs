//! Maximum packet size, of the client and of the server.

use crate::common::{Broker, Connect, Options, Publish, prop, wire};

#[test]
fn a_client_is_never_sent_more_than_it_takes() {
    let broker = Broker::start();
    let mut small = Connect::v5("small")
        .persistent()
        .prop_four(prop::MAXIMUM_PACKET_SIZE, 100)
        .open(&broker);
    let mut large = Connect::v5("large").open(&broker);
    small.subscribe("a", 2);
    large.subscribe("a", 2);
    for qos in 0..=2 {
        large.say("a", qos, &"x".repeat(200));
        large.say("a", qos, "short");
    }
    for _ in 0..3 {
        assert_eq!(
            small.take().text(),
            "short",
            "the large one is dropped as if it had been delivered"
        );
        assert_eq!(large.take().payload.len(), 200);
        assert_eq!(large.take().text(), "short");
    }
    small.assert_no_publish();
    // Dropped for good: a resumed session that takes more does not get it either.
    small.disconnect();
    let mut small = Connect::v5("small").persistent().open(&broker);
    assert!(small.present);
    large.say("a", 1, "end");
    assert_eq!(small.take().text(), "end");
}

#[test]
fn the_largest_packet_that_still_fits_is_sent() {
    let broker = Broker::start();
    // Header 2, topic 3, packet id 2, property length 1, payload 92.
    let mut exact = Connect::v5("exact")
        .prop_four(prop::MAXIMUM_PACKET_SIZE, 100)
        .open(&broker);
    exact.subscribe("a", 1);
    exact.say("a", 1, &"x".repeat(93));
    exact.say("a", 1, &"x".repeat(92));
    assert_eq!(exact.take().payload.len(), 92);
    exact.assert_no_publish();
}

#[test]
fn the_servers_limit_is_told_and_kept() {
    let broker = Broker::start_with(Options::config("[limits]\nmax_packet_bytes = 2000\n"));
    let mut client = Connect::v5("big").open(&broker);
    assert_eq!(client.connack.number(prop::MAXIMUM_PACKET_SIZE), Some(2000));
    client.subscribe("a", 0);
    // 3 bytes of fixed header, topic 3, property length 1.
    client.say("a", 0, &"x".repeat(1993));
    assert_eq!(client.take().payload.len(), 1993);
    client.send(&wire::publish(
        client.version,
        &Publish::new("a", 0, "x".repeat(1994)),
    ));
    assert_eq!(client.expect_closed(), Some(0x95), "packet too large");
}
