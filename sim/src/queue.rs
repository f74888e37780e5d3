//! What is to happen, by time; what is for the same time happens in the order in which it was planned.

use crate::net::{ConnId, Side};
use crate::redis::CallId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The next piece of one direction of a connection comes through. `from`: the side that sent it.
    Arrive { conn: ConnId, from: Side },
    /// The attempt to make a connection comes to its end.
    Dialled { conn: ConnId },
    /// A timer of a proxy's links or of its seconds. Void in another life of it.
    ProxyTurn { proxy: usize, life: u32 },
    /// A timer of a broker. Void in another life of it.
    BrokerTurn { broker: usize, life: u32 },
    /// A broker's disk has finished a sync.
    Synced { broker: usize, life: u32 },
    /// A broker has written a snapshot.
    Written { broker: usize, life: u32 },
    /// A call of a member comes to another one.
    CallArrives { call: usize },
    /// The answer to it comes back.
    AnswerArrives { call: usize },
    /// A proxy's attempt to reach Redis comes to its end. Void in another life of it, as all here.
    RedisOpened { proxy: usize, life: u32, link: u64 },
    /// A command comes to Redis.
    RedisCall { call: CallId },
    /// Its answer comes to the proxy.
    RedisAnswer {
        proxy: usize,
        life: u32,
        call: CallId,
    },
    /// The next fault of Redis.
    RedisFault,
    /// Redis is there again.
    RedisBack,
    /// A device does the next thing it does by itself.
    DeviceStep { device: usize },
    /// A device answers what it has to answer.
    DeviceAnswer { device: usize },
    /// A node that stands still may go on.
    Resume { node: usize },
    /// Somebody looks after who is in a group.
    Operate { group: usize },
    /// A broker crashes while its group comes into being.
    BirthCrash { broker: usize },
    /// All members of a group but one crash, and that one is cut off from them.
    MajorityCrash { left: usize },
    /// The next member of a group is stopped, if it is time for that.
    Roll { group: usize },
    /// Whoever stops a broker waits no longer. Void in another life of it.
    KillLate { broker: usize, life: u32 },
    /// A node starts again.
    Restart { node: usize },
    /// The next fault.
    Fault,
    /// Faults are over.
    Calm,
    /// Is everything done?
    Check,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Planned {
    at: u64,
    order: u64,
    event: Event,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Planned>>,
    order: u64,
}

impl Queue {
    pub(crate) fn put(&mut self, at: u64, event: Event) {
        self.order += 1;
        let order = self.order;
        self.heap.push(Reverse(Planned { at, order, event }));
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(planned)| planned.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse(planned) = self.heap.pop()?;
        Some((planned.at, planned.event))
    }
}
