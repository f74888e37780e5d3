//! Keep alive: silence ends a connection after one and a half times the interval, and not before.

use std::time::{Duration, Instant};

use crate::common::{Broker, Connect, Options, Publish, prop};

#[test]
fn a_silent_client_is_dropped_after_one_and_a_half_times_the_interval() {
    let broker = Broker::start();
    let mut watcher = Connect::v5("watcher").open(&broker);
    watcher.subscribe("will", 1);
    let mut client = Connect::v5("silent")
        .keep_alive(2)
        .will(Publish::new("will", 1, "gone"))
        .open(&broker);
    let since = Instant::now();
    let code = client.expect_closed();
    let after = since.elapsed();
    assert!(
        after >= Duration::from_millis(2900),
        "closed after {after:?}"
    );
    assert!(after <= Duration::from_secs(8), "closed after {after:?}");
    assert_eq!(code, Some(0x8d), "DISCONNECT says keep alive timeout");
    assert_eq!(watcher.take().text(), "gone");
}

#[test]
fn any_packet_keeps_the_connection() {
    let broker = Broker::start();
    let mut client = Connect::v311("pings").keep_alive(3).open(&broker);
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        // Nothing comes, so this waits a little less than the interval.
        assert_eq!(
            client.next(Duration::from_millis(2400)),
            crate::common::Got::Silence
        );
        client.ping();
    }
}

#[test]
fn keep_alive_zero_means_never() {
    let broker = Broker::start();
    let mut client = Connect::v5("forever").keep_alive(0).open(&broker);
    if client.connack.number(prop::SERVER_KEEP_ALIVE).is_none() {
        assert_eq!(
            client.next(Duration::from_secs(3)),
            crate::common::Got::Silence
        );
    }
    client.ping();
}

#[test]
fn the_servers_own_keep_alive_is_told_and_kept() {
    let broker = Broker::start_with(Options::config("[limits]\nkeep_alive_max_s = 1\n"));
    let mut client = Connect::v5("long").keep_alive(600).open(&broker);
    assert_eq!(client.connack.number(prop::SERVER_KEEP_ALIVE), Some(1));
    let since = Instant::now();
    assert_eq!(client.expect_closed(), Some(0x8d));
    assert!(
        since.elapsed() < Duration::from_secs(8),
        "closed after {:?}",
        since.elapsed()
    );
}
