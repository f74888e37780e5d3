//! What of a device's session is under way: messages out and messages in.
//!
//! Invariant: a message keeps its packet id until it is done, within one session of the broker.
//! Invariant: packet id 1 is SUBSCRIBE's alone.

use super::device::{Device, Turn};
use super::loss::Loss;
use super::plan;
use crate::account::{self, Feed, Meaning, Message, Resent, Stamp, Unreadable};
use crate::control::message::{Finding, FindingKind, LatencyKind, Stream};
use crate::limits::{LATE, SIM_OPEN_MAX};
use crate::simulate::names;
use crate::wire::{self, Packet, Publish, Published, kind};

/// What is under way in both directions. It exists while something is.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Messages that are not acknowledged, in the order in which they left first. At most [`SIM_OPEN_MAX`].
    open: Vec<Open>,
    /// `QoS` 2 messages that have come and were not released. The broker bounds them by 65,535 packet ids.
    taken: Vec<Taken>,
}

/// A message on its way to the broker.
#[derive(Debug)]
struct Open {
    due_us: u64,
    /// When it left for the last time, or its PUBREL did.
    left_us: u64,
    seq: u32,
    id: u16,
    step: Step,
    /// It left on this connection.
    on_wire: bool,
    /// It has left in this session of the broker.
    before: bool,
}

/// What an open message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// PUBACK or PUBREC.
    Published,
    /// PUBCOMP.
    Released,
}

/// A `QoS` 2 message that has come and was not released.
#[derive(Debug)]
struct Taken {
    id: u16,
    message: Option<(u8, u32)>,
    /// It came on this connection.
    here: bool,
}

/// Messages out.
impl Device {
    /// Whether one more message may leave.
    pub(super) fn has_room(&self) -> bool {
        let limit = SIM_OPEN_MAX.min(usize::from(self.receive_max));
        self.session
            .as_ref()
            .is_none_or(|session| session.open.len() < limit)
    }

    /// Messages that are not acknowledged.
    pub(super) fn open(&self) -> usize {
        self.session
            .as_ref()
            .map_or(0, |session| session.open.len())
    }

    /// Since when the broker owes the oldest answer to a message.
    pub(super) fn waits_since_us(&self) -> Option<u64> {
        let open = self.session.as_ref()?.open.iter();
        open.filter(|open| open.on_wire)
            .map(|open| open.left_us)
            .min()
    }

    /// Sends what stayed open before, then what is due.
    pub(super) fn send_due(&mut self, turn: &mut Turn<'_>) {
        let all_again = self.send_again(turn);
        while all_again && turn.sending && self.due_us <= turn.now_us && self.has_room() {
            self.send_new(turn);
        }
    }

    /// Sends again what is open from earlier connections, in order; false if the broker's Receive Maximum is in the way.
    fn send_again(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(session) = &mut self.session else {
            return true;
        };
        let under_way = session.open.iter().filter(|open| open.on_wire).count();
        let room = usize::from(self.receive_max).saturating_sub(under_way);
        let waiting = session.open.iter_mut().filter(|open| !open.on_wire);
        for open in waiting.take(room) {
            open.on_wire = true;
            open.left_us = turn.now_us;
            self.wrote_us = turn.now_us;
            if open.step == Step::Released {
                wire::ack(turn.out, kind::PUBREL | 0b10, open.id);
                continue;
            }
            let how = if open.before {
                Resent::Again
            } else {
                Resent::Anew
            };
            publish(turn, open.seq, open.id, open.due_us, open.before);
            open.before = true;
            let stream = telemetry(turn.device);
            let resent = turn.tally.ledger.resent(stream, open.seq, how, turn.now_us);
            turn.tally.note(resent);
        }
        session.open.iter().all(|open| open.on_wire)
    }

    fn send_new(&mut self, turn: &mut Turn<'_>) {
        let (population, kind) = turn.plan.population(turn.device);
        let Some(telemetry_of) = &population.telemetry else {
            return;
        };
        let (seq, due_us, qos) = (self.seq, self.due_us, telemetry_of.qos);
        let message = Message {
            stream: telemetry(turn.device),
            seq,
            qos,
            due_us,
            promise: kind.promise,
        };
        let sent = turn.tally.ledger.sent(&message, turn.now_us);
        turn.tally.note(sent);
        let id = if qos > 0 {
            self.wrote_us = turn.now_us;
            self.open_new(seq, due_us, turn.now_us)
        } else {
            // Nobody answers it, so it says nothing about the broker: PINGREQ leaves all the same.
            0
        };
        let bytes = publish(turn, seq, id, due_us, false);
        let counts = &mut turn.tally.counts;
        counts.bytes[0] += bytes as u64;
        counts.sent[usize::from(qos)] += 1;
        counts.acknowledged[0] += u64::from(qos == 0);
        counts.left_late += u64::from(turn.now_us - due_us > LATE.as_micros() as u64);
        self.seq = self.seq.wrapping_add(1);
        let dice = self.draw(turn);
        self.due_us = turn
            .plan
            .after(due_us, plan::interval_us(telemetry_of, dice));
    }

    fn open_new(&mut self, seq: u32, due_us: u64, now_us: u64) -> u16 {
        let session = self.session.get_or_insert_default();
        loop {
            self.last_id = if self.last_id == u16::MAX {
                2
            } else {
                (self.last_id + 1).max(2)
            };
            if session.open.iter().all(|open| open.id != self.last_id) {
                break;
            }
        }
        session.open.push(Open {
            due_us,
            left_us: now_us,
            seq,
            id: self.last_id,
            step: Step::Published,
            on_wire: true,
            before: true,
        });
        self.last_id
    }

    /// PUBACK, PUBREC or PUBCOMP has come.
    pub(super) fn acked(
        &mut self,
        first: u8,
        packet: &Packet<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Loss> {
        let qos = turn
            .population()
            .telemetry
            .as_ref()
            .map_or(0, |telemetry| telemetry.qos);
        let id = wire::packet_id(packet.body).ok_or(Loss::Violation("no packet id"))?;
        let refused = wire::reason(packet.body) >= 0x80;
        let Some((session, index)) = self.session.as_mut().and_then(|session| {
            let is_it = |open: &Open| open.id == id && open.on_wire;
            let index = session.open.iter().position(is_it)?;
            Some((session, index))
        }) else {
            return Err(Loss::Violation("acknowledgement of nothing"));
        };
        let step = session.open[index].step;
        let expected = match (qos, step) {
            (1, _) => kind::PUBACK,
            (_, Step::Published) => kind::PUBREC,
            (_, Step::Released) => kind::PUBCOMP,
        };
        if first != expected {
            return Err(Loss::Violation(
                "another acknowledgement than the message waits for",
            ));
        }
        let earlier = &session.open[..index];
        if step == Step::Published && earlier.iter().any(|open| open.step == Step::Published) {
            return Err(Loss::Violation("acknowledgement out of order"));
        }
        if first == kind::PUBREC && !refused {
            session.open[index].step = Step::Released;
            session.open[index].left_us = turn.now_us;
            wire::ack(turn.out, kind::PUBREL | 0b10, id);
            self.wrote_us = turn.now_us;
            return Ok(());
        }
        let open = session.open.remove(index);
        self.tidy();
        let stream = telemetry(turn.device);
        if refused && step == Step::Published {
            turn.tally.ledger.refused(stream, open.seq);
            let name = if qos == 1 { "PUBACK" } else { "PUBREC" };
            turn.tally
                .error(format!("{name} 0x{:02x}", wire::reason(packet.body)));
        } else {
            // A PUBCOMP that knows no such packet id (MQTT 5, 3.7.2.1) comes where the broker had completed it already.
            turn.tally
                .ledger
                .acknowledged(stream, open.seq, turn.now_us);
            turn.tally.counts.acknowledged[usize::from(qos)] += 1;
            let took_us = turn.now_us.saturating_sub(open.due_us);
            turn.tally
                .spreads
                .record(LatencyKind::TelemetryAck, took_us);
        }
        self.send_due(turn);
        Ok(())
    }
}

/// Messages in.
impl Device {
    /// PUBLISH has come: it is acknowledged at once.
    pub(super) fn publish(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Loss> {
        let publish = wire::published(packet, turn.version()).map_err(Loss::Violation)?;
        let stamp = read_stamp(&publish, turn);
        let message = stamp.map(|stamp| (stamp.stream.kind, stamp.seq));
        match publish.qos {
            0 => {}
            1 => wire::ack(turn.out, kind::PUBACK, publish.id),
            _ => {
                let known = self.take(&publish, message)?;
                wire::ack(turn.out, kind::PUBREC, publish.id);
                if known {
                    self.wrote_us = turn.now_us;
                    return Ok(());
                }
            }
        }
        if publish.qos > 0 {
            self.wrote_us = turn.now_us;
        }
        if let Some(stamp) = stamp {
            arrived(&stamp, &publish, turn);
        }
        Ok(())
    }

    /// Remembers a `QoS` 2 message; true if it was here before, and is not to be shown again.
    fn take(&mut self, publish: &Published<'_>, message: Option<(u8, u32)>) -> Result<bool, Loss> {
        let session = self.session.get_or_insert_default();
        let Some(taken) = session
            .taken
            .iter_mut()
            .find(|taken| taken.id == publish.id)
        else {
            session.taken.push(Taken {
                id: publish.id,
                message,
                here: true,
            });
            return Ok(false);
        };
        if taken.message != message {
            let why = "packet id used for another message before its PUBREL";
            return Err(Loss::Violation(why));
        }
        if taken.here {
            return Err(Loss::Violation(
                "QoS 2 PUBLISH sent again on one connection",
            ));
        }
        if !publish.dup {
            return Err(Loss::Violation("QoS 2 PUBLISH sent again without DUP"));
        }
        taken.here = true;
        Ok(true)
    }

    /// PUBREL has come; one whose PUBCOMP was lost is answered again.
    pub(super) fn pubrel(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) -> Result<(), Loss> {
        let id = wire::packet_id(packet.body).ok_or(Loss::Violation("no packet id"))?;
        if let Some(session) = &mut self.session {
            session.taken.retain(|taken| taken.id != id);
        }
        self.tidy();
        wire::ack(turn.out, kind::PUBCOMP, id);
        self.wrote_us = turn.now_us;
        Ok(())
    }
}

/// What becomes of it when connections and sessions end.
impl Device {
    /// The connection is gone. `persistent`: the session is not.
    pub(super) fn detach(&mut self, persistent: bool, turn: &mut Turn<'_>) {
        let (heard, _) = turn.tally.heard(turn.device);
        heard.iter_mut().for_each(account::Heard::connection_lost);
        let telemetry_of = turn.population().telemetry.as_ref();
        if telemetry_of.is_some_and(|telemetry| telemetry.qos == 0) {
            let devices = turn.device..turn.device + 1;
            turn.tally.ledger.connection_lost(0, devices, |_| true);
        }
        let Some(session) = &mut self.session else {
            return;
        };
        if persistent {
            session
                .open
                .iter_mut()
                .for_each(|open| open.on_wire = false);
            session
                .taken
                .iter_mut()
                .for_each(|taken| taken.here = false);
            return;
        }
        for open in &session.open {
            turn.tally
                .ledger
                .abandoned(telemetry(turn.device), open.seq);
        }
        self.session = None;
    }

    /// The broker has no session: what is open is to be published as new (MQTT 5, 4.1: the client's state ends with the
    /// broker's).
    pub(super) fn renew(&mut self) {
        if let Some(session) = &mut self.session {
            session.taken.clear();
            for open in &mut session.open {
                (open.step, open.before) = (Step::Published, false);
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        let empty = |session: &Session| session.open.is_empty() && session.taken.is_empty();
        if self.session.as_deref().is_some_and(empty) {
            self.session = None;
        }
    }
}

/// Its telemetry.
fn telemetry(device: u32) -> Stream {
    Stream { kind: 0, device }
}

/// Writes a message of a device's telemetry; gives the bytes of its payload.
fn publish(turn: &mut Turn<'_>, seq: u32, id: u16, due_us: u64, dup: bool) -> usize {
    let (population, _) = turn.plan.population(turn.device);
    let Some(of) = &population.telemetry else {
        return 0;
    };
    let texts = &mut *turn.texts;
    turn.plan.client_id(turn.device, &mut texts.client_id);
    let number = turn.device - population.devices.start;
    names::topic(&of.topic, number, &texts.client_id, &mut texts.topic);
    let payload_len = turn.plan.payload_len(turn.device, seq, of.payload);
    let publish = Publish {
        version: plan::version(population),
        qos: of.qos,
        dup,
        topic: &texts.topic,
        id,
        payload_len,
    };
    let stamp = Stamp {
        run: turn.plan.run,
        stream: telemetry(turn.device),
        seq,
        due_us,
    };
    publish.append(turn.out, |payload| stamp.write(payload));
    payload_len
}

/// The stamp of a message of this run to this device.
fn read_stamp(publish: &Published<'_>, turn: &mut Turn<'_>) -> Option<Stamp> {
    let (device, now_us) = (turn.device, turn.now_us);
    let stamp = Stamp::read(publish.payload);
    let of_run = stamp.as_ref().is_ok_and(|stamp| stamp.run == turn.plan.run);
    let elsewhere = of_run && !is_commanded_by(publish.topic, turn);
    let mut wrong = |why: &str| {
        turn.tally
            .finding(FindingKind::Misdelivered, device, now_us, why);
        None
    };
    match stamp {
        Ok(stamp) if stamp.run != turn.plan.run => None,
        Ok(stamp) if stamp.stream.device != device => wrong("the message of another device"),
        Ok(stamp) if stamp.stream.kind == 0 => None,
        Ok(stamp) if usize::from(stamp.stream.kind) > turn.plan.scenario.commands.len() => {
            wrong("a kind of commands that there is not")
        }
        Ok(_) if elsewhere => wrong("came under a topic that no commands have"),
        Ok(stamp) => Some(stamp),
        Err(unreadable @ (Unreadable::Altered | Unreadable::Short)) => wrong(unreadable.reason()),
    }
}

/// Whether this is the topic of some commands for the device.
fn is_commanded_by(topic: &[u8], turn: &mut Turn<'_>) -> bool {
    let (population, _) = turn.plan.population(turn.device);
    let number = turn.device - population.devices.start;
    let texts = &mut *turn.texts;
    turn.plan.client_id(turn.device, &mut texts.client_id);
    turn.plan.scenario.commands.iter().any(|commands| {
        names::topic(&commands.topic, number, &texts.client_id, &mut texts.topic);
        texts.topic.as_bytes() == topic
    })
}

/// Keeps the books on a command.
fn arrived(stamp: &Stamp, publish: &Published<'_>, turn: &mut Turn<'_>) {
    let tally = &mut *turn.tally;
    let commands = usize::from(stamp.stream.kind) - 1;
    let (heard, gaps) = tally.heard(turn.device);
    let feed = Feed {
        receiver: 0, // Nobody but the device gets its commands.
        stream: stamp.stream,
    };
    let arrival = gaps.arrived(&mut heard[commands], feed, stamp.seq);
    let Some(arrival) = tally.note(arrival) else {
        return;
    };
    let meaning = account::meaning(arrival, publish.qos, publish.dup, true);
    let mut find = |kind, detail| {
        tally.findings.add(Finding {
            kind,
            stream: stamp.stream,
            seq: Some(stamp.seq),
            at_us: stamp.due_us,
            qos: publish.qos,
            detail,
        });
    };
    let promised = turn.plan.command_qos[commands];
    if publish.qos != promised {
        let detail = format!("delivered at QoS {}, promised at {promised}", publish.qos);
        find(FindingKind::Violation, detail);
    }
    if let Some(kind) = meaning.finding() {
        find(kind, String::new());
    }
    match meaning {
        Meaning::New | Meaning::Reordered => {
            if account::is_late(stamp.due_us, turn.now_us) {
                find(FindingKind::Late, String::new());
            }
            tally.counts.received[usize::from(publish.qos)] += 1;
            tally.counts.bytes[1] += publish.payload.len() as u64;
            let took_us = turn.now_us.saturating_sub(stamp.due_us);
            tally.spreads.record(LatencyKind::Command, took_us);
        }
        Meaning::Repeated => tally.counts.repeated += 1,
        Meaning::Suspect | Meaning::DuplicatedQos0 => {}
    }
    if let Some(seen) = meaning.receipt(publish.qos) {
        tally.receipt(stamp.stream, stamp.seq, seen);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
