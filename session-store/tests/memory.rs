//! An idle client costs at most 200 bytes.

mod common;

use common::device;
use mqtt_fleet_session_store::EmbeddedStore;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("it is there");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("KiB");
    kib * 1024
}

#[test]
fn an_idle_client_costs_at_most_200_bytes() {
    const CLIENTS: u64 = 300_000;
    let store = EmbeddedStore::new(());
    let before = resident_bytes();
    for number in 0..CLIENTS {
        store
            .save_now(&device(number, (1 << 40) + number))
            .expect("room");
    }
    let each = (resident_bytes() - before) / CLIENTS;
    println!("{each} bytes per client");
    assert!((50..=200).contains(&each), "{each} bytes per client");
}
