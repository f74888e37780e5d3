//! P5: one owner per client identifier.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::{Broker, Client, Connect, Got, Options, PATIENCE, Packet, Publish, Version, wire};

#[test]
fn the_older_connection_is_told_and_closed() {
    let broker = Broker::start();
    for version in [Version::V5, Version::V311, Version::V31] {
        let connect = Connect::v5("same").version(version);
        let mut old = connect.open(&broker);
        let mut new = connect.open(&broker);
        let code = old.expect_closed();
        assert_eq!(
            code,
            (version == Version::V5).then_some(0x8e),
            "session taken over"
        );
        new.ping();
        new.disconnect();
    }
}

#[test]
fn the_session_moves_with_what_was_not_acknowledged() {
    let broker = Broker::start();
    let connect = Connect::v5("same").persistent();
    let mut old = connect.open(&broker);
    old.subscribe("t", 1);
    let mut publisher = Connect::v5("pub").open(&broker);
    publisher.say("t", 1, "one");
    publisher.say("t", 1, "two");
    let first = old.take();
    let second = old.recv_publish();
    // The group has the PUBACK of the first when it has answered a later publish. (A PINGRESP says only that the shard
    // has it; the next connection may come in by another one.)
    old.say("elsewhere", 1, "later");
    let mut new = connect.open(&broker);
    assert!(new.present);
    let again = new.take();
    assert_eq!(
        (again.text(), again.id, again.dup),
        ("two".to_owned(), second.id, true)
    );
    assert_ne!(first.id, second.id);
    assert_eq!(old.expect_closed(), Some(0x8e));
    new.assert_no_publish();
}

#[test]
fn an_acknowledgement_of_the_old_connection_changes_nothing_any_more() {
    let broker = Broker::start();
    let connect = Connect::v5("same").persistent();
    let mut old = connect.open(&broker);
    old.subscribe("t", 1);
    Connect::v5("pub").open(&broker).say("t", 1, "x");
    let id = old.recv_publish().id;
    let mut new = connect.open(&broker);
    // Either it is closed already, or what it sends is ignored.
    let _ = old.try_send(&wire::ack(wire::PUBACK, id));
    let again = new.recv_publish();
    assert_eq!((again.id, again.dup), (id, true));
    new.vanish();
    let mut last = connect.open(&broker);
    assert_eq!(last.take().id, id, "still not acknowledged by its owner");
}

/// Messages are published without pause while the owner changes. Each carries the number of the newest
/// connection that had its CONNACK before the message was published: no older connection may get it.
#[test]
fn nothing_published_after_the_new_connack_reaches_the_old_connection() {
    let broker = Broker::start_with(Options {
        shards: Some(2),
        ..Options::default()
    });
    let connect = Connect::v5("same").persistent();
    let mut old = connect.open(&broker);
    old.subscribe("t/#", 1);
    old.subscribe("u/#", 0);
    let newest = Arc::new(AtomicU32::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..2u8)
        .map(|qos| {
            let (addr, newest, done) = (broker.addr, Arc::clone(&newest), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut publisher = Connect::v5(&format!("pub{qos}")).open_at(addr);
                let topic = if qos == 1 { "t/x" } else { "u/x" };
                while !done.load(Ordering::SeqCst) {
                    let text = newest.load(Ordering::SeqCst).to_string();
                    publisher.publish(&Publish::new(topic, qos, text));
                    publisher.ping();
                }
            })
        })
        .collect();
    for number in 0..20 {
        for _ in 0..20 {
            assert_not_newer(&old.take(), number);
        }
        let mut new = connect.open(&broker);
        newest.store(number + 1, Ordering::SeqCst);
        assert!(new.present);
        receive_to_the_end(&mut old, number);
        // The new owner goes on receiving.
        new.take();
        old = new;
    }
    done.store(true, Ordering::SeqCst);
    for publisher in publishers {
        publisher.join().expect("no publisher panics");
    }
}

fn assert_not_newer(p: &Publish, connection: u32) {
    let newest: u32 = p.text().parse().expect("a number");
    assert!(
        newest <= connection,
        "connection {connection} got {p:?}, published after the CONNACK of connection {newest}"
    );
}

fn receive_to_the_end(old: &mut Client, connection: u32) {
    loop {
        match old.next(PATIENCE) {
            Got::Packet(Packet::Publish(p)) => assert_not_newer(&p, connection),
            Got::Packet(Packet::Disconnect { code, .. }) => assert_eq!(code, 0x8e),
            Got::Packet(_) => {}
            Got::Closed => return,
            Got::Silence => panic!("the old connection lives on"),
        }
    }
}

#[test]
fn many_take_over_at_once_and_one_remains() {
    let broker = Broker::start();
    let addr = broker.addr;
    let connect = Connect::v5("raced").persistent();
    let racers: Vec<_> = (0..20)
        .map(|_| {
            let connect = connect.clone();
            // One that is overtaken before its CONNACK may be refused or closed.
            std::thread::spawn(move || {
                let mut client = Client::raw(addr, connect.version);
                client.send(&connect.encode());
                match client.next(PATIENCE) {
                    Got::Packet(Packet::ConnAck { .. }) | Got::Closed => client,
                    other => panic!("CONNECT was answered with {other:?}"),
                }
            })
        })
        .collect();
    let mut clients: Vec<Client> = racers
        .into_iter()
        .map(|r| r.join().expect("every one is answered"))
        .collect();
    // A last one beats them all, whatever their order was.
    let mut last = connect.open(&broker);
    for client in &mut clients {
        client.expect_closed();
    }
    last.subscribe("t", 1);
    last.say("t", 1, "mine");
    assert_eq!(last.take().text(), "mine");
}
