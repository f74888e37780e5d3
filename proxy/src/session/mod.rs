//! The MQTT session of one connection: a machine without I/O and without a clock.
//!
//! Packets and frames go in, bytes for the socket and frames for the groups come out ([`Context`]). What it
//! decides with is in [`Rules`], the second of the turn included.
//!
//! One group is the session's home; what a packet of the client is for may be at others. Where a fleet has one group,
//! that is the home of all and has everything, and nothing waits in `places`, `requests` or `waits`.
//!
//! An answer that vouches for something stored (CONNACK with success, PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK)
//! is written in the handler of the frame that says so and nowhere else. (A SUBACK that a group's silence brings about
//! vouches for what the other groups have said.)

mod acks;
mod aliases;
mod answers;
mod connect;
mod context;
mod deliver;
mod end;
mod joining;
mod places;
mod publish;
mod recording;
mod requests;
mod subscribe;
#[cfg(test)]
mod tests;
mod waits;

pub use context::{AssignedIds, Context, Frames, Lane, Rules, Waits};
pub use deliver::{Fanout, Outgoing};
pub use end::{End, Rule};
pub use joining::answer_for_gone;

use crate::limits::OTHER_REQUESTS_MAX;
use aliases::{AliasesIn, AliasesOut};
use answers::Answers;
use bytes::Bytes;
use cluster::frame::{FromGroup, Reattach, ToGroup};
use cluster::ids::{Actor, ClientNo, Epoch, Handle};
use cluster::slots::GroupNo;
use connect::Opening;
use deliver::Waiting;
use hashbrown::HashMap;
use places::Places;
use protocol::{Decoded, Packet, PacketId, ReasonCode, Version, decode, decode_first};
use recording::Asked;
use requests::{Kind, Requests};
use std::collections::VecDeque;
use waits::Delayed;

/// One connection's session.
#[derive(Debug)]
pub struct Session {
    handle: Handle,
    /// The client's number at its home.
    client: ClientNo,
    /// The epoch that the connection owns.
    epoch: Epoch,
    /// The epoch in which the session began.
    start_epoch: Epoch,
    client_id: Box<str>,
    busy: Option<Box<Busy>>,
    /// The groups it is at besides the home.
    places: Option<Box<Places>>,
    /// The second at which one of its waits for groups ends; `u32::MAX`: none does.
    due_s: u32,
    /// The group that is the session's home.
    home: GroupNo,
    state: State,
    version: Version,
    keep_alive_s: u16,
    /// The session's expiry as granted; what DISCONNECT may change.
    expiry_s: u32,
    /// The client's Maximum Packet Size; `u32::MAX`: none.
    packet_bytes_max: u32,
    /// The client's Receive Maximum.
    receive_maximum: u16,
    /// The client's Topic Alias Maximum, no more than our own limit.
    aliases_out_maximum: u16,
    /// QoS 1 and 2 deliveries sent and not completed (the used part of the send quota, MQTT5 4.9).
    outstanding: u16,
    /// PUBRECs of this connection whose PUBREL has not left yet.
    releases_due: u16,
    /// PUBRELs sent for deliveries of an earlier connection and not completed: they are not in `outstanding`.
    releases_resumed: u16,
    /// QoS 1 and 2 publishes of the client that are not completed (MQTT5 4.9, the other way round).
    publishes_in: u16,
    /// PUBREL, SUBSCRIBE and UNSUBSCRIBE that wait for the group.
    requests: u32,
    /// Packet id of the newest QoS 1 or 2 delivery that the home has sent.
    last: Option<PacketId>,
}

/// What only a connection at work has. It goes when it is empty at the connection's visit.
#[derive(Debug, Default)]
struct Busy {
    answers: Answers,
    /// Deliveries that wait for the client's receive maximum. Bounded by the group's window.
    waiting: VecDeque<Waiting>,
    aliases_in: AliasesIn,
    aliases_out: AliasesOut,
    /// What CONNACK will say, from CONNECT until then.
    opening: Option<Box<Opening>>,
    /// For the session's record.
    asked: Vec<Asked>,
    /// A packet for a group that takes no more now. Nothing is read behind it.
    delayed: Option<Box<Delayed>>,
    /// Where there are several groups: the requests that wait for some.
    requests: Requests,
    /// Where there are several groups: which of them has a QoS 2 publish, until PUBCOMP. No more than packet ids.
    receipts: HashMap<PacketId, GroupNo, foldhash::fast::RandomState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitConnect,
    /// Nothing more is read until the home has answered.
    Claiming,
    /// The home has; CONNACK waits for the other groups that the session is at.
    Attaching,
    Connected,
    Over(End),
}

/// How far [`Session::receive`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes that are done with.
    pub consumed: usize,
    /// Length of the packet the rest begins, where its header is there; always more than the rest has.
    pub need: Option<usize>,
}

/// When a session wants to be told that time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// So many seconds after the connection was accepted or last heard of.
    Seconds(u32),
    /// Never.
    Endless,
}

impl Session {
    /// A session that waits for CONNECT.
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            client: ClientNo(0),
            epoch: Epoch(0),
            start_epoch: Epoch(0),
            client_id: Box::default(),
            busy: None,
            places: None,
            due_s: u32::MAX,
            home: GroupNo(0),
            state: State::AwaitConnect,
            version: Version::V311,
            keep_alive_s: 0,
            expiry_s: 0,
            packet_bytes_max: u32::MAX,
            receive_maximum: u16::MAX,
            aliases_out_maximum: 0,
            outstanding: 0,
            releases_due: 0,
            releases_resumed: 0,
            publishes_in: 0,
            requests: 0,
            last: None,
        }
    }

    /// Decodes and handles the packets in `chunk`, until one is incomplete or the session wants no more.
    pub fn receive(&mut self, chunk: &Bytes, cx: &mut Context<'_>) -> Received {
        let mut at = 0;
        let out_max = cx.limits().unread_answers_bytes_max();
        while at < chunk.len() && self.reads(cx.rules) && cx.bytes.len() < out_max {
            let decoded = if self.state == State::AwaitConnect {
                decode_first(chunk, at, cx.limits().connect_bytes_max as usize)
            } else {
                decode(
                    chunk,
                    at,
                    self.version,
                    cx.limits().packet_bytes_max as usize,
                )
            };
            match decoded {
                Ok(Decoded::Packet { packet, len }) => {
                    at += len;
                    cx.counters().packets_in.increment();
                    self.packet(packet, len as u32, cx);
                }
                Ok(Decoded::Incomplete { need }) => return Received { consumed: at, need },
                Err(violation) => self.violate(violation, chunk, at, cx),
            }
        }
        Received {
            consumed: at,
            need: None,
        }
    }

    /// Whether bytes of the client are wanted now. `false` while CONNECT or too many requests wait for the group.
    pub fn reads(&self, rules: &Rules) -> bool {
        match self.state {
            State::AwaitConnect => true,
            State::Connected => !self.is_full(rules),
            State::Claiming | State::Attaching | State::Over(_) => false,
        }
    }

    /// Inbound backpressure: as many requests as allowed wait for the group.
    fn is_full(&self, rules: &Rules) -> bool {
        let (answers, open_bytes) = match &self.busy {
            Some(busy) if busy.delayed.is_some() => return true,
            Some(busy) => (busy.answers.len(), busy.answers.open_bytes()),
            None => (0, 0),
        };
        // A 5.0 client is ended when it exceeds what it was told, so that much must be read.
        let told = if self.version.has_properties() {
            OTHER_REQUESTS_MAX
        } else {
            0
        };
        let requests_max = usize::from(rules.limits.receive_maximum) + usize::from(told);
        answers + self.requests as usize >= requests_max
            || open_bytes >= rules.limits.unanswered_bytes_max
    }

    /// Handles one packet of `len` bytes on the wire.
    pub fn packet(&mut self, packet: Packet, len: u32, cx: &mut Context<'_>) {
        match (self.state, packet) {
            (State::AwaitConnect, Packet::Connect(connect)) => self.connect(*connect, cx),
            (State::Connected, packet) => self.connected_packet(packet, len, cx),
            (State::Over(_), _) => {}
            _ => self.end(End::Violation(protocol::Violation::ConnectExpected), cx),
        }
    }

    fn connected_packet(&mut self, packet: Packet, len: u32, cx: &mut Context<'_>) {
        match packet {
            Packet::Publish(publish) => self.publish(publish, len, cx),
            Packet::PubAck(ack) => self.puback(ack, len, cx),
            Packet::PubRec(ack) => self.pubrec(ack, len, cx),
            Packet::PubRel(ack) => self.pubrel(ack, len, cx),
            Packet::PubComp(ack) => self.pubcomp(ack, len, cx),
            Packet::Subscribe(subscribe) => self.subscribe(subscribe, len, cx),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, len, cx),
            Packet::PingReq => self.write(&Packet::PingResp, cx),
            Packet::Disconnect(disconnect) => self.disconnect(&disconnect, cx),
            Packet::Auth(_) => self.end(End::Rule(Rule::AuthNotInUse), cx),
            Packet::Connect(_) => self.end(End::Rule(Rule::SecondConnect), cx),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.end(End::Rule(Rule::ServerPacket), cx);
            }
        }
    }

    /// Handles a frame of a group for this connection; a delivery goes to [`Session::deliver`] instead.
    pub fn frame(&mut self, from: GroupNo, frame: FromGroup, cx: &mut Context<'_>) {
        match frame {
            FromGroup::Claimed(claimed) => self.claimed(&claimed, cx),
            FromGroup::ClaimRefused { reason, .. } => self.claim_refused(reason, cx),
            FromGroup::Kick { reason, .. } => self.kick(from, reason, cx),
            FromGroup::Joined(joined) => self.joined(from, &joined, cx),
            FromGroup::Rejoin { .. } => self.rejoin(from, cx),
            FromGroup::Deliver(_)
            | FromGroup::Resume
            | FromGroup::Done { .. }
            | FromGroup::Errand(_)
            | FromGroup::ErrandDone(_) => unreachable!("not a frame for one connection"),
            FromGroup::Release {
                packet_id, reason, ..
            } if self.state == State::Attaching => self.keep_release(packet_id, reason),
            _ if self.state != State::Connected => cx.counters().answers_stale.increment(),
            FromGroup::Listed { group, rank, .. } => self.listed(group, rank, cx),
            FromGroup::Filters(page) => self.record_page(*page, cx),
            FromGroup::Release {
                packet_id, reason, ..
            } => self.release(packet_id, reason, cx),
            frame => self.answer(from, frame, cx),
        }
    }

    /// A group's answer to a packet of the client.
    fn answer(&mut self, from: GroupNo, frame: FromGroup, cx: &mut Context<'_>) {
        if from != self.home
            && let Some(place) = self.place(from)
        {
            place.answered();
        }
        match frame {
            FromGroup::Published {
                packet_id,
                qos,
                reason,
                ..
            } => {
                self.published(packet_id, qos, reason, cx);
            }
            FromGroup::Released {
                packet_id, reason, ..
            } => self.answered(from, Kind::Release, packet_id, &[reason], cx),
            FromGroup::Subscribed {
                packet_id,
                outcomes,
                ..
            } => self.subscribed(from, packet_id, &outcomes, cx),
            FromGroup::Unsubscribed {
                packet_id, reasons, ..
            } => self.answered(from, Kind::Unsubscribe, packet_id, &reasons, cx),
            other => unreachable!("{other:?} answers no packet"),
        }
    }

    /// A group ends this connection: from here on nothing of it reaches that group (promise P5).
    fn kick(&mut self, from: GroupNo, reason: ReasonCode, cx: &mut Context<'_>) {
        let handle = self.handle;
        cx.frames.push(from, ToGroup::Kicked { handle }, 0);
        let end = End::Kicked(reason);
        match self.state {
            State::Over(_) => return,
            State::AwaitConnect | State::Claiming => {}
            State::Attaching | State::Connected => self.leave(end, None, Some(from), cx),
        }
        self.finish(end, cx);
    }

    /// What the session waits for now, if nothing comes.
    pub fn patience(&self, rules: &Rules) -> Patience {
        match self.state {
            State::AwaitConnect | State::Claiming => {
                Patience::Seconds(rules.limits.connect_timeout_s)
            }
            // That ends by itself.
            State::Attaching => Patience::Endless,
            // Nothing is read from a full session, so nothing can be missed: the clock stands still.
            State::Connected if self.keep_alive_s == 0 || self.is_full(rules) => Patience::Endless,
            // One more, since both ends of the interval are rounded down to seconds.
            State::Connected => Patience::Seconds(u32::from(self.keep_alive_s) * 3 / 2 + 1),
            State::Over(_) => Patience::Seconds(crate::limits::LINGER_S),
        }
    }

    /// The patience is at its end.
    pub fn timed_out(&mut self, cx: &mut Context<'_>) {
        match self.state {
            State::AwaitConnect => self.end(End::ConnectTimeout, cx),
            State::Claiming => self.end(End::ClaimTimeout, cx),
            State::Connected => self.end(End::KeepAlive, cx),
            State::Attaching | State::Over(_) => {}
        }
    }

    /// Gives back what only a working connection needs, if nothing of it is in use.
    pub fn rest(&mut self) {
        if self.busy.as_ref().is_some_and(|busy| busy.is_idle()) {
            self.busy = None;
        }
    }

    /// Why the session is over; `None` while it is not.
    pub fn ended(&self) -> Option<End> {
        match self.state {
            State::Over(end) => Some(end),
            _ => None,
        }
    }

    /// Whether CONNACK said success and the session is not over.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Whether the connection has not come further than CONNECT.
    pub fn awaits_connect(&self) -> bool {
        self.state == State::AwaitConnect
    }

    /// What a new link session with a group has to know of the connection; `None` while it owns nothing there, or no
    /// more.
    pub fn reattach(&self, group: GroupNo) -> Option<Reattach> {
        if !matches!(self.state, State::Attaching | State::Connected) {
            return None;
        }
        let (actor, last) = if group == self.home {
            (self.actor(), self.last)
        } else {
            let mut places = self.places.as_ref()?.iter();
            let place = places.find(|place| place.group == group)?;
            (place.actor()?, place.last)
        };
        Some(Reattach {
            actor,
            handle: self.handle,
            last,
        })
    }

    /// Who acts at the home.
    fn actor(&self) -> Actor {
        Actor {
            client: self.client,
            epoch: self.epoch,
        }
    }

    /// The epoch that the connection owns at its home; 0 before it owns any.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The connection's name on the link.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// The client id; empty before CONNECT.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }
}

impl Busy {
    fn is_idle(&self) -> bool {
        self.answers.len() == 0
            && self.waiting.is_empty()
            && self.aliases_in.is_empty()
            && self.aliases_out.is_empty()
            && self.opening.is_none()
            && self.asked.is_empty()
            && self.delayed.is_none()
            && self.requests.is_empty()
            && self.receipts.is_empty()
    }
}
