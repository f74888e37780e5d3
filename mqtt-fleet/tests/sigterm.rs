//! SIGTERM drains: clients are told, what was acknowledged is stored, no will is published, exit code 0.

mod common;

use std::time::{Duration, Instant};

use common::{Broker, Connect, Got, PATIENCE, Packet, Publish, Version, wire};

#[test]
fn clients_are_told_and_the_exit_is_clean() {
    let mut broker = Broker::start();
    let mut five = Connect::v5("five").open(&broker);
    let mut four = Connect::v311("four").open(&broker);
    let since = Instant::now();
    broker.signal_term();
    assert_eq!(five.expect_closed(), Some(0x8b), "server shutting down");
    assert_eq!(four.expect_closed(), None);
    let status = broker.await_exit();
    assert_eq!(status.code(), Some(0), "{}", broker.output());
    assert!(
        since.elapsed() < Duration::from_secs(12),
        "took {:?}",
        since.elapsed()
    );
}

#[test]
fn no_will_is_published() {
    let mut broker = Broker::start();
    let mut watcher = Connect::v5("watcher").persistent().open(&broker);
    watcher.subscribe("#", 1);
    watcher.disconnect();
    let will = Publish::new("will", 1, "unwanted");
    let mut short = Connect::v5("short").will(will.clone()).open(&broker);
    let mut long = Connect::v5("long")
        .persistent()
        .will(will.clone())
        .open(&broker);
    let mut four = Connect::v311("four").will(will).open(&broker);
    assert_eq!(broker.terminate().code(), Some(0));
    for client in [&mut short, &mut long, &mut four] {
        client.expect_closed();
    }
    broker.restart();
    Connect::v5("marker").open(&broker).say("marker", 1, "x");
    let mut watcher = Connect::v5("watcher").persistent().open(&broker);
    assert!(watcher.present);
    assert_eq!(
        watcher.take().topic,
        "marker",
        "the first message after the restart"
    );
    watcher.assert_no_publish();
}

#[test]
fn what_was_acknowledged_under_load_is_there_afterwards() {
    let mut broker = Broker::start();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    sub.subscribe("t", 1);
    sub.disconnect();
    let mut publisher = Connect::v5("pub").open(&broker);
    let (mut sent, mut acked) = (0_u32, 0_u32);
    let mut signalled = false;
    loop {
        while sent - acked < 16 {
            let p = Publish::new("t", 1, sent.to_string()).id((sent % 60_000) as u16 + 1);
            if publisher
                .try_send(&wire::publish(Version::V5, &p))
                .is_none()
            {
                break;
            }
            sent += 1;
        }
        match publisher.next(PATIENCE) {
            Got::Packet(Packet::PubAck { code, .. }) if code < 0x80 => acked += 1,
            Got::Packet(_) => {}
            Got::Closed => break,
            Got::Silence => panic!("neither an answer nor an end"),
        }
        if acked == 500 && !signalled {
            broker.signal_term();
            signalled = true;
        }
    }
    assert_eq!(broker.await_exit().code(), Some(0), "{}", broker.output());
    broker.restart();
    let mut sub = Connect::v5("sub").persistent().open(&broker);
    assert!(sub.present);
    for expected in 0..acked {
        assert_eq!(
            sub.take().text(),
            expected.to_string(),
            "{acked} were acknowledged"
        );
    }
}

#[test]
fn a_client_that_does_not_read_cannot_hold_up_the_end() {
    let mut broker = Broker::start();
    let mut deaf = Connect::v5("deaf").open(&broker);
    deaf.subscribe("t", 0);
    let mut publisher = Connect::v5("pub").open(&broker);
    for _ in 0..2000 {
        publisher.say("t", 0, &"x".repeat(10_000));
    }
    publisher.ping();
    let since = Instant::now();
    assert_eq!(broker.terminate().code(), Some(0));
    assert!(
        since.elapsed() < Duration::from_secs(15),
        "took {:?}",
        since.elapsed()
    );
}

#[test]
fn sessions_with_the_connection_end_and_the_others_stay() {
    let mut broker = Broker::start();
    let _short = Connect::v5("short").open(&broker);
    let mut long = Connect::v5("long").persistent().open(&broker);
    long.subscribe("t", 1);
    assert_eq!(broker.terminate().code(), Some(0));
    broker.restart();
    assert!(!Connect::v5("short").resume().open(&broker).present);
    let mut long = Connect::v5("long").persistent().open(&broker);
    assert!(long.present);
    long.say("t", 1, "x");
    assert_eq!(long.take().text(), "x");
}
