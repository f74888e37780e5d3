//! What a connection waits for where there are several groups, and how long: a group that takes no more, a home that
//! does not answer, groups that are away.

use super::requests::Kind;
use super::{Busy, Context, End, Session, State};
use crate::limits::{PUBLISH_WAIT_S, SUBSCRIBE_ROOM_WAIT_S};
use cluster::frame::{Claim, Publish, ToGroup};
use cluster::slots::GroupNo;
use protocol::Packet;

/// A packet for a group that takes no more now.
#[derive(Debug)]
pub(super) struct Delayed {
    group: GroupNo,
    what: What,
    /// The second in which it was read.
    since_s: u32,
}

#[derive(Debug)]
pub(super) enum What {
    /// CONNECT, checked.
    Claim(Box<Claim>),
    /// PUBLISH, checked, and its length.
    Publish(Publish, u32),
    /// Another packet, and its length.
    Packet(Packet, u32),
}

impl Delayed {
    /// When it waits no longer; `u32::MAX`: CONNECT has a time of its own, the others have none.
    fn due_s(&self) -> u32 {
        match self.what {
            What::Publish(..) => self.since_s + PUBLISH_WAIT_S + 1,
            What::Packet(Packet::Subscribe(_), _) => self.since_s + SUBSCRIBE_ROOM_WAIT_S + 1,
            What::Claim(_) | What::Packet(..) => u32::MAX,
        }
    }
}

impl Session {
    /// The second at which the session wants [`Session::overdue`] to be called; `u32::MAX`: never.
    pub fn due_s(&self) -> u32 {
        self.due_s
    }

    /// The group that a packet waits for, whose next room is to be told by [`Session::go_on`].
    pub fn delayed_for(&self) -> Option<GroupNo> {
        let delayed = self.busy.as_ref()?.delayed.as_ref()?;
        Some(delayed.group)
    }

    /// Whether the claim has not been sent.
    pub(super) fn is_claim_delayed(&self) -> bool {
        let delayed = self.busy.as_ref().and_then(|busy| busy.delayed.as_ref());
        delayed.is_some_and(|delayed| matches!(delayed.what, What::Claim(_)))
    }

    /// Keeps a packet, read in second `since_s`, until its group takes more. Nothing is read behind it.
    pub(super) fn delay(&mut self, group: GroupNo, what: What, since_s: u32, cx: &mut Context<'_>) {
        let delayed = Delayed {
            group,
            what,
            since_s,
        };
        self.wait_until(delayed.due_s());
        self.busy().delayed = Some(Box::new(delayed));
        cx.frames.lane(group).waits.packets.push(self.handle);
    }

    /// A group that was full takes more.
    pub fn go_on(&mut self, group: GroupNo, cx: &mut Context<'_>) {
        let is_its = |delayed: &mut Box<Delayed>| delayed.group == group;
        let busy = self.busy.as_mut();
        let Some(delayed) = busy.and_then(|busy| busy.delayed.take_if(is_its)) else {
            return;
        };
        let Delayed { what, since_s, .. } = *delayed;
        match what {
            What::Claim(claim) => self.send_claim(*claim, cx),
            What::Publish(frame, len) => self.forward(group, frame, len, since_s, cx),
            What::Packet(Packet::Subscribe(subscribe), len) => {
                self.subscribe_at_groups(subscribe, len, since_s, cx);
            }
            What::Packet(packet, len) => self.connected_packet(packet, len, cx),
        }
    }

    pub(super) fn wait_until(&mut self, due_s: u32) {
        self.due_s = self.due_s.min(due_s);
    }

    /// The second of [`Session::due_s`] has come.
    pub fn overdue(&mut self, cx: &mut Context<'_>) {
        self.due_s = u32::MAX;
        match self.state {
            State::Claiming => self.end(End::ClaimTimeout, cx),
            State::Attaching => self.open(cx),
            State::Connected if self.publish_is_overdue(cx.rules.now_s) => {
                self.end(End::PublishUnanswered, cx);
            }
            State::Connected => {
                self.give_up_delayed(cx);
                self.give_up_requests(cx);
            }
            State::AwaitConnect | State::Over(_) => {}
        }
        if let Some(busy) = &self.busy {
            let delayed_s = busy.delayed.as_ref().map(|delayed| delayed.due_s());
            let publish_s = busy.publish_due_s();
            let others_s = delayed_s.into_iter().chain(publish_s);
            let due_s = others_s.fold(busy.requests.due_s(), u32::min);
            self.wait_until(due_s);
        }
    }

    /// Whether a publish of the client has waited too long, for room or for its answer.
    fn publish_is_overdue(&self, now_s: u32) -> bool {
        let Some(busy) = &self.busy else {
            return false;
        };
        let is_publish = |delayed: &&Delayed| matches!(delayed.what, What::Publish(..));
        let delayed = busy.delayed.as_deref().filter(is_publish);
        let due_s = delayed.map(Delayed::due_s);
        let mut due = due_s.into_iter().chain(busy.publish_due_s());
        due.any(|due_s| due_s <= now_s)
    }

    /// A SUBSCRIBE that has waited too long for room goes to the groups that have some.
    fn give_up_delayed(&mut self, cx: &mut Context<'_>) {
        let Some(busy) = &mut self.busy else {
            return;
        };
        let now_s = cx.rules.now_s;
        let due = |delayed: &mut Box<Delayed>| delayed.due_s() <= now_s;
        let Some(delayed) = busy.delayed.take_if(due) else {
            return;
        };
        let Delayed { what, since_s, .. } = *delayed;
        let What::Packet(Packet::Subscribe(subscribe), len) = what else {
            unreachable!("a publish that is due ends the session, and nothing else is due");
        };
        self.subscribe_where_room(subscribe, len, since_s, cx);
    }

    /// Answers each SUBSCRIBE that a group has not answered for too long: the filters there have failed.
    fn give_up_requests(&mut self, cx: &mut Context<'_>) {
        let now_s = cx.rules.now_s;
        while let Some(at) = self.busy.as_ref().and_then(|busy| busy.requests.due(now_s)) {
            self.give_up(at, cx);
        }
    }

    /// What was not sent does not leave any more. What was is taken back once the group says what it made of it.
    fn give_up(&mut self, at: usize, cx: &mut Context<'_>) {
        cx.counters().subscribes_given_up.increment();
        let request = self.busy().requests.get_mut(at);
        debug_assert_eq!(request.kind, Kind::Subscribe, "only SUBSCRIBE has a time");
        request.give_up();
        let (packet_id, reasons) = (request.packet_id, request.reasons.clone());
        let mut parts = std::mem::take(&mut request.parts);
        let is_it =
            |frame: &ToGroup| matches!(frame, ToGroup::Subscribe(it) if it.packet_id == packet_id);
        parts.retain(|part| {
            let unsent = self
                .place(part.group)
                .map_or(0, |place| place.take_out(is_it));
            cx.frames.release(part.group, unsent);
            unsent == 0
        });
        let requests = &mut self.busy().requests;
        // The late answers will be recognised by them.
        requests.get_mut(at).parts = parts;
        let refused = requests.take_refused(at);
        if requests.remove_if_answered(at).is_some() {
            self.requests -= 1;
        }
        self.take_back(packet_id, refused, cx);
        self.conclude(Kind::Subscribe, packet_id, &reasons, cx);
    }
}

impl Busy {
    /// When the oldest publish has been without an answer for too long.
    fn publish_due_s(&self) -> Option<u32> {
        let oldest_s = self.answers.oldest_s()?;
        Some(oldest_s.saturating_add(PUBLISH_WAIT_S + 1))
    }
}
