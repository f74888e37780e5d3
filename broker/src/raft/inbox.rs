//! What passes between the thread of raft and the thread of the group, and what both know of the member's reign.

use super::clocks::Clocks;
use super::config::Vote;
use super::election::Election;
use super::lease::Lease;
use super::limits::{ELECTION_MAX, INBOX_BYTES_MAX, INBOX_EVENTS_MAX, LEASE};
use crate::consensus::{Event, Payload, Position};
use crate::faults::{self, Fault};
use crate::log::LogError;
use bytes::Bytes;
use cluster::topology::NodeName;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// The two queues between the threads.
pub(super) struct Inbox {
    state: Mutex<State>,
    /// The group has taken an event, and there was no room before or there is nothing more.
    room: Notify,
    /// The group has proposed something.
    proposed: Notify,
    /// The group has written a snapshot.
    written: Notify,
    /// A snapshot is not on its way to another member any more.
    sent: Notify,
    /// The group knows that this member is not sure to lead any more.
    unsure: Notify,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    own: u64,
    events: VecDeque<Event>,
    event_bytes: usize,
    proposals: VecDeque<(u64, Bytes)>,
    /// The term that this member has been elected in, as long as it knows of no later one.
    won: Option<u64>,
    /// The same, from when the group is told.
    open: Option<u64>,
    /// The last term in which it has given way: in that it is never sure again.
    gave_way: u64,
    /// The last term in which it gave way in vain: in that it calls nobody, so that the others elect one.
    silent: u64,
    /// It has given way, and the group has not been told who leads now.
    parting: Option<Parting>,
    /// The leader that the group was told of last.
    told: Option<NodeName>,
    lease: Lease,
    clocks: Clocks,
    /// Of a member that takes part.
    election: Option<Election>,
    /// Index of the first entry that is in the log for other members.
    kept_from: u64,
    /// A snapshot of another member comes in.
    comes_in: bool,
    /// Snapshots that have come in and that the group has not taken yet.
    installs: usize,
    /// Snapshots that are on their way to other members.
    sending: usize,
    /// Members that have got one, and may lack entries behind it.
    served: BTreeSet<u64>,
    /// Why the newest snapshot cannot be sent to other members, as far as was tried.
    unreadable: Option<LogError>,
    snapshot: Option<Position>,
    failure: Option<LogError>,
}

/// What an answer to a leader's call, or to a candidate's, says of the member.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// When the call was sent, if the member follows, and so promises to vote for no other for a while.
    pub(super) follows: Option<Instant>,
    /// What its wall clock shows, in milliseconds since the Unix epoch.
    pub(super) wall_ms: Option<u64>,
    /// Its disk has no space.
    pub(super) is_full: bool,
}

/// A leader that has given way. The group acts on nothing, and keeps its links until another leads: then they are told
/// which.
#[derive(Debug, Default)]
struct Parting {
    successor: Option<NodeName>,
    /// The group has asked since then whether it is sure.
    is_known: bool,
}

impl Inbox {
    pub(super) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            state: Mutex::default(),
            room: Notify::new(),
            proposed: Notify::new(),
            written: Notify::new(),
            sent: Notify::new(),
            unsure: Notify::new(),
            wake,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked has left whole values behind, and its panic ends the member's service.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // From the thread of raft.

    /// The member takes part, with this id.
    pub(super) fn born(&self, own: u64) {
        let mut state = self.lock();
        state.own = own;
        state.lease.born(own);
    }

    /// The vote changes: a reign may begin, or be over.
    pub(super) fn vote_changed(&self, vote: &Vote) {
        let term = vote.leader_id.term;
        let mut state = self.lock();
        if vote.committed && vote.leader_id.voted_for == Some(state.own) {
            if state.won != Some(term) && state.gave_way != term {
                state.won = Some(term);
                state.lease.begin(term);
            }
        } else if state.won.is_some_and(|won| won < term) {
            state.end_reign();
            drop(state);
            (self.wake)();
        }
    }

    /// This member has stopped to lead in a term without another having begun: the group goes on without it.
    pub(super) fn stepped_down(&self, term: u64) {
        let mut state = self.lock();
        if state.won == Some(term) {
            state.end_reign();
            drop(state);
            (self.wake)();
        }
    }

    /// This member leads in this term no more, though nobody else does yet. From here on it is not sure, and proposes
    /// nothing. `false`: it did not lead.
    pub(super) fn give_way(&self, term: u64) -> bool {
        let mut state = self.lock();
        if state.won != Some(term) {
            return false;
        }
        if faults::is_on(Fault::LeadAfterHandover) {
            return true;
        }
        state.won = None;
        state.gave_way = term;
        state.proposals.clear();
        state.parting = state.open.take().map(|_| Parting::default());
        drop(state);
        (self.wake)();
        true
    }

    /// It has given way in this term, and nobody else leads.
    pub(super) fn keep_silent(&self, term: u64) {
        self.lock().silent = term;
    }

    /// Whether it calls nobody in this term.
    pub(super) fn keeps_silent(&self, term: u64) -> bool {
        self.lock().silent == term
    }

    /// Waits until the group knows that it has given way: what it began to send while it was sure is sent.
    pub(super) async fn is_unsure(&self) {
        loop {
            let unsure = self.unsure.notified();
            tokio::pin!(unsure);
            unsure.as_mut().enable();
            let is_known = |parting: &Parting| parting.is_known;
            if self.lock().parting.as_ref().is_none_or(is_known) {
                return;
            }
            unsure.await;
        }
    }

    /// The group is told at last who leads now, as far as known, if it was not.
    pub(super) fn part(&self) {
        self.lock().part();
        (self.wake)();
    }

    /// Waits until the group has taken all that there is for it.
    pub(super) async fn all_taken(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.lock().events.is_empty() {
                return;
            }
            room.await;
        }
    }

    /// Another member leads in this term.
    pub(super) fn follows(&self, term: u64, leader: NodeName) {
        let mut state = self.lock();
        let outdated = state.won.is_some_and(|won| won >= term);
        if !outdated {
            state.lease.forget_space();
        }
        if !outdated && state.told.as_ref() != Some(&leader) {
            state.told = Some(leader.clone());
            if let Some(parting) = &mut state.parting {
                parting.successor = Some(leader);
                return;
            }
            state.push(Event::Follow {
                leader: Some(leader),
            });
            drop(state);
            (self.wake)();
        }
    }

    pub(super) fn change_lease<R>(&self, change: impl FnOnce(&mut Lease) -> R) -> R {
        change(&mut self.lock().lease)
    }

    /// A leader has called, whose wall clock shows this. How many elections this member had held by then.
    pub(super) fn called(&self, leader: Option<u64>, wall_ms: u64) -> u64 {
        let now = tokio::time::Instant::now().into_std();
        let mut state = self.lock();
        if let Some(leader) = leader {
            state.clocks.heard(leader, wall_ms, now);
        }
        state.election.as_ref().map_or(0, Election::held)
    }

    /// A member has answered a call of this `term`.
    pub(super) fn answered(&self, term: u64, member: u64, heard: Heard) {
        let now = tokio::time::Instant::now().into_std();
        let mut state = self.lock();
        if let Some(wall_ms) = heard.wall_ms {
            state.clocks.heard(member, wall_ms, now);
        }
        if let Some(sent) = heard.follows {
            state.lease.heard(term, member, sent);
        }
        let is_news = state.lease.space(term, member, heard.is_full, now);
        drop(state);
        if is_news {
            (self.wake)();
        }
    }

    /// A member has said in `term` whether its disk is full.
    pub(super) fn space(&self, term: u64, member: u64, is_full: bool) {
        let heard = Heard {
            is_full,
            ..Heard::default()
        };
        self.answered(term, member, heard);
    }

    /// These are in the group now, with a vote or without.
    pub(super) fn members_are(&self, is_member: impl Fn(u64) -> bool) {
        self.lock().clocks.keep(is_member);
    }

    /// Whether this member has been elected in this term, and knows of no later one.
    pub(super) fn has_won(&self, term: u64) -> bool {
        self.lock().won == Some(term)
    }

    /// Whether a leader is heard: lately, or by the snapshot that it sends.
    pub(super) fn hears_leader(&self, now: tokio::time::Instant) -> bool {
        let state = self.lock();
        let has_heard = |election: &Election| election.has_heard(now);
        state.comes_in || state.election.as_ref().is_some_and(has_heard)
    }

    /// A snapshot of another member begins to come in.
    pub(super) fn snapshot_begins(&self) {
        self.lock().comes_in = true;
    }

    /// It has come, or will not; if it has, the group may not have been told yet.
    pub(super) fn snapshot_ends(&self) {
        self.lock().comes_in = false;
    }

    /// A snapshot is on its way to another member for as long as this is held.
    pub(super) fn sends(self: &Arc<Self>) -> Sending {
        self.lock().sending += 1;
        Sending(Arc::clone(self))
    }

    /// Waits until no snapshot is on its way to another member. The members that have got one since the last call.
    pub(super) async fn nothing_is_sent(&self) -> BTreeSet<u64> {
        loop {
            let sent = self.sent.notified();
            tokio::pin!(sent);
            sent.as_mut().enable();
            if !self.is_sending() {
                return std::mem::take(&mut self.lock().served);
            }
            sent.await;
        }
    }

    /// Whether a snapshot is on its way to another member.
    pub(super) fn is_sending(&self) -> bool {
        self.lock().sending > 0
    }

    /// The log is read from this index on.
    pub(super) fn keeps_from(&self, index: u64) {
        self.lock().kept_from = index;
    }

    pub(super) fn change_election<R>(&self, change: impl FnOnce(&mut Election) -> R) -> Option<R> {
        self.lock().election.as_mut().map(change)
    }

    /// The member holds elections from now on.
    pub(super) fn takes_part(&self, election: Election) {
        self.lock().election = Some(election);
    }

    /// Hands an event over as soon as there is room. The first entry of an own reign opens that.
    pub(super) async fn hand_over(&self, event: Event) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.lock().has_room() {
                break;
            }
            room.await;
        }
        let mut state = self.lock();
        let opens = match &event {
            Event::Entry(entry) => {
                (state.won == Some(entry.term) && state.open.is_none()).then_some(entry.term)
            }
            _ => None,
        };
        if matches!(&event, Event::Entry(entry) if entry.term > state.gave_way) {
            // Another's reign: it has been agreed on, so that one takes links from now on.
            state.part();
        }
        state.push(event);
        if let Some(term) = opens {
            state.open = Some(term);
            state.told = None;
            state.push(Event::Lead { term });
        }
        drop(state);
        (self.wake)();
    }

    /// The proposals so far, each with the term that it was made in; waits until there is one.
    pub(super) async fn proposals(&self) -> VecDeque<(u64, Bytes)> {
        loop {
            let proposals = std::mem::take(&mut self.lock().proposals);
            if !proposals.is_empty() {
                return proposals;
            }
            self.proposed.notified().await;
        }
    }

    /// The position of a new snapshot; waits until there is one.
    pub(super) async fn snapshot(&self) -> Position {
        loop {
            if let Some(position) = self.lock().snapshot.take() {
                return position;
            }
            self.written.notified().await;
        }
    }

    /// What became of the last snapshot that was sent: whether something damaged is in it, and what.
    pub(super) fn snapshot_is_unreadable(&self, damage: Option<LogError>) {
        self.lock().unreadable = damage;
    }

    /// See [`Inbox::snapshot_is_unreadable`].
    pub(super) fn unreadable(&self) -> Option<LogError> {
        self.lock().unreadable.clone()
    }

    /// Nothing will be agreed on any more by this member.
    pub(super) fn fail(&self, error: LogError) {
        let mut state = self.lock();
        state.failure.get_or_insert(error);
        state.end_reign();
        drop(state);
        (self.wake)();
    }

    // From the thread of the group.

    pub(super) fn next(&self) -> Option<Event> {
        let mut state = self.lock();
        let full = !state.has_room();
        let event = state.events.pop_front()?;
        let is_last = state.events.is_empty();
        state.event_bytes -= bytes(&event);
        // The group looks at what may go when it has taken this.
        state.installs -= usize::from(matches!(event, Event::Install { .. }));
        drop(state);
        if full || is_last {
            self.room.notify_waiters();
        }
        Some(event)
    }

    pub(super) fn propose(&self, term: u64, body: Vec<u8>) {
        let mut state = self.lock();
        if state.open == Some(term) {
            state.proposals.push_back((term, body.into()));
            drop(state);
            self.proposed.notify_one();
        }
    }

    pub(super) fn leads_until(&self, term: u64, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        if let Some(parting) = state.parting.as_mut().filter(|it| !it.is_known) {
            parting.is_known = true;
            self.unsure.notify_waiters();
        }
        if state.open == Some(term) {
            if faults::is_on(Fault::LeadWithoutLease) {
                return Some(now + LEASE);
            }
            state.lease.until(now)
        } else {
            None
        }
    }

    pub(super) fn wall_ms(&self, own_ms: u64, now: Instant) -> u64 {
        self.lock().clocks.median_ms(own_ms, now)
    }

    /// Whether this member leads in any term, and no other can.
    pub(super) fn is_sure(&self, now: Instant) -> bool {
        let until = self.lock().sure_until(now);
        until.is_some_and(|until| now < until)
    }

    /// Whether this member leads in any term, and those that it counts on keep their promise still. That is longer than it
    /// is sure to lead, as they keep it for longer than it counts on it: what the group's thread has decided while the
    /// member was sure may not be done yet.
    pub(super) fn reigns(&self, now: tokio::time::Instant) -> bool {
        self.lock().reigns(now)
    }

    /// Whether it has heard no leader for so long that it wanted to lead itself, and was refused.
    pub(super) fn lacks_leader(&self) -> bool {
        let lost = |election: &mut Election| election.is_lost();
        self.change_election(lost).unwrap_or_default()
    }

    /// Whether somebody leads, for all that this member knows: itself, or a leader that it has heard lately.
    pub(super) fn knows_leader(&self, now: tokio::time::Instant) -> bool {
        let state = self.lock();
        let promised = |election: &Election| election.has_promised(now);
        match state.won {
            // A leader hears none, and what it has promised before is over.
            Some(_) => state.reigns(now),
            None => state.election.as_ref().is_some_and(promised),
        }
    }

    pub(super) fn snapshot_written(&self, at: Position) {
        self.lock().snapshot = Some(at);
        self.written.notify_one();
    }

    /// The first entry that must not go; 0: nothing goes, as messages may be stored that nothing refers to yet.
    pub(super) fn kept_from(&self) -> u64 {
        let state = self.lock();
        if state.comes_in || state.installs > 0 {
            0
        } else {
            state.kept_from
        }
    }

    pub(super) fn failure(&self) -> Option<LogError> {
        self.lock().failure.clone()
    }
}

/// A snapshot on its way to another member.
#[derive(Debug)]
pub(super) struct Sending(Arc<Inbox>);

impl Sending {
    /// It has come to this member.
    pub(super) fn arrived(self, member: u64) {
        self.0.lock().served.insert(member);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.lock().sending -= 1;
        self.0.sent.notify_waiters();
    }
}

impl State {
    fn sure_until(&self, now: Instant) -> Option<Instant> {
        self.won.and_then(|_| self.lease.until(now))
    }

    fn reigns(&self, now: tokio::time::Instant) -> bool {
        let now = now.into_std();
        let until = self.sure_until(now);
        until.is_some_and(|until| now < until + ELECTION_MAX.saturating_sub(LEASE))
    }

    fn has_room(&self) -> bool {
        self.events.len() < INBOX_EVENTS_MAX && self.event_bytes < INBOX_BYTES_MAX
    }

    fn push(&mut self, event: Event) {
        self.event_bytes += bytes(&event);
        self.installs += usize::from(matches!(event, Event::Install { .. }));
        self.events.push_back(event);
    }

    fn part(&mut self) {
        if let Some(Parting { successor, .. }) = self.parting.take() {
            self.push(Event::Follow { leader: successor });
        }
    }

    fn end_reign(&mut self) {
        self.won = None;
        self.proposals.clear();
        self.part();
        if self.open.take().is_some() {
            self.push(Event::Follow { leader: None });
        }
    }
}

fn bytes(event: &Event) -> usize {
    match event {
        Event::Entry(entry) => match &entry.payload {
            Payload::Commands { body, .. } => body.len(),
            Payload::Members(bytes) => bytes.len(),
            Payload::Blank => 0,
        },
        _ => 0,
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
