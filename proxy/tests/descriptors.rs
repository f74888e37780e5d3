//! A process without free descriptors refuses connections and keeps those it has.
//!
//! Alone in its process: the limit holds for all threads.

mod support;

use mqtt_fleet_proxy::limits::ProxyLimits;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::Command;
use support::Server;

#[test]
fn connections_beyond_the_descriptor_limit_are_refused_and_the_others_live_on() {
    let server = Server::start(ProxyLimits::default());
    let mut clients: Vec<_> = (0..5).map(|n| server.client(&format!("c{n}"))).collect();
    let files = fill_gaps();
    // Room for one more: the client's own socket, so that the shard has none for its end.
    limit_descriptors(files.last().expect("one").as_raw_fd() + 2);
    for refused in 1..=3 {
        let mut client = server.socket();
        assert_eq!(
            client.socket.read(&mut [0; 8]).expect("closed, not reset"),
            0
        );
        server.wait_for("the count", |counters| {
            counters.refused_descriptors.get() == refused
        });
    }
    clients.iter_mut().for_each(support::Client::ping);
    drop(files);
    let mut late = server.client("late");
    late.ping();
    server.stop();
}

/// Opens files until there is no free descriptor below the highest used one.
fn fill_gaps() -> Vec<File> {
    let used = || {
        let names = std::fs::read_dir("/proc/self/fd").expect("Linux");
        let numbers = names.map(|name| {
            name.expect("readable")
                .file_name()
                .into_string()
                .expect("digits")
        });
        numbers
            .map(|number| number.parse().expect("digits"))
            .max()
            .expect("some are open")
    };
    let highest: i32 = used();
    let mut files = Vec::new();
    loop {
        let file = File::open("/dev/null").expect("there is room still");
        let done = file.as_raw_fd() > highest;
        files.push(file);
        if done {
            return files;
        }
    }
}

fn limit_descriptors(limit: i32) {
    let status = Command::new("prlimit")
        .args([
            "--pid",
            &std::process::id().to_string(),
            &format!("--nofile={limit}:"),
        ])
        .status()
        .expect("prlimit of util-linux is there");
    assert!(status.success());
}
