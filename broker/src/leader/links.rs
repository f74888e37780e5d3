//! Producers' links, and the sessions of those that cross the network.
//!
//! A link of another process lives as long as its producer; a TCP connection is one *session* of it. A session begins
//! with `Resume`. Before that nothing is sent to the link: deliveries stay in mailboxes, and a frame whose answer is
//! lost comes again.
//!
//! What a session's connections have missed may be much, so it is sent a slice a turn. Until a connection's turn has
//! come nothing else is sent to it, and until all have had theirs no frame is taken.
//!
//! Invariant: an answer to a frame is sent in the unit of the first `Done` that covers the frame. So an answer that
//! has no log entry to wait for is held back while an earlier frame of its producer is on its way through the log.
//! Invariant: when a `Resume` is taken, nothing of its producer is on its way through the log. Whether a frame that
//! comes again has been dealt with is then a comparison of two numbers.

use super::Leader;
use super::catch_up::Missed;
use crate::command::{Command, Producer};
use cluster::frame::{FromGroup, Resume, ToGroup};
use cluster::ids::{Handle, LinkNo};
use cluster::topology::NodeName;
use protocol::{QoS, ReasonCode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A producer without a link session is taken for dead after this long, in milliseconds of group time: its sessions
/// are detached. Counted from the loss, or from the reign's start.
pub const LEASE_MS: u64 = 15_000;

/// Incarnations of nodes that a later one has ended, to be remembered in leader memory; the oldest are forgotten.
const ENDED_MAX: usize = 64;

/// Why a link session is refused, or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefused {
    /// The group has not stored the first entry of its reign yet. Try again soon.
    #[error("the group does not serve yet")]
    NotServing,
    /// Every link number is taken.
    #[error("the group has {max} links, which is its maximum", max = LinkNo::MAX)]
    TooManyLinks,
    /// A later start of the same node has ended this one's sessions and is linked.
    #[error(
        "another process of the same node is linked: stop one, or give each a node name of its own"
    )]
    Superseded,
    /// The group has stopped.
    #[error("the group has stopped")]
    Ended,
    /// This member does not lead the group.
    #[error("it does not lead the group, {}", told(leader.as_ref()))]
    NotLeader {
        /// The member that does, as far as known.
        leader: Option<NodeName>,
    },
    /// This member leads the group and does not reach a majority of it.
    #[error("it leads the group and does not reach a majority of its members")]
    NoQuorum,
    /// A majority of the members has no space on its disk.
    #[error("the group can store nothing more: a majority of its members has no space")]
    Full,
}

fn told(leader: Option<&NodeName>) -> String {
    leader.map_or_else(
        || "and knows of no leader".to_owned(),
        |leader| format!("{leader} does"),
    )
}

/// All links, by number.
#[derive(Debug, Default)]
pub(super) struct Links {
    places: Vec<Option<Link>>,
    /// Links without a session, by the end of their lease.
    leases: BTreeSet<(u64, LinkNo)>,
    /// Incarnations that a later one has ended, with their nodes, oldest first.
    ended: VecDeque<(u32, u64)>,
    /// Links of other processes, to be looked at after each turn.
    remote: BTreeSet<LinkNo>,
    /// Frames that came in no session that could take them.
    pub(super) out_of_turn: u64,
    /// Claims of connections that were over before the group heard of them.
    pub(super) void_claims: u64,
}

#[derive(Debug)]
struct Link {
    producer: Producer,
    end: End,
}

/// What is at the other end.
#[derive(Debug)]
enum End {
    /// A shard of this process. It never comes again, so only what is logged is counted, and here.
    Local { next_number: u64 },
    /// Another process.
    Remote(Remote),
}

/// Volatile state of one producer's numbers.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) session: Session,
    /// The highest number taken.
    taken: u64,
    /// The highest number given to the log over this link; 0: none.
    proposed: u64,
    /// Every frame up to here is dealt with, and its answer sent, held for this turn, or lost with a session.
    done: u64,
    /// The number of the last frame in this session; 0 before a `Number`.
    seen: u64,
    /// Whether this session has said a `Number`.
    counts: bool,
    /// What comes now may have been sent in an earlier session.
    resent: bool,
    /// The last `Done` of this session.
    said: u64,
    /// What was dealt with without the log, and must not be answered before what is in it.
    held: VecDeque<Held>,
    /// Connections that were over when the session began; a claim of theirs that is not taken yet is void.
    void: BTreeSet<Handle>,
    /// Connections that have not had what they missed.
    pub(super) missed: BTreeMap<Handle, Missed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// None; the lease ends then, in group time.
    Lost { until_ms: u64 },
    /// Up, and its `Resume` is not taken yet.
    Joining,
    /// Its `Resume` is taken, and some connections have not had what they missed.
    Resuming,
    /// Frames go both ways.
    Live,
}

#[derive(Debug)]
struct Held {
    number: u64,
    /// The frame before it that is in the log.
    behind: u64,
    answer: Option<FromGroup>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Done,
    Held,
}

impl Remote {
    /// `high_water`: everything up to here is applied, over this link or an earlier one of the producer.
    fn new(high_water: u64, session: Session) -> Self {
        Self {
            session,
            taken: high_water,
            proposed: 0,
            done: high_water,
            seen: 0,
            counts: false,
            resent: false,
            said: 0,
            held: VecDeque::new(),
            void: BTreeSet::new(),
            missed: BTreeMap::new(),
        }
    }

    /// `number` was dealt with without the log. Its answer goes to `frames`, at once or once what came before it is
    /// applied.
    fn settle(
        &mut self,
        number: u64,
        applied: u64,
        answer: Option<FromGroup>,
        frames: &mut Vec<FromGroup>,
    ) -> Settled {
        if self.proposed <= applied && self.held.is_empty() {
            self.done = number;
            frames.extend(answer);
            return Settled::Done;
        }
        let behind = self.proposed;
        self.held.push_back(Held {
            number,
            behind,
            answer,
        });
        Settled::Held
    }

    /// Everything up to `applied` is applied: what was held back behind it goes to `frames`.
    fn advance(&mut self, applied: u64, frames: &mut Vec<FromGroup>) {
        self.done = self.done.max(applied);
        while self.held.front().is_some_and(|held| held.behind <= applied) {
            let held = self.held.pop_front().expect("checked by the loop");
            self.done = self.done.max(held.number);
            frames.extend(held.answer);
        }
    }
}

impl Links {
    /// The links that `state` knows, none of them with a session.
    pub(super) fn of_reign(
        known: impl Iterator<Item = (LinkNo, Producer, u64)>,
        now_ms: u64,
    ) -> Self {
        let mut links = Self::default();
        for (link, producer, high_water) in known {
            let until_ms = now_ms + LEASE_MS;
            let session = Session::Lost { until_ms };
            links.leases.insert((until_ms, link));
            links.put(
                link,
                producer,
                End::Remote(Remote::new(high_water, session)),
            );
        }
        links
    }

    fn put(&mut self, link: LinkNo, producer: Producer, end: End) {
        let at = usize::from(link.0);
        if at >= self.places.len() {
            self.places.resize_with(at + 1, || None);
        }
        if matches!(end, End::Remote(_)) {
            self.remote.insert(link);
        }
        self.places[at] = Some(Link { producer, end });
    }

    fn take(&mut self, link: LinkNo) -> bool {
        let place = self.places.get_mut(usize::from(link.0));
        let Some(gone) = place.and_then(Option::take) else {
            return false;
        };
        self.remote.remove(&link);
        if let End::Remote(remote) = gone.end
            && let Session::Lost { until_ms } = remote.session
        {
            self.leases.remove(&(until_ms, link));
        }
        true
    }

    fn get(&self, link: LinkNo) -> Option<&Link> {
        self.places.get(usize::from(link.0))?.as_ref()
    }

    fn remote(&mut self, link: LinkNo) -> Option<&mut Remote> {
        match self.places.get_mut(usize::from(link.0)) {
            Some(Some(Link {
                end: End::Remote(remote),
                ..
            })) => Some(remote),
            _ => None,
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (LinkNo, &Producer)> {
        let links = self.places.iter().enumerate();
        links.filter_map(|(n, link)| Some((LinkNo(n as u16), &link.as_ref()?.producer)))
    }

    pub(super) fn is_up(&self, link: LinkNo) -> bool {
        self.get(link).is_some()
    }

    /// When the next lease ends, in group time.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.leases.first().map(|(until_ms, _)| *until_ms)
    }

    /// A number for a command of the link that goes into the log now.
    pub(super) fn number_for_log(&mut self, link: LinkNo) -> u64 {
        match self.places.get_mut(usize::from(link.0)) {
            Some(Some(Link {
                end: End::Local { next_number },
                ..
            })) => {
                *next_number += 1;
                *next_number - 1
            }
            Some(Some(Link {
                end: End::Remote(remote),
                ..
            })) => {
                remote.proposed = remote.seen;
                remote.seen
            }
            _ => unreachable!("the driver only brings frames of links that are up"),
        }
    }
}

impl Leader {
    /// A shard of this process connects, for as long as the process lives; its frames carry the number that this
    /// returns, and it needs no `Resume`.
    pub fn link_up(&mut self, producer: Producer) -> LinkNo {
        self.end_earlier_lives(&producer);
        let link = self.free_link().expect("a process has few shards");
        self.links
            .put(link, producer, End::Local { next_number: 1 });
        self.errands.hurry();
        self.batch.push(Command::LinkUp { link, producer });
        link
    }

    /// A link session of another process begins; one of the same producer before it is over. Says the link's number
    /// and whether the producer had it already.
    pub fn session_up(&mut self, producer: Producer) -> Result<(LinkNo, bool), LinkRefused> {
        if !self.is_serving() {
            return Err(LinkRefused::NotServing);
        }
        let known = self.links.numbered().find(|(_, known)| **known == producer);
        if let Some((link, _)) = known {
            self.session_ends(link);
            if let Some(remote) = self.links.remote(link) {
                remote.session = Session::Joining;
            }
            // The session's beginning waits for what is under way.
            self.batch.hurry();
            return Ok((link, true));
        }
        if self.is_superseded(&producer) {
            return Err(LinkRefused::Superseded);
        }
        let link = self.free_link().ok_or(LinkRefused::TooManyLinks)?;
        self.end_earlier_lives(&producer);
        let high_water = self.state.high_water(&producer);
        let remote = Remote::new(high_water, Session::Joining);
        self.links.put(link, producer, End::Remote(remote));
        self.batch.push(Command::LinkUp { link, producer });
        Ok((link, false))
    }

    /// The session is over: the lease begins.
    pub fn session_lost(&mut self, link: LinkNo) {
        self.session_ends(link);
        let until_ms = self.now_ms + LEASE_MS;
        if let Some(remote) = self.links.remote(link) {
            remote.session = Session::Lost { until_ms };
            self.links.leases.insert((until_ms, link));
        }
    }

    /// What was held for the session comes again with the frames it answers.
    fn session_ends(&mut self, link: LinkNo) {
        let Some(remote) = self.links.remote(link) else {
            return;
        };
        remote.held.clear();
        remote.missed.clear();
        if let Session::Lost { until_ms } = remote.session {
            self.links.leases.remove(&(until_ms, link));
        }
    }

    /// A producer is gone for good: its sessions are detached.
    pub fn link_down(&mut self, link: LinkNo) {
        if self.links.take(link) {
            self.batch.push(Command::LinkDown { link });
            for (link, handle) in self.kicks.of_link(link) {
                self.kick_done(link, handle);
            }
        }
    }

    /// Ends the links of producers that have been without a session for too long.
    pub(super) fn end_leases(&mut self) {
        while let Some((until_ms, link)) = self.links.leases.first().copied()
            && until_ms <= self.now_ms
        {
            self.link_down(link);
        }
    }

    /// A number that nobody has, neither here nor as far as entries are applied: what is under way for the one who
    /// had it before must not reach the next.
    fn free_link(&self) -> Option<LinkNo> {
        let mut numbers = (0..LinkNo::MAX).map(LinkNo);
        numbers.find(|link| !self.links.is_up(*link) && !self.state.is_linked(*link))
    }

    /// A node that has started again has none of its earlier connections.
    fn end_earlier_lives(&mut self, producer: &Producer) {
        let Producer {
            node, incarnation, ..
        } = *producer;
        let dead: BTreeMap<LinkNo, u64> = self
            .links
            .numbered()
            .filter(|(_, other)| other.node == node && other.incarnation != incarnation)
            .map(|(link, other)| (link, other.incarnation))
            .collect();
        for (link, earlier) in dead {
            self.link_down(link);
            let ended = &mut self.links.ended;
            if !ended.contains(&(node, earlier)) {
                if ended.len() == ENDED_MAX {
                    ended.pop_front();
                }
                ended.push_back((node, earlier));
            }
        }
    }

    /// Whether a later life of the node has ended this one, and is linked.
    fn is_superseded(&self, producer: &Producer) -> bool {
        let this = (producer.node, producer.incarnation);
        let mut others = self.links.numbered();
        self.links.ended.contains(&this)
            && others.any(|(_, other)| other.node == this.0 && other.incarnation != this.1)
    }

    /// Whether frames of the link may be taken now. A new session's wait until the link is up as far as entries are
    /// applied, and what the session before has brought is too; the log's progress then makes for a further turn.
    pub fn is_ready(&self, link: LinkNo) -> bool {
        match self.links.get(link).map(|link| &link.end) {
            Some(End::Local { .. }) => true,
            Some(End::Remote(remote)) => match remote.session {
                Session::Live => true,
                Session::Joining => {
                    self.state.is_linked(link)
                        && remote.proposed <= self.state.high_water_of_link(link)
                }
                Session::Resuming | Session::Lost { .. } => false,
            },
            None => false,
        }
    }

    /// Whether frames for the link go anywhere.
    pub fn is_live(&self, link: LinkNo) -> bool {
        match self.links.get(link).map(|link| &link.end) {
            Some(End::Local { .. }) => true,
            Some(End::Remote(remote)) => {
                matches!(remote.session, Session::Resuming | Session::Live)
            }
            None => false,
        }
    }

    /// Claims that a `Resume` has voided.
    pub fn void_claims(&self) -> u64 {
        self.links.void_claims
    }

    /// Frames that came before the `Resume` of their session, or a second `Resume`.
    pub fn frames_out_of_turn(&self) -> u64 {
        self.links.out_of_turn
    }

    /// Whether connections of some new session wait for what they missed, of which each turn sends some.
    pub fn is_resuming(&self) -> bool {
        let mut remote = self.links.remote.iter();
        remote.any(|link| {
            self.links
                .get(*link)
                .is_some_and(|link| matches!(&link.end, End::Remote(remote) if remote.session == Session::Resuming))
        })
    }

    /// Links that carry frames, by number.
    pub(super) fn live_links(&self) -> Vec<LinkNo> {
        let numbers = self.links.numbered().map(|(link, _)| link);
        numbers.filter(|link| self.is_live(*link)).collect()
    }

    /// Before the effects of a turn are taken: adds to each session's frames what is due now, and the `Done` that ends
    /// the unit. `is_full` says of a link whether it should not be given what connections have missed.
    pub fn end_units(&mut self, is_full: impl Fn(LinkNo) -> bool) {
        self.send_errands();
        let others = self.errands.other_groups();
        for link in &self.links.remote {
            let applied = self.state.high_water_of_link(*link);
            let Some(Some(Link {
                end: End::Remote(remote),
                ..
            })) = self.links.places.get_mut(usize::from(link.0))
            else {
                continue;
            };
            if !matches!(remote.session, Session::Resuming | Session::Live) {
                continue;
            }
            if remote.session == Session::Resuming {
                let full = is_full(*link);
                remote.catch_up(*link, full, others, &mut self.state, &mut self.out);
            }
            let frames = self.out.of_link(*link);
            remote.advance(applied, frames);
            let number = remote.done.min(remote.seen);
            if !frames.is_empty() || number > remote.said {
                remote.said = number;
                frames.push(FromGroup::Done { number });
            }
        }
    }

    /// One frame of a proxy.
    pub fn frame(&mut self, link: LinkNo, frame: ToGroup) {
        let Some(remote) = self.links.remote(link) else {
            return self.fresh(link, frame, false);
        };
        match (remote.session, frame) {
            (Session::Joining, ToGroup::Resume(resume)) => self.resume(link, &resume),
            (Session::Live, ToGroup::Number { first, resent }) => {
                remote.seen = first.saturating_sub(1);
                remote.counts = true;
                remote.resent = resent;
            }
            (Session::Live | Session::Resuming, ToGroup::Publish(publish))
                if publish.qos == QoS::AtMostOnce =>
            {
                self.fresh(link, ToGroup::Publish(publish), false);
            }
            (Session::Live, frame) if frame.is_numbered() && remote.counts => {
                self.numbered(link, frame);
            }
            // What is numbered comes again, and with its number then.
            _ => self.links.out_of_turn += 1,
        }
    }

    fn numbered(&mut self, link: LinkNo, frame: ToGroup) {
        let remote = self.links.remote(link).expect("just looked at");
        remote.seen = remote.seen.saturating_add(1);
        let (number, resent) = (remote.seen, remote.resent);
        if number <= remote.taken {
            if !self.is_for_here(&frame) {
                return;
            }
            return self.state.answer_again(link, number, &frame, &mut self.out);
        }
        remote.taken = number;
        let before = self.out.of_link(link).len();
        match frame {
            ToGroup::Claim(claim) if remote.void.remove(&claim.handle) => {
                self.links.void_claims += 1;
                let (handle, reason) = (claim.handle, ReasonCode::UnspecifiedError);
                self.out
                    .send(link, FromGroup::ClaimRefused { handle, reason });
            }
            frame => self.fresh(link, frame, resent),
        }
        let applied = self.state.high_water_of_link(link);
        let remote = self.links.remote(link).expect("it is still there");
        if remote.proposed == number {
            return;
        }
        // It needed no log entry, and its answer, if it has one, is the newest frame for the link.
        let frames = self.out.of_link(link);
        let is_answered = matches!(
            frames[before..].last(),
            Some(
                FromGroup::Published { .. }
                    | FromGroup::ClaimRefused { .. }
                    | FromGroup::Filters(_)
            )
        );
        let answer = is_answered.then(|| frames.pop()).flatten();
        if remote.settle(number, applied, answer, frames) == Settled::Held {
            self.batch.hurry();
        }
    }

    /// The first frame of a session: what its connections have not had comes again.
    fn resume(&mut self, link: LinkNo, resume: &Resume) {
        let high_water = self.state.high_water_of_link(link);
        let remote = self.links.remote(link).expect("just looked at");
        remote.session = Session::Resuming;
        remote.taken = remote.taken.max(high_water);
        remote.done = remote.taken;
        remote.seen = 0;
        remote.counts = false;
        remote.said = 0;
        remote.void = resume.void.iter().copied().collect();
        // What this turn had for the link so far is of no session.
        self.out.of_link(link).clear();
        let missed = &mut remote.missed;
        for (actor, handle) in self.state.attached_on(link) {
            missed.insert(handle, Missed::Claimed(actor));
        }
        for (link, handle) in self.kicks.of_link(link) {
            let reason = ReasonCode::SessionTakenOver;
            self.out.send(link, FromGroup::Kick { handle, reason });
        }
        self.errands.hurry();
        for reattach in &resume.sessions {
            missed.insert(reattach.handle, Missed::Behind(*reattach));
        }
    }
}
