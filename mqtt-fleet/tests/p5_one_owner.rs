//! P5: one owner per client identifier.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{
    Broker, Client, Connect, Got, Options, PATIENCE, Packet, Publish, Version, prop, wire,
};

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
    // The PUBACK of the first has been handled when a later packet is answered.
    old.ping();
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

/// Messages are published without pause while the owner changes. Each publisher notes what it published
/// after the new CONNACK; none of that may reach the old connection.
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
    let taken_over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> = (0..2u8)
        .map(|qos| {
            let (addr, flag, done) = (broker.addr, Arc::clone(&taken_over), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut publisher = Connect::v5(&format!("pub{qos}")).open_at(addr);
                let topic = if qos == 1 { "t/x" } else { "u/x" };
                while !done.load(Ordering::SeqCst) {
                    let text = if flag.load(Ordering::SeqCst) {
                        "after"
                    } else {
                        "before"
                    };
                    publisher.publish(&Publish::new(topic, qos, text));
                    publisher.ping();
                }
            })
        })
        .collect();
    for _ in 0..10 {
        taken_over.store(false, Ordering::SeqCst);
        for _ in 0..20 {
            old.take();
        }
        let mut new = connect.open(&broker);
        taken_over.store(true, Ordering::SeqCst);
        assert!(new.present);
        assert_closed_without(&mut old, "after");
        // The new owner goes on receiving.
        new.take();
        old = new;
    }
    done.store(true, Ordering::SeqCst);
    for publisher in publishers {
        publisher.join().expect("no publisher panics");
    }
}

fn assert_closed_without(old: &mut Client, unwanted: &str) {
    loop {
        match old.next(PATIENCE) {
            Got::Packet(Packet::Publish(p)) => assert_ne!(p.text(), unwanted, "{p:?}"),
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
    let racers: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(move || {
                Connect::v5("raced")
                    .resume()
                    .prop_four(prop::SESSION_EXPIRY, 100)
                    .open_at(addr)
            })
        })
        .collect();
    let mut clients: Vec<Client> = racers
        .into_iter()
        .map(|r| r.join().expect("every one gets its CONNACK"))
        .collect();
    // A last one beats them all, whatever their order was.
    let mut last = Connect::v5("raced").persistent().open(&broker);
    for client in &mut clients {
        client.expect_closed();
    }
    last.subscribe("t", 1);
    last.say("t", 1, "mine");
    assert_eq!(last.take().text(), "mine");
}
