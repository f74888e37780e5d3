//! The groups that a connection is at besides its session's home, and what waits until it is there.
//!
//! A group takes frames of a connection once that has joined it: the answer to `Join` says under which number and
//! epoch it acts there. What makes the group keep something (SUBSCRIBE, a PUBLISH of QoS 2) takes a rank besides, which
//! the home gives (`List`) before the group hears of it. Until then the frames wait here, in the client's order.

use super::context::FRAME_BYTES;
use cluster::frame::{Listed, ToGroup};
use cluster::ids::{Actor, ClientNo, Epoch, Rank};
use cluster::slots::GroupNo;
use protocol::{PacketId, QoS};
use std::collections::VecDeque;

/// The groups of one connection, besides the home. At most as many as there are groups.
#[derive(Debug, Default)]
pub(super) struct Places {
    list: Vec<Place>,
}

/// One group that a connection is at, or on its way to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) group: GroupNo,
    /// Given by the home.
    rank: Option<Rank>,
    /// The home is asked for a rank.
    listing: bool,
    /// The group is asked to let the connection join, or will be.
    joining: bool,
    /// It is asked once its link takes more.
    join_due: bool,
    /// The group knows the rank, or will by the join under way.
    ranked: bool,
    /// The group had forgotten the connection; what it was sent before and has not answered is lost.
    rejoining: bool,
    /// What the group says of the session when it lets the connection in is news for the session's record.
    tells: bool,
    /// Deliveries up to `last` come again.
    repeats: bool,
    /// The newest of them so far.
    repeated: Option<PacketId>,
    actor: Option<Actor>,
    /// Packet id of the newest QoS 1 or 2 delivery that the group has sent.
    pub(super) last: Option<PacketId>,
    /// Frames that the group owes an answer to.
    open: u32,
    waiting: VecDeque<Held>,
    waiting_bytes: usize,
}

/// A frame that waits, and the bytes of its packet. Who acts is filled in when it leaves.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: ToGroup,
    pub(super) bytes: usize,
}

/// What is to be done next for a place.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing until something is answered.
    Nothing,
    /// Ask the home for a rank.
    List,
    /// Ask the group, see [`Place::join`].
    Join,
    /// Send this.
    Send(Held),
}

impl Places {
    pub(super) fn get(&mut self, group: GroupNo) -> Option<&mut Place> {
        self.list.iter_mut().find(|place| place.group == group)
    }

    pub(super) fn get_or_insert(&mut self, group: GroupNo) -> &mut Place {
        let at = self.list.iter().position(|place| place.group == group);
        let at = at.unwrap_or_else(|| {
            self.list.push(Place::new(group, None));
            self.list.len() - 1
        });
        &mut self.list[at]
    }

    /// Takes up what the home has listed.
    pub(super) fn add(&mut self, listed: Listed) {
        self.get_or_insert(listed.group).rank = listed.rank;
    }

    pub(super) fn of_packet_id(&mut self, packet_id: PacketId) -> Option<&mut Place> {
        let rank = Rank::of_packet_id(packet_id)?;
        self.list.iter_mut().find(|place| place.rank == Some(rank))
    }

    pub(super) fn group_of_packet_id(&self, packet_id: PacketId) -> Option<GroupNo> {
        let rank = Rank::of_packet_id(packet_id)?;
        let place = self.list.iter().find(|place| place.rank == Some(rank))?;
        Some(place.group)
    }

    pub(super) fn remove(&mut self, group: GroupNo) {
        self.list.retain(|place| place.group != group);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.list.iter()
    }

    /// Groups that have been asked and have not answered.
    pub(super) fn late(&mut self) -> impl Iterator<Item = &mut Place> {
        self.list.iter_mut().filter(|place| place.joining)
    }

    /// Whether every group has answered that was asked.
    pub(super) fn have_joined(&self) -> bool {
        self.list.iter().all(|place| !place.joining)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Place {
    fn new(group: GroupNo, rank: Option<Rank>) -> Self {
        Self {
            group,
            rank,
            listing: false,
            joining: false,
            join_due: false,
            ranked: false,
            rejoining: false,
            tells: false,
            repeats: false,
            repeated: None,
            actor: None,
            last: None,
            open: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    pub(super) fn actor(&self) -> Option<Actor> {
        self.actor
    }

    /// Whether the group may hold something of the session, or will by what waits.
    pub(super) fn may_hold(&self) -> bool {
        let mut waiting = self.waiting.iter();
        self.rank.is_some() || self.listing || waiting.any(|held| needs_rank(&held.frame))
    }

    /// Whether the home has given the group a rank.
    pub(super) fn is_listed(&self) -> bool {
        self.rank.is_some()
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a frame may leave now, without overtaking another.
    fn is_ready_for(&self, frame: &ToGroup) -> bool {
        self.waiting.is_empty() && self.actor.is_some() && (self.ranked || !needs_rank(frame))
    }

    /// Lets a frame wait, or gives it back with its actor where it need not. The bytes that wait are the lane's too.
    pub(super) fn put(&mut self, mut frame: ToGroup, bytes: usize) -> Option<Held> {
        if !self.joining && self.is_ready_for(&frame) {
            self.fill_in(&mut frame);
            return Some(Held { frame, bytes });
        }
        if let ToGroup::Publish(publish) = &mut frame {
            // A copy, so that it pins no read block.
            publish.message = publish.message.to_compact();
        }
        self.waiting_bytes += cost(bytes);
        self.waiting.push_back(Held { frame, bytes });
        None
    }

    /// What is to be done next. The caller does it, and asks again unless it is nothing.
    pub(super) fn step(&mut self) -> Step {
        let Some(front) = self.waiting.front() else {
            return Step::Nothing;
        };
        let needs_rank = needs_rank(&front.frame);
        if needs_rank && self.rank.is_none() {
            let asked = std::mem::replace(&mut self.listing, true);
            return if asked { Step::Nothing } else { Step::List };
        }
        if self.joining {
            return Step::Nothing;
        }
        if self.actor.is_none() || (needs_rank && !self.ranked) {
            return Step::Join;
        }
        let mut held = self.waiting.pop_front().expect("it was just seen");
        self.waiting_bytes -= cost(held.bytes);
        self.fill_in(&mut held.frame);
        Step::Send(held)
    }

    /// The connection joins, with what is known of its rank; if the link `has_room`, now.
    pub(super) fn join(&mut self, has_room: bool) -> Option<Rank> {
        self.joining = true;
        self.join_due = !has_room;
        self.ranked = self.rank.is_some();
        self.rank
    }

    /// Whether the connection joins when the link has room.
    pub(super) fn is_join_due(&self) -> bool {
        self.join_due
    }

    /// The home's answer. Gives back what cannot be sent where there is no rank.
    pub(super) fn listed(&mut self, rank: Option<Rank>) -> Vec<Held> {
        self.listing = false;
        if rank.is_some() {
            self.rank = rank;
            return Vec::new();
        }
        let mut refused = Vec::new();
        for held in std::mem::take(&mut self.waiting) {
            if needs_rank(&held.frame) {
                self.waiting_bytes -= cost(held.bytes);
                refused.push(held);
            } else {
                self.waiting.push_back(held);
            }
        }
        refused
    }

    /// The group's answer: who the connection is there. `false`: what it was sent before the join is lost, and an
    /// answer is owed for some of it.
    #[must_use]
    pub(super) fn joined(&mut self, client: ClientNo, epoch: Epoch) -> bool {
        self.joining = false;
        self.actor = Some(Actor { client, epoch });
        let rejoined = std::mem::take(&mut self.rejoining);
        if rejoined {
            self.repeats = self.last.is_some();
            self.repeated = None;
        }
        !rejoined || self.open == 0
    }

    /// The group does not know the connection any more, which is to join again, by [`Place::join`]. Also where a join
    /// is on its way: it may be the one that was stored and forgotten since, and then it has no other answer.
    pub(super) fn forgotten(&mut self) {
        self.actor = None;
        self.rejoining = true;
        self.tells = true;
    }

    /// What the group says of the session when it lets the connection in has to be told.
    pub(super) fn tell_when_joined(&mut self) {
        self.tells = true;
    }

    /// Whether what the group says of the session has to be told; once.
    pub(super) fn tells(&mut self) -> bool {
        std::mem::take(&mut self.tells)
    }

    /// Whether nothing would be missed if the connection were not at the group.
    pub(super) fn is_idle(&self) -> bool {
        self.rank.is_none()
            && self.open == 0
            && self.waiting.is_empty()
            && !self.listing
            && !self.joining
    }

    /// The group has answered a frame.
    pub(super) fn answered(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// A delivery has come. `false`: the client has had it.
    ///
    /// What comes again is marked so, and ends with `last` or goes past it: that one may have been completed, and those
    /// behind it may have been given back to a shared queue.
    #[must_use]
    pub(super) fn note_delivery(&mut self, packet_id: PacketId, dup: bool) -> bool {
        if let Some(last) = self.last.filter(|_| self.repeats) {
            let before = self.repeated.replace(packet_id);
            let is_past = before.map_or(distance(last, packet_id) == 1, |before| {
                distance(before, packet_id) > distance(before, last)
            });
            let is_new = !dup || is_past;
            self.repeats = !is_new && last != packet_id;
            if !is_new {
                return false;
            }
        }
        // The window is smaller than the range of packet ids, so the next entry never has the id of the last one.
        self.last.replace(packet_id) != Some(packet_id)
    }

    /// Takes out the frames that `wanted` picks, which then need not wait.
    pub(super) fn take_out(&mut self, mut wanted: impl FnMut(&ToGroup) -> bool) -> usize {
        let mut bytes = 0;
        self.waiting.retain(|held| {
            let out = wanted(&held.frame);
            if out {
                bytes += cost(held.bytes);
            }
            !out
        });
        self.waiting_bytes -= bytes;
        bytes
    }

    fn fill_in(&mut self, frame: &mut ToGroup) {
        let actor = self.actor.expect("asked for before");
        set_actor(frame, actor);
        if is_answered(frame) {
            self.open = self.open.saturating_add(1);
        }
    }
}

/// What a frame that waits counts for.
pub(super) fn cost(bytes: usize) -> usize {
    FRAME_BYTES + bytes
}

/// How many packet ids of their group `to` comes behind `from`.
fn distance(from: PacketId, to: PacketId) -> u16 {
    let place = |id: PacketId| (id.get() - 1) % Rank::PACKET_IDS;
    (place(to) + Rank::PACKET_IDS - place(from)) % Rank::PACKET_IDS
}

/// Whether the group keeps something of the session because of the frame.
fn needs_rank(frame: &ToGroup) -> bool {
    match frame {
        ToGroup::Publish(publish) => publish.qos == QoS::ExactlyOnce,
        ToGroup::Release { .. } | ToGroup::Subscribe(_) | ToGroup::Unsubscribe(_) => true,
        _ => false,
    }
}

/// Whether the group answers the frame to this connection.
fn is_answered(frame: &ToGroup) -> bool {
    match frame {
        ToGroup::Publish(publish) => publish.packet_id.is_some(),
        ToGroup::Release { .. } | ToGroup::Subscribe(_) | ToGroup::Unsubscribe(_) => true,
        _ => false,
    }
}

fn set_actor(frame: &mut ToGroup, who: Actor) {
    match frame {
        ToGroup::Publish(publish) => publish.actor = who,
        ToGroup::Release { actor, .. } => *actor = who,
        ToGroup::Ack(ack) => ack.actor = who,
        ToGroup::Subscribe(subscribe) => subscribe.actor = who,
        ToGroup::Unsubscribe(unsubscribe) => unsubscribe.actor = who,
        ToGroup::ListFilters(list) => list.actor = who,
        other => unreachable!("{other:?} does not wait for a join"),
    }
}
