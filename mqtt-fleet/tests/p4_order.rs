//! P4: one publisher, one topic, one `QoS`: every subscriber sees its order.

mod common;

use common::{Broker, Client, Connect, Publish, Version, prop, wire};

/// Publishes numbers, as many at a time as the broker takes unacknowledged.
fn send_numbers(client: &mut Client, topic: &str, qos: u8, numbers: std::ops::Range<u16>) {
    let window = client.send_window().min(500);
    let all: Vec<u16> = numbers.collect();
    for block in all.chunks(usize::from(window)) {
        let mut bytes = Vec::new();
        for n in block {
            let p = Publish::new(topic, qos, n.to_string()).id(n + 1);
            bytes.extend(wire::publish(client.version, &p));
        }
        client.send(&bytes);
        for n in block {
            match qos {
                1 => assert!(client.await_puback(n + 1) < 0x80),
                2 => {
                    assert!(client.await_pubrec(n + 1) < 0x80);
                    client.release(n + 1);
                }
                _ => {}
            }
        }
    }
}

fn assert_numbers(client: &mut Client, numbers: std::ops::Range<u16>) {
    for n in numbers {
        assert_eq!(
            client.take().text(),
            n.to_string(),
            "order at {}",
            client.id
        );
    }
}

#[test]
fn a_burst_arrives_in_order_at_every_qos() {
    for qos in 0..=2 {
        let broker = Broker::start();
        let mut subs: Vec<Client> = [("five", Version::V5), ("four", Version::V311)]
            .map(|(id, version)| Connect::v5(id).version(version).open(&broker))
            .into();
        for sub in &mut subs {
            sub.subscribe("t/#", qos);
        }
        let mut publisher = Connect::v5("pub").open(&broker);
        send_numbers(&mut publisher, "t/a", qos, 0..1000);
        for sub in &mut subs {
            assert_numbers(sub, 0..1000);
        }
    }
}

#[test]
fn publishers_do_not_disturb_each_others_order() {
    let broker = Broker::start();
    let mut sub = Connect::v5("sub").open(&broker);
    sub.subscribe("t/#", 1);
    let addr = broker.addr;
    let publishers: Vec<_> = (0..4)
        .map(|p| {
            std::thread::spawn(move || {
                let mut publisher = Connect::v5(&format!("pub{p}")).open_at(addr);
                send_numbers(&mut publisher, &format!("t/{p}"), 1, 0..500);
            })
        })
        .collect();
    let mut next = [0_u16; 4];
    for _ in 0..2000 {
        let got = sub.take();
        let publisher: usize = got.topic[2..].parse().expect("t/<number>");
        assert_eq!(
            got.text(),
            next[publisher].to_string(),
            "order of publisher {publisher}"
        );
        next[publisher] += 1;
    }
    for publisher in publishers {
        publisher.join().expect("no publisher panics");
    }
}

#[test]
fn redelivery_keeps_the_order_and_the_identifiers() {
    let broker = Broker::start();
    let connect = Connect::v5("sub")
        .persistent()
        .prop_two(prop::RECEIVE_MAXIMUM, 10);
    let mut sub = connect.open(&broker);
    sub.subscribe("t", 1);
    send_numbers(&mut Connect::v5("pub").open(&broker), "t", 1, 0..50);
    let mut sent: Vec<(u16, String)> = (0..10)
        .map(|_| sub.recv_publish())
        .map(|p| (p.id, p.text()))
        .collect();
    // Acknowledged out of order: the holes must come again, in order, before anything new.
    for at in [7, 2, 5] {
        sub.send(&wire::ack(wire::PUBACK, sent.remove(at).0));
    }
    sub.ping();
    let more: Vec<_> = (0..3)
        .map(|_| sub.recv_publish())
        .map(|p| (p.id, p.text()))
        .collect();
    sent.extend(more);
    sub.disconnect();
    let mut sub = connect.open(&broker);
    let mut last = None;
    for (i, (id, text)) in sent.iter().enumerate() {
        let again = sub.recv_publish();
        assert_eq!(
            (again.id, &again.text()),
            (*id, text),
            "number {i} of what was not acknowledged"
        );
        assert!(again.dup);
        last = Some(again);
    }
    let reached: u16 = last
        .expect("ten were out")
        .text()
        .parse()
        .expect("a number");
    for (id, _) in &sent {
        sub.send(&wire::ack(wire::PUBACK, *id));
    }
    assert_numbers(&mut sub, reached + 1..50);
}

#[test]
fn what_was_queued_comes_before_what_is_new() {
    let mut broker = Broker::start();
    let connect = Connect::v311("sub").persistent();
    let mut sub = connect.open(&broker);
    sub.subscribe("t", 2);
    sub.disconnect();
    let mut publisher = Connect::v5("pub").open(&broker);
    send_numbers(&mut publisher, "t", 2, 0..300);
    broker.kill9();
    broker.restart();
    let mut publisher = Connect::v5("pub").open(&broker);
    let mut sub = connect.open(&broker);
    assert_numbers(&mut sub, 0..10);
    send_numbers(&mut publisher, "t", 2, 300..400);
    assert_numbers(&mut sub, 10..400);
    sub.assert_no_publish();
}

#[test]
fn the_order_holds_over_many_reconnects() {
    let broker = Broker::start();
    let connect = Connect::v5("sub").persistent();
    let mut sub = connect.open(&broker);
    sub.subscribe("t", 1);
    let addr = broker.addr;
    let publisher = std::thread::spawn(move || {
        let mut publisher = Connect::v5("pub").open_at(addr);
        for block in 0..20 {
            send_numbers(&mut publisher, "t", 1, block * 50..block * 50 + 50);
        }
    });
    let mut next = 0;
    while next < 1000 {
        let p = sub.recv_publish();
        let n: u16 = p.text().parse().expect("a number");
        assert!(n <= next, "{n} came before {next}");
        if n == next {
            next += 1;
        } else {
            assert!(p.dup, "{n} came again without DUP");
        }
        sub.send(&wire::ack(wire::PUBACK, p.id));
        if next % 90 == 0 && n + 1 == next {
            sub.vanish();
            sub = connect.open(&broker);
            assert!(sub.present);
        }
    }
    publisher.join().expect("the publisher does not panic");
}
