//! Sockets that connect and then say nothing, or half a CONNECT, are freed by the CONNECT timeout.
//!
//! `MQTT_FLEET_SILENT_SOCKETS` sets their number (2,000 when not set, 18,000 for a long run).

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Broker, Client, Connect, Got, Options, Version};

fn number() -> usize {
    std::env::var("MQTT_FLEET_SILENT_SOCKETS").map_or(2000, |text| {
        text.parse().expect("MQTT_FLEET_SILENT_SOCKETS is a number")
    })
}

/// Lets this process have as many sockets as the test needs. A broker started later inherits it.
fn raise_descriptor_limit(wanted: usize) {
    let pid = std::process::id().to_string();
    let output = Command::new("prlimit")
        .args(["--pid", &pid, &format!("--nofile={wanted}:")])
        .output()
        .expect("prlimit (package util-linux) is installed");
    assert!(
        output.status.success(),
        "{wanted} descriptors are more than this machine allows (`ulimit -Hn`): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A socket that says nothing, or the first half of a CONNECT.
fn silent(addr: SocketAddr, version: Version, half: bool) -> Client {
    let mut client = Client::raw(addr, version);
    if half {
        let connect = Connect::v5("half").version(version).encode();
        client.send(&connect[..connect.len() / 2]);
    }
    client
}

#[test]
fn silent_and_half_open_sockets_are_freed_by_the_connect_timeout() {
    let number = number();
    raise_descriptor_limit(number + 500);
    let broker = Broker::start_with(Options::config("[limits]\nconnect_timeout_s = 2\n"));
    let mut alive = Connect::v5("alive").open(&broker);
    alive.ping();
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", broker.pid()))
            .expect("the process lives")
            .count()
    };
    let (before, memory) = (descriptors(), broker.resident_bytes());

    let since = Instant::now();
    let mut sockets: Vec<Client> = (0..number)
        .map(|i| silent(broker.addr, Version::V311, i % 2 == 0))
        .collect();
    let opened = since.elapsed();
    for (i, socket) in sockets.iter_mut().enumerate() {
        // Each read waits for its socket's end; the first ones wait for the timeout, the rest are closed by then.
        assert_eq!(
            socket.next(Duration::from_secs(20)),
            Got::Closed,
            "socket {i} of {number}"
        );
    }
    let freed = since.elapsed();
    assert!(
        freed >= Duration::from_millis(1900),
        "freed after {freed:?}, before the timeout"
    );
    assert!(
        freed <= opened + Duration::from_secs(6),
        "opened in {opened:?}, freed after {freed:?}"
    );
    alive.ping();
    Connect::v5("new").open(&broker).ping();
    let after = descriptors();
    assert!(
        after <= before + 2,
        "{before} descriptors before, {after} after"
    );
    let grown = broker.resident_bytes().saturating_sub(memory);
    assert!(
        grown < 16 << 20,
        "{number} silent sockets leave {grown} bytes behind"
    );
}

#[test]
fn one_byte_at_a_time_does_not_stretch_the_timeout() {
    let broker = Broker::start_with(Options::config("[limits]\nconnect_timeout_s = 2\n"));
    let mut client = Client::raw(broker.addr, Version::V5);
    let connect = Connect::v5("a-rather-long-name-that-takes-its-time").encode();
    let since = Instant::now();
    for byte in &connect {
        // Half a second between bytes: far longer in all than the timeout.
        if client.try_send(&[*byte]).is_none()
            || client.next(Duration::from_millis(500)) == Got::Closed
        {
            break;
        }
    }
    let after = since.elapsed();
    assert!(after < Duration::from_secs(5), "still open after {after:?}");
}
