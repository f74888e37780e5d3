//! A snapshot that was carried to another log is the same but for the places of its messages, and each message is
//! there with its bytes.

mod group_common;
mod log_common;

use bytes::Bytes;
use group_common::{Node, files, message, options};
use mqtt_fleet_broker::consensus::Position;
use mqtt_fleet_broker::limits::MachineLimits;
use mqtt_fleet_broker::log::{
    Durability, Location, Log, LogError, LogHandle, LogOptions, SnapshotStore,
};
use mqtt_fleet_broker::machine::State;
use mqtt_fleet_broker::transfer::{Receiver, Sender};
use proptest::prelude::*;
use std::io::Read;
use std::path::Path;

/// The parts of a snapshot that have to do with messages.
#[derive(Debug, PartialEq)]
struct Parts {
    head: Vec<u8>,
    places: Vec<Option<Message>>,
    free: Vec<u8>,
    newest: Option<u32>,
    rest: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Message {
    refs: u32,
    record: Location,
    offset: u32,
    len: u32,
    rest: [u8; 17],
}

fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).expect("it goes on");
    bytes
}

fn word(from: &mut &[u8]) -> u32 {
    u32::from_le_bytes(take(from))
}

fn parts(mut content: &[u8]) -> Parts {
    let from = &mut content;
    let head = take::<36>(from).to_vec();
    let place = |from: &mut &[u8]| match word(from) {
        0 => None,
        refs => Some(Message {
            refs,
            record: Location {
                segment: word(from),
                offset: word(from),
            },
            offset: word(from),
            len: word(from),
            rest: take(from),
        }),
    };
    let places = (0..word(from)).map(|_| place(from)).collect();
    let free = (0..word(from)).flat_map(|_| take::<4>(from)).collect();
    let newest = (take(from) == [1]).then(|| word(from));
    Parts {
        head,
        places,
        free,
        newest,
        rest: from.to_vec(),
    }
}

fn content(store: &SnapshotStore) -> (Position, Vec<u8>) {
    let mut found = store.latest(0).expect("whole").expect("there is one");
    let position = Position::read(&mut found.content).expect("it begins with one");
    let mut content = Vec::new();
    found.content.read_to_end(&mut content).expect("readable");
    (position, content)
}

fn open_log(data: &Path) -> LogHandle {
    let log = LogOptions {
        segment_bytes: 1 << 20,
        ..LogOptions::default()
    };
    Log::open(data, log, Box::new(|| {})).expect("whole").0
}

/// A member's folder.
struct Member {
    dir: tempfile::TempDir,
    log: LogHandle,
    files: SnapshotStore,
}

/// One with a snapshot of what came of these publishes: topic, bytes, retained.
fn sender(publishes: &[(u8, usize, bool)]) -> Member {
    let dir = tempfile::tempdir().expect("a folder");
    let mut small = options(dir.path(), Durability::Os);
    small.snapshot_bytes = 64 << 10;
    let mut node = Node::start(small);
    for id in ["away", "here"] {
        let client = node.connect(id);
        node.subscribe(client, if id == "away" { "t/#" } else { "t/1" });
        if id == "away" {
            node.disconnect(client);
        }
    }
    let here = node.connect("publisher");
    for (topic, len, retain) in publishes {
        let message = message(&format!("t/{topic}"), 7, 8 + len);
        node.publish(here, *retain, vec![message]);
    }
    let snapshots = dir.path().join("snapshots");
    node.wait_until("a snapshot", |_| {
        files(&snapshots)
            .iter()
            .any(|path| path.extension().is_some_and(|e| e == "snapshot"))
    });
    node.stop();
    // As a member of a group writes it.
    let plain = SnapshotStore::open(dir.path()).expect("opens");
    let mut found = plain.latest(0).expect("whole").expect("there is one");
    let mut bytes = Vec::new();
    found.content.read_to_end(&mut bytes).expect("readable");
    let position = Position {
        index: found.index,
        term: 3,
        members: Bytes::from_static(b"a, b and c"),
    };
    let files = SnapshotStore::open(&dir.path().join("member")).expect("opens");
    files
        .write(0, found.index, |out| {
            position.write(out)?;
            out.write_all(&bytes)
        })
        .expect("written");
    Member {
        log: open_log(dir.path()),
        files,
        dir,
    }
}

/// One whose log has other things in it.
fn receiver() -> Member {
    let dir = tempfile::tempdir().expect("a folder");
    let log = open_log(dir.path());
    log_common::append(&log, 0, 1..30, 1_000);
    Member {
        log,
        files: SnapshotStore::open(dir.path()).expect("opens"),
        dir,
    }
}

fn chunks(from: &Member) -> Vec<Bytes> {
    let sender = Sender::open(&from.files, &from.log).expect("whole");
    rest(sender.expect("there is one"))
}

fn rest(mut sender: Sender) -> Vec<Bytes> {
    std::iter::from_fn(|| sender.next_chunk().expect("readable")).collect()
}

fn receive(to: &Member, chunks: &[Bytes]) -> Result<Position, LogError> {
    let mut receiver = Receiver::new(&to.files, &to.log);
    for chunk in chunks {
        receiver.take(chunk)?;
    }
    receiver.finish()
}

fn body(log: &LogHandle, message: &Message) -> Bytes {
    let read = log.read(message.record, message.offset, message.len);
    read.expect("it is there")
}

fn assert_same(from: &Member, to: &Member) {
    let ((position, before), (received, after)) = (content(&from.files), content(&to.files));
    assert_eq!(position, received);
    let restored = State::restore(&mut &after[..], MachineLimits::default());
    restored.expect("it is a snapshot");
    let (before, after) = (parts(&before), parts(&after));
    assert_eq!((&before.head, &before.free), (&after.head, &after.free));
    assert_eq!(before.rest, after.rest);
    assert_eq!(before.places.len(), after.places.len());
    for (old, new) in before.places.iter().zip(&after.places) {
        assert_eq!(old.is_some(), new.is_some());
        let (Some(old), Some(new)) = (old, new) else {
            continue;
        };
        assert_eq!((old.refs, old.len, old.rest), (new.refs, new.len, new.rest));
        assert_eq!(body(&from.log, old), body(&to.log, new));
    }
    let newest = after.places.iter().flatten().map(|m| m.record.segment);
    assert_eq!(after.newest, newest.max());
}

fn publishes() -> impl Strategy<Value = Vec<(u8, usize, bool)>> {
    let publish = (0..6_u8, 0..9_000_usize, any::<bool>());
    prop::collection::vec(publish, 60..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn what_was_carried_is_the_same(publishes in publishes()) {
        let (from, to) = (sender(&publishes), receiver());
        let position = receive(&to, &chunks(&from)).expect("received");
        prop_assert_eq!(position, content(&from.files).0);
        assert_same(&from, &to);
    }
}

/// More than one segment, all of it for a client that is away.
fn much() -> Member {
    sender(
        &(0..200_u8)
            .map(|n| (n % 7, 16_000, false))
            .collect::<Vec<_>>(),
    )
}

#[test]
fn segments_stay_while_they_are_read() {
    let (from, to) = (much(), receiver());
    let sender = Sender::open(&from.files, &from.log).expect("whole");
    let sender = sender.expect("there is one");
    let ids: Vec<u32> = from.log.segments().iter().map(|info| info.id).collect();
    assert!(ids.len() > 2);
    assert_eq!(from.log.release(&ids), 0);
    let chunks = rest(sender);
    assert_eq!(from.log.segments().len(), 1, "they go afterwards");
    receive(&to, &chunks).expect("received");
    let (_, carried) = content(&to.files);
    let messages = parts(&carried).places.into_iter().flatten();
    for message in messages {
        let bytes = body(&to.log, &message);
        assert!(bytes.iter().any(|byte| *byte != 0), "it is no placeholder");
    }
}

#[test]
fn messages_that_are_gone_are_replaced() {
    let (from, to) = (much(), receiver());
    let first = from.log.segments()[0].id;
    assert_eq!(from.log.release(&[first]), 1);
    let sender = Sender::open(&from.files, &from.log).expect("whole");
    let mut sender = sender.expect("there is one");
    let mut receiver = Receiver::new(&to.files, &to.log);
    while let Some(chunk) = sender.next_chunk().expect("readable") {
        receiver.take(&chunk).expect("taken");
    }
    assert!(sender.gone() > 5);
    receiver.finish().expect("received");
    let (before, after) = (content(&from.files).1, content(&to.files).1);
    let (before, after) = (parts(&before).places, parts(&after).places);
    let mut gone = 0;
    for (old, new) in before.iter().flatten().zip(after.iter().flatten()) {
        assert_eq!(old.len, new.len);
        let new = body(&to.log, new);
        if old.record.segment == first {
            gone += 1;
            assert!(new.iter().all(|byte| *byte == 0));
        } else {
            assert_eq!(body(&from.log, old), new);
        }
    }
    assert_eq!(gone, sender.gone());
}

#[test]
fn what_is_not_whole_is_not_there() {
    let (from, to) = (much(), receiver());
    let sent = chunks(&from);
    assert!(sent.len() > 5);
    for at in 0..sent.len() {
        let mut other = sent.clone();
        let mut bytes = other[at].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        other[at] = bytes.into();
        receive(&to, &other).expect_err("a chunk is another one");
        let mut other = sent.clone();
        other.remove(at);
        receive(&to, &other).expect_err("a chunk is missing");
        other.insert(at, sent[at].clone());
        other.insert(at, sent[at].clone());
        receive(&to, &other).expect_err("a chunk comes twice");
    }
    assert!(to.files.latest(0).expect("readable").is_none());
    receive(&to, &sent).expect("it can be begun again");
    assert_same(&from, &to);
    receive(&to, &sent).expect_err("it has this one");
}

#[test]
fn a_damaged_snapshot_is_found_out_before_its_last_chunk() {
    let (from, to) = (much(), receiver());
    let index = from.files.newest(0).expect("a folder").expect("one");
    let folder = from.dir.path().join("member/snapshots");
    let path = folder.join(format!("00000-{index:020}.snapshot"));
    let whole = std::fs::read(&path).expect("there");
    for at in (24..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        // Nothing but the head was read to open it.
        let Ok(Some(mut sender)) = Sender::open(&from.files, &from.log) else {
            assert!(at < 24 + 40, "it has another position");
            continue;
        };
        let mut receiver = Receiver::new(&to.files, &to.log);
        let ended = loop {
            match sender.next_chunk() {
                Ok(Some(chunk)) => {
                    // It may find out itself.
                    let _taken = receiver.take(&chunk);
                }
                ended => break ended,
            }
        };
        ended.expect_err("it does not end well");
        receiver.finish().expect_err("it is not whole");
    }
    std::fs::write(&path, whole).expect("written");
    receive(&to, &chunks(&from)).expect("it is whole again");
}

#[test]
fn neither_end_keeps_many_messages_in_memory() {
    const MESSAGES: u32 = 300_000;
    let (from, to) = (receiver(), receiver());
    let mut batch = mqtt_fleet_broker::log::Appends::new();
    batch.push(0, 30, &[7; 100]).expect("fits");
    from.log.append(&mut batch).expect("healthy");
    let at = batch.locations()[0];
    let index = 900;
    from.files
        .write(0, index, |out| {
            let position = Position {
                index,
                ..Position::default()
            };
            position.write(out)?;
            out.write_all(&[0; 36])?;
            out.write_all(&MESSAGES.to_le_bytes())?;
            for _ in 0..MESSAGES {
                for field in [1, at.segment, at.offset, 0, 100] {
                    out.write_all(&u32::to_le_bytes(field))?;
                }
                out.write_all(&[5; 17])?;
            }
            out.write_all(&[0; 5])?;
            out.write_all(b"the rest")
        })
        .expect("written");
    let sender = Sender::open(&from.files, &from.log).expect("whole");
    let mut sender = sender.expect("there is one");
    let mut receiver = Receiver::new(&to.files, &to.log);
    while let Some(chunk) = sender.next_chunk().expect("readable") {
        assert!(chunk.len() < 300 << 10);
        receiver.take(&chunk).expect("taken");
        assert!(to.log.pending_bytes() < 6 << 20);
    }
    receiver.finish().expect("received");
    assert_eq!(to.log.pending_bytes(), 0, "it is durable");
    let parts = parts(&content(&to.files).1);
    assert_eq!(
        (parts.places.len() as u32, &parts.rest[..]),
        (MESSAGES, &b"the rest"[..])
    );
    let last = parts.places.last().expect("some").expect("a message");
    assert_eq!(body(&to.log, &last), [7; 100][..]);
}
