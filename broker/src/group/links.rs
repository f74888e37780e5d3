//! Links that come and go while the group runs.
//!
//! Whoever carries a link (a server of TCP connections) says so through a small bag that the next turn takes; the
//! machine belongs to that turn.

use super::bodies::{Reads, drop_unwindowed, frame_bytes, resolve};
use super::topology::Change;
use super::{Group, GroupWaker};
use crate::command::Producer;
use crate::leader::{Leader, LinkRefused};
use crate::log::LogError;
use cluster::frame::{FromGroup, ToGroup};
use cluster::ids::LinkNo;
use cluster::mailbag::Mailbag;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The group's end of a link.
pub struct LinkEnd {
    /// Who is at the other end.
    pub producer: Producer,
    /// Frames for the group.
    pub to_group: Arc<Mailbag<ToGroup>>,
    /// Frames for the proxy shard.
    pub from_group: Arc<Mailbag<FromGroup>>,
}

/// A link session that is up, until it is given back with [`GroupLinks::link_lost`]. The group may end it before: then
/// it wakes the receiver of the session's `from_group`, takes nothing more and sends nothing more.
#[must_use = "the session is over when the ticket is given back"]
#[derive(Debug)]
pub struct LinkTicket {
    /// The reign of the group's leader.
    pub reign: u32,
    /// Whether the group knew the producer's link: its connections may go on.
    pub known: bool,
    link: LinkNo,
    session: u64,
    ended: Ended,
    full: Arc<AtomicBool>,
}

/// Why the group has ended a session, if it has.
type Ended = Arc<OnceLock<LinkRefused>>;

impl LinkTicket {
    /// Why the group has ended the session; `None` while it has not.
    pub fn ended(&self) -> Option<&LinkRefused> {
        self.ended.get()
    }

    /// Whether the group can store nothing more. The receiver of the session's `from_group` is woken when that changes.
    pub fn is_group_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }
}

/// Lets links come and go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GroupLinks(pub(super) GroupWaker);

impl GroupLinks {
    /// A link session of `producer` begins, which is in another process; an earlier one of the same producer is over.
    ///
    /// The group takes `to_group` from now on, whose first frame must be [`ToGroup::Resume`] and whose numbered
    /// frames must follow a [`ToGroup::Number`], and sends to `from_group` in units that end with
    /// [`FromGroup::Done`]. The bags must wake the group as the waker of the opened group does.
    ///
    /// Waits for one turn of the group; not to be called from a bag's wake function, which may be part of a turn.
    pub fn link_up(
        &self,
        producer: Producer,
        to_group: Arc<Mailbag<ToGroup>>,
        from_group: Arc<Mailbag<FromGroup>>,
    ) -> Result<LinkTicket, LinkRefused> {
        let end = LinkEnd {
            producer,
            to_group,
            from_group,
        };
        let (reply, answer) = sync_channel(1);
        self.0.controls().push(Control::Up { end, reply });
        self.0.wake();
        // The group drops what it has not answered when it ends.
        answer.recv().unwrap_or(Err(LinkRefused::Ended))
    }

    /// The session is over. Frames that are in its bag are taken all the same, if the group takes any now; those
    /// that are not come again with the producer's next session.
    pub fn link_lost(&self, ticket: LinkTicket) {
        self.0.controls().push(Control::Lost(ticket));
        self.0.wake();
    }

    /// From now on the group can store nothing more, or can again: all that carry links are told. Sessions go on, so that
    /// nobody's lease runs out.
    pub fn set_full(&self, full: bool) {
        self.0.controls().push(Control::Full(full));
        self.0.wake();
    }

    /// Ends all link sessions of other processes. Those that come afterwards are let in as before.
    pub fn end_all(&self, why: LinkRefused) {
        self.0.controls().push(Control::EndAll(why));
        self.0.wake();
    }
}

/// News for the next turn, of links and of the topology. Holds at most one `Up` or `Topology` for each thread that
/// waits for its answer, one `Lost` for each session that was up, and an `EndAll` or `Full` now and then, so it needs no limit of its
/// own.
#[derive(Default)]
pub(super) struct Controls {
    queue: Mutex<Option<Vec<Control>>>,
    any: AtomicBool,
    /// The group can store nothing more.
    full: Arc<AtomicBool>,
}

pub(super) enum Control {
    Up {
        end: LinkEnd,
        reply: SyncSender<Result<LinkTicket, LinkRefused>>,
    },
    Lost(LinkTicket),
    EndAll(LinkRefused),
    Full(bool),
    Topology(Change),
}

impl Controls {
    /// From now on there is somebody to take what is pushed.
    pub(super) fn open(&self) {
        *self.lock() = Some(Vec::new());
    }

    /// Nobody takes anything any more; who waits for an answer gets none.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    pub(super) fn push(&self, control: Control) {
        if let Some(queue) = &mut *self.lock() {
            queue.push(control);
            self.any.store(true, Ordering::Release);
        }
    }

    fn take(&self) -> Vec<Control> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut queue = self.lock();
        self.any.store(false, Ordering::Release);
        queue.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Control>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bags of a link that is up.
pub(super) struct Bags {
    to_group: Arc<Mailbag<ToGroup>>,
    from_group: Arc<Mailbag<FromGroup>>,
    /// Frames behind a `Resume` that were taken with it, before the link was ready for more.
    rest: Vec<ToGroup>,
    /// Which session of the link; 0 for one within the process.
    session: u64,
    ended: Ended,
}

impl Bags {
    pub(super) fn of_process(end: LinkEnd) -> Self {
        Self {
            to_group: end.to_group,
            from_group: end.from_group,
            rest: Vec::new(),
            session: 0,
            ended: Ended::default(),
        }
    }
}

impl Group {
    pub(super) fn put_bags(&mut self, link: LinkNo, bags: Bags) {
        let at = usize::from(link.0);
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || None);
        }
        self.links[at] = Some(bags);
    }

    pub(super) fn take_controls(&mut self, controls: &Controls) {
        for control in controls.take() {
            match control {
                Control::Up { end, reply } => {
                    let result = self.session_up(end, &controls.full);
                    // Who asked waits; if its thread is gone all the same, the lease ends the link.
                    let _gone = reply.send(result);
                }
                Control::Lost(ticket) => self.session_lost(&ticket),
                Control::EndAll(why) => self.end_all(&why),
                Control::Full(full) => self.said_full = full,
                Control::Topology(change) => self.change_topology(change),
            }
        }
    }

    fn session_up(
        &mut self,
        end: LinkEnd,
        full: &Arc<AtomicBool>,
    ) -> Result<LinkTicket, LinkRefused> {
        let leader = self.replica.leader_mut();
        self.agreement
            .check_leads(leader.is_some(), self.log.is_full())?;
        let leader = leader.ok_or(LinkRefused::NotServing)?;
        let (link, known) = leader.session_up(end.producer)?;
        let reign = leader.state().reign();
        self.sessions += 1;
        let session = self.sessions;
        let ended = Ended::default();
        let bags = Bags {
            session,
            ended: Arc::clone(&ended),
            ..Bags::of_process(end)
        };
        self.put_bags(link, bags);
        Ok(LinkTicket {
            reign,
            known,
            link,
            session,
            ended,
            full: Arc::clone(full),
        })
    }

    /// If the group can store nothing more, or can again, whoever carries a link of another process is told.
    pub(super) fn tell_full(&self, controls: &Controls) {
        let full = self.said_full || self.agreement.is_full();
        if controls.full.swap(full, Ordering::AcqRel) == full {
            return;
        }
        let links = self.links.iter().flatten();
        for bags in links.filter(|bags| bags.session > 0) {
            bags.from_group.ring();
        }
    }

    /// Ends all link sessions of other processes: whoever carries one is told why. Frames in their bags are not taken
    /// any more; what is numbered comes again, with the producer's next session, here or at another member.
    pub(super) fn end_all(&mut self, why: &LinkRefused) {
        for (at, place) in self.links.iter_mut().enumerate() {
            let Some(bags) = place.take_if(|bags| bags.session > 0) else {
                continue;
            };
            if let Some(leader) = self.replica.leader_mut() {
                leader.session_lost(LinkNo(at as u16));
            }
            // It is set here alone, and once: the bags are gone.
            let _first = bags.ended.set(why.clone());
            bags.from_group.ring();
        }
    }

    fn session_lost(&mut self, ticket: &LinkTicket) {
        let Some(place) = self.links.get_mut(usize::from(ticket.link.0)) else {
            return;
        };
        // A later session of the producer may have taken its place.
        if place.as_ref().map(|bags| bags.session) == Some(ticket.session) {
            *place = None;
            if let Some(leader) = self.replica.leader_mut() {
                leader.session_lost(ticket.link);
            }
        }
    }

    /// Every link is told that the group is up, so that its sender need not wake it.
    pub(super) fn links_awake(&self) {
        let links = self.links.iter().flatten();
        links.for_each(|link| link.to_group.awake());
    }

    /// Whether no link has brought anything that would be taken now. Links that bring something from then on bring
    /// news of it too; one that may not be taken from yet is looked at again when the log has got further.
    pub(super) fn links_are_quiet(&self) -> bool {
        // All of them, so that each link is told.
        let mut quiet = true;
        for (at, link) in self.links.iter().enumerate() {
            let (Some(link), Some(leader)) = (link, self.replica.leader()) else {
                continue;
            };
            if leader.is_ready(LinkNo(at as u16)) {
                quiet &= link.to_group.prepare_sleep() && link.rest.is_empty();
            }
        }
        quiet
    }

    pub(super) fn take_frames(&mut self) {
        if self.is_behind() {
            return;
        }
        let Some(leader) = self.replica.leader_mut() else {
            return;
        };
        for at in 0..self.links.len() {
            take_link(leader, &mut self.links, at, &mut self.frames);
        }
    }

    /// Completes the frames that are to be sent. `false`: a body has to be read from disk first.
    pub(super) fn ready_frames(&mut self, reads: Reads) -> Result<bool, LogError> {
        let Some(leader) = self.replica.leader_mut() else {
            return Ok(true);
        };
        let links = &self.links;
        let is_full = |link: LinkNo| {
            let bags = links.get(usize::from(link.0)).and_then(Option::as_ref);
            bags.is_some_and(|bags| bags.from_group.is_full())
        };
        leader.end_units(is_full);
        self.dropped_unlinked += drop_undeliverable(leader, links);
        let effects = leader.effects();
        if effects.stored {
            if !resolve(&self.log, &mut effects.links, reads)? {
                return Ok(false);
            }
            effects.stored = false;
        }
        Ok(true)
    }

    /// Sends the frames that are ready.
    pub(super) fn send_frames(&mut self) {
        let Some(leader) = self.replica.leader_mut() else {
            return;
        };
        let effects = leader.effects();
        for (frames, link) in effects.links.iter_mut().zip(&self.links) {
            let Some(link) = link else { continue };
            if link.from_group.is_full() {
                self.dropped += drop_unwindowed(frames);
            }
            let bytes = frames.iter().map(frame_bytes).sum();
            link.from_group.send(frames, bytes);
        }
    }
}

/// Gives a leader what a link has brought. Before a claim comes what the link of the owner until now has brought: a client
/// that has sent DISCONNECT, and comes back at another shard, is not to find what ended with that.
fn take_link(
    leader: &mut Leader,
    links: &mut [Option<Bags>],
    at: usize,
    buffers: &mut [Vec<ToGroup>],
) {
    let Some((frames, others)) = buffers.split_first_mut() else {
        return;
    };
    let number = LinkNo(at as u16);
    let Some(link) = links.get_mut(at).and_then(Option::as_mut) else {
        return;
    };
    if !leader.is_ready(number) {
        return;
    }
    if link.rest.is_empty() {
        link.to_group.take(frames);
    } else {
        std::mem::swap(&mut link.rest, frames);
    }
    let mut frames = frames.drain(..);
    while let Some(frame) = frames.next() {
        if let ToGroup::Claim(claim) = &frame
            && let Some((owner, _)) = leader.state().owner(&claim.client_id)
            && owner != number
        {
            take_link(leader, links, usize::from(owner.0), others);
        }
        let begins_session = matches!(frame, ToGroup::Resume(_));
        leader.frame(number, frame);
        if begins_session && !leader.is_ready(number) {
            if let Some(link) = &mut links[at] {
                link.rest.extend(frames);
            }
            break;
        }
    }
}

/// What is for links without a session goes: deliveries with a packet id are in mailboxes, answers come again. How many
/// deliveries without one went.
fn drop_undeliverable(leader: &mut Leader, links: &[Option<Bags>]) -> u64 {
    let mut dropped = 0;
    for at in 0..leader.effects().links.len() {
        let is_live = leader.is_live(LinkNo(at as u16));
        let has_bags = matches!(links.get(at), Some(Some(_)));
        if is_live && has_bags {
            continue;
        }
        let frames = &mut leader.effects().links[at];
        dropped += drop_unwindowed(frames);
        frames.clear();
    }
    dropped
}
