//! One device: its way from address to address, its handshake, its session.
//!
//! Bytes and times come in as arguments, packets to send go into a buffer; there is no socket and
//! no clock in here.

use super::arena::Arena;
use super::availability::Availability;
use super::backoff::Backoff;
use super::filters::Filters;
use super::ledger::{Ledger, Seen};
use super::log::{Log, Loss};
use super::publisher::{Acked, Publisher};
use super::subscriber::{Arrival, Subscriber};
use crate::limits::ANSWER_MAX;
use crate::wire::{self, Keep, Packet, Version, kind};

/// What all devices of a run have in common. Times in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) version: Version,
    pub(crate) qos: u8,
    pub(crate) keep_alive_s: u16,
    pub(crate) session_expiry_s: u32,
    /// Without a connection for this long a device gives up.
    pub(crate) patience_ns: u64,
    /// How many addresses there are.
    pub(crate) addresses: usize,
    /// How long a contender rests after it was taken over, on average.
    pub(crate) away_ns: u64,
}

/// Which end of a pair.
#[derive(Debug)]
pub(crate) enum Side {
    /// It sends.
    Publisher(Publisher),
    /// It receives what one of these filters matches.
    Subscriber(Subscriber, Filters),
    /// The same, but it is one of several with one client id: its number among them.
    Contender(usize, Filters),
}

/// What a pair is judged by.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) ledger: Ledger,
    /// Where contenders fight over a client id; else nobody is in it.
    pub(crate) arena: Arena,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not connected; the next try is at this time.
    Waiting(u64),
    /// CONNECT is on its way; the answer is awaited until this time.
    Connecting(u64),
    /// SUBSCRIBE is on its way.
    Subscribing(u64),
    /// Everything is answered.
    Up,
    /// It has said goodbye, and comes back at this time.
    Away(u64),
    /// Nothing is tried any more.
    GaveUp,
}

/// What the device knows of its session at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    /// There is none: no CONNECT was ever sent.
    None,
    /// A CONNECT was sent and never answered.
    Perhaps,
    /// The broker has accepted a CONNECT.
    Held,
}

/// What is to be done for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Dial this address (a number below [`Settings::addresses`]), then call [`Device::dialed`].
    Dial(usize),
    /// Close the connection, then call [`Device::lost`].
    Lose(Loss),
    /// Write what stands in the buffer.
    Write,
    /// It gives up for good.
    GiveUp,
}

/// What a packet changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing the caller has to act on.
    Little,
    /// The connection is up.
    Up,
    /// Acknowledgements came: there may be room for more messages.
    Acked,
    /// A message came.
    Message,
}

/// What a device takes a packet with.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now_ns: u64,
    pub(crate) settings: &'a Settings,
    pub(crate) pair: &'a mut Pair,
    pub(crate) log: &'a mut Log,
    /// Answers go here.
    pub(crate) out: &'a mut Vec<u8>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) client_id: Box<str>,
    /// Number of its pair within the thread.
    pub(crate) pair: u32,
    pub(crate) side: Side,
    pub(crate) gaps: Availability,
    stage: Stage,
    session: Session,
    address: usize,
    backoff: Backoff,
    /// When the last connection was lost, or the first one was asked for; none while up.
    down_ns: Option<u64>,
    ever_up: bool,
    heard_ns: u64,
    said_ns: u64,
    ping_ns: Option<u64>,
}

impl Device {
    /// A device that is to connect at `now_ns`, first to address number `address`. `number` is its
    /// own among all devices.
    pub(crate) fn new(
        (client_id, pair, side): (Box<str>, u32, Side),
        number: u64,
        address: usize,
        now_ns: u64,
    ) -> Self {
        Self {
            client_id,
            pair,
            side,
            gaps: Availability::default(),
            stage: Stage::Waiting(now_ns),
            session: Session::None,
            address,
            backoff: Backoff::new(number),
            down_ns: Some(now_ns),
            ever_up: false,
            heard_ns: now_ns,
            said_ns: now_ns,
            ping_ns: None,
        }
    }

    /// True while its connection is up.
    pub(crate) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// True once it has given up.
    pub(crate) fn gave_up(&self) -> bool {
        self.stage == Stage::GaveUp
    }

    /// The number of the address it uses or would use next.
    #[cfg(test)]
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// When [`Device::due`] is to be asked next.
    pub(crate) fn deadline_ns(&self, settings: &Settings) -> Option<u64> {
        let give_up = self
            .down_ns
            .map(|down| down.saturating_add(settings.patience_ns));
        match self.stage {
            Stage::Waiting(until) | Stage::Connecting(until) | Stage::Subscribing(until) => {
                Some(give_up.map_or(until, |at| at.min(until)))
            }
            Stage::Away(until) => Some(until),
            Stage::Up => self.alive_until_ns(settings),
            Stage::GaveUp => None,
        }
    }

    /// What is to be done at `now_ns`; a PINGREQ goes into `out`.
    pub(crate) fn due(
        &mut self,
        settings: &Settings,
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> Option<Order> {
        let passed = |at: u64| now_ns >= at;
        let impatient = |down: u64| passed(down.saturating_add(settings.patience_ns));
        match self.stage {
            Stage::GaveUp => None,
            _ if self.down_ns.is_some_and(impatient) => {
                self.stage = Stage::GaveUp;
                Some(Order::GiveUp)
            }
            Stage::Waiting(until) | Stage::Away(until) => {
                passed(until).then_some(Order::Dial(self.address))
            }
            Stage::Connecting(until) | Stage::Subscribing(until) => {
                passed(until).then_some(Order::Lose(Loss::Silent))
            }
            Stage::Up if !self.alive_until_ns(settings).is_some_and(passed) => None,
            Stage::Up if self.ping_ns.is_some() => Some(Order::Lose(Loss::Silent)),
            Stage::Up => {
                self.ping_ns = Some(now_ns);
                wire::pingreq(out);
                Some(Order::Write)
            }
        }
    }

    /// A socket is on its way to the broker: CONNECT goes into `out`.
    pub(crate) fn dialed(&mut self, settings: &Settings, now_ns: u64, out: &mut Vec<u8>) {
        self.stage = Stage::Connecting(now_ns + ANSWER_MAX.as_nanos() as u64);
        self.down_ns.get_or_insert(now_ns);
        self.gaps.wait(now_ns);
        let keep = Keep::Seconds(settings.session_expiry_s);
        let (version, keep_alive_s) = (settings.version, settings.keep_alive_s);
        wire::connect(out, version, &self.client_id, keep_alive_s, keep);
    }

    /// Bytes were written.
    pub(crate) fn said(&mut self, now_ns: u64) {
        self.said_ns = now_ns;
    }

    /// Bytes came.
    pub(crate) fn heard(&mut self, now_ns: u64) {
        self.heard_ns = now_ns;
        self.ping_ns = None;
    }

    /// The connection is gone; the next one goes to the next address.
    pub(crate) fn lost(&mut self, loss: Loss, settings: &Settings, now_ns: u64, log: &mut Log) {
        if let Stage::Away(_) = self.stage {
            return; // It asked for that.
        }
        let taken_over = loss == Loss::Goodbye(TAKEN_OVER);
        if let (Side::Contender(..), true) = (&self.side, taken_over) {
            log.taken_over += 1;
            let pause_ns = self.backoff.pause_ns(settings.away_ns * 2);
            return self.go_away(now_ns + pause_ns, settings, now_ns);
        }
        log.loss(loss);
        if self.gave_up() {
            return;
        }
        if self.session == Session::None {
            self.session = Session::Perhaps; // The broker may have taken the CONNECT.
        }
        self.gaps.wait(now_ns);
        self.down_ns.get_or_insert(now_ns);
        self.ping_ns = None;
        self.address = (self.address + 1) % settings.addresses;
        self.stage = Stage::Waiting(now_ns + self.backoff.wait_ns());
        if let Side::Publisher(publisher) = &mut self.side {
            publisher.end();
        }
    }

    /// Says goodbye, to come back at the next address at `until_ns`; false where it is not up.
    pub(crate) fn leave(
        &mut self,
        until_ns: u64,
        settings: &Settings,
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        if !self.is_up() {
            return false;
        }
        wire::disconnect(out);
        self.go_away(until_ns, settings, now_ns);
        true
    }

    /// It is not up and does not try to be until `until_ns`.
    pub(crate) fn rest(&mut self, until_ns: u64) {
        self.down_ns = None;
        self.stage = Stage::Away(until_ns);
    }

    /// True while it has no connection and none is on its way.
    pub(crate) fn rests(&self) -> bool {
        matches!(self.stage, Stage::Away(_) | Stage::Waiting(_))
    }

    /// Its number among those with its client id.
    pub(crate) fn contender(&self) -> Option<usize> {
        match self.side {
            Side::Contender(own, _) => Some(own),
            _ => None,
        }
    }

    fn go_away(&mut self, until_ns: u64, settings: &Settings, now_ns: u64) {
        // Nobody is owed service while away of one's own will.
        self.gaps.served(false, now_ns);
        self.ping_ns = None;
        self.address = (self.address + 1) % settings.addresses;
        self.rest(until_ns);
    }

    /// The broker owes this subscriber a message.
    pub(crate) fn owed(&mut self, now_ns: u64) {
        if !matches!(self.stage, Stage::Away(_)) {
            self.gaps.wait(now_ns);
        }
    }

    /// Takes one packet. An error ends the connection.
    #[inline]
    pub(crate) fn hear(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<Heard, Loss> {
        match (packet.first & 0xF0, self.stage) {
            // When it left, this was under way already.
            (_, Stage::Away(_)) | (kind::PINGRESP, Stage::Up) => Ok(Heard::Little),
            (kind::CONNACK, Stage::Connecting(_)) => self.connack(packet, turn),
            (kind::SUBACK, Stage::Subscribing(_)) => {
                self.suback(packet, turn.settings, &mut turn.pair.arena)?;
                Ok(self.up(turn))
            }
            (kind::DISCONNECT, _) if turn.settings.version == Version::V5 => {
                Err(Loss::Goodbye(packet.body.first().copied().unwrap_or(0)))
            }
            (_, Stage::Up | Stage::Subscribing(_)) => self.flow(packet, turn),
            (first, stage) => Err(Loss::Fault(format!("packet 0x{first:02x} while {stage:?}"))),
        }
    }

    /// PUBLISH and the acknowledgements.
    #[inline]
    fn flow(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<Heard, Loss> {
        let Turn {
            now_ns,
            settings,
            pair,
            log,
            out,
        } = turn;
        let now_ns = *now_ns;
        let fault = |what: &str| Loss::Fault(what.to_owned());
        let first = packet.first & 0xF0;
        let ledger = &mut pair.ledger;
        let id = || wire::packet_id(packet.body).ok_or_else(|| fault("packet without packet id"));
        match (&mut self.side, first) {
            (Side::Publisher(publisher), kind::PUBACK | kind::PUBREC | kind::PUBCOMP) => {
                let acked = publisher.take(first, id()?, wire::reason(packet.body), out);
                match acked.map_err(fault)? {
                    Acked::Promised(number) => ledger.acked(number),
                    Acked::Refused(reason) => log.publish_refused(reason),
                    Acked::Going => {}
                }
                self.gaps.served(publisher.waits(), now_ns);
                Ok(Heard::Acked)
            }
            (Side::Subscriber(subscriber, _), kind::PUBREL) => {
                subscriber.release(id()?, out).map_err(fault)?;
                Ok(Heard::Little)
            }
            (Side::Subscriber(subscriber, _), kind::PUBLISH) => {
                let (id, stamp) = wire::delivery(packet, settings.version).map_err(fault)?;
                if stamp.sender != self.pair {
                    return Err(fault("received a message that was never sent to it"));
                }
                let arrival = subscriber.publish(packet.first, id, stamp.seq, out);
                if arrival.map_err(fault)? == Arrival::Message {
                    let dup = packet.first & wire::DUP != 0;
                    let seen = ledger.arrived(stamp.seq, dup).map_err(fault)?;
                    if matches!(seen, Seen::New | Seen::Late) {
                        log.latency.record(now_ns.saturating_sub(stamp.time_ns));
                    }
                }
                self.gaps.served(ledger.owed() > 0, now_ns);
                Ok(Heard::Message)
            }
            (&mut Side::Contender(own, _), kind::PUBLISH) => {
                let (id, stamp) = wire::delivery(packet, settings.version).map_err(fault)?;
                if stamp.sender != self.pair || packet.first & 0b110 != 0b010 {
                    return Err(fault("received a message that was never sent to it"));
                }
                wire::ack(out, kind::PUBACK, id);
                pair.arena.arrived(own, stamp.seq, ledger);
                if ledger.arrived_somewhere(stamp.seq).map_err(fault)? != Seen::Repeated {
                    log.latency.record(now_ns.saturating_sub(stamp.time_ns));
                }
                Ok(Heard::Message)
            }
            _ => Err(Loss::Fault(format!(
                "packet 0x{first:02x} to the wrong end"
            ))),
        }
    }

    fn connack(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<Heard, Loss> {
        let (now_ns, settings) = (turn.now_ns, turn.settings);
        let pair = &mut *turn.pair;
        let fault = |what: &str| Loss::Fault(what.to_owned());
        let connack = wire::connack(packet.body, settings.version).map_err(fault)?;
        if connack.code != 0 {
            return Err(Loss::Refused(connack.code));
        }
        let present = connack.session_present;
        let (session_lost, mut subscribe);
        if let Side::Contender(own, _) = self.side {
            let next = pair.ledger.next_sent();
            let claimed = pair.arena.connack(own, present, next).map_err(fault)?;
            (session_lost, subscribe) = (claimed.session_lost, claimed.subscribe);
        } else if present && self.session == Session::None {
            return Err(fault("session present for a client that never connected"));
        } else {
            (session_lost, subscribe) = (!present && self.session == Session::Held, false);
        }
        turn.log.session_lost += u64::from(session_lost);
        self.session = Session::Held;
        if let (Stage::Connecting(until), true) = (self.stage, present) {
            let dialed_ns = until - ANSWER_MAX.as_nanos() as u64;
            turn.log.resume.record(now_ns.saturating_sub(dialed_ns));
        }
        match &mut self.side {
            Side::Publisher(publisher) => {
                publisher.begin(connack.receive_max, session_lost);
            }
            Side::Subscriber(subscriber, _) => {
                subscriber.begin(session_lost);
                pair.ledger.subscriber_up();
                subscribe = !subscriber.subscribed;
            }
            Side::Contender(..) => {}
        }
        let (Side::Subscriber(_, filters) | Side::Contender(_, filters), true) =
            (&self.side, subscribe)
        else {
            return Ok(self.up(turn));
        };
        wire::subscribe(turn.out, settings.version, filters.all(), settings.qos);
        self.stage = Stage::Subscribing(now_ns + ANSWER_MAX.as_nanos() as u64);
        Ok(Heard::Little)
    }

    fn suback(
        &mut self,
        packet: &Packet<'_>,
        settings: &Settings,
        arena: &mut Arena,
    ) -> Result<(), Loss> {
        let fault = |what: &str| Err(Loss::Fault(what.to_owned()));
        let (subscribed, filters) = match &mut self.side {
            Side::Subscriber(subscriber, filters) => (&mut subscriber.subscribed, filters),
            Side::Contender(_, filters) => (&mut arena.subscribed, filters),
            Side::Publisher(_) => return fault("SUBACK to a publisher"),
        };
        let Some(codes) = wire::suback(packet.body, filters.count()) else {
            return fault("SUBACK with fewer codes than filters");
        };
        match codes.iter().find(|code| **code != settings.qos) {
            None => {
                *subscribed = true;
                Ok(())
            }
            // A broker that cannot take it now says so; the device tries elsewhere.
            Some(code) if *code >= 0x80 => Err(Loss::Error(format!(
                "SUBSCRIBE refused with code 0x{code:02x}"
            ))),
            Some(_) => fault("SUBACK grants another QoS than asked for"),
        }
    }

    fn up(&mut self, turn: &mut Turn<'_>) -> Heard {
        let (now_ns, log) = (turn.now_ns, &mut *turn.log);
        self.stage = Stage::Up;
        self.backoff.reset();
        log.connects += 1;
        let down_ns = self.down_ns.take();
        if self.ever_up {
            log.reconnects += 1;
            let after = down_ns.map_or(0, |down| now_ns.saturating_sub(down));
            log.reconnect.record(after);
        }
        self.ever_up = true;
        let owed = match &self.side {
            Side::Publisher(publisher) => publisher.waits(),
            Side::Subscriber(..) => turn.pair.ledger.owed() > 0,
            Side::Contender(..) => false,
        };
        if !owed {
            self.gaps.served(false, now_ns);
        }
        Heard::Up
    }

    /// Up to when the connection counts as alive without another look; none without keepalive.
    fn alive_until_ns(&self, settings: &Settings) -> Option<u64> {
        if settings.keep_alive_s == 0 {
            return None;
        }
        let half_ns = u64::from(settings.keep_alive_s) * 500_000_000;
        let since = self.ping_ns.unwrap_or(self.heard_ns.min(self.said_ns));
        Some(since + half_ns)
    }
}

/// Reason of a DISCONNECT: another client has this client id now (MQTT 5, 3.14.2.1).
const TAKEN_OVER: u8 = 0x8E;

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
