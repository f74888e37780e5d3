//! What all parts of a world share: the time, the network, chance, the trace, and the judge.

use crate::calls::Call;
use crate::judge::Judge;
use crate::names::Names;
use crate::net::{ConnId, End, Net, Side};
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::queue::{Event, Queue};
use crate::redis::Redis;
use crate::rng::Rng;
use crate::trace::Trace;
use broker::raft::WallClock;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// 2026-01-01, where every world begins.
const WALL_MS: u64 = 1_767_225_600_000;

/// How much a wall clock is off, in milliseconds; it may be set at any time.
pub(crate) type WallOff = Arc<AtomicI64>;

pub(crate) struct Env {
    /// Microseconds since the world began.
    pub(crate) now: u64,
    /// When that was; nothing looks at the difference to the machine's own time.
    base: Instant,
    pub(crate) plan: Plan,
    pub(crate) names: Names,
    pub(crate) queue: Queue,
    pub(crate) net: Net,
    pub(crate) redis: Redis,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) judge: Judge,
    /// What members have for the world.
    pub(crate) outbox: Outbox,
    /// Calls between members, by number.
    pub(crate) calls: Vec<Call>,
    /// Since when nothing goes wrong any more.
    pub(crate) calm_since: Option<u64>,
    next_nonce: u64,
}

impl Env {
    pub(crate) fn new(plan: Plan, rng: Rng, trace: Trace, base: Instant) -> Self {
        let names = Names::new(&plan.brokers(), plan.devices.len());
        let brokers = plan.brokers().iter().sum();
        Self {
            now: 0,
            base,
            queue: Queue::default(),
            net: Net::new(plan.proxies, brokers, plan.latency_us),
            redis: Redis::new(plan.redis, plan.proxies),
            rng,
            trace,
            judge: Judge::new(&plan, &names),
            outbox: Outbox::default(),
            calls: Vec::new(),
            calm_since: None,
            next_nonce: 0,
            names,
            plan,
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    /// An instant as microseconds of the world.
    pub(crate) fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_micros() as u64
    }

    /// What a wall clock says that is off by so much.
    pub(crate) fn wall_ms(&self, off_ms: i64) -> u64 {
        (WALL_MS + self.now / 1_000).saturating_add_signed(off_ms)
    }

    /// The same clock for a member, whose time is the world's.
    pub(crate) fn wall_clock(&self, off_ms: &WallOff) -> WallClock {
        let (base, off_ms) = (self.base, Arc::clone(off_ms));
        WallClock::new(move || {
            let now = tokio::time::Instant::now().into_std();
            let since = now.saturating_duration_since(base).as_millis() as u64;
            (WALL_MS + since).saturating_add_signed(off_ms.load(Ordering::Relaxed))
        })
    }

    pub(crate) fn say(&mut self, what: fmt::Arguments<'_>) {
        self.trace.say(self.now, what);
    }

    pub(crate) fn after(&mut self, delay_us: u64, event: Event) {
        self.queue.put(self.now + delay_us, event);
    }

    pub(crate) fn dial(&mut self, from: End, to: End) -> ConnId {
        self.net
            .dial(self.now, [from, to], &mut self.queue, &mut self.rng)
    }

    pub(crate) fn send(&mut self, conn: ConnId, from: Side, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.trace.mix(&bytes);
            let bytes = Bytes::from(bytes);
            self.net.send(
                self.now,
                (conn, from),
                bytes,
                &mut self.queue,
                &mut self.rng,
            );
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId, side: Side, silently: bool) {
        self.net.close(
            self.now,
            (conn, side),
            silently,
            &mut self.queue,
            &mut self.rng,
        );
    }

    pub(crate) fn cut(&mut self, conn: ConnId) {
        self.net.cut(self.now, conn, &mut self.queue, &mut self.rng);
    }

    pub(crate) fn nonce(&mut self) -> [u8; 32] {
        self.next_nonce += 1;
        let mut nonce = [7; 32];
        nonce[..8].copy_from_slice(&self.next_nonce.to_le_bytes());
        nonce
    }
}
