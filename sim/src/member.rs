//! A member of a replicated group: production code over the world's disk, network and time.

use crate::entries::term_of;
use crate::log::{SharedDisk, lock, place_of};
use crate::outbox::{Life, Out, Outbox};
use crate::shelf::Shelf;
use broker::group::GROUP_STREAM;
use broker::log::{Location, LogError, Record, RecordKind};
use broker::raft::{
    CallError, Change, Content, DiskMoved, Handle, Journal, MemberStatus, NewRecord, Node, Peers,
    Placed, Process, Recovered, Replica, Settings, WallClock,
};
use bytes::Bytes;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};
use std::future::{Future, pending};
use std::time::Duration;
use tokio::sync::oneshot;

/// A member as long as it lives.
pub(crate) struct Member {
    process: Process,
    moved: DiskMoved,
    replica: Replica<Platter, Wires, Shelf>,
    outbox: Outbox,
}

/// Which member it is.
pub(crate) struct Who {
    pub(crate) life: Life,
    pub(crate) group: usize,
    pub(crate) name: NodeName,
    /// Those that the group begins with.
    pub(crate) members: Vec<NodeName>,
    pub(crate) run: u64,
    pub(crate) wall: WallClock,
    pub(crate) kept_entries: u64,
}

/// A leader gives up a change of the members after this long; it is asked for it again.
const CHANGE_PATIENCE: Duration = Duration::from_secs(5);

/// Where a member takes calls.
pub(crate) fn address_of(name: &NodeName) -> HostPort {
    format!("{name}:1").parse().expect("a host and a port")
}

impl Member {
    /// Starts a member with what its disk has.
    pub(crate) fn start(who: Who, disk: &SharedDisk, outbox: &Outbox) -> (Self, Handle) {
        let process = Process::default();
        let moved = DiskMoved::default();
        let position = lock(disk)
            .snapshot()
            .map(|snapshot| snapshot.position.clone());
        let mut recovered = Recovered::at(position.unwrap_or_default());
        {
            let disk = lock(disk);
            for record in disk.records(0..disk.durable() as usize) {
                recovered
                    .record(record)
                    .expect("records are read back as they were written");
            }
        }
        let life = who.life;
        let members = who.members.into_iter();
        let settings = Settings {
            group: GroupNo(who.group as u8),
            name: who.name,
            members: members
                .map(|name| (name.clone(), address_of(&name)))
                .collect(),
            run: who.run,
            wall: who.wall,
            kept_entries: who.kept_entries,
        };
        let platter = Platter {
            disk: disk.clone(),
            life,
            outbox: outbox.clone(),
        };
        let wires = Wires {
            life,
            outbox: outbox.clone(),
        };
        let woken = outbox.clone();
        let wake = Box::new(move || woken.put(Out::Woken(life)));
        let shelf = Shelf {
            disk: disk.clone(),
            life,
            outbox: outbox.clone(),
        };
        let start = || {
            let moved = moved.clone();
            Replica::start(settings, platter, moved, recovered, wires, shelf, wake)
        };
        let (replica, handle) = process.run(start).expect("a member that starts");
        let member = Self {
            process,
            moved,
            replica,
            outbox: outbox.clone(),
        };
        (member, handle)
    }

    /// Another member's call has come.
    pub(crate) fn answer(&self, number: usize, call: Bytes) {
        let (replica, outbox) = (self.replica.clone(), self.outbox.clone());
        self.process.spawn(async move {
            let answer = replica.answer(call).await;
            outbox.put(Out::Answer {
                call: number,
                answer,
            });
        });
    }

    /// Has it change who is in the group. The answer comes by the outbox, if it lives that long.
    pub(crate) fn change(&self, life: Life, change: Change) {
        let (replica, outbox) = (self.replica.clone(), self.outbox.clone());
        self.process.spawn(async move {
            let result = replica.change(change, CHANGE_PATIENCE).await;
            outbox.put(Out::Changed(life, result));
        });
    }

    /// Has another member lead, if this one does, as it is to stop. What came of it comes by the outbox.
    pub(crate) fn hand_over(&self, life: Life) {
        let (replica, outbox) = (self.replica.clone(), self.outbox.clone());
        self.process.spawn(async move {
            let to = replica.hand_over().await;
            outbox.put(Out::HandedOver(life, to));
        });
    }

    /// Ends its work in order. That it has comes by the outbox.
    pub(crate) fn stop(&self, life: Life) {
        let (replica, outbox) = (self.replica.clone(), self.outbox.clone());
        self.process.spawn(async move {
            replica.stop().await;
            outbox.put(Out::Stopped(life));
        });
    }

    /// The disk has stored more.
    pub(crate) fn disk_moved(&self) {
        self.moved.tell();
    }

    /// What it says of itself.
    pub(crate) fn status(&self) -> MemberStatus {
        self.replica.status()
    }

    pub(crate) fn pause(&self, stands_still: bool) {
        self.process.pause(stands_still);
    }

    pub(crate) fn kill(&self) {
        self.process.kill();
    }
}

/// A simulated disk as a member sees it.
#[derive(Clone, Debug)]
struct Platter {
    disk: SharedDisk,
    life: Life,
    outbox: Outbox,
}

impl Journal for Platter {
    fn append(&self, records: &[NewRecord]) -> Result<Placed, LogError> {
        let mut disk = lock(&self.disk);
        let mut append = |record: &NewRecord| {
            let record = record_of(record);
            let at = record.at;
            disk.append(record);
            at
        };
        let locations = records.iter().map(&mut append).collect();
        self.outbox.put(Out::Appended(self.life));
        Ok(Placed {
            sequence: disk.appended(),
            locations,
        })
    }

    fn durable(&self) -> u64 {
        lock(&self.disk).durable()
    }

    fn failure(&self) -> Option<LogError> {
        None
    }

    fn is_full(&self) -> bool {
        false
    }

    fn read(&self, at: Location, offset: u32, len: u32) -> Result<Bytes, LogError> {
        let disk = lock(&self.disk);
        let body = disk.body(at);
        Ok(body.slice(offset as usize..(offset + len) as usize))
    }
}

/// A member's end of the network.
#[derive(Clone, Debug)]
struct Wires {
    life: Life,
    outbox: Outbox,
}

impl Peers for Wires {
    fn call(
        &self,
        to: &Node,
        call: Bytes,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send + 'static {
        let (life, outbox, to) = (self.life, self.outbox.clone(), to.address.clone());
        async move {
            let (reply, answer) = oneshot::channel();
            let from = life;
            outbox.put(Out::Call {
                from,
                to: to.clone(),
                call,
                reply,
            });
            match answer.await {
                Ok(answer) => answer.ok_or_else(|| CallError {
                    address: to,
                    why: "nobody is there".into(),
                }),
                // It got lost.
                Err(_) => pending().await,
            }
        }
    }
}

/// The record as a disk keeps it. Only entries are read back by their place.
fn record_of(new: &NewRecord) -> Record {
    let (kind, body) = match &new.content {
        Content::Body(head, body) => (RecordKind::Data, [&head[..], &body[..]].concat().into()),
        Content::Truncate => (RecordKind::Truncate, Bytes::new()),
    };
    let at = if new.stream == GROUP_STREAM && kind == RecordKind::Data {
        place_of(term_of(&body), new.index)
    } else {
        place_of(0, 0)
    };
    Record {
        stream: new.stream,
        kind,
        index: new.index,
        at,
        body,
    }
}
