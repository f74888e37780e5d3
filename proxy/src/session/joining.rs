//! How a connection comes to the groups that its packets are for, besides its home, and leaves them.

use super::places::{Held, Place, Step, cost};
use super::requests::Kind;
use super::{Context, End, Session, State};
use cluster::frame::{Disconnect, FromGroup, Join, Joined, Listed, ToGroup, WillFate};
use cluster::ids::{Actor, Rank};
use cluster::slots::GroupNo;
use protocol::ReasonCode;

impl Session {
    /// Sends a frame that acts for the client to a group, at once or when the connection has joined it. Who acts is
    /// filled in where that is not the home.
    pub(super) fn act(
        &mut self,
        group: GroupNo,
        frame: ToGroup,
        bytes: usize,
        cx: &mut Context<'_>,
    ) {
        if group == self.home {
            return cx.frames.push(group, frame, bytes);
        }
        let place = self.places.get_or_insert_default().get_or_insert(group);
        if let Some(Held { frame, bytes }) = place.put(frame, bytes) {
            return cx.frames.push(group, frame, bytes);
        }
        cx.frames.hold(group, cost(bytes));
        self.advance(group, cx);
    }

    /// Does what can be done for what waits to leave for a group.
    fn advance(&mut self, group: GroupNo, cx: &mut Context<'_>) {
        loop {
            let Some(place) = self.place(group) else {
                return;
            };
            match place.step() {
                Step::Nothing => return,
                Step::List => {
                    let actor = self.actor();
                    cx.frames.push(self.home, ToGroup::List { actor, group }, 0);
                }
                Step::Join => self.join(group, cx),
                Step::Send(Held { frame, bytes }) => {
                    cx.frames.release(group, cost(bytes));
                    cx.frames.push(group, frame, bytes);
                }
            }
        }
    }

    /// Asks a group to let the connection join, when its link has room. The place waits until then.
    fn join(&mut self, group: GroupNo, cx: &mut Context<'_>) {
        let has_room = !cx.frames.is_link_full(group);
        let places = self.places.get_or_insert_default();
        let rank = places.get_or_insert(group).join(has_room);
        if !has_room {
            return cx.frames.lane(group).waits.joins.push(self.handle);
        }
        let join = Join {
            handle: self.handle,
            client_id: self.client_id.clone(),
            epoch: self.epoch,
            start_epoch: self.start_epoch,
            rank,
        };
        cx.frames.push(group, ToGroup::Join(Box::new(join)), 0);
    }

    /// A group whose link was full takes more: joins it, if the connection still wants to.
    pub fn join_late(&mut self, group: GroupNo, cx: &mut Context<'_>) {
        if self.is_join_due(group) {
            self.join(group, cx);
        }
    }

    /// Whether the connection waits for a group's link to have room for its join.
    pub fn is_join_due(&self, group: GroupNo) -> bool {
        let mut places = self.places.iter().flat_map(|places| places.iter());
        places.any(|place| place.group == group && place.is_join_due())
    }

    pub(super) fn place(&mut self, group: GroupNo) -> Option<&mut Place> {
        self.places.as_mut()?.get(group)
    }

    /// Joins the groups that the home has listed. `false`: there are none.
    pub(super) fn join_listed(&mut self, groups: &[Listed], cx: &mut Context<'_>) -> bool {
        for &listed in groups {
            if listed.group == self.home || !cx.frames.knows(listed.group) {
                // By another slot table than ours: there is no way to it.
                cx.counters().groups_unknown.increment();
                continue;
            }
            let places = self.places.get_or_insert_default();
            places.add(listed);
            self.join(listed.group, cx);
        }
        self.places.is_some()
    }

    /// A group has let the connection in: what waits for that may leave.
    pub(super) fn joined(&mut self, from: GroupNo, joined: &Joined, cx: &mut Context<'_>) {
        let lives = matches!(self.state, State::Attaching | State::Connected);
        let Some(place) = self.place(from).filter(|_| lives) else {
            let will = self.ended().map_or(WillFate::Published, End::will);
            let actor = Actor {
                client: joined.client,
                epoch: joined.epoch,
            };
            return leave_late(from, actor, will, cx);
        };
        let tells = place.tells();
        if !place.joined(joined.client, joined.epoch) {
            // The client waits for answers that nobody will give.
            return self.end(End::Forgotten, cx);
        }
        if self.state == State::Attaching {
            self.opening().has_joined(from, joined.digest);
        } else if tells {
            self.record_late_join(from, joined.digest, cx);
        }
        self.advance(from, cx);
        self.open_if_attached(cx);
    }

    /// The home's answer to `List`.
    pub(super) fn listed(&mut self, group: GroupNo, rank: Option<Rank>, cx: &mut Context<'_>) {
        let Some(place) = self.place(group) else {
            return cx.counters().answers_stale.increment();
        };
        let refused = place.listed(rank);
        for Held { frame, bytes } in refused {
            cx.frames.release(group, cost(bytes));
            self.refuse_unlisted(group, frame, cx);
        }
        self.advance(group, cx);
    }

    /// A session has no rank left for another group.
    fn refuse_unlisted(&mut self, group: GroupNo, frame: ToGroup, cx: &mut Context<'_>) {
        let quota = ReasonCode::QuotaExceeded;
        match frame {
            ToGroup::Publish(publish) => {
                if let Some(packet_id) = publish.packet_id {
                    self.published(packet_id, publish.qos, quota, cx);
                }
            }
            ToGroup::Subscribe(frame) => {
                let reasons = vec![quota; frame.filters.len()];
                self.answered(group, Kind::Subscribe, frame.packet_id, &reasons, cx);
            }
            ToGroup::Unsubscribe(frame) => {
                let reasons = vec![ReasonCode::NoSubscriptionExisted; frame.filters.len()];
                self.answered(group, Kind::Unsubscribe, frame.packet_id, &reasons, cx);
            }
            ToGroup::Release { packet_id, .. } => {
                let reasons = [ReasonCode::PacketIdentifierNotFound];
                self.answered(group, Kind::Release, packet_id, &reasons, cx);
            }
            other => unreachable!("{other:?} takes no rank"),
        }
    }

    /// A group does not know the connection any more, after a time without a link.
    pub(super) fn rejoin(&mut self, from: GroupNo, cx: &mut Context<'_>) {
        let lives = matches!(self.state, State::Attaching | State::Connected);
        if lives && from == self.home {
            // Who has lost its home owns nothing any more.
            return self.kick(from, ReasonCode::SessionTakenOver, cx);
        }
        let Some(place) = self.place(from).filter(|_| lives) else {
            return cx.counters().answers_stale.increment();
        };
        place.forgotten();
        if place.is_idle() {
            // The next publish joins again, if there is one.
            return self.forget_place(from);
        }
        self.join(from, cx);
    }

    fn forget_place(&mut self, group: GroupNo) {
        if let Some(places) = &mut self.places {
            places.remove(group);
            if places.is_empty() {
                self.places = None;
            }
        }
    }

    /// Tells the groups where the connection acts that it is gone; those that have not let it in yet are told when
    /// they do. `except` has been told otherwise.
    pub(super) fn leave_places(&self, end: End, except: Option<GroupNo>, cx: &mut Context<'_>) {
        let places = self.places.iter().flat_map(|places| places.iter());
        for place in places.filter(|place| Some(place.group) != except) {
            if let Some(actor) = place.actor() {
                push_disconnect(place.group, actor, None, end.will(), cx);
            }
        }
    }

    /// What waits for groups leaves with the session.
    pub(super) fn drop_places(&mut self, cx: &mut Context<'_>) {
        for place in self.places.take().iter().flat_map(|places| places.iter()) {
            cx.frames.release(place.group, place.waiting_bytes());
        }
    }
}

/// A claim or a join was stored whose connection is gone: it acts there no more.
pub(super) fn leave_late(group: GroupNo, actor: Actor, will: WillFate, cx: &mut Context<'_>) {
    push_disconnect(group, actor, None, will, cx);
}

/// A frame for a connection that is gone: what it owns is given back, a kick is confirmed, the rest is void.
pub fn answer_for_gone(from: GroupNo, frame: FromGroup, cx: &mut Context<'_>) {
    let (client, epoch) = match frame {
        FromGroup::Claimed(claimed) => (claimed.client, claimed.epoch),
        FromGroup::Joined(joined) => (joined.client, joined.epoch),
        FromGroup::Kick { handle, .. } => {
            return cx.frames.push(from, ToGroup::Kicked { handle }, 0);
        }
        _ => return cx.counters().answers_stale.increment(),
    };
    leave_late(from, Actor { client, epoch }, WillFate::Published, cx);
}

pub(super) fn push_disconnect(
    group: GroupNo,
    actor: Actor,
    expiry_s: Option<u32>,
    will: WillFate,
    cx: &mut Context<'_>,
) {
    let gone = Disconnect {
        actor,
        expiry_s,
        will,
    };
    cx.frames
        .push(group, ToGroup::Disconnect(Box::new(gone)), 0);
}
