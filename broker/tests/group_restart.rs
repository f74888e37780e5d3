//! What a group has acknowledged is there after a stop and after a kill, from a snapshot and the log behind it.

mod group_common;

use std::path::Path;

use group_common::{Node, files, killed, message, number, options};
use mqtt_fleet_broker::log::Durability;

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
    node.wait_until("a snapshot", |_| !files(&data.join("snapshots")).is_empty());
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
