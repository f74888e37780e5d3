//! What the tests share.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod server;

use std::future::Future;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use mqtt_fleet_session_store::{
    EmbeddedStore, Event, EventKind, Filter, FilterOptions, Journal, Record, StoreError,
};

/// Runs a future that never has to wait.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an embedded store answers at once"),
    }
}

/// The record of a device with one subscription, as most are.
pub(crate) fn device(number: u64, epoch: u64) -> Record {
    let client_id = format!("device-{number:06}");
    let connected_at_ms = 1_790_000_000_000 + number;
    Record {
        filters: vec![Filter {
            filter: format!("devices/{client_id}/cmd"),
            options: FilterOptions {
                qos: 1,
                ..FilterOptions::default()
            },
            subscription_id: None,
        }],
        client_id,
        epoch,
        protocol_version: 4,
        user: None,
        node: "node-1".to_owned(),
        address: Some(([10, 1, 2, 3], 41_000).into()),
        clean_start: false,
        expiry_s: 7 * 24 * 3600,
        connected_at_ms,
        disconnected_at_ms: None,
        history: vec![Event {
            at_ms: connected_at_ms,
            kind: EventKind::Connected,
        }],
    }
}

/// A journal in a file: length and operation, one after the other.
pub(crate) struct FileJournal {
    path: PathBuf,
    file: Mutex<std::fs::File>,
}

impl FileJournal {
    pub(crate) fn open(path: &Path) -> Self {
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .expect("opens");
        Self {
            path: path.to_owned(),
            file: Mutex::new(file),
        }
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> u64 {
        std::fs::metadata(&self.path).expect("there").len()
    }
}

impl Journal for FileJournal {
    fn append(&self, op: &[u8]) -> Result<(), StoreError> {
        let framed = [&(op.len() as u32).to_le_bytes(), op].concat();
        self.file
            .lock()
            .expect("nobody panics")
            .write_all(&framed)?;
        Ok(())
    }
}

/// Gives the whole operations of a journal from byte `from` on to a store. Returns how many.
pub(crate) fn replay<J: Journal>(path: &Path, from: u64, store: &EmbeddedStore<J>) -> usize {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .expect("there")
        .read_to_end(&mut bytes)
        .expect("readable");
    let mut rest = &bytes[from as usize..];
    let mut count = 0;
    while let Some((len, behind)) = rest.split_first_chunk() {
        let len = u32::from_le_bytes(*len) as usize;
        let Some(op) = behind.get(..len) else { break };
        store.replay(op).expect("a whole operation");
        rest = &behind[len..];
        count += 1;
    }
    count
}
