//! Space is given back: segments go when nothing lives in them, and when little does.

mod group_common;
mod small_disk;

use group_common::{Node, killed, message, number, options};
use mqtt_fleet_broker::log::{Durability, WhenFull};
use small_disk::small_disk;

const LEN: usize = 4 << 10;

/// Publishes 20 MiB that a subscriber answers at once.
fn pass_through(node: &mut Node) {
    let subscriber = node.connect("subscriber");
    node.subscribe(subscriber, "t");
    for batch in 0..50 {
        let numbers = batch * 100..(batch + 1) * 100;
        let messages = numbers.clone().map(|n| message("t", n, LEN)).collect();
        node.publish(subscriber, false, messages);
        for n in numbers {
            assert_eq!(number(&node.receive(subscriber)), n);
        }
    }
}

#[test]
fn segments_go_when_their_messages_are_answered() {
    let data = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(options(data.path(), Durability::Os));
    pass_through(&mut node);
    node.wait_until("the release of segments", |node| {
        node.log.segments().len() <= 6
    });
    node.stop();
    Node::start(options(data.path(), Durability::Os)).stop();
}

#[test]
fn memory_goes_without_any_snapshot() {
    let data = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(options(data.path(), Durability::Memory));
    pass_through(&mut node);
    node.wait_until("the release of segments", |node| {
        node.log.segments().len() <= 3
    });
    // Entries without any message: long client ids that come and go.
    for n in 0..200 {
        let id = format!("{n}{}", "x".repeat(60_000));
        let client = node.connect(&id);
        node.disconnect(client);
    }
    node.wait_until("the release of segments without messages", |node| {
        node.log.segments().len() <= 3
    });
    node.stop();
}

#[test]
fn few_retained_messages_do_not_keep_the_log() {
    const UPDATES: u32 = 8_000;
    /// One update in so many is of a topic that is never updated again.
    const COLD: u32 = 100;
    let data = tempfile::tempdir().expect("a folder");
    let mut node = Node::start(options(data.path(), Durability::Os));
    let publisher = node.connect("publisher");
    for batch in 0..UPDATES / COLD {
        let numbers = batch * COLD..(batch + 1) * COLD;
        let mut messages: Vec<_> = numbers
            .map(|n| message(&format!("hot/{}", n % 4), n, LEN))
            .collect();
        messages.push(message(&format!("cold/{batch}"), batch, LEN));
        node.publish(publisher, true, messages);
    }
    assert!(
        node.log
            .stats()
            .bytes
            .load(std::sync::atomic::Ordering::Relaxed)
            > 31 << 20
    );
    // About 32 segments were written and each has a message that lives.
    node.wait_until("the release of sparse segments", |node| {
        node.log.segments().len() <= 12
    });
    let copy = killed(data.path());
    node.stop();
    for data in [data.path(), copy.path()] {
        let mut node = Node::start(options(data, Durability::Os));
        let client = node.connect("reader");
        node.subscribe(client, "#");
        let mut found = std::collections::BTreeMap::new();
        for _ in 0..UPDATES / COLD + 4 {
            let message = node.receive(client);
            let n = number(&message);
            assert_eq!(found.insert(message.topic().to_string(), n), None);
        }
        for batch in 0..UPDATES / COLD {
            assert_eq!(found[&format!("cold/{batch}")], batch);
        }
        for n in UPDATES - 4..UPDATES {
            assert_eq!(found[&format!("hot/{}", n % 4)], n);
        }
        node.stop();
    }
}

#[test]
fn a_disk_that_is_behind_makes_a_group_wait_and_not_fail() {
    let data = tempfile::tempdir().expect("a folder");
    let mut small = options(data.path(), Durability::Fsync);
    small.log.pending_bytes_max = 8 << 10;
    let mut node = Node::start(small);
    let subscriber = node.connect("subscriber");
    node.subscribe(subscriber, "t");
    let messages = (0..1_000).map(|n| message("t", n, LEN)).collect();
    node.publish(subscriber, false, messages);
    for n in 0..1_000 {
        assert_eq!(number(&node.receive(subscriber)), n);
    }
    let stats = node.log.stats();
    let refused = stats
        .backlog_refusals
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(refused > 0, "the log was never full: nothing was tested");
    node.stop();
}

#[test]
fn a_snapshot_without_space_is_tried_again() {
    // The first segment is there from the start, and a snapshot of much finds no space beside it.
    let Some(disk) = small_disk(2_000) else {
        return;
    };
    let data = disk.path().join("data");
    let mut small = options(&data, Durability::Fsync);
    small.log.when_full = WhenFull::Wait;
    small.snapshot_bytes = 600 << 10;
    let mut node = Node::start(small);
    let topic = |n: u32| format!("{n}/{}", "t".repeat(900));
    let publisher = node.connect("publisher");
    let ballast = data.join("ballast");
    std::fs::write(&ballast, vec![1; 700 << 10]).expect("there is room");
    for batch in 0..7 {
        let messages = (batch * 100..batch * 100 + 100).map(|n| message(&topic(n), n, 8));
        node.publish(publisher, true, messages.collect());
    }
    node.wait_until("a snapshot that is given up", |node| {
        node.status().snapshots_without_space > 0
    });
    node.publish(publisher, true, vec![message("t", 1, 8)]);
    let is_whole = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "snapshot");
    let snapshots = || {
        let files = group_common::files(&data.join("snapshots"));
        files.into_iter().filter(is_whole).count()
    };
    assert_eq!(snapshots(), 0);
    std::fs::remove_file(&ballast).expect("it is there");
    node.wait_until("a snapshot", |_| snapshots() > 0);
    node.stop();
    Node::start(options(&data, Durability::Fsync)).stop();
}
