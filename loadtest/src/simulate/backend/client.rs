//! One connection of the back end: its way from address to address, its handshake, its keepalive.
//!
//! Bytes and times come in as arguments, packets to send go into a buffer; there is no socket and no clock in here.

use crate::limits::{BACKEND_ANSWER_MAX, BACKEND_BACKOFF_MAX, BACKEND_BACKOFF_MIN};
use crate::simulate::dice::Dice;
use crate::wire::{self, Keep, Packet, Version, kind};

/// Keep alive of all connections of a back end, s, where CONNACK does not ask for another one.
const KEEP_ALIVE_S: u16 = 60;

/// Session expiry of all of them, s, where CONNACK does not grant another one: longer than any outage that a run has.
const SESSION_S: u32 = 3_600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not connected; the next try is at this time.
    Waiting(u64),
    /// CONNECT is on its way since then.
    Connecting(u64),
    /// SUBSCRIBE is on its way since then.
    Subscribing(u64),
    /// Everything is answered.
    Up,
    /// DISCONNECT is on its way, or there is no connection, and there will be none.
    Leaving,
}

/// What it knows of its session at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    /// There is none: no CONNECT was ever sent.
    None,
    /// A CONNECT was sent and never answered.
    Perhaps,
    /// The broker has accepted a CONNECT.
    Held,
}

/// What is to be done for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Dial this address (a number below that of the addresses).
    Dial(usize),
    /// Close the connection, for this reason, then call [`Client::lost`].
    Lose(&'static str),
    /// Write what stands in the buffer.
    Write,
}

/// What a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing the caller has to act on.
    Little,
    /// CONNACK.
    Connected {
        receive_max: u16,
        /// What the broker says of the session, and what had to be.
        session: Continued,
    },
    /// PUBLISH or an acknowledgement.
    Flow,
}

/// What became of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continued {
    /// As it had to be.
    AsPromised,
    /// It had to be there and is not.
    Lost,
    /// It is not there, as it was to end meanwhile.
    Expired,
    /// There could be none.
    Unexpected,
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// In words, for people.
    pub(super) reason: String,
    /// The broker has done what no broker may do.
    pub(super) violation: bool,
}

impl End {
    /// Nothing that a broker may not do.
    pub(super) fn allowed(reason: impl Into<String>) -> Self {
        let (reason, violation) = (reason.into(), false);
        Self { reason, violation }
    }

    /// What a broker may not do.
    pub(super) fn violation(reason: impl Into<String>) -> Self {
        let (reason, violation) = (reason.into(), true);
        Self { reason, violation }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: String,
    /// Filter and `QoS` of a consumer.
    filter: Option<(String, u8)>,
    stage: Stage,
    session: Session,
    /// How long the broker keeps the session without a connection, by its CONNACK, s. The greatest: for ever.
    kept_s: u32,
    /// When the last connection that had a CONNACK was lost.
    lost_us: u64,
    /// By CONNACK, s; 0: none.
    keep_alive_s: u16,
    subscribed: bool,
    address: usize,
    addresses: usize,
    dice: Dice,
    failures: u32,
    heard_us: u64,
    said_us: u64,
    ping_us: Option<u64>,
}

impl Client {
    /// To connect at once, first to address number `address` of so many.
    pub(super) fn new(
        id: String,
        filter: Option<(String, u8)>,
        (address, addresses): (usize, usize),
        dice: Dice,
    ) -> Self {
        Self {
            id,
            filter,
            stage: Stage::Waiting(0),
            session: Session::None,
            kept_s: u32::MAX,
            lost_us: 0,
            keep_alive_s: KEEP_ALIVE_S,
            subscribed: false,
            address: address % addresses,
            addresses,
            dice,
            failures: 0,
            heard_us: 0,
            said_us: 0,
            ping_us: None,
        }
    }

    /// True while its connection is up, and subscribed.
    pub(super) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// True once it was told to leave.
    pub(super) fn has_left(&self) -> bool {
        self.stage == Stage::Leaving
    }

    /// What is to be done at `now_us`; a PINGREQ goes into `out`.
    pub(super) fn due(&mut self, now_us: u64, out: &mut Vec<u8>) -> Option<Order> {
        let answer_us = BACKEND_ANSWER_MAX.as_micros() as u64;
        let half_us = u64::from(self.keep_alive_s) * 500_000;
        match self.stage {
            Stage::Waiting(until) => (now_us >= until).then_some(Order::Dial(self.address)),
            Stage::Connecting(since) if now_us >= since + answer_us => {
                Some(Order::Lose("no answer to CONNECT"))
            }
            Stage::Subscribing(since) if now_us >= since + answer_us => {
                Some(Order::Lose("no answer to SUBSCRIBE"))
            }
            Stage::Up => match self.ping_us {
                Some(since) if now_us >= since + answer_us => {
                    Some(Order::Lose("no answer to PINGREQ"))
                }
                None if half_us > 0 && now_us >= self.said_us.min(self.heard_us) + half_us => {
                    self.ping_us = Some(now_us);
                    wire::pingreq(out);
                    Some(Order::Write)
                }
                _ => None,
            },
            Stage::Connecting(_) | Stage::Subscribing(_) | Stage::Leaving => None,
        }
    }

    /// It is being dialed: CONNECT goes into `out`.
    pub(super) fn dialed(&mut self, now_us: u64, out: &mut Vec<u8>) {
        self.stage = Stage::Connecting(now_us);
        (self.heard_us, self.said_us) = (now_us, now_us);
        let keep = Keep::Seconds(SESSION_S);
        wire::connect(out, Version::V5, &self.id, KEEP_ALIVE_S, keep);
    }

    /// Bytes were written.
    pub(super) fn said(&mut self, now_us: u64) {
        self.said_us = now_us;
    }

    /// Bytes came.
    pub(super) fn heard(&mut self, now_us: u64) {
        self.heard_us = now_us;
        self.ping_us = None;
    }

    /// The connection is gone; true if it had its CONNACK. The next one goes to the next address, after a wait at random so that
    /// many do not come back at once.
    pub(super) fn lost(&mut self, now_us: u64) -> bool {
        let stood = matches!(self.stage, Stage::Subscribing(_) | Stage::Up);
        if stood {
            self.lost_us = now_us;
        }
        if self.session == Session::None {
            self.session = Session::Perhaps; // The broker may have taken the CONNECT.
        }
        self.ping_us = None;
        self.address = (self.address + 1) % self.addresses;
        let (least_us, most_us) = (
            BACKEND_BACKOFF_MIN.as_micros() as u64,
            BACKEND_BACKOFF_MAX.as_micros() as u64,
        );
        let longest_us = (least_us << self.failures.min(16)).min(most_us);
        self.failures += 1;
        self.stage = Stage::Waiting(now_us + self.dice.draw() % (longest_us + 1));
        stood
    }

    /// Leaves in good order, and takes its session with it; true if there is something to write.
    pub(super) fn leave(&mut self, out: &mut Vec<u8>) -> bool {
        let connected = matches!(self.stage, Stage::Up | Stage::Subscribing(_));
        self.stage = Stage::Leaving;
        if connected {
            wire::end_session(out, Version::V5);
        }
        connected
    }

    /// Takes one packet. An error ends the connection.
    pub(super) fn hear(
        &mut self,
        packet: &Packet<'_>,
        now_us: u64,
        out: &mut Vec<u8>,
    ) -> Result<Heard, End> {
        match (packet.first & 0xF0, self.stage) {
            // When it left, this was under way already.
            (_, Stage::Leaving) | (kind::PINGRESP, Stage::Up) => Ok(Heard::Little),
            (kind::CONNACK, Stage::Connecting(_)) => self.connack(packet, now_us, out),
            (kind::SUBACK, Stage::Subscribing(_)) => self.suback(packet),
            (kind::DISCONNECT, _) => {
                let reason = packet.body.first().copied().unwrap_or(0);
                Err(End::allowed(format!(
                    "disconnected by the broker with code 0x{reason:02x}"
                )))
            }
            (
                kind::PUBLISH | kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP,
                Stage::Up | Stage::Subscribing(_),
            ) => Ok(Heard::Flow),
            (first, _) => Err(End::violation(format!(
                "a packet that nobody asked for: 0x{first:02x}"
            ))),
        }
    }

    fn connack(
        &mut self,
        packet: &Packet<'_>,
        now_us: u64,
        out: &mut Vec<u8>,
    ) -> Result<Heard, End> {
        let connack = wire::connack(packet.body, Version::V5).map_err(End::violation)?;
        if connack.code != 0 {
            let reason = format!("CONNECT refused with code 0x{:02x}", connack.code);
            return Err(End::allowed(reason));
        }
        let until_us = self.lost_us + u64::from(self.kept_s) * 1_000_000;
        let expired = self.kept_s < u32::MAX && now_us >= until_us;
        let session = match (self.session, connack.session_present) {
            (Session::None, true) => Continued::Unexpected,
            (Session::Held, false) if expired => Continued::Expired,
            (Session::Held, false) => Continued::Lost,
            _ => Continued::AsPromised,
        };
        self.session = Session::Held;
        self.kept_s = connack.session_expiry_s.unwrap_or(SESSION_S);
        self.keep_alive_s = connack.server_keep_alive_s.unwrap_or(KEEP_ALIVE_S);
        self.subscribed &= connack.session_present;
        self.stage = match &self.filter {
            Some((filter, qos)) if !self.subscribed => {
                wire::subscribe(out, Version::V5, [filter], *qos);
                Stage::Subscribing(now_us)
            }
            _ => self.up(),
        };
        Ok(Heard::Connected {
            receive_max: connack.receive_max,
            session,
        })
    }

    fn suback(&mut self, packet: &Packet<'_>) -> Result<Heard, End> {
        let granted = wire::suback(packet.body, 1).and_then(<[u8]>::first);
        let asked = self.filter.as_ref().map(|(_, qos)| qos);
        match granted {
            None => Err(End::violation("SUBACK without a code")),
            Some(code) if *code >= 0x80 => {
                let reason = format!("SUBSCRIBE refused with code 0x{code:02x}");
                Err(End::allowed(reason))
            }
            granted if granted == asked => {
                self.subscribed = true;
                self.stage = self.up();
                Ok(Heard::Little)
            }
            Some(_) => Err(End::allowed("SUBACK grants another QoS than asked for")),
        }
    }

    fn up(&mut self) -> Stage {
        self.failures = 0;
        Stage::Up
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
