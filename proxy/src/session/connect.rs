//! CONNECT, the claim at the session's home, CONNACK; and the end of a session.

use super::joining::{leave_late, push_disconnect};
use super::places::Places;
use super::waits::What;
use super::{Context, End, Rule, Rules, Session, State};
use crate::limits::{ATTACH_WAIT_S, CLAIM_WAIT_S, ProxyLimits};
use crate::records::{Connected, Said};
use bytes::Bytes;
use cluster::filters::FilterDigest;
use cluster::frame::{Claim, Claimed, ToGroup, WillFate};
use cluster::ids::Actor;
use cluster::slots::GroupNo;
use protocol::{
    ConnAck, Connect, Packet, PacketId, ReasonCode, Version, Violation, connect_version, encode,
};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};

/// What CONNACK and the record will say once the claim is stored.
#[derive(Debug)]
pub(super) struct Opening {
    connack: ConnAck,
    connected: Option<Connected>,
    /// What groups hold of a session that is resumed, as far as they have said so.
    held: Vec<(GroupNo, Said)>,
    /// PUBRELs that came before CONNACK may leave. Bounded by the windows of the groups.
    releases: Vec<(PacketId, ReasonCode)>,
    /// Bytes of the QoS 0 deliveries that came before.
    pub(super) early_bytes: usize,
}

impl Opening {
    /// A group has let the connection in before CONNACK.
    pub(super) fn has_joined(&mut self, group: GroupNo, digest: FilterDigest) {
        // The home has said something exactly where the session is resumed and has a record.
        if !self.held.is_empty() {
            self.held.retain(|(said, _)| *said != group);
            self.held.push((group, Said::Digest(digest)));
        }
    }
}

impl Session {
    pub(super) fn connect(&mut self, connect: Connect, cx: &mut Context<'_>) {
        self.version = connect.version;
        self.packet_bytes_max = connect
            .maximum_packet_size
            .map_or(u32::MAX, NonZeroU32::get);
        match self.accept(connect, cx) {
            // The home would have to store the claim. Older clients wait for it, as if it were away.
            Ok(_) if cx.frames.refuses(self.home) && self.version == Version::V5 => {
                self.end(End::Refused(ReasonCode::QuotaExceeded), cx);
            }
            Ok(claim) => {
                self.state = State::Claiming;
                self.wait_until(cx.rules.now_s + CLAIM_WAIT_S + 1);
                if cx.frames.is_full(self.home) {
                    return self.delay(self.home, What::Claim(Box::new(claim)), cx.rules.now_s, cx);
                }
                self.send_claim(claim, cx);
            }
            Err(reason) => self.end(End::Refused(reason), cx),
        }
    }

    pub(super) fn send_claim(&self, claim: Claim, cx: &mut Context<'_>) {
        let will = claim.will.as_ref();
        let bytes = will.map_or(0, |will| will.message.byte_len());
        cx.frames
            .push(self.home, ToGroup::Claim(Box::new(claim)), bytes);
    }

    /// Checks CONNECT and takes over what it says of the connection.
    fn accept(&mut self, connect: Connect, cx: &Context<'_>) -> Result<Claim, ReasonCode> {
        let limits = cx.limits();
        if connect.auth_method.is_some() {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        self.client_id = choose_client_id(&connect, cx.rules)?;
        self.home = cx.rules.routing.home_of(&self.client_id);
        check_will(&connect, limits)?;
        let peer = (cx.peer)();
        // A connection that is gone is nobody's: it gets no further without being looked at.
        let peer = peer.ok_or(ReasonCode::UnspecifiedError)?;
        cx.rules.authenticator.authenticate(&connect, &peer)?;
        self.take_over(&connect, Some(peer.address), cx.rules);
        Ok(Claim {
            handle: self.handle,
            client_id: self.client_id.clone(),
            version: connect.version,
            clean_start: connect.clean_start,
            expiry_s: self.expiry_s,
            will: connect.will.map(Box::new),
        })
    }

    /// Takes over what CONNECT says of the connection, and prepares what CONNACK will say (of which 3.x clients
    /// get no more than the answer itself).
    fn take_over(&mut self, connect: &Connect, address: Option<SocketAddr>, rules: &Rules) {
        let limits = &rules.limits;
        let v5 = connect.version == Version::V5;
        self.receive_maximum = match connect.receive_maximum {
            Some(maximum) => maximum.get(),
            None if v5 => u16::MAX,
            None => limits.v3_receive_maximum,
        };
        self.aliases_out_maximum = connect.topic_alias_maximum.min(limits.topic_alias_out_max);
        let wanted_expiry_s = match connect.session_expiry_s {
            Some(expiry_s) => expiry_s,
            None if !v5 && !connect.clean_start => limits.v3_session_expiry_s,
            None => 0,
        };
        self.expiry_s = wanted_expiry_s.min(limits.session_expiry_s_max);
        self.keep_alive_s = bound_keep_alive(connect.keep_alive_s, limits.keep_alive_s_max);

        let other_expiry = self.expiry_s != wanted_expiry_s;
        let other_keep_alive = self.keep_alive_s != connect.keep_alive_s;
        let assigned = connect.client_id.is_empty();
        let mut connack = ConnAck::new(ReasonCode::Success);
        connack.receive_maximum = NonZeroU16::new(limits.receive_maximum);
        connack.maximum_packet_size = NonZeroU32::new(limits.packet_bytes_max);
        connack.topic_alias_maximum = limits.topic_alias_max;
        connack.session_expiry_s = other_expiry.then_some(self.expiry_s);
        connack.server_keep_alive_s = other_keep_alive.then_some(self.keep_alive_s);
        connack.assigned_client_id = assigned.then(|| (*self.client_id).into());
        let connected = rules.keeps_records.then(|| Connected {
            version: connect.version,
            user: connect.username.as_ref().map(ToString::to_string),
            address,
            clean_start: connect.clean_start,
            expiry_s: self.expiry_s,
            resumed: None,
        });
        self.busy().opening = Some(Box::new(Opening {
            connack,
            connected,
            held: Vec::new(),
            releases: Vec::new(),
            early_bytes: 0,
        }));
    }

    /// The claim is stored. CONNACK leaves (promise P6), once the other groups that the session is at know of the new
    /// owner, or have had their time.
    pub(super) fn claimed(&mut self, claimed: &Claimed, cx: &mut Context<'_>) {
        let actor = Actor {
            client: claimed.client,
            epoch: claimed.epoch,
        };
        let lives = matches!(self.state, State::Attaching | State::Connected);
        if lives && self.actor() == actor {
            // Said again: it is known.
            return cx.counters().answers_stale.increment();
        }
        if self.state != State::Claiming {
            let will = self.ended().map_or(WillFate::Published, End::will);
            return leave_late(self.home, actor, will, cx);
        }
        self.client = claimed.client;
        self.epoch = claimed.epoch;
        self.start_epoch = claimed.start_epoch;
        self.state = State::Attaching;
        self.due_s = u32::MAX;
        let session_present = claimed.session_present;
        let (home, v31) = (self.home, self.version == Version::V31);
        let opening = self.opening();
        // In 3.1 the flag's byte is reserved.
        opening.connack.session_present = session_present && !v31;
        if session_present && opening.connected.is_some() {
            opening.held.push((home, Said::Digest(claimed.digest)));
        }
        if claimed.groups.is_empty() || !self.join_listed(&claimed.groups, cx) {
            return self.open(cx);
        }
        self.wait_until(cx.rules.now_s + ATTACH_WAIT_S + 1);
    }

    pub(super) fn opening(&mut self) -> &mut Opening {
        let opening = self.busy().opening.as_mut();
        opening.expect("made when the claim was")
    }

    /// If CONNACK only waits for groups to let the connection in, and all have.
    pub(super) fn open_if_attached(&mut self, cx: &mut Context<'_>) {
        let attached = |places: &Places| places.have_joined();
        if self.state == State::Attaching && self.places.as_deref().is_none_or(attached) {
            self.open(cx);
        }
    }

    /// CONNACK leaves, and behind it what has come for the client meanwhile.
    pub(super) fn open(&mut self, cx: &mut Context<'_>) {
        debug_assert_eq!(self.state, State::Attaching, "the home has answered");
        let opening = self.busy().opening.take();
        let opening = *opening.expect("made when the claim was");
        self.record_connected(opening.connected, opening.held, cx);
        self.state = State::Connected;
        self.due_s = u32::MAX;
        self.write(&Packet::ConnAck(Box::new(opening.connack)), cx);
        if self.is_connected() {
            cx.counters().connects_accepted.increment();
            for (packet_id, reason) in opening.releases {
                self.release(packet_id, reason, cx);
            }
            self.send_waiting(cx);
            self.send_early(cx);
        }
        self.rest();
    }

    /// A PUBREL is due before CONNACK has left.
    pub(super) fn keep_release(&mut self, packet_id: PacketId, reason: ReasonCode) {
        self.opening().releases.push((packet_id, reason));
    }

    pub(super) fn claim_refused(&mut self, reason: ReasonCode, cx: &mut Context<'_>) {
        if self.state == State::Claiming {
            // The group has no trace of the claim, so there is nothing to withdraw.
            self.finish(End::Refused(reason), cx);
        } else {
            cx.counters().answers_stale.increment();
        }
    }

    /// DISCONNECT of the client (MQTT5 3.14).
    pub(super) fn disconnect(&mut self, disconnect: &protocol::Disconnect, cx: &mut Context<'_>) {
        let end = End::ByClient {
            reason: disconnect.reason,
        };
        match disconnect.session_expiry_s {
            Some(expiry_s) if expiry_s > 0 && self.expiry_s == 0 => {
                self.end(End::Rule(Rule::SessionExpiryRaised), cx);
            }
            Some(expiry_s) => {
                let expiry_s = expiry_s.min(cx.limits().session_expiry_s_max);
                self.leave(end, Some(expiry_s), None, cx);
                self.finish(end, cx);
            }
            None => self.end(end, cx),
        }
    }

    /// What the client sent, from `at` on, cannot be decoded.
    pub(super) fn violate(
        &mut self,
        violation: Violation,
        chunk: &Bytes,
        at: usize,
        cx: &mut Context<'_>,
    ) {
        if self.state == State::AwaitConnect {
            // So that the answer is one the peer can read.
            let version = violation
                .answer_version()
                .or_else(|| connect_version(chunk, at));
            self.version = version.unwrap_or(Version::V311);
        }
        self.end(End::Violation(violation), cx);
    }

    /// Ends the session: tells the client, the groups and the counters. The socket is the caller's.
    pub fn end(&mut self, end: End, cx: &mut Context<'_>) {
        match self.state {
            State::Over(_) => return,
            State::AwaitConnect => {}
            // The home hears of it when its answer comes, see `leave_late`, or with the next link session.
            State::Claiming if self.is_claim_delayed() => {}
            State::Claiming => cx.frames.give_claim_up(self.home, self.handle),
            State::Attaching | State::Connected => self.leave(end, None, None, cx),
        }
        self.finish(end, cx);
    }

    /// Tells the groups, all but one that ended the connection itself.
    pub(super) fn leave(
        &mut self,
        end: End,
        expiry_s: Option<u32>,
        except: Option<GroupNo>,
        cx: &mut Context<'_>,
    ) {
        self.leave_places(end, except, cx);
        if except != Some(self.home) {
            push_disconnect(self.home, self.actor(), expiry_s, end.will(), cx);
        }
        // Also where the home ended it: whoever keeps the record is to wait for nothing any more, and where another
        // connection owns the session now its record has a higher epoch.
        self.record_end(end, expiry_s.unwrap_or(self.expiry_s), cx);
    }

    pub(super) fn finish(&mut self, end: End, cx: &mut Context<'_>) {
        if let Some(reason) = end.tell() {
            self.tell(end, reason, cx);
        }
        end.counter(cx.counters()).increment();
        self.state = State::Over(end);
        self.due_s = u32::MAX;
        self.busy = None;
        self.drop_places(cx);
    }

    /// The last packet: DISCONNECT, or CONNACK where the client has had none (MQTT-3.14.0-1). Nothing where the
    /// version has no word for it.
    fn tell(&self, end: End, reason: ReasonCode, cx: &mut Context<'_>) {
        let v5 = self.version == Version::V5;
        let packet = match self.state {
            // Nobody answers a CONNECT that has not come.
            State::AwaitConnect if end == End::Drained => return,
            State::Connected if v5 => {
                Packet::Disconnect(protocol::Disconnect::new(disconnect_reason(reason)))
            }
            State::AwaitConnect | State::Claiming | State::Attaching if v5 => {
                Packet::ConnAck(Box::new(ConnAck::new(connack_reason(reason))))
            }
            State::AwaitConnect | State::Claiming | State::Attaching if has_return_code(end) => {
                Packet::ConnAck(Box::new(ConnAck::new(reason)))
            }
            _ => return,
        };
        // A client that takes no packet of this size is just left: there is nothing smaller to say it with.
        if self.append(&packet, cx) {
            cx.counters().packets_out.increment();
        }
    }

    /// Appends a packet, unless it is larger than the client takes (MQTT-3.1.2-24): then the session ends, since
    /// the client waits for this packet and can never have it.
    pub(super) fn write(&mut self, packet: &Packet, cx: &mut Context<'_>) {
        if self.append(packet, cx) {
            cx.counters().packets_out.increment();
        } else {
            self.end(End::AnswerTooLarge, cx);
        }
    }

    /// Appends a packet; `false`, and nothing appended, where it is too large for the client, or for any packet.
    fn append(&self, packet: &Packet, cx: &mut Context<'_>) -> bool {
        let start = cx.bytes.len();
        let encoded = encode(packet, self.version, cx.bytes);
        let fits = encoded.is_ok() && cx.bytes.len() - start <= self.packet_bytes_max as usize;
        if !fits {
            cx.bytes.truncate(start);
        }
        fits
    }
}

/// The client's own id, or an assigned one where the version allows to leave it out (MQTT-3.1.3-6,
/// 3.1.1 MQTT-3.1.3-7 and -8).
fn choose_client_id(connect: &Connect, rules: &Rules) -> Result<Box<str>, ReasonCode> {
    if connect.client_id.len() > rules.limits.client_id_bytes_max {
        return Err(ReasonCode::ClientIdentifierNotValid);
    }
    if !connect.client_id.is_empty() {
        return Ok(connect.client_id.as_str().into());
    }
    match connect.version {
        Version::V5 => Ok(rules.ids.next()),
        Version::V311 if connect.clean_start => Ok(rules.ids.next()),
        Version::V311 | Version::V31 => Err(ReasonCode::ClientIdentifierNotValid),
    }
}

fn bound_keep_alive(wanted_s: u16, max_s: u16) -> u16 {
    match (wanted_s, max_s) {
        (wanted_s, 0) => wanted_s,
        (0, max_s) => max_s,
        (wanted_s, max_s) => wanted_s.min(max_s),
    }
}

fn check_will(connect: &Connect, limits: &ProxyLimits) -> Result<(), ReasonCode> {
    match &connect.will {
        Some(will) if !super::publish::topic_fits(will.message.topic_bytes(), limits) => {
            Err(ReasonCode::TopicNameInvalid)
        }
        _ => Ok(()),
    }
}

/// Whether a 3.x client is told in CONNACK: the return codes 1 to 5 are about CONNECT's contents, not about
/// broken bytes, on which the connection is just closed (MQTT 3.1.1, 4.8).
fn has_return_code(end: End) -> bool {
    match end {
        End::Violation(violation) => violation.answer_version().is_some(),
        End::Refused(_) | End::ClaimTimeout | End::Kicked(_) | End::Drained => true,
        _ => false,
    }
}

/// Reasons that CONNACK may have (MQTT5 3.2.2.2); others say that they are not one of them.
fn connack_reason(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::ServerShuttingDown => ReasonCode::ServerUnavailable,
        // Another connection of the client was quicker; trying again at once would start a fight.
        ReasonCode::SessionTakenOver => ReasonCode::ServerBusy,
        ReasonCode::KeepAliveTimeout => ReasonCode::UnspecifiedError,
        other => other,
    }
}

/// Reasons that DISCONNECT of a server may have (MQTT5 3.14.2.1).
fn disconnect_reason(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::UnsupportedProtocolVersion => ReasonCode::ProtocolError,
        ReasonCode::ServerUnavailable => ReasonCode::ServerBusy,
        other => other,
    }
}
