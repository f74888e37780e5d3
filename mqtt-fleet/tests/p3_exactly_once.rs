//! P3: `QoS` 2 is exactly once, step by step: the connection or the broker is lost after each packet of the handshake.

mod common;

use common::{Broker, Client, Connect, Packet, Publish, Version, wire};

/// How a connection is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Connection,
    Broker,
}

const LOSSES: [Loss; 2] = [Loss::Connection, Loss::Broker];

fn lose(loss: Loss, broker: &mut Broker, client: Client, connect: &Connect) -> Client {
    match loss {
        Loss::Connection => client.vanish(),
        Loss::Broker => {
            broker.kill9();
            broker.restart();
        }
    }
    let client = connect.open(broker);
    assert!(client.present, "session present after loss of the {loss:?}");
    client
}

/// A session that is away, subscribed to `t` at `QoS` 2.
fn absent(broker: &Broker) {
    let mut client = Connect::v5("absent").persistent().open(broker);
    client.subscribe("t", 2);
    client.disconnect();
}

/// Everything that waits for the absent session, up to an end mark.
fn received(broker: &Broker) -> Vec<String> {
    Connect::v5("marker").open(broker).say("t", 2, "END");
    let mut sub = Connect::v5("absent").persistent().open(broker);
    let mut all = vec![];
    loop {
        match sub.take().text() {
            end if end == "END" => return all,
            text => all.push(text),
        }
    }
}

fn message(id: u16) -> Publish {
    Publish::new("t", 2, format!("m{id}")).id(id)
}

#[test]
fn a_publish_sent_again_before_its_pubrel_is_taken_once() {
    for (loss, version) in [
        (Loss::Connection, Version::V5),
        (Loss::Broker, Version::V311),
    ] {
        let mut broker = Broker::start();
        absent(&broker);
        let connect = Connect::v5("pub").version(version).persistent();
        let mut publisher = connect.open(&broker);
        publisher.send(&wire::publish(version, &message(9)));
        assert_eq!(publisher.await_pubrec(9), 0);
        // On the same connection, and again after the loss.
        publisher.send(&wire::publish(version, &message(9).dup()));
        assert!(publisher.await_pubrec(9) < 0x80);
        let mut publisher = lose(loss, &mut broker, publisher, &connect);
        publisher.send(&wire::publish(version, &message(9).dup()));
        assert!(publisher.await_pubrec(9) < 0x80);
        assert_eq!(publisher.release(9), 0);
        assert_eq!(received(&broker), ["m9"], "{loss:?}");
    }
}

#[test]
fn a_pubrel_sent_again_is_answered_again() {
    for loss in LOSSES {
        let mut broker = Broker::start();
        absent(&broker);
        let connect = Connect::v5("pub").persistent();
        let mut publisher = connect.open(&broker);
        publisher.send(&wire::publish(Version::V5, &message(5)));
        publisher.await_pubrec(5);
        let mut publisher = lose(loss, &mut broker, publisher, &connect);
        assert_eq!(publisher.release(5), 0, "known after loss of the {loss:?}");
        let mut publisher = lose(loss, &mut broker, publisher, &connect);
        // PUBCOMP might have been lost: the client asks again, and is told that nothing is left.
        assert_eq!(publisher.release(5), 0x92);
        assert_eq!(received(&broker), ["m5"]);
    }
}

#[test]
fn after_pubcomp_the_identifier_names_a_new_message() {
    let broker = Broker::start();
    absent(&broker);
    let mut publisher = Connect::v5("pub").persistent().open(&broker);
    for text in ["one", "two", "three"] {
        assert_eq!(publisher.publish(&Publish::new("t", 2, text).id(1)), 0);
    }
    assert_eq!(received(&broker), ["one", "two", "three"]);
}

#[test]
fn a_new_session_knows_nothing_of_the_old_ones_identifiers() {
    let broker = Broker::start();
    absent(&broker);
    let mut publisher = Connect::v5("pub").persistent().open(&broker);
    publisher.send(&wire::publish(Version::V5, &message(3)));
    publisher.await_pubrec(3);
    publisher.vanish();
    let mut publisher = Connect::v5("pub").open(&broker);
    assert!(!publisher.present);
    assert_eq!(publisher.publish(&Publish::new("t", 2, "new").id(3)), 0);
    assert_eq!(received(&broker), ["m3", "new"]);
}

#[test]
fn a_delivery_without_pubrec_comes_again_as_it_was() {
    for loss in LOSSES {
        let mut broker = Broker::start();
        absent(&broker);
        Connect::v5("pub").open(&broker).say("t", 2, "x");
        let connect = Connect::v5("absent").persistent();
        let mut sub = connect.open(&broker);
        let first = sub.recv_publish();
        assert!(!first.dup, "sent for the first time");
        let mut sub = lose(loss, &mut broker, sub, &connect);
        let again = sub.recv_publish();
        assert!(again.dup, "[MQTT-3.3.1-1] after loss of the {loss:?}");
        assert_eq!(
            (again.id, again.text()),
            (first.id, first.text()),
            "[MQTT-4.4.0-1]"
        );
        sub.send(&wire::ack(wire::PUBREC, again.id));
        assert_eq!(
            sub.recv(),
            Packet::PubRel {
                id: first.id,
                code: 0
            }
        );
    }
}

#[test]
fn after_pubrec_only_the_pubrel_comes_again() {
    for loss in LOSSES {
        let mut broker = Broker::start();
        absent(&broker);
        Connect::v5("pub").open(&broker).say("t", 2, "x");
        let connect = Connect::v5("absent").persistent();
        let mut sub = connect.open(&broker);
        let id = sub.recv_publish().id;
        sub.send(&wire::ack(wire::PUBREC, id));
        assert_eq!(sub.recv(), Packet::PubRel { id, code: 0 });
        let mut sub = lose(loss, &mut broker, sub, &connect);
        assert_eq!(
            sub.recv(),
            Packet::PubRel { id, code: 0 },
            "after loss of the {loss:?}"
        );
        sub.send(&wire::ack(wire::PUBCOMP, id));
        sub.ping();
        assert_eq!(
            received(&broker),
            Vec::<String>::new(),
            "delivered once only"
        );
    }
}

#[test]
fn a_pubrec_with_an_error_ends_the_delivery() {
    let broker = Broker::start();
    absent(&broker);
    Connect::v5("pub").open(&broker).say("t", 2, "refused");
    let mut sub = Connect::v5("absent").persistent().open(&broker);
    let id = sub.recv_publish().id;
    let mut refuse = id.to_be_bytes().to_vec();
    refuse.push(0x97);
    sub.send(&wire::frame(wire::PUBREC, &refuse));
    sub.ping();
    sub.disconnect();
    assert_eq!(
        received(&broker),
        Vec::<String>::new(),
        "[MQTT 5, 4.3.3]: treated as delivered"
    );
}

#[test]
fn completing_old_deliveries_does_not_forget_the_new_ones() {
    let broker = Broker::start();
    absent(&broker);
    let mut publisher = Connect::v5("pub").open(&broker);
    for text in ["old 1", "old 2"] {
        publisher.say("t", 2, text);
    }
    let connect = Connect::v5("absent").persistent();
    let mut sub = connect.open(&broker);
    let old = [sub.recv_publish().id, sub.recv_publish().id];
    for id in old {
        sub.send(&wire::ack(wire::PUBREC, id));
        assert_eq!(sub.recv(), Packet::PubRel { id, code: 0 });
    }
    sub.vanish();
    publisher.say("t", 2, "new");
    let mut sub = connect.open(&broker);
    for id in old {
        assert_eq!(sub.recv(), Packet::PubRel { id, code: 0 });
    }
    let new = sub.recv_publish();
    assert_eq!(new.text(), "new");
    // The old ones are completed while the new one is on its way.
    for id in old {
        sub.send(&wire::ack(wire::PUBCOMP, id));
    }
    sub.send(&wire::ack(wire::PUBREC, new.id));
    assert_eq!(
        sub.recv(),
        Packet::PubRel {
            id: new.id,
            code: 0
        },
        "the broker knows what it has sent"
    );
    sub.send(&wire::ack(wire::PUBCOMP, new.id));
    sub.ping();
    sub.disconnect();
    assert_eq!(received(&broker), Vec::<String>::new());
}
