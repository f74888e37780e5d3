//! One device: when it connects, what it says to stay connected, when it comes back.
//!
//! Packets and times come in as arguments, packets to send go into a buffer; there is no socket and no clock in here.
//!
//! Invariant: a device that is idle owns nothing beside this struct, its place in the timer wheel and its socket. Texts
//! are made when they are sent.

use super::chance;
use super::loss::Loss;
use super::plan::{self, Plan};
use super::session::Session;
use super::tally::Tally;
use crate::control::message::{FindingKind, LatencyKind};
use crate::limits::{SIM_ANSWER_MAX, SIM_LEAVE_MAX};
use crate::scenario::Population;
use crate::wire::{self, Packet, Version, kind};

/// How far a device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was not told to connect yet.
    Idle,
    /// It dials at a time that is known.
    Waiting,
    /// That time has come, and others are before it.
    Queued,
    /// CONNECT is on its way.
    Connecting,
    /// SUBSCRIBE is on its way.
    Subscribing,
    /// Everything is answered.
    Up,
    /// DISCONNECT is on its way.
    Leaving,
    /// It does not come back.
    Gone,
}

/// What the device knows of its session at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// There is none.
    No,
    /// A CONNECT was sent and never answered.
    Perhaps,
    /// The broker has accepted a CONNECT.
    Yes,
}

/// What is to be done when a device's time has come, beside writing what stands in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// Dial, then call [`Device::dialed`].
    Dial,
    /// Close the connection, then call [`Device::lost`].
    Lose(Loss),
}

/// One device. Times in µs of run time.
#[derive(Debug)]
pub(super) struct Device {
    /// What is under way, if anything is.
    pub(super) session: Option<Box<Session>>,
    /// Waiting to Connecting: when the dial was due. Up: when PINGREQ was sent, 0 if its answer is here.
    at_us: u64,
    /// When something was written for the last time that the broker has to answer, or that answers it.
    pub(super) wrote_us: u64,
    /// When the last connection that had a CONNACK was lost, s.
    lost_s: u32,
    /// How long the broker keeps the session without a connection, by that CONNACK, s. The greatest: for ever.
    kept_s: u32,
    /// When the next message of its telemetry is due; `u64::MAX`: there is none.
    pub(super) due_us: u64,
    /// Number of the next message of its telemetry.
    pub(super) seq: u32,
    draws: u32,
    pub(super) receive_max: u16,
    pub(super) last_id: u16,
    keepalive_s: u16,
    address: u16,
    failures: u8,
    stage: Stage,
    held: Held,
    /// The broker has acknowledged its subscriptions, in the session that it has.
    subscribed: bool,
    was_up: bool,
    /// It has left, and comes once more to end its session.
    clearing: bool,
}

/// What a device acts with.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) now_us: u64,
    /// Number of the device.
    pub(super) device: u32,
    pub(super) plan: &'a Plan,
    pub(super) tally: &'a mut Tally,
    /// What it says goes here.
    pub(super) out: &'a mut Vec<u8>,
    /// Room for texts.
    pub(super) texts: &'a mut Texts,
    /// It may send telemetry: the phase allows it and its socket takes what is written.
    pub(super) sending: bool,
}

/// Room for texts that are made and forgotten.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) client_id: String,
    pub(super) topic: String,
}

impl<'a> Turn<'a> {
    pub(super) fn population(&self) -> &'a Population {
        self.plan.population(self.device).0
    }

    pub(super) fn version(&self) -> Version {
        plan::version(self.population())
    }
}

impl Device {
    /// Not told to connect yet.
    pub(super) fn new(address: u16) -> Self {
        Self {
            session: None,
            at_us: 0,
            wrote_us: 0,
            lost_s: 0,
            kept_s: u32::MAX,
            due_us: u64::MAX,
            seq: 0,
            draws: 0,
            receive_max: u16::MAX,
            last_id: 0,
            keepalive_s: 0,
            address,
            failures: 0,
            stage: Stage::Idle,
            held: Held::No,
            subscribed: false,
            was_up: false,
            clearing: false,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Which of its population's targets it uses or would use next.
    pub(super) fn address(&self) -> usize {
        usize::from(self.address)
    }

    /// It was told to leave, and is not gone.
    pub(super) fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving || self.clearing && self.stage != Stage::Gone
    }

    /// It is to connect for the first time.
    pub(super) fn begin(&mut self, at_us: u64) {
        debug_assert_eq!(self.stage, Stage::Idle);
        self.stage = Stage::Waiting;
        self.at_us = at_us;
    }

    /// When [`Device::due`] is to be asked next. `telemetry`: it may send.
    pub(super) fn deadline_us(&self, sending: bool, device: u32) -> Option<u64> {
        match self.stage {
            Stage::Idle | Stage::Queued | Stage::Gone => None,
            Stage::Waiting => Some(self.at_us),
            Stage::Connecting | Stage::Subscribing => Some(self.wrote_us + ANSWER_US),
            Stage::Leaving => Some(self.wrote_us + SIM_LEAVE_MAX.as_micros() as u64),
            Stage::Up => {
                let may_send = sending && self.due_us < u64::MAX && self.has_room();
                let telemetry = may_send.then_some(self.due_us);
                let alive = self.alive_until_us(device);
                let answers = [alive, self.answer_by_us()].into_iter().flatten();
                answers.chain(telemetry).min()
            }
        }
    }

    /// Its time has come, or something has changed that may let it send.
    pub(super) fn due(&mut self, turn: &mut Turn<'_>) -> Due {
        let now_us = turn.now_us;
        let passed = |at: u64| now_us >= at;
        match self.stage {
            Stage::Waiting if passed(self.at_us) => {
                self.stage = Stage::Queued;
                Due::Dial
            }
            Stage::Connecting if passed(self.wrote_us + ANSWER_US) => {
                Due::Lose(Loss::Silent("CONNECT"))
            }
            Stage::Subscribing if passed(self.wrote_us + ANSWER_US) => {
                Due::Lose(Loss::Silent("SUBSCRIBE"))
            }
            Stage::Leaving if passed(self.wrote_us + SIM_LEAVE_MAX.as_micros() as u64) => {
                Due::Lose(Loss::Left)
            }
            Stage::Up => {
                if self.answer_by_us().is_some_and(passed) {
                    return Due::Lose(Loss::Silent("PUBLISH"));
                }
                self.send_due(turn);
                if !self.alive_until_us(turn.device).is_some_and(passed) {
                    return Due::Nothing;
                }
                if self.at_us > 0 {
                    return Due::Lose(Loss::Silent("PINGREQ"));
                }
                wire::pingreq(turn.out);
                self.at_us = turn.now_us;
                self.wrote_us = turn.now_us;
                Due::Nothing
            }
            _ => Due::Nothing,
        }
    }

    /// A socket is on its way to the broker.
    pub(super) fn dialed(&mut self, turn: &mut Turn<'_>) {
        debug_assert_eq!(self.stage, Stage::Queued);
        self.stage = Stage::Connecting;
        self.wrote_us = turn.now_us;
        super::handshake::connect(turn, self.clearing);
    }

    /// Its dial has failed before there was a socket, or its connection is gone.
    pub(super) fn lost(&mut self, loss: &Loss, turn: &mut Turn<'_>) {
        match self.stage {
            Stage::Leaving if self.leaves_a_session(turn) => {
                self.clearing = true;
                self.session = None;
                self.stage = Stage::Waiting;
                self.at_us = turn.now_us;
                return;
            }
            Stage::Leaving => return self.give_up(),
            _ if self.clearing => {
                turn.tally.error(format!("ending a session: {loss}"));
                return self.give_up();
            }
            Stage::Subscribing | Stage::Up => turn.tally.counts.connections_lost += 1,
            Stage::Connecting if self.held == Held::No => self.held = Held::Perhaps,
            _ => {}
        }
        if let Loss::Violation(what) = loss {
            let (device, now_us) = (turn.device, turn.now_us);
            turn.tally
                .finding(FindingKind::Violation, device, now_us, what);
        }
        turn.tally.error(loss.to_string());
        self.come_back(turn);
    }

    /// A storm drops its socket.
    pub(super) fn storm(&mut self, turn: &mut Turn<'_>) {
        debug_assert_eq!(self.stage, Stage::Up);
        turn.tally.counts.dropped += 1;
        self.come_back(turn);
    }

    /// It leaves in good order and ends its session.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>) {
        debug_assert_eq!(self.stage, Stage::Up);
        wire::end_session(turn.out, turn.version());
        self.wrote_us = turn.now_us;
        self.stage = Stage::Leaving;
    }

    /// In 3.1.1 no DISCONNECT ends a session, but a connection with a clean one does.
    fn leaves_a_session(&self, turn: &Turn<'_>) -> bool {
        let lasts = turn.version() == Version::V4 && !turn.population().clean;
        lasts && !self.clearing
    }

    /// It does not come back.
    pub(super) fn give_up(&mut self) {
        self.stage = Stage::Gone;
        self.session = None;
    }

    /// Takes one packet. An error ends the connection.
    #[inline]
    pub(super) fn hear(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Loss> {
        match (packet.first & 0xF0, self.stage) {
            // When it left, this was under way already.
            (_, Stage::Leaving) => Ok(()),
            (kind::CONNACK, Stage::Connecting) => self.connack(packet, turn),
            (kind::SUBACK, Stage::Subscribing) => self.suback(packet, turn),
            (kind::DISCONNECT, _) if turn.version() == Version::V5 => {
                Err(Loss::Goodbye(packet.body.first().copied().unwrap_or(0)))
            }
            (kind::PINGRESP, Stage::Up) if self.at_us > 0 => {
                let took_us = turn.now_us.saturating_sub(self.at_us);
                self.at_us = 0;
                turn.tally.counts.pings += 1;
                turn.tally.spreads.record(LatencyKind::Ping, took_us);
                Ok(())
            }
            (kind::PUBLISH, Stage::Up | Stage::Subscribing) => self.publish(packet, turn),
            (kind::PUBREL, Stage::Up | Stage::Subscribing) => self.pubrel(packet, turn),
            (first @ (kind::PUBACK | kind::PUBREC | kind::PUBCOMP), Stage::Up) => {
                self.acked(first, packet, turn)
            }
            (kind::PINGRESP, _) => Err(Loss::Violation("PINGRESP without PINGREQ")),
            (kind::CONNACK, _) => Err(Loss::Violation("CONNACK again")),
            (kind::SUBACK, _) => Err(Loss::Violation("SUBACK without SUBSCRIBE")),
            (kind::PUBACK | kind::PUBREC | kind::PUBCOMP, _) => {
                Err(Loss::Violation("acknowledgement of nothing"))
            }
            _ => Err(Loss::Violation("a packet that brokers do not send now")),
        }
    }

    /// Its telemetry may begin or go on: what fell due meanwhile is not sent.
    pub(super) fn schedule(&mut self, turn: &Turn<'_>) {
        let Some(telemetry) = &turn.population().telemetry else {
            return;
        };
        if self.due_us == u64::MAX || self.due_us < turn.now_us {
            let dice = self.draw(turn);
            let wait_us = dice % (telemetry.interval_ms * 1_000).max(1);
            self.due_us = turn.plan.on_grid(turn.now_us + wait_us).max(turn.now_us);
        }
    }

    /// Messages of its telemetry that have fallen due and were not sent, by their mean interval.
    fn missed(&self, turn: &Turn<'_>) -> u64 {
        let telemetry = turn.population().telemetry.as_ref();
        let late_us = turn.now_us.checked_sub(self.due_us);
        match (telemetry, late_us) {
            (Some(telemetry), Some(late_us)) if late_us > 0 => {
                1 + late_us / (telemetry.interval_ms * 1_000).max(1)
            }
            _ => 0,
        }
    }

    pub(super) fn draw(&mut self, turn: &Turn<'_>) -> u64 {
        self.draws = self.draws.wrapping_add(1);
        chance::draw(turn.plan.scenario.seed, turn.device, u64::from(self.draws))
    }

    fn come_back(&mut self, turn: &mut Turn<'_>) {
        // Tries that reach nobody do not make a session younger.
        if matches!(self.stage, Stage::Subscribing | Stage::Up) {
            self.lost_s = seconds(turn.now_us);
        }
        self.stage = Stage::Waiting;
        self.disconnected(turn);
        let dice = self.draw(turn);
        let wait_us = plan::wait_us(&turn.population().reconnect, self.failures, dice);
        self.at_us = turn.now_us + wait_us;
        self.failures = self.failures.saturating_add(1);
        let dice = self.draw(turn);
        self.address = turn.plan.next_address(turn.device, self.address, dice);
    }

    /// Until when the broker has to answer the message that waits longest.
    fn answer_by_us(&self) -> Option<u64> {
        self.waits_since_us().map(|since_us| since_us + ANSWER_US)
    }

    /// Up to when the connection counts as alive without another look.
    fn alive_until_us(&self, device: u32) -> Option<u64> {
        if self.at_us > 0 {
            return Some(self.at_us + ANSWER_US);
        }
        if self.keepalive_s == 0 {
            return None;
        }
        // Between 0.8 and 0.9 of it, so that a busy broker still sees it in time, and devices that came together part.
        let part_us = u64::from(self.keepalive_s) * 100_000;
        let until_us = self.wrote_us + 8 * part_us + chance::draw(0, device, 0) % part_us;
        // In steps, so that an idle worker sleeps in between.
        Some(until_us.next_multiple_of(PING_STEP_US))
    }
}

/// The handshake's part.
impl Device {
    fn connack(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Loss> {
        let connack = wire::connack(packet.body, turn.version()).map_err(Loss::Violation)?;
        if connack.code != 0 {
            return Err(Loss::Refused(connack.code));
        }
        if self.clearing {
            wire::disconnect(turn.out);
            self.wrote_us = turn.now_us;
            self.stage = Stage::Leaving;
            return Ok(());
        }
        let population = turn.population();
        let asked_s = population.keepalive_s;
        let filters = population.subscriptions.len();
        self.receive_max = connack.receive_max.max(1);
        self.keepalive_s = connack.server_keep_alive_s.unwrap_or(asked_s);
        self.resume(connack.session_present, turn);
        self.held = Held::Yes;
        let granted_s = connack.session_expiry_s;
        self.kept_s = match turn.version() {
            Version::V4 => u32::MAX,
            Version::V5 => granted_s.unwrap_or(population.session_expiry_s),
        };
        let took_us = turn.now_us.saturating_sub(self.at_us);
        turn.tally.spreads.record(LatencyKind::Connect, took_us);
        turn.tally.counts.connects += 1;
        turn.tally.counts.reconnects += u64::from(self.was_up);
        if self.subscribed || filters == 0 {
            self.up(turn);
        } else {
            super::handshake::subscribe(turn);
            self.wrote_us = turn.now_us;
            self.stage = Stage::Subscribing;
        }
        Ok(())
    }

    /// Compares what the broker says of the session with what has to be.
    fn resume(&mut self, present: bool, turn: &mut Turn<'_>) {
        let population = turn.population();
        let persistent = plan::is_persistent(population);
        let until_s = self.lost_s.saturating_add(self.kept_s);
        let expired = self.kept_s < u32::MAX && seconds(turn.now_us) >= until_s;
        let (device, now_us) = (turn.device, turn.now_us);
        if present && (!persistent || self.held == Held::No) {
            let why = if persistent {
                "this client id never connected before"
            } else {
                "the session was to end with its connection"
            };
            turn.tally
                .finding(FindingKind::SessionUnexpected, device, now_us, why);
        } else if !present && persistent && self.held == Held::Yes && !expired {
            turn.tally
                .finding(FindingKind::SessionLost, device, now_us, "");
        }
        if !present {
            if expired {
                let since_us = u64::from(self.lost_s) * 1_000_000;
                self.unsubscribed(turn, since_us);
            }
            self.subscribed = false;
            self.renew();
        }
    }

    fn suback(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Loss> {
        let filters = turn.population().subscriptions.len();
        if wire::packet_id(packet.body) != Some(1) {
            return Err(Loss::Violation("SUBACK without SUBSCRIBE"));
        }
        let codes = wire::suback(packet.body, filters);
        let codes = codes.ok_or(Loss::Violation("SUBACK with fewer codes than filters"))?;
        if let Some(code) = codes.iter().find(|code| **code >= 0x80) {
            return Err(Loss::SubscribeRefused(*code));
        }
        let asked = turn.population().subscriptions.iter();
        let mut asked = asked.map(|subscription| subscription.qos).zip(codes);
        if let Some((asked, &granted)) = asked.find(|(asked, granted)| asked != *granted) {
            return Err(Loss::Granted { asked, granted });
        }
        let took_us = turn.now_us.saturating_sub(self.wrote_us);
        turn.tally.spreads.record(LatencyKind::Subscribe, took_us);
        self.subscribed = true;
        if turn.plan.population(turn.device).1.commanded {
            turn.tally.presence(turn.device, turn.now_us, true);
        }
        self.up(turn);
        Ok(())
    }

    fn up(&mut self, turn: &mut Turn<'_>) {
        self.stage = Stage::Up;
        self.at_us = 0;
        self.failures = 0;
        self.was_up = true;
        if turn.sending {
            turn.tally.counts.not_sent += self.missed(turn);
        }
        self.schedule(turn);
        self.send_due(turn);
    }

    /// The connection is gone; with it the session, where it is not to last.
    fn disconnected(&mut self, turn: &mut Turn<'_>) {
        let persistent = plan::is_persistent(turn.population());
        self.detach(persistent, turn);
        if !persistent {
            self.unsubscribed(turn, turn.now_us);
        }
    }

    /// Its session has ended, as it should: nothing is owed that was under way to it at `since_us`, or was sent since.
    fn unsubscribed(&mut self, turn: &mut Turn<'_>, since_us: u64) {
        if self.subscribed && turn.plan.population(turn.device).1.commanded {
            turn.tally.presence(turn.device, since_us, false);
        }
        self.subscribed = false;
    }
}

fn seconds(us: u64) -> u32 {
    u32::try_from(us / 1_000_000).unwrap_or(u32::MAX)
}

const ANSWER_US: u64 = SIM_ANSWER_MAX.as_micros() as u64;

/// Pings leave in steps of this.
const PING_STEP_US: u64 = 100_000;

const _: () = assert!(size_of::<Device>() <= 96);

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
