//! What the actors share: whether the broker is up, how far they may go, and what was acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a round, or the last delivery, may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// One publisher's messages of one `QoS`, all on one topic: what has an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stream {
    pub(crate) publisher: u8,
    pub(crate) qos: u8,
}

impl Stream {
    pub(crate) fn topic(self) -> String {
        format!("load/{}/{}", self.publisher, self.qos)
    }

    pub(crate) fn of_topic(topic: &str) -> Self {
        let mut parts = topic
            .split('/')
            .skip(1)
            .map(|n| n.parse().expect("a number"));
        let mut next = || parts.next().expect("load/<publisher>/<qos>");
        Self {
            publisher: next(),
            qos: next(),
        }
    }
}

/// What an actor should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Rounds go on.
    Working,
    /// No new messages; finish what is in flight.
    LastPublishes,
    /// Receive all that was acknowledged, then end.
    LastDeliveries,
    /// A promise was broken: stop.
    Failed,
}

struct State {
    /// Counts the starts of the broker.
    generation: u64,
    is_up: bool,
    round: u64,
    phase: Phase,
    /// Highest sequence number that may be published in each stream.
    budget: u64,
    acks: u64,
    acked: BTreeMap<Stream, u64>,
    violations: Vec<String>,
}

pub(crate) struct Stage {
    pub(crate) addr: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

impl Stage {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let state = State {
            generation: 1,
            is_up: true,
            round: 0,
            phase: Phase::Working,
            budget: 0,
            acks: 0,
            acked: BTreeMap::new(),
            violations: Vec::new(),
        };
        Self {
            addr,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no actor panics while it holds the stage")
    }

    /// Waits until `ready`, or the test has failed; `None` at the deadline.
    fn wait<T>(&self, wait: Duration, ready: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + wait;
        let mut state = self.lock();
        loop {
            if let Some(value) = ready(&state) {
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .expect("see lock()")
                .0;
        }
    }

    // ---- the coordinator's side ----

    /// Starts a round with a larger budget; acknowledgements so far.
    pub(crate) fn grant(&self, round: u64, more: u64) -> u64 {
        let mut state = self.lock();
        state.round = round;
        state.budget += more;
        self.changed.notify_all();
        state.acks
    }

    /// Waits for that many acknowledgements in all, under load: the moment of a kill.
    ///
    /// Fewer can come than were hoped for (what was granted may be used up): then the kill hits a quiet broker.
    pub(crate) fn await_acks(&self, target: u64) {
        let reached = self.wait(PATIENCE, |s| {
            let done = s.acks >= target || s.phase == Phase::Failed;
            done.then_some(())
        });
        assert!(
            reached.is_some(),
            "{} of {target} acknowledgements in {PATIENCE:?}",
            self.acks()
        );
        self.assert_no_violation();
    }

    /// The broker is gone; whether publishers still had something to send.
    pub(crate) fn down(&self) -> bool {
        let mut state = self.lock();
        state.is_up = false;
        state.acked.values().any(|seq| *seq < state.budget)
    }

    pub(crate) fn up(&self) {
        let mut state = self.lock();
        state.is_up = true;
        state.generation += 1;
        self.changed.notify_all();
    }

    pub(crate) fn finish_publishing(&self) {
        self.enter(Phase::LastPublishes);
    }

    pub(crate) fn finish_receiving(&self) {
        self.enter(Phase::LastDeliveries);
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        if state.phase != Phase::Failed {
            state.phase = phase;
        }
        self.changed.notify_all();
    }

    pub(crate) fn acks(&self) -> u64 {
        self.lock().acks
    }

    pub(crate) fn assert_no_violation(&self) {
        let violations = std::mem::take(&mut self.lock().violations);
        assert!(
            violations.is_empty(),
            "broken promises:\n{}",
            violations.join("\n")
        );
    }

    // ---- the actors' side ----

    pub(crate) fn violation(&self, text: String) {
        let mut state = self.lock();
        state.phase = Phase::Failed;
        state.violations.push(text);
        self.changed.notify_all();
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    pub(crate) fn round(&self) -> u64 {
        self.lock().round
    }

    pub(crate) fn budget(&self) -> u64 {
        self.lock().budget
    }

    /// Waits until the broker is up in a start other than `failed` (one that this actor found dead); its number.
    pub(crate) fn await_up(&self, failed: u64) -> Option<u64> {
        let up = self.wait(PATIENCE, |s| match s.phase {
            Phase::Failed => Some(None),
            _ => (s.is_up && s.generation != failed).then_some(Some(s.generation)),
        });
        up.expect("the coordinator starts the broker again")
    }

    /// Waits until there is more to publish than `seq` of each stream, or the phase or the broker changes.
    pub(crate) fn await_work(&self, seq: u64, generation: u64) {
        let _ = self.wait(PATIENCE, |s| {
            let change = s.budget > seq || s.phase != Phase::Working || s.generation != generation;
            change.then_some(())
        });
    }

    /// Waits until the round, the phase or the broker's start is another one.
    pub(crate) fn await_change(&self, round: u64, phase: Phase) {
        let _ = self.wait(PATIENCE, |s| {
            (s.round != round || s.phase != phase).then_some(())
        });
    }

    pub(crate) fn acked(&self, stream: Stream, seq: u64) {
        let mut state = self.lock();
        state.acks += 1;
        let highest = state.acked.entry(stream).or_default();
        *highest = seq.max(*highest);
        self.changed.notify_all();
    }

    /// Highest acknowledged sequence number of each stream.
    pub(crate) fn all_acked(&self) -> BTreeMap<Stream, u64> {
        self.lock().acked.clone()
    }
}
