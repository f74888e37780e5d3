//! What a group has acknowledged is there after a stop and after a kill, from a snapshot and the log behind it.

mod group_common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use group_common::{Node, files, killed, message, number, options};
use mqtt_fleet_broker::OpenGroup;
use mqtt_fleet_broker::log::{Durability, LogError};

const MESSAGES: u32 = 2_000;
const LEN: usize = 4 << 10;

/// A session that is away is owed all messages; 8 MiB of them, so that some snapshots are built meanwhile.
fn fill(data: &Path) -> Node {
    let mut node = Node::start(options(data, Durability::Os));
    let away = node.connect("away");
    node.subscribe(away, "t/#");
    node.disconnect(away);
    let publisher = node.connect("publisher");
    for batch in 0..MESSAGES / 100 {
        let numbers = batch * 100..(batch + 1) * 100;
        let messages = numbers.map(|n| message("t/x", n, LEN)).collect();
        node.publish(publisher, false, messages);
    }
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|it| it == "snapshot");
    node.wait_until("a snapshot", |_| {
        files(&data.join("snapshots")).iter().any(is_whole)
    });
    node
}

fn check(data: &Path) {
    let mut node = Node::start(options(data, Durability::Os));
    let client = node.connect("away");
    assert!(client.session_present);
    for n in 0..MESSAGES {
        assert_eq!(number(&node.receive(client)), n);
    }
    node.wait_until("the end of the last message", |node| {
        node.status().counters.messages == 0
    });
    node.stop();
}

#[test]
fn all_messages_are_there_after_a_stop() {
    let data = tempfile::tempdir().expect("a folder");
    fill(data.path()).stop();
    check(data.path());
}

#[test]
fn all_messages_are_there_after_a_kill() {
    let data = tempfile::tempdir().expect("a folder");
    let node = fill(data.path());
    let copy = killed(data.path());
    check(copy.path());
    node.stop();
}

#[test]
fn a_file_that_is_missing_is_damage_though_a_snapshot_covers_its_entries() {
    let data = tempfile::tempdir().expect("a folder");
    fill(data.path()).stop();
    let log = files(&data.path().join("log"));
    let is_segment = |path: &&PathBuf| path.extension().is_some_and(|it| it == "segment");
    let oldest = log.iter().filter(is_segment).min().expect("there are some");
    std::fs::remove_file(oldest).expect("it was there");
    let opened = OpenGroup::open(options(data.path(), Durability::Fsync), Box::new(()));
    let open = opened.expect("a snapshot covers its entries");
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let failed = move |error: &LogError| tell.try_send(error.clone()).expect("it fails once");
    let group = open.start(Vec::new(), Box::new(failed)).expect("a thread");
    let error = told
        .recv_timeout(Duration::from_secs(60))
        .expect("it fails");
    assert!(error.is_damage(), "{error}");
    assert!(
        error.to_string().contains(&*oldest.to_string_lossy()),
        "{error}"
    );
    assert!(group.stop().is_err(), "it has failed");
}

#[test]
fn what_was_answered_is_not_sent_again_after_many_restarts() {
    let data = tempfile::tempdir().expect("a folder");
    fill(data.path()).stop();
    let restarts = 4;
    for part in 0..restarts {
        let mut node = Node::start(options(data.path(), Durability::Fsync));
        let client = node.connect("away");
        let each = MESSAGES / restarts;
        for n in part * each..(part + 1) * each {
            assert_eq!(number(&node.receive(client)), n);
        }
        let left = u64::from(MESSAGES - (part + 1) * each);
        node.wait_until("the answers", |node| {
            node.status().counters.messages == left
        });
        node.stop();
    }
}
