//! SUBSCRIBE, UNSUBSCRIBE and their answers.

use super::publish::topic_fits;
use super::requests::{Kind, Request, Settled};
use super::waits::What;
use super::{Context, Session};
use crate::limits::SUBSCRIBE_WAIT_S;
use cluster::frame::{FilterOutcome, Subscribe, ToGroup, Unsubscribe};
use cluster::slots::GroupNo;
use cluster::topology::{FilterGroups, Routing};
use protocol::{Packet, PacketId, ReasonCode, SubAck, TopicFilter, UnsubAck, Version};

impl Session {
    /// A packet with a filter beyond the limits is refused as a whole, with 0x8F for each filter.
    pub(super) fn subscribe(
        &mut self,
        subscribe: protocol::Subscribe,
        len: u32,
        cx: &mut Context<'_>,
    ) {
        let fits =
            |(filter, _): &(TopicFilter, _)| topic_fits(filter.as_str().as_bytes(), cx.limits());
        if !subscribe.filters.iter().all(fits) {
            let reasons = vec![ReasonCode::TopicFilterInvalid; subscribe.filters.len()];
            return self.write(
                &Packet::SubAck(SubAck {
                    packet_id: subscribe.packet_id,
                    reasons,
                }),
                cx,
            );
        }
        if !cx.rules.routing.is_one_group() {
            return self.subscribe_at_groups(subscribe, len, cx.rules.now_s, cx);
        }
        if self.is_refused_at(self.home, cx) {
            cx.counters().subscribes_refused_full.increment();
            let reasons = vec![ReasonCode::QuotaExceeded; subscribe.filters.len()];
            let packet_id = subscribe.packet_id;
            return self.write(&Packet::SubAck(SubAck { packet_id, reasons }), cx);
        }
        self.requests += 1;
        let frame = Subscribe {
            actor: self.actor(),
            packet_id: subscribe.packet_id,
            subscription_id: subscribe.subscription_id.unwrap_or(0),
            filters: subscribe.filters,
        };
        self.remember_subscribe(&frame, cx.rules);
        cx.frames
            .push(self.home, ToGroup::Subscribe(Box::new(frame)), len as usize);
    }

    /// Each group gets the filters that are its own. The packet was read in second `since_s`.
    pub(super) fn subscribe_at_groups(
        &mut self,
        subscribe: protocol::Subscribe,
        len: u32,
        since_s: u32,
        cx: &mut Context<'_>,
    ) {
        let mut request = request_of(&subscribe, &cx.rules.routing);
        let parts = std::mem::take(&mut request.parts).into_iter();
        let (refused, parts): (Vec<_>, Vec<_>) =
            parts.partition(|part| self.is_refused_at(part.group, cx));
        request.parts = parts;
        let full = |group: &GroupNo| cx.frames.is_full(*group);
        if let Some(group) = request.parts.iter().map(|part| part.group).find(full) {
            let what = What::Packet(Packet::Subscribe(subscribe), len);
            return self.delay(group, what, since_s, cx);
        }
        if !refused.is_empty() {
            cx.counters().subscribes_refused_full.increment();
            request.fail(&refused, ReasonCode::QuotaExceeded);
        }
        self.ask_subscribe(request, subscribe, len, since_s, cx);
    }

    /// Whether a subscription at the group would have to be stored where there is no space: there, or at the home, which
    /// lists the group. Older clients have no word for it and wait, as if the group were away.
    fn is_refused_at(&mut self, group: GroupNo, cx: &Context<'_>) -> bool {
        self.version == Version::V5
            && (cx.frames.refuses(group)
                || (cx.frames.refuses(self.home) && self.needs_listing(group)))
    }

    /// A SUBSCRIBE has waited long enough for groups to have room: it fails where there is none.
    pub(super) fn subscribe_where_room(
        &mut self,
        subscribe: protocol::Subscribe,
        len: u32,
        since_s: u32,
        cx: &mut Context<'_>,
    ) {
        cx.counters().subscribes_given_up.increment();
        let mut request = request_of(&subscribe, &cx.rules.routing);
        let parts = std::mem::take(&mut request.parts).into_iter();
        let (full, parts): (Vec<_>, Vec<_>) = parts.partition(|part| cx.frames.is_full(part.group));
        request.parts = parts;
        request.fail(&full, ReasonCode::UnspecifiedError);
        self.ask_subscribe(request, subscribe, len, since_s, cx);
    }

    fn ask_subscribe(
        &mut self,
        mut request: Request,
        subscribe: protocol::Subscribe,
        len: u32,
        since_s: u32,
        cx: &mut Context<'_>,
    ) {
        request.due_s = since_s + SUBSCRIBE_WAIT_S + 1;
        self.wait_until(request.due_s);
        let mut whole = Subscribe {
            actor: self.actor(),
            packet_id: subscribe.packet_id,
            subscription_id: subscribe.subscription_id.unwrap_or(0),
            filters: subscribe.filters,
        };
        self.remember_subscribe(&whole, cx.rules);
        let filters = std::mem::take(&mut whole.filters);
        let frames: Vec<_> = request
            .parts
            .iter()
            .map(|part| {
                let filter = |&at: &usize| filters[at].clone();
                let frame = Subscribe {
                    filters: part.filters.iter().map(filter).collect(),
                    ..whole.clone()
                };
                (part.group, ToGroup::Subscribe(Box::new(frame)))
            })
            .collect();
        self.ask(request, frames, len, cx);
    }

    /// Asks groups, one frame each, and remembers that they are. Where there is none to ask, the answer is due now.
    pub(super) fn ask(
        &mut self,
        request: Request,
        frames: Vec<(GroupNo, ToGroup)>,
        len: u32,
        cx: &mut Context<'_>,
    ) {
        if frames.is_empty() {
            return self.conclude(request.kind, request.packet_id, &request.reasons, cx);
        }
        self.requests += 1;
        self.busy().requests.push(request);
        for (group, frame) in frames {
            self.act(group, frame, len as usize, cx);
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        unsubscribe: protocol::Unsubscribe,
        len: u32,
        cx: &mut Context<'_>,
    ) {
        if !cx.rules.routing.is_one_group() {
            return self.unsubscribe_at_groups(unsubscribe, len, cx);
        }
        self.requests += 1;
        let frame = Unsubscribe {
            actor: self.actor(),
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.filters,
        };
        self.remember_unsubscribe(&frame, cx.rules);
        cx.frames.push(
            self.home,
            ToGroup::Unsubscribe(Box::new(frame)),
            len as usize,
        );
    }

    /// Only groups that hold something of the session are asked: elsewhere there is no subscription.
    fn unsubscribe_at_groups(
        &mut self,
        unsubscribe: protocol::Unsubscribe,
        len: u32,
        cx: &mut Context<'_>,
    ) {
        let packet_id = unsubscribe.packet_id;
        let mut request = Request::new(Kind::Unsubscribe, packet_id, unsubscribe.filters.clone());
        ask_by_filter(&mut request, &cx.rules.routing);
        request.parts.retain(|part| self.may_hold(part.group));
        let full = |group: &GroupNo| cx.frames.is_full(*group);
        if let Some(group) = request.parts.iter().map(|part| part.group).find(full) {
            let what = What::Packet(Packet::Unsubscribe(unsubscribe), len);
            return self.delay(group, what, cx.rules.now_s, cx);
        }
        let whole = Unsubscribe {
            actor: self.actor(),
            packet_id,
            filters: unsubscribe.filters,
        };
        self.remember_unsubscribe(&whole, cx.rules);
        let frames: Vec<_> = request
            .parts
            .iter()
            .map(|part| {
                let frame = Unsubscribe {
                    filters: request.filters_of(part),
                    ..whole.clone()
                };
                (part.group, ToGroup::Unsubscribe(Box::new(frame)))
            })
            .collect();
        self.ask(request, frames, len, cx);
    }

    /// Whether a group may hold something of the session.
    pub(super) fn may_hold(&self, group: GroupNo) -> bool {
        let mut places = self.places.iter().flat_map(|places| places.iter());
        group == self.home || places.any(|place| place.group == group && place.may_hold())
    }

    /// A group has answered SUBSCRIBE.
    pub(super) fn subscribed(
        &mut self,
        from: GroupNo,
        packet_id: PacketId,
        outcomes: &[FilterOutcome],
        cx: &mut Context<'_>,
    ) {
        if let Some(busy) = &mut self.busy {
            busy.requests.note_made(packet_id, from, outcomes);
        }
        let reasons: Vec<_> = outcomes.iter().map(|outcome| outcome.reason).collect();
        self.answered(from, Kind::Subscribe, packet_id, &reasons, cx);
    }

    /// A group has answered PUBREL, SUBSCRIBE or UNSUBSCRIBE: what it says is stored there.
    pub(super) fn answered(
        &mut self,
        from: GroupNo,
        kind: Kind,
        packet_id: PacketId,
        reasons: &[ReasonCode],
        cx: &mut Context<'_>,
    ) {
        if cx.rules.routing.is_one_group() {
            if self.requests == 0 {
                return cx.counters().answers_stale.increment();
            }
            self.requests -= 1;
            return self.conclude(kind, packet_id, reasons, cx);
        }
        let requests = self.busy.as_mut().map(|busy| &mut busy.requests);
        let settled = match requests {
            Some(requests) => requests.settle(kind, packet_id, from, reasons),
            None => None,
        };
        let Some(Settled { refused, whole }) = settled else {
            return cx.counters().answers_stale.increment();
        };
        self.take_back(packet_id, refused, cx);
        if let Some(request) = whole {
            self.requests -= 1;
            if !request.told {
                self.conclude(kind, packet_id, &request.reasons, cx);
            }
        }
    }

    /// Removes the subscriptions that a refused SUBSCRIBE has made. The client awaits no answer to that.
    pub(super) fn take_back(
        &mut self,
        packet_id: PacketId,
        refused: Vec<(GroupNo, Vec<TopicFilter>)>,
        cx: &mut Context<'_>,
    ) {
        for (group, filters) in refused {
            let mut undo = Request::new(Kind::Unsubscribe, packet_id, filters.clone());
            for filter in 0..filters.len() {
                undo.ask(group, filter);
            }
            undo.told = true;
            self.requests += 1;
            self.busy().requests.push(undo);
            let frame = Unsubscribe {
                actor: self.actor(),
                packet_id,
                filters,
            };
            self.act(group, ToGroup::Unsubscribe(Box::new(frame)), 0, cx);
        }
    }

    /// Everything that a request's success vouches for is stored: the client is told (promise P1).
    pub(super) fn conclude(
        &mut self,
        kind: Kind,
        packet_id: PacketId,
        reasons: &[ReasonCode],
        cx: &mut Context<'_>,
    ) {
        match kind {
            Kind::Subscribe => {
                self.record_answer(packet_id, reasons, cx);
                let reasons = reasons.to_vec();
                self.write(&Packet::SubAck(SubAck { packet_id, reasons }), cx);
                self.rest();
            }
            Kind::Unsubscribe => {
                self.record_answer(packet_id, reasons, cx);
                let reasons = reasons.to_vec();
                self.write(&Packet::UnsubAck(UnsubAck { packet_id, reasons }), cx);
                self.rest();
            }
            Kind::Release => {
                for reason in reasons {
                    self.released(packet_id, *reason, cx);
                }
            }
        }
    }
}

fn request_of(subscribe: &protocol::Subscribe, routing: &Routing) -> Request {
    let filters = subscribe.filters.iter().map(|(filter, _)| filter.clone());
    let mut request = Request::new(Kind::Subscribe, subscribe.packet_id, filters.collect());
    ask_by_filter(&mut request, routing);
    request
}

/// Gives each group the filters that are registered there.
fn ask_by_filter(request: &mut Request, routing: &Routing) {
    let filters = request.filters.iter();
    let placed: Vec<_> = filters.map(|it| routing.groups_of_filter(it)).collect();
    for (at, placed) in placed.into_iter().enumerate() {
        match placed {
            FilterGroups::One(group) => request.ask(group, at),
            FilterGroups::Every => routing
                .groups()
                .iter()
                .for_each(|group| request.ask(*group, at)),
        }
    }
}
