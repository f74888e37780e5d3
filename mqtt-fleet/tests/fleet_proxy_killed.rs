//! P2, P3, P6 in a fleet: `kill -9` of a proxy costs no acknowledged message, repeats no message of `QoS` 2 and no
//! session; its devices go on at another one.

mod common;

use std::collections::BTreeSet;

use common::fleet::Fleet;
use common::wire;
use common::{Client, Connect, Publish};

const MESSAGES: usize = 60;

#[test]
fn a_killed_proxy_costs_nothing_that_was_acknowledged() {
    let fleet = Fleet::start(2);
    for qos in [1, 2] {
        sessions_resume_elsewhere_with_all_they_are_owed(&fleet, qos);
    }
    a_publisher_goes_on_elsewhere_exactly_once(&fleet);
}

/// The subscriber is in the middle of its messages when its proxy dies; the publisher goes on meanwhile.
fn sessions_resume_elsewhere_with_all_they_are_owed(fleet: &Fleet, qos: u8) {
    let topic = format!("owed/{qos}");
    let connect = Connect::v5(&format!("subscriber-{qos}")).persistent();
    let mut ear = connect.open_at(fleet.mqtt(0));
    ear.subscribe(&topic, qos);
    let mut mouth = Connect::v5(&format!("publisher-{qos}")).open_at(fleet.mqtt(1));
    let say = |mouth: &mut Client, range: std::ops::Range<usize>| {
        for n in range {
            mouth.say(&topic, qos, &n.to_string());
        }
    };
    say(&mut mouth, 0..MESSAGES / 3);
    let mut heard = ear.take_texts(MESSAGES / 6);
    // Received and not acknowledged: it comes again.
    let open = ear.recv_publish();
    let killed = fleet.kill9("proxy-0");
    say(&mut mouth, MESSAGES / 3..MESSAGES * 2 / 3);
    ear.expect_closed();

    let mut ear = connect.open_at(fleet.mqtt(1));
    assert!(ear.present, "the session is the fleet's, not the proxy's");
    let again = ear.recv_publish();
    assert!(again.dup, "sent before: {again:?}");
    let mut handed = BTreeSet::from([again.id]);
    acknowledge(&mut ear, &again);
    heard.push(again.text());
    say(&mut mouth, MESSAGES * 2 / 3..MESSAGES);
    while heard.iter().collect::<BTreeSet<_>>().len() < MESSAGES {
        let message = ear.take();
        handed.insert(message.id);
        heard.push(message.text());
    }
    ear.assert_no_publish();
    if qos == 2 {
        assert_eq!(heard.len(), MESSAGES, "exactly once: {heard:?}");
        assert!(handed.contains(&open.id), "the same packet id again");
    }
    let order: Vec<_> = first_of_each(&heard);
    assert!(
        order.into_iter().eq((0..MESSAGES).map(|n| n.to_string())),
        "{heard:?}"
    );

    ear.disconnect();
    fleet.await_back(&killed);
    let ear = connect.open_at(fleet.mqtt(0));
    assert!(ear.present, "and at the proxy that is back");
}

fn acknowledge(client: &mut Client, message: &Publish) {
    if message.qos == 1 {
        return client.send(&wire::ack(wire::PUBACK, message.id));
    }
    client.send(&wire::ack(wire::PUBREC, message.id));
    let release =
        |p: &wire::Packet| matches!(p, wire::Packet::PubRel { id, .. } if *id == message.id);
    client.recv_where("PUBREL", release);
    client.send(&wire::ack(wire::PUBCOMP, message.id));
}

/// Without what came again.
fn first_of_each(texts: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let first = |text: &&String| seen.insert((*text).clone());
    texts.iter().filter(first).cloned().collect()
}

/// A message of `QoS` 2 is taken (PUBREC) when the proxy dies; the publisher finishes it at the other one, and sends
/// one again that was not answered.
fn a_publisher_goes_on_elsewhere_exactly_once(fleet: &Fleet) {
    let mut ear = Connect::v5("exact").open_at(fleet.mqtt(1));
    ear.subscribe("exact/#", 2);
    let connect = Connect::v5("careful").persistent();
    let mut mouth = connect.open_at(fleet.mqtt(0));
    let message = Publish::new("exact/a", 2, "once").id(7);
    mouth.send(&wire::publish(mouth.version, &message));
    assert_eq!(mouth.await_pubrec(7), 0);
    assert_eq!(ear.take().text(), "once");
    let killed = fleet.kill9("proxy-0");
    mouth.expect_closed();

    let mut mouth = connect.open_at(fleet.mqtt(1));
    assert!(mouth.present);
    mouth.send(&wire::publish(mouth.version, &message.clone().dup()));
    assert_eq!(mouth.await_pubrec(7), 0, "known already");
    assert_eq!(mouth.release(7), 0);
    mouth.say("exact/b", 2, "next");
    assert_eq!(ear.take().text(), "next", "and not \"once\" again");
    ear.assert_no_publish();
    fleet.await_back(&killed);
}
