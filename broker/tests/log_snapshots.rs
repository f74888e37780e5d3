//! A snapshot is whole or not there, and a damaged one is refused by name.

use std::io::{self, Read, Write as _};

use mqtt_fleet_broker::log::{LogError, SnapshotStore};

fn content(store: &SnapshotStore, stream: u16) -> Option<(u64, Vec<u8>)> {
    let mut found = store.latest(stream).expect("undamaged")?;
    let mut bytes = Vec::new();
    found.content.read_to_end(&mut bytes).expect("readable");
    assert_eq!(bytes.len() as u64, found.len);
    Some((found.index, bytes))
}

#[test]
fn the_newest_of_each_stream_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    assert_eq!(content(&store, 0), None);
    for index in [5, 90, 1000] {
        store
            .write(0, index, |out| write!(out, "at {index}"))
            .expect("written");
    }
    store.write(0xFFFF, 7, |_| Ok(())).expect("written");
    let large: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    store
        .write(3, 1, |out| {
            large.chunks(999).try_for_each(|part| out.write_all(part))
        })
        .expect("written");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    assert_eq!(content(&store, 0), Some((1000, b"at 1000".to_vec())));
    assert_eq!(content(&store, 0xFFFF), Some((7, Vec::new())));
    assert_eq!(content(&store, 3), Some((1, large)));
    assert_eq!(store.prune(0, 2).expect("pruned"), 1);
    assert_eq!(store.prune(0, 0).expect("pruned"), 1, "one always stays");
    assert_eq!(content(&store, 0), Some((1000, b"at 1000".to_vec())));
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    let error = store.write(0, 1, |out| {
        out.write_all(b"half")?;
        Err(io::Error::other("the machine is gone"))
    });
    assert!(matches!(error, Err(LogError::Io { .. })), "{error:?}");
    assert_eq!(
        std::fs::read_dir(dir.path().join("snapshots"))
            .expect("a folder")
            .count(),
        0
    );
    std::fs::write(dir.path().join("snapshots/00000-1.unfinished"), b"half").expect("written");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    assert_eq!(content(&store, 0), None);
    assert_eq!(
        std::fs::read_dir(dir.path().join("snapshots"))
            .expect("a folder")
            .count(),
        0
    );
}

#[test]
fn any_bit_and_any_length_count() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    store
        .write(2, 1, |out| out.write_all(b"an older one"))
        .expect("written");
    store
        .write(2, 9, |out| out.write_all(b"the content"))
        .expect("written");
    let path = dir
        .path()
        .join("snapshots/00002-00000000000000000009.snapshot");
    let whole = std::fs::read(&path).expect("there");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        match store.latest(2) {
            Err(LogError::Damaged { file, .. } | LogError::Unsupported { file, .. }) => {
                assert_eq!(file, path);
            }
            other => panic!("{other:?}"),
        }
    };
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            refused(&bytes);
        }
        refused(&whole[..at]);
    }
    refused(&[&whole[..], &[0]].concat());
    std::fs::write(&path, &whole).expect("written");
    assert_eq!(content(&store, 2), Some((9, b"the content".to_vec())));
}

#[test]
fn one_that_comes_in_and_one_of_its_own_are_not_in_each_others_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    let mut received = store.begin_received(0, 9).expect("begun");
    received.write_all(b"theirs").expect("written");
    let mut own = store.begin(0, 9).expect("begun");
    own.write_all(b"own").expect("written");
    drop(received);
    own.finish().expect("it is there");
    assert_eq!(content(&store, 0), Some((9, b"own".to_vec())));
    std::mem::forget(store.begin_received(0, 10).expect("begun"));
    let store = SnapshotStore::open(dir.path()).expect("opens");
    let left = std::fs::read_dir(dir.path().join("snapshots")).expect("a folder");
    assert_eq!(left.count(), 1, "what a crash left is removed");
    assert_eq!(content(&store, 0), Some((9, b"own".to_vec())));
}

#[test]
fn one_that_is_read_while_it_is_pruned_stays_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = SnapshotStore::open(dir.path()).expect("opens");
    let old: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 249) as u8).collect();
    store.write(0, 1, |out| out.write_all(&old)).expect("fits");
    let checked = store.latest(0).expect("undamaged").expect("there");
    let unchecked = store.latest_unchecked(0).expect("undamaged");
    store
        .write(0, 2, |out| out.write_all(b"new"))
        .expect("fits");
    assert_eq!(store.prune(0, 1).expect("pruned"), 1);
    for mut reader in [
        Box::new(checked.content) as Box<dyn Read>,
        Box::new(unchecked.expect("there")),
    ] {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("readable");
        assert!(bytes == old, "{} bytes", bytes.len());
    }
    let left = std::fs::read_dir(dir.path().join("snapshots"));
    assert_eq!(left.expect("a folder").count(), 1);
    assert_eq!(content(&store, 0), Some((2, b"new".to_vec())));
}
