//! A member's copy of its group's state, driven as a broker does it: what is due is proposed, what is agreed on is
//! applied.

use crate::log::{SharedDisk, Snapshot, lock};
use broker::consensus::{Consensus, Entry, Event, Payload, Position};
use broker::group::Replica;
use broker::leader::clock::Clocks;
use broker::leader::{Leader, Routes};
use broker::limits::MachineLimits;
use broker::log::LogError;
use broker::machine::State;
use cluster::topology::NodeName;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// Entries that a leader has proposed and that are not agreed on.
const UNDER_WAY_MAX: usize = 4;

/// A leader without a majority ends its links after this long, as a broker's group does.
const NO_QUORUM_PATIENCE: Duration = Duration::from_millis(600);

/// Whether a member may act as the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surety {
    /// No other one can.
    Sure,
    /// Another one may.
    Unsure,
    /// And has had time enough to: the links are to end.
    TooLong,
}

/// What a turn came to, beside frames.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// It leads.
    Leads { term: u64 },
    /// It does not lead any more: its links end.
    Follows { leader: Option<NodeName> },
    /// It has applied an entry.
    Applied { index: u64, hash: u64 },
    /// It goes on from another member's snapshot.
    Installed { index: u64 },
}

pub(crate) struct Engine {
    replica: Replica,
    consensus: Box<dyn Consensus>,
    disk: SharedDisk,
    /// Of the last applied entry.
    position: Position,
    routes: Option<Routes>,
    term: u64,
    /// By how much the members' median is ahead of this member's wall clock, in this reign.
    wall_offset_ms: i64,
    leader: Option<NodeName>,
    /// Since when it leads without being sure of it.
    unsure_since: Option<Instant>,
}

impl Engine {
    /// Goes on from the newest snapshot of the disk, if there is one.
    pub(crate) fn new(
        consensus: Box<dyn Consensus>,
        disk: &SharedDisk,
        routes: Option<Routes>,
    ) -> Self {
        let snapshot = lock(disk).snapshot().cloned();
        let state = snapshot.as_ref().map(Snapshot::state);
        let state = state.unwrap_or_else(|| State::new(MachineLimits::default()));
        let position = snapshot.map(|snapshot| snapshot.position);
        let position = position.unwrap_or_default();
        Self {
            replica: Replica::following(state, position.index),
            consensus,
            disk: disk.clone(),
            position,
            routes,
            term: 0,
            wall_offset_ms: 0,
            leader: None,
            unsure_since: None,
        }
    }

    pub(crate) fn leader(&self) -> Option<&Leader> {
        self.replica.leader()
    }

    pub(crate) fn leader_mut(&mut self) -> Option<&mut Leader> {
        self.replica.leader_mut()
    }

    /// Whether no other member can lead; `None`: another one does, as far as this one knows.
    pub(crate) fn surety(&mut self, now: Instant) -> Option<Surety> {
        self.replica.leader()?;
        if self.may_act(now) {
            self.unsure_since = None;
            return Some(Surety::Sure);
        }
        let since = *self.unsure_since.get_or_insert(now);
        Some(if now < since + NO_QUORUM_PATIENCE {
            Surety::Unsure
        } else {
            Surety::TooLong
        })
    }

    /// Whether it may act as the leader now.
    pub(crate) fn may_act(&self, now: Instant) -> bool {
        let until = self.consensus.leads_until();
        self.replica.leader().is_some() && until.is_some_and(|until| now < until)
    }

    /// Whether it leads without being sure of it.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure_since.is_some()
    }

    pub(crate) fn failure(&self) -> Option<LogError> {
        self.consensus.failure()
    }

    /// Where the leader is, as far as known.
    pub(crate) fn leader_elsewhere(&self) -> Option<&NodeName> {
        self.leader.as_ref()
    }

    pub(crate) fn applied(&self) -> u64 {
        self.replica.applied()
    }

    /// What a member's clocks say in this reign.
    pub(crate) fn of_reign(&self, own: Clocks) -> Clocks {
        Clocks {
            wall_ms: own.wall_ms.saturating_add_signed(self.wall_offset_ms),
            ..own
        }
    }

    /// Proposes what is due and applies what is agreed on, until neither leads to more. `own`: the member's clocks.
    pub(crate) fn commit(&mut self, own: Clocks) -> Vec<News> {
        let mut news = Vec::new();
        loop {
            let mut any = self.propose();
            while let Some(event) = self.consensus.next() {
                self.take(event, own, &mut news);
                any = true;
            }
            if !any {
                return news;
            }
        }
    }

    fn propose(&mut self) -> bool {
        let Some(leader) = self.replica.leader_mut() else {
            return false;
        };
        let mut any = false;
        while leader.under_way() < UNDER_WAY_MAX && leader.due() {
            let mut body = Vec::new();
            leader.seal(&mut body);
            self.consensus.propose(body);
            any = true;
        }
        any
    }

    fn take(&mut self, event: Event, own: Clocks, news: &mut Vec<News>) {
        match event {
            Event::Lead { term } => {
                self.follow(None, news);
                self.term = term;
                let agreed_ms = self.consensus.wall_ms(own.wall_ms);
                self.wall_offset_ms = agreed_ms.wrapping_sub(own.wall_ms).cast_signed();
                let clocks = self.of_reign(own);
                self.replica.lead(clocks, self.routes.as_ref());
                news.push(News::Leads { term });
            }
            Event::Follow { leader } => self.follow(leader, news),
            // The snapshot that the state is from has it.
            Event::Entry(entry) if entry.index <= self.replica.applied() => {}
            Event::Entry(entry) => {
                if self.term != entry.term && self.replica.leader().is_some() {
                    // The news that another one leads may come later than what it has proposed.
                    self.follow(None, news);
                }
                let (index, hash) = (entry.index, hash_of(&entry));
                self.position.index = index;
                self.position.term = entry.term;
                if let Payload::Members(bytes) = &entry.payload {
                    self.position.members = bytes.clone();
                }
                self.replica
                    .apply(&entry)
                    .expect("entries are read back as they were written");
                news.push(News::Applied { index, hash });
            }
            Event::Install { index } => self.install(index, news),
        }
    }

    fn install(&mut self, index: u64, news: &mut Vec<News>) {
        if index <= self.replica.applied() {
            return;
        }
        self.follow(None, news);
        let snapshot = lock(&self.disk).snapshot().cloned();
        let snapshot = snapshot.expect("it was stored before anybody was told");
        self.replica = Replica::following(snapshot.state(), snapshot.position.index);
        self.position = snapshot.position;
        news.push(News::Installed { index });
    }

    /// Where the state is in the group's log.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// A snapshot of this position is on disk.
    pub(crate) fn snapshot_written(&mut self, at: Position) {
        self.consensus.snapshot_written(at);
    }

    fn follow(&mut self, leader: Option<NodeName>, news: &mut Vec<News>) {
        self.unsure_since = None;
        self.leader.clone_from(&leader);
        if self.replica.leader().is_some() {
            self.replica.follow();
            news.push(News::Follows { leader });
        }
    }

    /// A copy that has applied these entries and does nothing more.
    pub(crate) fn replayed(entries: impl Iterator<Item = Entry>) -> Self {
        let mut engine = Self::new(Box::new(Nothing), &SharedDisk::default(), None);
        for entry in entries {
            engine
                .replica
                .apply(&entry)
                .expect("entries are read back as they were written");
        }
        engine
    }

    /// What the group holds of sessions, if this member leads.
    pub(crate) fn left(&self) -> Option<String> {
        let counters = self.leader()?.state().counters();
        let held = [
            ("sessions", counters.sessions),
            ("sessions to end elsewhere", counters.ends_pending),
            ("subscriptions", counters.subscriptions),
            ("shared queues", counters.shared_queues),
            ("entries of queues", counters.entries),
        ];
        let (what, count) = held.into_iter().find(|(_, count)| *count > 0)?;
        Some(format!("{count} {what}"))
    }

    /// The state, as bytes.
    pub(crate) fn snapshot(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.replica.begin_snapshot();
        while !self.replica.put_snapshot(&mut bytes, usize::MAX) {}
        bytes
    }
}

/// Agrees on nothing.
struct Nothing;

impl Consensus for Nothing {
    fn propose(&mut self, _body: Vec<u8>) {}

    fn next(&mut self) -> Option<Event> {
        None
    }

    fn pending_bytes(&self) -> usize {
        0
    }

    fn leads_until(&self) -> Option<Instant> {
        None
    }

    fn snapshot_written(&mut self, _at: Position) {}

    fn is_full(&self) -> bool {
        false
    }

    fn failure(&self) -> Option<LogError> {
        None
    }
}

/// What an entry is, whoever has it.
fn hash_of(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Blank => 1,
        Payload::Commands { body, .. } => xxh3_64(body),
        Payload::Members(bytes) => xxh3_64(bytes).rotate_left(1),
    }
}
