//! What a connection waits for where there are several groups, and how long: a group that takes no more, a home that
//! does not answer, groups that are away.

use super::requests::Kind;
use super::{Context, End, Session, State};
use cluster::frame::{Claim, Publish, ToGroup};
use cluster::slots::GroupNo;
use protocol::Packet;

/// A packet for a group that takes no more now.
#[derive(Debug)]
pub(super) struct Delayed {
    group: GroupNo,
    what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// CONNECT, checked.
    Claim(Box<Claim>),
    /// PUBLISH, checked, and its length.
    Publish(Publish, u32),
    /// Another packet, its length, and when it waits no longer.
    Packet(Packet, u32, u32),
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

    /// Keeps a packet until its group takes more. Nothing is read behind it.
    pub(super) fn delay(&mut self, group: GroupNo, what: What, cx: &mut Context<'_>) {
        if let What::Packet(_, _, due_s) = what {
            self.wait_until(due_s);
        }
        self.busy().delayed = Some(Box::new(Delayed { group, what }));
        cx.frames.lane(group).waits.packets.push(self.handle);
    }

    /// A group that was full takes more.
    pub fn go_on(&mut self, group: GroupNo, cx: &mut Context<'_>) {
        let is_its = |delayed: &mut Box<Delayed>| delayed.group == group;
        let busy = self.busy.as_mut();
        let Some(delayed) = busy.and_then(|busy| busy.delayed.take_if(is_its)) else {
            return;
        };
        let Delayed { group, what } = *delayed;
        match what {
            What::Claim(claim) => self.send_claim(*claim, cx),
            What::Publish(frame, len) => self.forward(group, frame, len, cx),
            What::Packet(packet, len, _) => self.connected_packet(packet, len, cx),
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
            State::Connected => {
                self.give_up_delayed(cx);
                self.give_up_requests(cx);
            }
            State::AwaitConnect | State::Over(_) => {}
        }
        if let Some(busy) = &self.busy {
            let delayed_s = match &busy.delayed {
                Some(delayed) => match delayed.what {
                    What::Packet(_, _, due_s) => due_s,
                    What::Claim(_) | What::Publish(..) => u32::MAX,
                },
                None => u32::MAX,
            };
            let due_s = delayed_s.min(busy.requests.due_s());
            self.wait_until(due_s);
        }
    }

    /// A SUBSCRIBE that has waited too long for room goes to the groups that have some.
    fn give_up_delayed(&mut self, cx: &mut Context<'_>) {
        let Some(busy) = &mut self.busy else {
            return;
        };
        let due = |delayed: &mut Box<Delayed>| matches!(delayed.what, What::Packet(_, _, due_s) if due_s <= cx.rules.now_s);
        if let Some(delayed) = busy.delayed.take_if(due)
            && let What::Packet(Packet::Subscribe(subscribe), len, _) = delayed.what
        {
            self.subscribe_where_room(subscribe, len, cx);
        }
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
