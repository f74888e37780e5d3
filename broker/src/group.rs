//! The group's turns: frames, time and the log's progress go to the leader, and frames are carried away.
//!
//! A turn takes what every link has brought (one lock a link), appends what is due to the log, applies what the
//! log says is stored, and hands each link its frames (one lock a link). The machine belongs to whoever holds its
//! lock. While little happens, the thread that brings news (a shard with frames, the log with its progress) runs
//! the turn itself, and nobody is woken for it. Where two meet, the group's own thread takes over until it finds
//! nothing more to do; it also does what is due by time.

mod agreement;
mod bodies;
mod links;
#[cfg(test)]
mod reign_tests;
mod replica;
mod status;
#[cfg(test)]
mod tests;
mod topology;

pub use crate::leader::LinkRefused;
use crate::leader::clock::Clocks;
use crate::leader::{Leader, Routes};
use crate::log::{LogError, LogHandle};
use crate::snapshots::Snapshots;
pub(crate) use agreement::{Agreement, Members};
use bodies::Reads;
pub(crate) use bodies::read_message;
use cluster::frame::ToGroup;
use links::{Bags, Controls};
pub use links::{GroupLinks, LinkEnd, LinkTicket};
pub use replica::{Follower, Replica};
use status::Shared;
pub use status::{GroupStatus, Reigns};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use topology::Waiting;
pub use topology::{ChangeError, ChangeResult, GroupTopology};

/// Between two slices of what the connections of a new link session have missed: time for others, and for the link.
const RESUME_WAIT: Duration = Duration::from_millis(2);

/// The group's stream in the node's log.
pub const GROUP_STREAM: u16 = 0;

/// A group takes no frames from its links while this many bytes wait for the disk.
const LOG_BACKLOG_BYTES_MAX: usize = 32 << 20;
/// A member that leads without being sure of it looks again after this long.
const UNSURE_WAIT: Duration = Duration::from_millis(20);
/// The thread looks around at least this often, so that figures stay fresh. In tests it does not: news that gets
/// lost must show.
const IDLE_WAIT: Duration = Duration::from_secs(if cfg!(test) { 3_600 } else { 1 });

/// Brings news to the group: sees to it that a turn is run soon, or runs it.
#[derive(Clone, Default)]
pub struct GroupWaker(Arc<Seat>);

/// Where the group sits between turns.
#[derive(Default)]
struct Seat {
    /// `None` before the start and after the end.
    group: Mutex<Option<Group>>,
    /// There is news that no turn has looked at yet. Set before a try at the lock and looked at after the
    /// lock is given back, so whoever fails to get the lock leaves the news to its holder.
    news: AtomicBool,
    thread: OnceLock<Thread>,
    /// The group's thread sleeps since too much waits for the disk.
    behind: AtomicBool,
    /// News of links that come and go.
    controls: Controls,
}

impl GroupWaker {
    /// There is something for the group to do. Runs one turn on this thread if nobody else runs one; what is
    /// then left is for the group's thread.
    pub fn wake(&self) {
        let seat = &*self.0;
        seat.news.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut held = match seat.group.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let _abort = AbortOnPanic;
        let Some(group) = held.as_mut() else {
            return;
        };
        seat.news.store(false, Ordering::SeqCst);
        let thread_is_needed = group.visit(&seat.controls);
        drop(held);
        fence(Ordering::SeqCst);
        if thread_is_needed || seat.news.load(Ordering::SeqCst) {
            seat.unpark();
        }
    }

    /// There is something for the group to do, and this thread must not be the one that does it.
    pub fn nudge(&self) {
        self.0.news.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.0.unpark();
    }

    /// More is on the disk. Wakes the group's thread only if that is what it waits for.
    pub(crate) fn nudge_if_behind(&self) {
        if self.0.behind.swap(false, Ordering::SeqCst) {
            self.nudge();
        }
    }

    fn controls(&self) -> &Controls {
        &self.0.controls
    }
}

impl std::fmt::Debug for GroupWaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupWaker").finish_non_exhaustive()
    }
}

impl Seat {
    /// A panic in a turn ends the process, so the lock of a poisoned one is never seen to be used.
    fn lock(&self) -> MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The group's thread.
    fn run(&self) -> Result<(), LogError> {
        loop {
            let mut held = self.lock();
            self.news.store(false, Ordering::SeqCst);
            let group = held
                .as_mut()
                .expect("only this thread takes the group away");
            let ended = group.work(&self.controls);
            if let Some(result) = ended {
                self.controls.close();
                let group = held.take();
                // Not under the lock: the log's thread may be on its way here, and the log waits for it.
                drop(held);
                drop(group);
                return result;
            }
            let rest = group.rest();
            let is_behind = group.is_behind();
            self.behind.store(is_behind, Ordering::SeqCst);
            // What the disk has taken between the two looks has told nobody.
            if is_behind && !group.is_behind() {
                continue;
            }
            drop(held);
            fence(Ordering::SeqCst);
            if !self.news.load(Ordering::SeqCst) {
                std::thread::park_timeout(rest);
            }
        }
    }
}

/// A running group.
pub struct RunningGroup {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    thread: Option<std::thread::JoinHandle<Result<(), LogError>>>,
}

/// Held by a thread that others wait for: a panic there ends the process. Its clients would wait for ever, and a
/// process that ends is started again; what was acknowledged is in the log.
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl RunningGroup {
    /// Starts the group thread. `on_failure` is called once if the log fails; nothing is acknowledged after that.
    pub(crate) fn start(
        group: Group,
        waker: GroupWaker,
        on_failure: Box<dyn FnOnce(&LogError) + Send>,
    ) -> std::io::Result<Self> {
        let shared = group.shared.clone();
        let seat = waker.0;
        let (thread_seat, thread_shared) = (Arc::clone(&seat), shared.clone());
        *seat.lock() = Some(group);
        seat.controls.open();
        let body = move || {
            let _abort = AbortOnPanic;
            let result = thread_seat.run();
            if let Err(error) = &result {
                on_failure(error);
                thread_shared.fail();
            }
            result
        };
        let thread = std::thread::Builder::new()
            .name("group".into())
            .spawn(body)?;
        // A second set is impossible: a seat serves one group. The thread looks for work before it first sleeps.
        let _ = seat.thread.set(thread.thread().clone());
        Ok(Self {
            shared,
            seat,
            thread: Some(thread),
        })
    }

    /// Lets links of other processes come and go.
    pub fn links(&self) -> GroupLinks {
        GroupLinks(GroupWaker(Arc::clone(&self.seat)))
    }

    /// Reads and changes the topology in the group's log.
    pub fn topology(&self) -> GroupTopology {
        GroupTopology(GroupWaker(Arc::clone(&self.seat)))
    }

    /// Waits until the group serves: its log is replayed and an entry of its own reign is stored.
    /// `false` if it failed, or did not within `limit`.
    pub fn wait_until_serving(&self, limit: Duration) -> bool {
        let status = self.shared.lock();
        let waited = self.shared.serving.wait_timeout_while(status, limit, |s| {
            !s.serving && !self.shared.failed.load(Ordering::Acquire)
        });
        waited.unwrap_or_else(PoisonError::into_inner).0.serving
    }

    /// The reigns of this member, from now on.
    pub fn reigns(&self) -> Reigns {
        Reigns {
            shared: Arc::clone(&self.shared),
            last: 0,
        }
    }

    /// A copy of the figures, at most a second old.
    pub fn status(&self) -> GroupStatus {
        self.shared.lock().clone()
    }

    /// A handle that reads the figures.
    pub fn status_reader(&self) -> impl Fn() -> GroupStatus + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.lock().clone()
    }

    /// Takes what the links still hold, waits until everything is stored, and ends the thread.
    pub fn stop(mut self) -> Result<(), LogError> {
        self.shared.stop();
        self.seat.unpark();
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

/// What the group thread owns.
pub(crate) struct Group {
    replica: Replica,
    agreement: Agreement,
    /// What is whose among several groups.
    routes: Option<Routes>,
    log: LogHandle,
    /// By their numbers.
    links: Vec<Option<Bags>>,
    /// Sessions of links that there have been.
    sessions: u64,
    /// What is taken from a link, and from another one before a frame of that.
    frames: [Vec<ToGroup>; 2],
    snapshots: Snapshots,
    started: Instant,
    /// What is added to the wall clock in this reign to make it the median of the members'. Fixed, so that setting the
    /// clock shows as a step.
    wall_offset_ms: i64,
    shared: Arc<Shared>,
    reported: Instant,
    /// QoS 0 deliveries dropped at full links.
    dropped: u64,
    /// QoS 0 deliveries dropped for links without a session.
    dropped_unlinked: u64,
    /// Reported to serve.
    serving: bool,
    /// When the group's thread wakes by itself.
    alarm: Instant,
    /// Who waits for changes of the topology.
    waiting: Waiting,
    /// Somebody has said that the group can store nothing more.
    said_full: bool,
    /// What a turn on another thread met; the group's thread ends with it.
    failure: Option<LogError>,
}

impl Group {
    /// A group over a replayed machine. The links within the process, of one that leads for ever, are up from the
    /// start.
    pub(crate) fn new(
        replica: Replica,
        agreement: Agreement,
        routes: Option<Routes>,
        log: LogHandle,
        links: Vec<LinkEnd>,
        snapshots: Snapshots,
        started: Instant,
    ) -> Self {
        let mut group = Self {
            replica,
            agreement,
            routes,
            log,
            links: Vec::new(),
            sessions: 0,
            frames: Default::default(),
            snapshots,
            started,
            wall_offset_ms: 0,
            shared: Arc::default(),
            reported: started,
            dropped: 0,
            dropped_unlinked: 0,
            serving: false,
            alarm: started,
            waiting: Waiting::default(),
            said_full: false,
            failure: None,
        };
        for end in links {
            let leader = group.replica.leader_mut();
            let leader = leader.expect("links within the process are to a group that leads");
            let number = leader.link_up(end.producer);
            group.put_bags(number, Bags::of_process(end));
        }
        group
    }

    /// One turn on the thread of somebody who brought news. Whether the group's thread has to go on.
    fn visit(&mut self, controls: &Controls) -> bool {
        if self.failure.is_some() {
            return true;
        }
        match self.turn(controls, Reads::Memory) {
            Ok(more) => {
                self.report_when_due();
                let stopping = self.shared.stop.load(Ordering::Acquire);
                more || stopping || !self.is_quiet() || self.is_due_before_alarm()
            }
            Err(error) => {
                self.failure = Some(error);
                true
            }
        }
    }

    /// Turns on the group's own thread, until there is nothing to do. A result ends the thread.
    fn work(&mut self, controls: &Controls) -> Option<Result<(), LogError>> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        self.links_awake();
        loop {
            let more = match self.turn(controls, Reads::Disk) {
                Ok(more) => more,
                Err(error) => return Some(Err(error)),
            };
            self.report_when_due();
            if more {
                continue;
            }
            let stopping = self.shared.stop.load(Ordering::Acquire);
            if stopping && self.may_stop() {
                self.report();
                return Some(self.snapshots.stop());
            }
            if self.is_quiet() && !self.wait().is_zero() {
                return None;
            }
        }
    }

    /// Whether a further turn is due at once, for another reason than frames.
    fn turn(&mut self, controls: &Controls, reads: Reads) -> Result<bool, LogError> {
        let failure = self.log.failure().or_else(|| self.agreement.failure());
        if let Some(error) = failure {
            return Err(error);
        }
        self.agreement.begin_turn();
        let is_sure = self.is_sure_to_lead();
        let clocks = self.clocks();
        if let Some(leader) = self.replica.leader_mut() {
            leader.advance(clocks);
        }
        if is_sure {
            self.take_frames();
        }
        self.take_controls(controls);
        let is_done = self.commit(reads)?;
        self.answer_changes();
        self.tell_full(controls);
        // Asked again: a process may stand still for long in between, and then another leads.
        let may_send = self.is_sure_to_lead();
        if !is_done || may_send && !self.ready_frames(reads)? {
            return Ok(true);
        }
        // And again: bodies may have been read from a slow disk.
        let may_send = may_send && self.is_sure_to_lead();
        if may_send {
            self.send_frames();
        }
        // After the frames: a segment goes only when no frame's body has to be read from it any more.
        let holds_frames = !may_send && self.replica.leader().is_some();
        let agreement = &self.agreement;
        let kept_from = || {
            if holds_frames {
                0
            } else {
                agreement.kept_from()
            }
        };
        let written = self
            .snapshots
            .turn(&mut self.replica, &self.log, kept_from)?;
        if let Some(at) = written {
            self.agreement.snapshot_written(at);
        }
        let position = self.agreement.position();
        let more = match reads {
            Reads::Disk => self
                .snapshots
                .go_on(&mut self.replica, &self.log, position)?,
            Reads::Memory => self.snapshots.wants_to_go_on(&self.replica, &self.log),
        };
        if self.agreement.is_unplaced() || self.shared.stop.load(Ordering::Acquire) {
            return Ok(false);
        }
        Ok(self.snapshots.relocate(&mut self.replica, &self.log)? || more)
    }

    /// What the clocks say in this reign.
    fn clocks(&self) -> Clocks {
        let own = clocks(self.started);
        Clocks {
            wall_ms: own.wall_ms.saturating_add_signed(self.wall_offset_ms),
            ..own
        }
    }

    /// Whether what came is stored, as far as this member can see to it: others may be away for long.
    fn may_stop(&self) -> bool {
        match (&self.agreement, self.replica.leader()) {
            (Agreement::Alone(_), Some(leader)) => {
                self.is_quiet() && leader.is_settled() && !self.log_is_behind()
            }
            _ => true,
        }
    }

    /// Whether nothing more would be taken in by a turn.
    fn is_quiet(&self) -> bool {
        // Asked first, so that each link is told. A member that is not sure to lead takes nothing, and looks again soon.
        self.links_are_quiet() || self.is_behind() || self.is_unsure()
    }

    /// How long nothing is due.
    fn wait(&self) -> Duration {
        if self.is_behind() {
            return IDLE_WAIT;
        }
        let Some(leader) = self.replica.leader() else {
            return IDLE_WAIT;
        };
        if self.is_unsure() {
            return UNSURE_WAIT;
        }
        if leader.is_resuming() {
            return RESUME_WAIT;
        }
        let wait = leader.wait_ms();
        wait.map_or(IDLE_WAIT, |ms| Duration::from_millis(ms).min(IDLE_WAIT))
    }

    /// The leader counts in whole milliseconds, so the same deadline may look up to one earlier or later.
    fn is_due_before_alarm(&self) -> bool {
        Instant::now() + self.wait() + Duration::from_millis(1) < self.alarm
    }

    /// How long the group's thread sleeps if there is no news.
    fn rest(&mut self) -> Duration {
        let wait = self.wait();
        self.alarm = Instant::now() + wait;
        wait
    }

    /// Whether so much waits for the disk that nothing more is taken in. The log's thread and the snapshot's bring
    /// news when they have got further.
    fn is_behind(&self) -> bool {
        // At the end everything is taken in, and the snapshot is given up.
        let stopping = self.shared.stop.load(Ordering::Acquire);
        self.log_is_behind() || !stopping && self.snapshots.is_behind(&self.replica)
    }

    fn log_is_behind(&self) -> bool {
        let pending = self.log.pending_bytes().max(self.agreement.pending_bytes());
        let held = self.replica.leader().map_or(0, Leader::held_bytes);
        self.agreement.is_unplaced() || pending + held >= LOG_BACKLOG_BYTES_MAX
    }

    /// Whether this member leads and an entry of its reign is applied.
    fn is_serving(&self) -> bool {
        self.replica.leader().is_some_and(Leader::is_serving)
    }

    fn report_when_due(&mut self) {
        if self.reported.elapsed() >= IDLE_WAIT / 4 || self.serving != self.is_serving() {
            self.report();
        }
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        self.serving = self.is_serving();
        let mut status = self.shared.lock();
        status.counters = self.replica.state().counters();
        status.qos0_dropped_link_full = self.dropped;
        status.qos0_dropped_link_lost = self.dropped_unlinked;
        if let Some(leader) = self.replica.leader() {
            status.frames_out_of_turn = leader.frames_out_of_turn();
            status.claims_void = leader.void_claims();
            status.proving_clock_step = leader.is_proving_clock_step();
        }
        status.snapshot_waits = self.snapshots.waits();
        status.log_full = self.log.is_full();
        status.snapshots_without_space = self.snapshots.without_space();
        status.applied = self.replica.applied();
        status.reign = self.replica.state().reign();
        status.serving = self.serving;
        if status.serving {
            self.shared.serving.notify_all();
        }
    }
}

/// What the machine's clocks say.
pub(crate) fn clocks(started: Instant) -> Clocks {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Clocks {
        monotonic_ms: started.elapsed().as_millis() as u64,
        wall_ms: wall.as_millis() as u64,
    }
}
