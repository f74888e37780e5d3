//! Which time a reign goes by.

use super::*;
use crate::command_codec::decode_entry_within;
use crate::consensus::{Consensus, Entry, Event, Payload, Position};
use crate::log::{Location, LogOptions};
use crate::{GroupOptions, OpenGroup};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: u64 = 3_600_000;

/// Members that agree with whatever this one proposes.
#[derive(Clone)]
struct Agreeable {
    events: Arc<Mutex<VecDeque<Event>>>,
    term: u64,
    index: u64,
    /// By how much this member's wall clock is ahead of the median.
    ahead_ms: Arc<AtomicU64>,
    /// Hears the time of each entry.
    times: SyncSender<u64>,
}

impl Consensus for Agreeable {
    fn propose(&mut self, body: Vec<u8>) {
        self.index += 1;
        let body = Bytes::from(body);
        let at = Location {
            segment: 0,
            offset: 0,
        };
        let decoded = decode_entry_within(self.index, &body, at, 0).expect("an entry");
        let entry = Entry {
            term: self.term,
            index: self.index,
            at,
            payload: Payload::Commands { body, offset: 0 },
        };
        let mut events = self.events.lock().expect("no panic");
        events.push_back(Event::Entry(entry));
        drop(events);
        // Whoever hears of it may have the next reign begin.
        self.times.try_send(decoded.time_ms).expect("few entries");
    }

    fn next(&mut self) -> Option<Event> {
        let event = self.events.lock().expect("no panic").pop_front();
        if let Some(Event::Lead { term }) = event {
            self.term = term;
        }
        event
    }

    fn pending_bytes(&self) -> usize {
        0
    }

    fn leads_until(&self) -> Option<Instant> {
        Some(Instant::now() + PATIENCE)
    }

    fn wall_ms(&self, own_ms: u64) -> u64 {
        own_ms - self.ahead_ms.load(Ordering::Acquire)
    }

    fn snapshot_written(&mut self, _at: Position) {}

    fn is_full(&self) -> bool {
        false
    }

    fn failure(&self) -> Option<LogError> {
        None
    }
}

#[test]
fn a_reign_goes_by_the_members_clocks_and_never_back() {
    let data = tempfile::tempdir().expect("a folder");
    let (tell, times) = sync_channel(1_000);
    let agreeable = Agreeable {
        events: Arc::default(),
        term: 0,
        index: 0,
        ahead_ms: Arc::new(AtomicU64::new(10 * HOUR_MS)),
        times: tell,
    };
    let consensus = agreeable.clone();
    let options = GroupOptions {
        data: data.path().to_path_buf(),
        log: LogOptions::default(),
        limits: crate::limits::MachineLimits::default(),
        snapshot_bytes: 1 << 20,
    };
    let open = OpenGroup::open_member(
        options,
        |_| Position::default(),
        Box::new(|| {}),
        |_| Ok::<_, LogError>(Box::new(consensus) as Box<dyn Consensus>),
    );
    let open = open.expect("a new folder");
    let waker = open.waker();
    let failed = |error: &LogError| eprintln!("the group failed: {error}");
    let group = open.start(Vec::new(), Box::new(failed)).expect("a thread");
    let reign = |term, ahead_ms| {
        agreeable.ahead_ms.store(ahead_ms, Ordering::Release);
        let lead = Event::Lead { term };
        agreeable.events.lock().expect("no panic").push_back(lead);
        waker.nudge();
        times.recv_timeout(PATIENCE).expect("it begins its reign")
    };
    let own_ms = clocks(Instant::now()).wall_ms;
    let first = reign(1, 10 * HOUR_MS);
    assert!(
        first.abs_diff(own_ms - 10 * HOUR_MS) < HOUR_MS,
        "{first} by a clock that shows {own_ms}"
    );
    let second = reign(2, 12 * HOUR_MS);
    assert!(
        (first..first + HOUR_MS).contains(&second),
        "{second} after {first}"
    );
    group.stop().expect("it stops");
}
