//! CONNECT, the claim at the session's home, CONNACK; and the end of a session.

use super::{Context, End, Rule, Rules, Session, State};
use crate::limits::ProxyLimits;
use crate::records::Connected;
use bytes::Bytes;
use cluster::frame::{Claim, Claimed, Disconnect, ToGroup, WillFate};
use cluster::ids::Actor;
use protocol::{ConnAck, Connect, Packet, ReasonCode, Version, Violation, connect_version, encode};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};

/// What CONNACK and the record will say once the claim is stored.
#[derive(Debug)]
pub(super) struct Opening {
    connack: ConnAck,
    connected: Option<Connected>,
}

impl Session {
    pub(super) fn connect(&mut self, connect: Connect, cx: &mut Context<'_>) {
        self.version = connect.version;
        self.packet_bytes_max = connect
            .maximum_packet_size
            .map_or(u32::MAX, NonZeroU32::get);
        match self.accept(connect, cx) {
            Ok(claim) => {
                self.state = State::Claiming;
                let bytes = claim
                    .will
                    .as_ref()
                    .map_or(0, |will| will.message.byte_len());
                cx.frames.push(ToGroup::Claim(Box::new(claim)), bytes);
            }
            Err(reason) => self.end(End::Refused(reason), cx),
        }
    }

    /// Checks CONNECT and takes over what it says of the connection.
    fn accept(&mut self, connect: Connect, cx: &Context<'_>) -> Result<Claim, ReasonCode> {
        let limits = cx.limits();
        if connect.auth_method.is_some() {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        self.client_id = choose_client_id(&connect, cx.rules)?;
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
            session_present: false,
        });
        self.busy().opening = Some(Box::new(Opening { connack, connected }));
    }

    /// The claim is stored: CONNACK leaves (promise P6).
    pub(super) fn claimed(&mut self, claimed: &Claimed, cx: &mut Context<'_>) {
        let actor = Actor {
            client: claimed.client,
            epoch: claimed.epoch,
        };
        if self.is_connected() && self.actor == actor {
            // Said again: it is known.
            return cx.counters().answers_stale.increment();
        }
        if self.state != State::Claiming {
            let will = self.ended().map_or(WillFate::Published, End::will);
            return leave_late(claimed, will, cx);
        }
        self.actor = actor;
        let opening = self.busy().opening.take().expect("made when the claim was");
        let Opening {
            mut connack,
            mut connected,
        } = *opening;
        if let Some(connected) = &mut connected {
            connected.session_present = claimed.session_present;
        }
        self.record_connected(connected, cx);
        // In 3.1 the flag's byte is reserved.
        connack.session_present = claimed.session_present && self.version != Version::V31;
        self.state = State::Connected;
        self.write(&Packet::ConnAck(Box::new(connack)), cx);
        if self.is_connected() {
            cx.counters().connects_accepted.increment();
        }
        self.rest();
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
                self.leave(end, Some(expiry_s), cx);
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

    /// Ends the session: tells the client, the group and the counters. The socket is the caller's.
    pub fn end(&mut self, end: End, cx: &mut Context<'_>) {
        match (self.state, end) {
            (State::Over(_), _) => return,
            (State::Claiming | State::Connected, End::Kicked(_)) => cx.frames.push(
                ToGroup::Kicked {
                    handle: self.handle,
                },
                0,
            ),
            // The group knows nothing yet, or hears of it when its answer comes: see `leave_late`.
            (State::AwaitConnect | State::Claiming, _) => {}
            (State::Connected, _) => self.leave(end, None, cx),
        }
        self.finish(end, cx);
    }

    fn leave(&self, end: End, expiry_s: Option<u32>, cx: &mut Context<'_>) {
        let gone = Disconnect {
            actor: self.actor,
            expiry_s,
            will: end.will(),
        };
        cx.frames.push(ToGroup::Disconnect(Box::new(gone)), 0);
        self.record_end(end, expiry_s.unwrap_or(self.expiry_s), cx);
    }

    fn finish(&mut self, end: End, cx: &mut Context<'_>) {
        if let Some(reason) = end.tell() {
            self.tell(end, reason, cx);
        }
        end.counter(cx.counters()).increment();
        self.state = State::Over(end);
        self.busy = None;
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
            State::AwaitConnect | State::Claiming if v5 => {
                Packet::ConnAck(Box::new(ConnAck::new(connack_reason(reason))))
            }
            State::AwaitConnect | State::Claiming if has_return_code(end) => {
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

/// A claim was stored whose connection is gone: its ownership ends at once.
pub fn leave_late(claimed: &Claimed, will: WillFate, cx: &mut Context<'_>) {
    let actor = Actor {
        client: claimed.client,
        epoch: claimed.epoch,
    };
    let gone = Disconnect {
        actor,
        expiry_s: None,
        will,
    };
    cx.frames.push(ToGroup::Disconnect(Box::new(gone)), 0);
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
        End::Refused(_) | End::ClaimTimeout | End::Drained => true,
        _ => false,
    }
}

/// Reasons that CONNACK may have (MQTT5 3.2.2.2); others say that they are not one of them.
fn connack_reason(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::ServerShuttingDown => ReasonCode::ServerUnavailable,
        ReasonCode::SessionTakenOver | ReasonCode::KeepAliveTimeout => ReasonCode::UnspecifiedError,
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
