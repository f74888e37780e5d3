//! From what is due to what is agreed on, and applied.

use super::bodies::Reads;
use super::replica::Replica;
use super::{Group, clocks};
use crate::alone::Alone;
use crate::consensus::{Consensus, Entry, Event, Payload, Position};
use crate::leader::LinkRefused;
use crate::log::{Location, LogError};
use bytes::Bytes;
use cluster::topology::NodeName;
use std::time::{Duration, Instant};

/// Entries of a leader that are proposed to other members and not agreed on. What comes meanwhile gathers in few
/// entries, since each has a price of its own.
const UNDER_WAY_MAX: usize = 4;

/// A leader without a majority ends its links after this long, so that its proxies look for another.
const NO_QUORUM_PATIENCE: Duration = Duration::from_millis(600);

/// A member without space that leads, as far as it knows, and has heard of no majority for this long says that the
/// group is full: if the others had space, another would lead by now.
const FULL_PATIENCE: Duration = Duration::from_secs(3);

/// A difference between a leader's wall clock and the members' median that is worth a line. Milliseconds.
const OFFSET_TOLD_MS: u64 = 5_000;

/// Who has to agree.
pub(crate) enum Agreement {
    /// This process alone.
    Alone(Box<Alone>),
    /// The members of a group.
    Members(Box<Members>),
}

/// Agreement among members.
pub(crate) struct Members {
    consensus: Box<dyn Consensus>,
    /// Of the last applied entry.
    position: Position,
    /// The term of the reign, while this member leads.
    reign_term: u64,
    /// Who leads, as far as known, while it is another one.
    leader: Option<NodeName>,
    /// An event that has to wait for the group's own thread.
    held: Option<Event>,
    /// Until then no other member can lead, as was heard in this turn.
    sure_until: Option<Instant>,
    /// Since when this member leads without being sure of it.
    unsure_since: Option<Instant>,
}

impl Members {
    /// At `position`, which the state that goes with it has.
    pub(crate) fn new(consensus: Box<dyn Consensus>, position: Position) -> Self {
        Self {
            consensus,
            position,
            reign_term: 0,
            leader: None,
            held: None,
            sure_until: None,
            unsure_since: None,
        }
    }

    /// Why no link may come while this member does not lead. If it wants to, it may know that nobody can.
    fn not_leader(&self) -> LinkRefused {
        if self.consensus.is_full() {
            LinkRefused::Full
        } else {
            LinkRefused::NotLeader {
                leader: self.leader.clone(),
            }
        }
    }

    /// Why no link may come while this member is not sure to lead; `is_full`: its disk is.
    fn unsure(&self, is_full: bool) -> LinkRefused {
        let long = self
            .unsure_since
            .is_some_and(|since| since.elapsed() >= FULL_PATIENCE);
        if is_full && long {
            LinkRefused::Full
        } else {
            LinkRefused::NoQuorum
        }
    }
}

impl Agreement {
    fn next(&mut self) -> Option<Event> {
        match self {
            Self::Alone(alone) => alone.next().map(|(index, at)| stored_here(index, at)),
            Self::Members(members) => members.held.take().or_else(|| members.consensus.next()),
        }
    }

    /// A turn of the group begins.
    pub(super) fn begin_turn(&mut self) {
        if let Self::Members(members) = self {
            members.sure_until = None;
        }
    }

    /// Whether an entry waits until the log takes it.
    pub(super) fn is_unplaced(&self) -> bool {
        matches!(self, Self::Alone(alone) if alone.is_unplaced())
    }

    /// Whether a link may come now.
    pub(super) fn check_leads(&self, leads: bool, is_full: bool) -> Result<(), LinkRefused> {
        match self {
            Self::Members(members) if !leads => Err(members.not_leader()),
            Self::Members(members) if members.unsure_since.is_some() => {
                Err(members.unsure(is_full))
            }
            _ => Ok(()),
        }
    }

    /// Bytes that are proposed and not agreed on, beside those that wait for the disk.
    pub(super) fn pending_bytes(&self) -> usize {
        match self {
            Self::Alone(_) => 0,
            Self::Members(members) => members.consensus.pending_bytes(),
        }
    }

    /// Why nothing will be agreed on any more.
    pub(super) fn failure(&self) -> Option<LogError> {
        match self {
            Self::Alone(_) => None,
            Self::Members(members) => members.consensus.failure(),
        }
    }

    /// What stands at the head of a snapshot that is begun now; `None` where no member needs it.
    pub(crate) fn position(&self) -> Option<&Position> {
        match self {
            Self::Alone(_) => None,
            Self::Members(members) => Some(&members.position),
        }
    }

    /// A snapshot of this position is on disk.
    pub(crate) fn snapshot_written(&mut self, at: Position) {
        if let Self::Members(members) = self {
            members.consensus.snapshot_written(at);
        }
    }

    /// Whether too few members have space on their disks for anything to be agreed on.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Alone(_) => false,
            Self::Members(members) => members.consensus.is_full(),
        }
    }

    /// Index of the first entry that some member may have to be sent from this one's log.
    pub(crate) fn kept_from(&self) -> u64 {
        match self {
            Self::Alone(_) => u64::MAX,
            Self::Members(members) => members.consensus.kept_from(),
        }
    }
}

/// An entry that this process had to agree on with nobody.
fn stored_here(index: u64, at: Location) -> Event {
    let payload = Payload::Commands {
        body: Bytes::new(),
        offset: 0,
    };
    Event::Entry(Entry {
        term: 0,
        index,
        at,
        payload,
    })
}

impl Group {
    /// Whether this member leads, and no other can. A leader that is unsure for long ends its links. What is heard in a turn
    /// counts until that ends: a member that is to give way waits for the next one, which asks anew.
    pub(super) fn is_sure_to_lead(&mut self) -> bool {
        let Agreement::Members(members) = &mut self.agreement else {
            return true;
        };
        if self.replica.leader().is_none() {
            return false;
        }
        let now = Instant::now();
        if members.sure_until.is_none_or(|until| until <= now) {
            members.sure_until = members.consensus.leads_until();
        }
        if members.sure_until.is_some_and(|until| now < until) {
            members.unsure_since = None;
            return true;
        }
        let since = *members.unsure_since.get_or_insert(now);
        if now >= since + NO_QUORUM_PATIENCE {
            self.end_all(&LinkRefused::NoQuorum);
        }
        false
    }

    /// Whether it leads without being sure of it: it looks again soon.
    pub(super) fn is_unsure(&self) -> bool {
        matches!(&self.agreement, Agreement::Members(members) if members.unsure_since.is_some())
    }

    /// Proposes what is due and applies what is agreed on, until neither leads to more. `false`: the group's own
    /// thread has to go on.
    pub(super) fn commit(&mut self, reads: Reads) -> Result<bool, LogError> {
        loop {
            let mut any = self.propose()?;
            while let Some(event) = self.agreement.next() {
                if reads == Reads::Memory && matches!(event, Event::Install { .. }) {
                    self.hold(event);
                    return Ok(false);
                }
                self.take_event(event)?;
                any = true;
                if self.replica.leader().is_none() {
                    // Nobody waits for a copy, which may have much to catch up on.
                    std::thread::yield_now();
                }
            }
            if !any {
                return Ok(true);
            }
        }
    }

    fn propose(&mut self) -> Result<bool, LogError> {
        let Some(leader) = self.replica.leader_mut() else {
            return Ok(false);
        };
        match &mut self.agreement {
            Agreement::Alone(alone) => alone.propose(leader),
            Agreement::Members(members) => {
                let mut any = false;
                while leader.under_way() < UNDER_WAY_MAX && leader.due() {
                    let mut body = Vec::new();
                    leader.seal(&mut body);
                    members.consensus.propose(body);
                    any = true;
                }
                Ok(any)
            }
        }
    }

    fn hold(&mut self, event: Event) {
        if let Agreement::Members(members) = &mut self.agreement {
            members.held = Some(event);
        }
    }

    fn take_event(&mut self, event: Event) -> Result<(), LogError> {
        match event {
            Event::Lead { term } => self.lead(term),
            Event::Follow { leader } => self.follow(leader),
            Event::Entry(entry) => return self.apply(&entry),
            Event::Install { index } => return self.install(index),
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), LogError> {
        if entry.index <= self.replica.applied() {
            // The snapshot that the state is from has it.
            return Ok(());
        }
        if let Agreement::Members(members) = &self.agreement
            && members.reign_term != entry.term
            && self.replica.leader().is_some()
        {
            // The news that another one leads may come later than what it has proposed.
            self.follow(None);
        }
        if let Agreement::Members(members) = &mut self.agreement {
            members.position.index = entry.index;
            members.position.term = entry.term;
            if let Payload::Members(bytes) = &entry.payload {
                members.position.members = bytes.clone();
            }
        }
        self.replica.apply(entry)
    }

    fn lead(&mut self, term: u64) {
        self.follow(None);
        let own_ms = clocks(self.started).wall_ms;
        if let Agreement::Members(members) = &mut self.agreement {
            members.reign_term = term;
            members.unsure_since = None;
            let agreed_ms = members.consensus.wall_ms(own_ms);
            self.wall_offset_ms = agreed_ms.wrapping_sub(own_ms).cast_signed();
        }
        let clocks = self.clocks();
        self.replica.lead(clocks, self.routes.as_ref());
        tracing::info!(
            term,
            applied = self.replica.applied(),
            "this member leads its group"
        );
        if self.wall_offset_ms.unsigned_abs() > OFFSET_TOLD_MS {
            tracing::warn!(
                offset_ms = self.wall_offset_ms,
                "this member's wall clock is not that of the others: its reign goes by their median"
            );
        }
    }

    fn follow(&mut self, leader: Option<NodeName>) {
        let why = LinkRefused::NotLeader {
            leader: leader.clone(),
        };
        if let Agreement::Members(members) = &mut self.agreement {
            members.leader = leader;
            members.sure_until = None;
            members.unsure_since = None;
        }
        if self.replica.leader().is_none() {
            return;
        }
        self.end_all(&why);
        // Who waits hears that the reign has ended.
        self.waiting.clear();
        self.replica.follow();
        tracing::info!("this member does not lead its group any more");
    }

    fn install(&mut self, index: u64) -> Result<(), LogError> {
        if index <= self.replica.applied() {
            return Ok(());
        }
        let (state, position) = self.snapshots.install()?;
        self.replica = Replica::following(state, position.index);
        if let Agreement::Members(members) = &mut self.agreement {
            members.position = position;
        }
        tracing::info!(index, "this member goes on from another one's snapshot");
        Ok(())
    }
}
